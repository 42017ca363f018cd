//! Nodes that compute with sizes: folded into symbolic dims instead of being imported as data.
//!
//! `Shape -> Gather -> Mul -> Concat -> Reshape` becomes a reshape to dims like `2*H`. A node is folded if every element of
//! its operands is known as a dim, or if it is a Shape or Size; everything else is imported as usual.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::{Builder, SMALL};
use crate::fail::Res;
use crate::node::Node;

/// A small integer tensor of dims.
struct Sizes {
    dtype: DType,
    shape: Vec<usize>,
    dims: Vec<Dim>,
}

/// The result of a node that can be folded.
pub fn fold(n: &Node, b: &mut Builder) -> Res<Option<ValueId>> {
    if !n.proto.domain.is_empty() && n.proto.domain != "ai.onnx" {
        return Ok(None);
    }
    let folded = match n.proto.op_type.as_str() {
        "Shape" => shape(n, b)?,
        "Size" => {
            let dim = b.ty(n.input(0)?).elements();
            Some(Sizes { dtype: DType::I64, shape: Vec::new(), dims: vec![dim] })
        }
        _ => known_operands(n, b)?,
    };
    match folded {
        Some(s) if s.dims.len() <= SMALL => Ok(Some(b.dims_value(s.dtype, &s.shape, &s.dims)?)),
        _ => Ok(None),
    }
}

/// The two dims that an Equal compares, or that an Identity or Cast passes on.
pub fn equality(n: &Node, b: &Builder) -> Option<(Dim, Dim)> {
    match n.proto.op_type.as_str() {
        "Equal" => match (b.known(n.opt(0)?)?.as_slice(), b.known(n.opt(1)?)?.as_slice()) {
            ([x], [y]) => Some((x.clone(), y.clone())),
            _ => None,
        },
        "Cast" | "Identity" | "Squeeze" | "Unsqueeze" => b.equalities.get(&n.opt(0)?).cloned(),
        _ => None,
    }
}

fn shape(n: &Node, b: &Builder) -> Res<Option<Sizes>> {
    let shape = b.shape(n.input(0)?);
    let rank = shape.len() as i64;
    let place = |x: i64| if x < 0 { (x.saturating_add(rank)).clamp(0, rank) } else { x.min(rank) } as usize;
    let (start, end) = (place(n.int("start", 0)?), place(n.int("end", rank)?));
    let dims: Vec<Dim> = shape.get(start..end.max(start)).unwrap_or(&[]).to_vec();
    Ok(Some(Sizes { dtype: DType::I64, shape: vec![dims.len()], dims }))
}

fn known_operands(n: &Node, b: &mut Builder) -> Res<Option<Sizes>> {
    let mut xs = Vec::new();
    for input in &n.inputs {
        let Some(v) = *input else { return Ok(None) };
        let ty = b.ty(v);
        let (Some(dims), Some(shape)) = (b.known(v), ty.fixed_shape()) else { return Ok(None) };
        xs.push(Sizes { dtype: ty.dtype, shape, dims });
    }
    // Constants alone are folded by the ops themselves.
    if xs.iter().all(|x| x.dims.iter().all(|d| d.as_const().is_some())) {
        return Ok(None);
    }
    Ok(match (n.proto.op_type.as_str(), xs.as_slice()) {
        ("Identity", [x]) => Some(like(x, x.dims.clone())),
        ("Cast", [x]) => {
            let to = n.dtype("to", x.dtype)?;
            // Casts that keep the number; to others it is data.
            matches!(to, DType::I64 | DType::I32).then(|| Sizes { dtype: to, shape: x.shape.clone(), dims: x.dims.clone() })
        }
        ("Gather", [x, i]) => gather(n, x, i)?,
        ("Concat", _) => concat(n, &xs)?,
        ("Slice", _) => slice(n, &xs)?,
        ("Squeeze" | "Unsqueeze" | "Reshape" | "Flatten", _) => None,
        ("Add", [x, y]) => zip(x, y, |a, b| Some(a + b)),
        ("Sub", [x, y]) => zip(x, y, |a, b| Some(a - b)),
        ("Mul", [x, y]) => zip(x, y, |a, b| Some(a * b)),
        ("Div", [x, y]) => zip(x, y, |a, b| (natural(a) && positive(b)).then(|| a.floor_div(b))),
        ("Mod", [x, y]) => zip(x, y, |a, b| (natural(a) && positive(b)).then(|| a.rem(b))),
        ("Min", [x, y]) => zip(x, y, |a, b| Some(a.at_most(b))),
        ("Max", [x, y]) => zip(x, y, |a, b| Some(a.at_least(b))),
        ("Neg", [x]) => Some(like(x, x.dims.iter().map(|d| &Dim::ZERO - d).collect())),
        ("Abs", [x]) => x.dims.iter().all(natural).then(|| like(x, x.dims.clone())),
        ("Equal", [x, y]) => truth(zip(x, y, equal)),
        ("Greater", [x, y]) => truth(zip(x, y, |a, b| less(b, a))),
        ("Less", [x, y]) => truth(zip(x, y, less)),
        ("GreaterOrEqual", [x, y]) => truth(zip(x, y, |a, b| Some(&Dim::ONE - &less(a, b)?))),
        ("LessOrEqual", [x, y]) => truth(zip(x, y, |a, b| Some(&Dim::ONE - &less(b, a)?))),
        ("Where", [c, x, y]) => choose(c, x, y),
        ("ReduceProd", [x, ..]) => reduce_prod(n, x, xs.get(1))?,
        ("ReduceSum", [x]) if n.ints("axes")?.is_none() && x.shape.len() == 1 => {
            let sum = x.dims.iter().fold(Dim::ZERO, |a, b| &a + b);
            let shape = if n.flag("keepdims", true)? { vec![1] } else { Vec::new() };
            Some(Sizes { dtype: x.dtype, shape, dims: vec![sum] })
        }
        ("Expand", [x, s]) if x.dims.len() == 1 && s.dims.iter().all(|d| d.as_const().is_some()) => {
            let shape: Option<Vec<usize>> = s.dims.iter().map(|d| usize::try_from(d.as_const()?).ok()).collect();
            let count = |s: &Vec<usize>| s.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).filter(|&c| c <= SMALL);
            shape.filter(|s| s.len() >= x.shape.len()).and_then(|shape| {
                let count = count(&shape)?;
                Some(Sizes { dtype: x.dtype, dims: vec![x.dims[0].clone(); count], shape })
            })
        }
        _ => None,
    })
}

fn like(x: &Sizes, dims: Vec<Dim>) -> Sizes { Sizes { dtype: x.dtype, shape: x.shape.clone(), dims } }

fn natural(d: &Dim) -> bool { d.lower_bound().is_some_and(|x| x >= 0) }

/// True for divisors that are sizes: symbols may be zero, which is an error of run time either way.
fn positive(d: &Dim) -> bool { !d.is(0) && natural(d) }

fn equal(a: &Dim, b: &Dim) -> Option<Dim> {
    let difference = a - b;
    if difference.is(0) {
        return Some(Dim::ONE);
    }
    let apart = difference.as_const().is_some() || difference.lower_bound() > Some(0) || (b - a).lower_bound() > Some(0);
    apart.then_some(Dim::ZERO)
}

fn less(a: &Dim, b: &Dim) -> Option<Dim> {
    if (b - a).lower_bound() > Some(0) {
        return Some(Dim::ONE);
    }
    ((a - b).lower_bound() >= Some(0)).then_some(Dim::ZERO)
}

fn truth(x: Option<Sizes>) -> Option<Sizes> { x.map(|x| Sizes { dtype: DType::Bool, ..x }) }

/// Elementwise, for operands of one shape or where one has a single element.
fn zip(x: &Sizes, y: &Sizes, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Sizes> {
    let single = |s: &Sizes, other: &Sizes| s.dims.len() == 1 && s.shape.len() <= other.shape.len();
    let shape = if x.shape == y.shape || single(y, x) {
        x.shape.clone()
    } else if single(x, y) {
        y.shape.clone()
    } else {
        return None;
    };
    let count = shape.iter().product();
    let at = |s: &Sizes, i: usize| s.dims[if s.dims.len() == 1 { 0 } else { i }].clone();
    let dims = (0..count).map(|i| f(&at(x, i), &at(y, i))).collect::<Option<Vec<Dim>>>()?;
    Some(Sizes { dtype: x.dtype, shape, dims })
}

fn choose(c: &Sizes, x: &Sizes, y: &Sizes) -> Option<Sizes> {
    let count = c.dims.len().max(x.dims.len()).max(y.dims.len());
    let fits = |s: &Sizes| s.shape.len() <= 1 && (s.dims.len() == count || s.dims.len() == 1);
    let shape = if [c, x, y].iter().all(|s| s.shape.is_empty()) { Vec::new() } else { vec![count] };
    if ![c, x, y].into_iter().all(fits) {
        return None;
    }
    let at = |s: &Sizes, i: usize| s.dims[if s.dims.len() == 1 { 0 } else { i }].clone();
    let pick = |i| Some(if at(c, i).as_const()? != 0 { at(x, i) } else { at(y, i) });
    Some(Sizes { dtype: x.dtype, shape, dims: (0..count).map(pick).collect::<Option<_>>()? })
}

fn gather(n: &Node, x: &Sizes, i: &Sizes) -> Res<Option<Sizes>> {
    if x.shape.len() != 1 || !matches!(n.int("axis", 0)?, 0 | -1) {
        return Ok(None);
    }
    let len = x.dims.len() as i64;
    let pick = |d: &Dim| {
        let i = d.as_const()?;
        x.dims.get(usize::try_from(if i < 0 { i.checked_add(len)? } else { i }).ok()?).cloned()
    };
    let dims: Option<Vec<Dim>> = i.dims.iter().map(pick).collect();
    Ok(dims.map(|dims| Sizes { dtype: x.dtype, shape: i.shape.clone(), dims }))
}

fn concat(n: &Node, xs: &[Sizes]) -> Res<Option<Sizes>> {
    if xs.iter().any(|x| x.shape.len() != 1 || x.dtype != xs[0].dtype) || !matches!(n.int_required("axis")?, 0 | -1) {
        return Ok(None);
    }
    let dims: Vec<Dim> = xs.iter().flat_map(|x| x.dims.iter().cloned()).collect();
    Ok(Some(Sizes { dtype: xs[0].dtype, shape: vec![dims.len()], dims }))
}

fn slice(n: &Node, xs: &[Sizes]) -> Res<Option<Sizes>> {
    let x = &xs[0];
    let part = |i: usize, name: &str, default: Option<i64>| -> Res<Option<i64>> {
        let from_input = xs.get(i).map(|s| if let [d] = s.dims.as_slice() { d.as_const() } else { None });
        let from_attribute = n.ints(name)?.map(|a| if let [x] = a { Some(*x) } else { None });
        Ok(from_input.or(from_attribute).unwrap_or(default))
    };
    let (start, end) = (part(1, "starts", None)?, part(2, "ends", None)?);
    let (axis, step) = (part(3, "axes", Some(0))?, part(4, "steps", Some(1))?);
    let (Some(start), Some(end), Some(0 | -1), Some(1), 1) = (start, end, axis, step, x.shape.len()) else { return Ok(None) };
    let len = x.dims.len() as i64;
    let place = |p: i64| (if p < 0 { p.saturating_add(len) } else { p }).clamp(0, len) as usize;
    let dims = x.dims.get(place(start)..place(end)).unwrap_or(&[]).to_vec();
    Ok(Some(Sizes { dtype: x.dtype, shape: vec![dims.len()], dims }))
}

fn reduce_prod(n: &Node, x: &Sizes, axes: Option<&Sizes>) -> Res<Option<Sizes>> {
    let all = axes.is_none_or(|a| matches!(a.dims.as_slice(), [d] if d.is(0) || d.is(-1)))
        && n.ints("axes")?.is_none_or(|a| matches!(a, [0 | -1]));
    if x.shape.len() != 1 || !all {
        return Ok(None);
    }
    let shape = if n.flag("keepdims", true)? { vec![1] } else { Vec::new() };
    Ok(Some(Sizes { dtype: x.dtype, shape, dims: vec![Dim::product(&x.dims)] }))
}
