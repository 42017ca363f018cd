//! Compares tensors: tolerances, and how far apart two are.

use std::collections::BTreeMap;
use std::path::Path;

use xlac_ir::DType;
use xlac_ir::tensor::Tensor;

/// `|a - b| <= atol + rtol * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

impl Tolerance {
    /// What a test case without `data.json` is held to.
    pub fn default_for(dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 => Tolerance { rtol: 1e-2, atol: 1e-3 },
            DType::BF16 => Tolerance { rtol: 2e-2, atol: 1e-2 },
            t if t.is_float() => Tolerance { rtol: 1e-3, atol: 1e-5 },
            _ => Tolerance { rtol: 0.0, atol: 0.0 },
        }
    }

    /// What `verify` allows: the absolute part grows with the largest value of the reference.
    pub fn scaled_to(reference: &Tensor) -> Tolerance {
        let base = Tolerance::default_for(reference.dtype);
        if !reference.dtype.is_float() || !reference.dtype.in_kernels() {
            return base;
        }
        let largest = reference.to_f64().into_iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, b| a.max(b.abs()));
        Tolerance { rtol: base.rtol, atol: base.atol + largest * base.rtol * 0.1 }
    }

    /// Bit for bit.
    pub const EXACT: Tolerance = Tolerance { rtol: -1.0, atol: -1.0 };
}

/// How far apart two tensors are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Largest absolute difference.
    pub abs: f64,
    /// Largest difference relative to the reference.
    pub rel: f64,
    /// Largest difference in units in the last place; floats of equal type only.
    pub ulp: u64,
    /// Elements outside of the tolerance.
    pub outside: usize,
    /// First of those.
    pub first: Option<usize>,
    /// Number of elements.
    pub elements: usize,
    /// Types or shapes that differ, as a sentence.
    pub kind: Option<String>,
}

impl Difference {
    /// True within the tolerance.
    pub fn is_fine(&self) -> bool { self.kind.is_none() && self.outside == 0 }

    /// What differs, for people.
    pub fn describe(&self, got: &Tensor, expected: &Tensor) -> String {
        if let Some(kind) = &self.kind {
            return kind.clone();
        }
        let Some(first) = self.first else { return "equal within the tolerance".into() };
        let value = |t: &Tensor| crate::data::show(t.get(first));
        format!(
            "{} of {} elements differ, by up to {:.3e} absolute and {:.3e} relative; the first is number {first}: {} instead of {}",
            self.outside, self.elements, self.abs, self.rel, value(got), value(expected)
        )
    }
}

/// Compares `got` with a reference. NaN equals NaN, infinities equal themselves.
pub fn difference(got: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Difference {
    let mut d = Difference { elements: expected.len(), ..Difference::default() };
    if got.dtype != expected.dtype {
        d.kind = Some(format!("element type {} instead of {}", got.dtype, expected.dtype));
    } else if got.shape != expected.shape {
        d.kind = Some(format!("shape {:?} instead of {:?}", got.shape, expected.shape));
    }
    if d.kind.is_some() || got.data == expected.data {
        return d;
    }
    if !got.dtype.in_kernels() {
        d.kind = Some("different bytes".into());
        return d;
    }
    for (i, (a, b)) in got.iter().zip(expected.iter()).enumerate() {
        if a.bits == b.bits {
            continue;
        }
        let exactly = tolerance == Tolerance::EXACT;
        let (x, y) = (as_f64(a), as_f64(b));
        if x.is_nan() && y.is_nan() {
            // Which NaN it is has no meaning, not even between runs of the reference.
            continue;
        }
        let abs = if x == y { 0.0 } else { (x - y).abs() };
        let abs = if abs.is_nan() { f64::INFINITY } else { abs };
        d.abs = d.abs.max(abs);
        let rel = if abs == 0.0 { 0.0 } else if y == 0.0 || !y.is_finite() { f64::INFINITY } else { abs / y.abs() };
        d.rel = d.rel.max(rel);
        d.ulp = d.ulp.max(ulps(a, b));
        let finite = x.is_finite() && y.is_finite();
        let inside = !exactly && (abs == 0.0 || finite && abs <= tolerance.atol + tolerance.rtol * y.abs());
        if !inside {
            d.outside += 1;
            d.first = d.first.or(Some(i));
        }
    }
    d
}

fn as_f64(c: xlac_ir::kernel::Const) -> f64 { f64::from_bits(xlac_ir::scalar::convert(c, DType::F64).bits) }

/// Number of representable values between two elements of a type.
fn ulps(a: xlac_ir::kernel::Const, b: xlac_ir::kernel::Const) -> u64 {
    let bits = a.dtype.bits() as u32;
    // Floats order like sign and magnitude.
    let order = |c: xlac_ir::kernel::Const| {
        let sign = c.bits >> (bits - 1) & 1;
        let magnitude = (c.bits & !(1 << (bits - 1))) as i128;
        if sign == 1 { -magnitude } else { magnitude }
    };
    if !a.dtype.is_float() {
        return 0;
    }
    u64::try_from((order(a) - order(b)).unsigned_abs()).unwrap_or(u64::MAX)
}

/// Tolerances of a test case's `data.json`, by output; none without the file.
pub fn tolerances(case: &Path) -> BTreeMap<String, Tolerance> {
    let text = std::fs::read_to_string(case.join("data.json")).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(outputs) = json.get("tolerance").and_then(|t| t.as_object()) else { return BTreeMap::new() };
    let number = |v: &serde_json::Value, key: &str, default: f64| v.get(key).and_then(|x| x.as_f64()).unwrap_or(default);
    let tolerance = |v| Tolerance { rtol: number(v, "rtol", 1e-3), atol: number(v, "atol", 1e-5) };
    outputs.iter().map(|(name, v)| (name.clone(), tolerance(v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_equals_nan_and_nothing_else() {
        let a = Tensor::from_f32(vec![2], &[f32::NAN, 1.0]);
        let b = Tensor::from_f32(vec![2], &[f32::NAN, 1.0005]);
        assert!(difference(&a, &b, Tolerance::default_for(DType::F32)).is_fine());
        assert!(!difference(&a, &b, Tolerance::EXACT).is_fine());
        let c = Tensor::from_f32(vec![2], &[0.0, 1.0]);
        let d = difference(&c, &a, Tolerance::default_for(DType::F32));
        assert_eq!((d.outside, d.first), (1, Some(0)));
    }

    #[test]
    fn shapes_and_types_must_agree() {
        let a = Tensor::from_f32(vec![2], &[0.0, 1.0]);
        assert!(difference(&a, &a.reshaped(vec![1, 2]), Tolerance::EXACT).kind.is_some());
        let b = Tensor::from_i64(vec![1], &[3]);
        assert!(!difference(&b, &Tensor::from_i64(vec![1], &[4]), Tolerance::default_for(DType::I64)).is_fine());
    }

    #[test]
    fn neighbours_are_one_ulp_apart() {
        let a = Tensor::from_f32(vec![1], &[1.0]);
        let b = Tensor::from_f32(vec![1], &[1.0 + f32::EPSILON]);
        assert_eq!(difference(&a, &b, Tolerance::EXACT).ulp, 1);
    }
}
