//! RotaryEmbedding: pairs of features turned by an angle that depends on the position.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("RotaryEmbedding", (3, 4), import)
    .attrs(&["interleaved", "num_heads", "rotary_embedding_dim"])
    .opsets(23, i64::MAX)];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    // [batch, heads, sequence, head]: from three axes by splitting the last one.
    let split = match shape.len() {
        4 => x,
        3 => {
            let heads = Dim::from(n.size("num_heads", 0)?);
            let head = shape[2].floor_div(&heads);
            let y = b.reshape(x, &[shape[0].clone(), shape[1].clone(), heads, head])?;
            b.transpose(y, &[0, 2, 1, 3])?
        }
        rank => bail!(TYPES, "the input has {rank} axes, expected 3 or 4"),
    };
    let Some(head) = b.shape(split)[3].as_const() else { bail!(UNSUPPORTED_FORM, "the head size is not known at import") };
    let turned = match n.int("rotary_embedding_dim", 0)? {
        0 => head,
        d => d,
    };
    ensure!(turned > 0 && turned <= head && turned % 2 == 0, ATTRIBUTE_VALUE, "{turned} of {head} features cannot be turned");
    let part = b.slice(split, 3, &Dim::ZERO, &Dim::from(turned))?;
    let rest = b.slice(split, 3, &Dim::from(turned), &Dim::from(head - turned))?;
    let (cos, sin) = (angles(n, b, 1, turned)?, angles(n, b, 2, turned)?);
    let mut y = rotate(b, part, cos, sin, turned, n.flag("interleaved", false)?)?;
    if turned < head {
        y = b.concat(&[y, rest], 3)?;
    }
    if shape.len() == 3 {
        y = b.transpose(y, &[0, 2, 1, 3])?;
        y = b.reshape(y, &shape)?;
    }
    Ok(vec![y])
}

/// The cosines or sines as [batch, 1, sequence, turned / 2].
fn angles(n: &Node, b: &mut Builder, i: usize, turned: i64) -> Res<ValueId> {
    let mut cache = n.input(i)?;
    if let Some(positions) = n.opt(3) {
        cache = b.gather(cache, positions, 0)?;
    }
    ensure!(b.rank(cache) == 3, TYPES, "the angles have {} axes, expected 3", b.rank(cache));
    b.equal(&b.shape(cache)[2].clone(), &Dim::from(turned / 2), "one angle for each pair of features")?;
    b.unsqueeze(cache, &[1])
}

/// `(x1 * cos - x2 * sin, x1 * sin + x2 * cos)` with the halves, or the even and odd features, as x1 and x2.
fn rotate(b: &mut Builder, x: ValueId, cos: ValueId, sin: ValueId, turned: i64, interleaved: bool) -> Res<ValueId> {
    let shape = b.shape(x);
    let half = Dim::from(turned / 2);
    let mut pairs = shape[..3].to_vec();
    let (two, axis) = (Dim::from(2i64), if interleaved { 4 } else { 3 });
    pairs.extend(if interleaved { [half, two] } else { [two, half] });
    let paired = b.reshape(x, &pairs)?;
    let (x1, x2) = (b.pick(paired, axis, 0)?, b.pick(paired, axis, 1)?);
    let (c1, s2) = (b.mul(x1, cos)?, b.mul(x2, sin)?);
    let (s1, c2) = (b.mul(x1, sin)?, b.mul(x2, cos)?);
    let (real, imaginary) = (b.sub(c1, s2)?, b.add(s1, c2)?);
    let (real, imaginary) = (b.unsqueeze(real, &[axis])?, b.unsqueeze(imaginary, &[axis])?);
    let joined = b.concat(&[real, imaginary], axis)?;
    b.reshape(joined, &shape)
}
