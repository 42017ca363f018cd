//! Inputs that the user did not give: always the same for the same name, type and shape.

use std::collections::BTreeMap;

use xlac_ir::DType;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::kernel::Const;
use xlac_ir::random::Random;
use xlac_ir::tensor::Tensor;

/// A made-up tensor: floats near the standard normal distribution, integers that are valid indices of most tables.
pub fn generate(name: &str, dtype: DType, shape: &[usize]) -> Option<Tensor> {
    if !dtype.in_kernels() {
        return None;
    }
    let seed = name.bytes().fold(0x5eed, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut random = Random::new(seed);
    let count: usize = shape.iter().product();
    if dtype == DType::F32 {
        // As below, without asking for the type of every element: the usual input is large.
        let elements = (0..count).map(|_| Const::f32(bell(&mut random) as f32));
        return Some(Tensor::from_consts(dtype, shape.to_vec(), elements));
    }
    let elements = (0..count).map(|_| element(&mut random, dtype));
    Some(Tensor::from_consts(dtype, shape.to_vec(), elements))
}

fn element(random: &mut Random, dtype: DType) -> Const {
    match dtype {
        DType::Bool => Const::bool(random.once_in(2)),
        t if t.is_float() => Const::number(t, bell(random)),
        t => Const::int(t, random.between(0, 1)),
    }
}

/// The sum of four uniform numbers has a bell's shape and no far tail.
fn bell(random: &mut Random) -> f64 {
    let sum: f64 = (0..4).map(|_| (random.bits() >> 40) as f64 / f64::powi(2.0, 24) - 0.5).sum();
    sum * 1.732
}

/// A shape with numbers for its symbols: those given, else the least in range, but not 0.
pub fn resolve_shape(shape: &[Dim], sizes: &BTreeMap<String, i64>, ranges: &[(Symbol, i64, i64)]) -> Option<Vec<usize>> {
    let least = |s: &str| ranges.iter().find(|(r, ..)| **r == *s).map_or(1, |(_, low, _)| (*low).max(1));
    let value = |s: &str| Some(sizes.get(s).copied().unwrap_or_else(|| least(s)));
    shape.iter().map(|d| usize::try_from(d.eval(&value)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_every_time() {
        let a = generate("x", DType::F32, &[3, 4]).unwrap();
        assert_eq!(a, generate("x", DType::F32, &[3, 4]).unwrap());
        assert_ne!(a, generate("y", DType::F32, &[3, 4]).unwrap());
        assert!(a.to_f32().iter().all(|x| x.abs() < 4.0));
    }

    #[test]
    fn symbols_take_the_least_size() {
        let shape = [Dim::sym("N"), &Dim::sym("H") * &Dim::from(2)];
        let ranges = [("H".into(), 3, 9)];
        assert_eq!(resolve_shape(&shape, &BTreeMap::new(), &ranges), Some(vec![1, 6]));
        assert_eq!(resolve_shape(&shape, &BTreeMap::from([("N".into(), 7)]), &ranges), Some(vec![7, 6]));
    }
}
