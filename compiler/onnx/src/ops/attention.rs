//! Attention: scaled dot products of queries and keys, masked, normalized, and applied to the values.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::{OnnxOp, matmul, softmax};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Attention", (3, 7), import)
    .attrs(&[
        "is_causal", "kv_num_heads", "left_window_size", "q_num_heads", "qk_matmul_output_mode", "right_window_size", "scale",
        "softcap", "softmax_precision",
    ])
    .opsets(23, i64::MAX)];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let flat = b.rank(n.input(0)?) == 3;
    let q = heads(n, b, 0, "q_num_heads")?;
    let (mut k, mut v) = (heads(n, b, 1, "kv_num_heads")?, heads(n, b, 2, "kv_num_heads")?);
    ensure!(n.opt(4).is_some() == n.opt(5).is_some(), ARITY, "past keys and values come together");
    ensure!(n.opt(4).is_none() || n.opt(6).is_none(), UNSUPPORTED_FORM, "past keys and a length of the cache exclude each other");
    if let (Some(past_k), Some(past_v)) = (n.opt(4), n.opt(5)) {
        k = b.concat(&[past_k, k], 2)?;
        v = b.concat(&[past_v, v], 2)?;
    }
    let (t, qs, ks) = (b.dtype(q), b.shape(q), b.shape(k));
    let bias = bias(n, b, q, &qs[2], &ks[2])?;
    let (k_all, v_all) = (repeated(b, k, &qs[1])?, repeated(b, v, &qs[1])?);
    let scale = match n.float_opt("scale")? {
        Some(s) => f64::from(s),
        None => match qs[3].as_const() {
            Some(d) if d > 0 => 1.0 / (d as f64).sqrt(),
            _ => bail!(UNSUPPORTED_FORM, "without `scale` the head size must be known at import"),
        },
    };
    // Half of the scale on each side keeps narrow floats in range.
    let (q, k_scaled) = (b.mul_scalar(q, scale.sqrt())?, b.mul_scalar(k_all, scale.sqrt())?);
    let transposed = b.transpose(k_scaled, &[0, 1, 3, 2])?;
    let raw = matmul::product(b, q, transposed, t)?;
    let cap = f64::from(n.float("softcap", 0.0)?);
    let capped = if cap > 0.0 { soft_cap(b, raw, cap)? } else { raw };
    let biased = match bias {
        Some(bias) => b.add(capped, bias)?,
        None => capped,
    };
    let precision = n.dtype("softmax_precision", t)?;
    let logits = b.cast(biased, precision)?;
    let axis = b.rank(logits) - 1;
    let weights = match bias {
        Some(bias) => masked_softmax(b, logits, bias, axis)?,
        None => softmax::softmax(b, logits, axis)?,
    };
    let weights = b.cast(weights, t)?;
    let mut y = matmul::product(b, weights, v_all, t)?;
    if flat {
        y = b.transpose(y, &[0, 2, 1, 3])?;
        let s = b.shape(y);
        y = b.reshape(y, &[s[0].clone(), s[1].clone(), &s[2] * &s[3]])?;
    }
    let scores = match n.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => weights,
        other => bail!(ATTRIBUTE_VALUE, "`qk_matmul_output_mode` cannot be {other}"),
    };
    Ok(vec![y, k, v, scores])
}

/// An operand as [batch, heads, sequence, head].
fn heads(n: &Node, b: &mut Builder, i: usize, attribute: &str) -> Res<ValueId> {
    let x = n.input(i)?;
    let shape = b.shape(x);
    match shape.len() {
        4 => Ok(x),
        3 => {
            let heads = Dim::from(n.size(attribute, 0)?);
            let head = shape[2].floor_div(&heads);
            let y = b.reshape(x, &[shape[0].clone(), shape[1].clone(), heads, head])?;
            b.transpose(y, &[0, 2, 1, 3])
        }
        rank => bail!(TYPES, "input {i} has {rank} axes, expected 3 or 4"),
    }
}

/// Heads of keys or values repeated for the queries that share them.
fn repeated(b: &mut Builder, x: ValueId, heads: &Dim) -> Res<ValueId> {
    let s = b.shape(x);
    if s[1] == *heads {
        return Ok(x);
    }
    ensure!(!s[1].is(0), BAD_SIZE, "there are no heads");
    let times = heads.floor_div(&s[1]);
    b.equal(&heads.rem(&s[1]), &Dim::ZERO, "heads of queries are a multiple of those of keys")?;
    let y = b.unsqueeze(x, &[2])?;
    let y = b.broadcast(y, &[s[0].clone(), s[1].clone(), times, s[2].clone(), s[3].clone()])?;
    b.reshape(y, &[s[0].clone(), heads.clone(), s[2].clone(), s[3].clone()])
}

fn soft_cap(b: &mut Builder, x: ValueId, cap: f64) -> Res<ValueId> {
    let y = b.div_scalar(x, cap)?;
    let y = b.tanh(y)?;
    b.mul_scalar(y, cap)
}

/// What is added to the scores: 0 or the given mask where a key may be seen, minus infinity elsewhere.
fn bias(n: &Node, b: &mut Builder, q: ValueId, rows: &Dim, columns: &Dim) -> Res<Option<ValueId>> {
    let t = b.dtype(q);
    let mut sum = match n.opt(3) {
        Some(mask) => Some(given_mask(b, mask, t, columns)?),
        None => None,
    };
    let (left, right) = (n.int("left_window_size", -1)?, n.int("right_window_size", -1)?);
    let causal = n.flag("is_causal", false)?;
    let mut seen: Vec<ValueId> = Vec::new();
    if causal || left >= 0 || right >= 0 {
        // How far the key lies ahead of the query.
        let i = b.iota_along(rows, DType::I64, 0, 2)?;
        let j = b.iota_along(columns, DType::I64, 1, 2)?;
        let offset = offset(n, b, rows)?;
        let place = b.add(i, offset)?;
        let ahead = b.sub(j, place)?;
        if causal {
            seen.push(b.compare_scalar(Pred::Le, ahead, 0.0)?);
        }
        if left >= 0 {
            seen.push(b.compare_scalar(Pred::Ge, ahead, -(left as f64))?);
        }
        if right >= 0 {
            seen.push(b.compare_scalar(Pred::Le, ahead, right as f64)?);
        }
    }
    if let Some(length) = n.opt(6) {
        let length = b.cast(length, DType::I64)?;
        let length = b.along(length, 0, 4)?;
        let j = b.iota_along(columns, DType::I64, 3, 4)?;
        seen.push(b.lt(j, length)?);
    }
    let Some(mut all) = seen.first().copied() else { return Ok(sum) };
    for &more in &seen[1..] {
        all = b.and(all, more)?;
    }
    let hidden = hide(b, all, t)?;
    sum = Some(match sum {
        Some(mask) => b.add(mask, hidden)?,
        None => hidden,
    });
    Ok(sum)
}

/// Number of keys before the first query: a scalar, or one for each batch.
fn offset(n: &Node, b: &mut Builder, rows: &Dim) -> Res<ValueId> {
    if let Some(past) = n.opt(4) {
        let before = b.shape(past)[2].clone();
        return b.dim_scalar(DType::I64, &before);
    }
    let Some(length) = n.opt(6) else { return Ok(b.int(0)) };
    let length = b.cast(length, DType::I64)?;
    let length = b.along(length, 0, 4)?;
    let rows = b.dim_scalar(DType::I64, rows)?;
    b.sub(length, rows)
}

/// A mask as a summand, padded to the number of keys.
fn given_mask(b: &mut Builder, mask: ValueId, t: DType, columns: &Dim) -> Res<ValueId> {
    let mask = if b.dtype(mask) == DType::Bool { hide(b, mask, t)? } else { b.cast(mask, t)? };
    let rank = b.rank(mask);
    let Some(last) = rank.checked_sub(1) else { return Ok(mask) };
    let own = b.shape(mask)[last].clone();
    if own == *columns || own.is(1) || own.as_const().is_none() || columns.as_const().is_none() {
        return Ok(mask);
    }
    b.pad_axis(mask, last, &Dim::ZERO, &(columns - &own), f64::NEG_INFINITY)
}

fn hide(b: &mut Builder, seen: ValueId, t: DType) -> Res<ValueId> {
    let (zero, hidden) = (b.scalar(t, 0.0), b.scalar(t, f64::NEG_INFINITY));
    b.select(seen, zero, hidden)
}

/// Softmax in which rows that see no key are zero.
fn masked_softmax(b: &mut Builder, x: ValueId, bias: ValueId, axis: usize) -> Res<ValueId> {
    let t = b.dtype(x);
    let (zero, one) = (b.scalar(t, 0.0), b.scalar(t, 1.0));
    let max = b.reduce(ReduceFn::Max, x, &[axis], true)?;
    let empty = b.compare_scalar(Pred::Eq, max, f64::NEG_INFINITY)?;
    let max = b.select(empty, zero, max)?;
    let e = b.sub(x, max)?;
    let e = b.exp(e)?;
    let sum = b.reduce(ReduceFn::Sum, e, &[axis], true)?;
    let nothing = b.compare_scalar(Pred::Eq, sum, 0.0)?;
    let sum = b.select(nothing, one, sum)?;
    let y = b.div(e, sum)?;
    // Told by the mask, because scores may be infinite or NaN of their own.
    let rank = b.rank(bias);
    if rank == 0 {
        return Ok(y);
    }
    let most = b.reduce(ReduceFn::Max, bias, &[rank - 1], true)?;
    let hidden = b.compare_scalar(Pred::Eq, most, f64::NEG_INFINITY)?;
    b.select(hidden, zero, y)
}
