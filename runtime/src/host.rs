//! Host routines: operators for which generated code gains nothing.
//!
//! - **TopK**: the `k` largest or smallest elements along an axis, sorted; among equals the lower index comes first. NaN
//!   counts as larger than everything, equal to any other NaN; -0 and +0 are equal. `k` is the output's size.
//! - **NonZero**: indices of the elements that are not zero, in row-major order, one row per axis; NaN is not zero.

use half::{bf16, f16};

use crate::check::bad;
use crate::device::memory::RawBytes;
use crate::error::Result;
use crate::plan::{DType, Host, Routine};

/// Highest rank of an operand.
pub(crate) const MAX_RANK: usize = 64;

impl Routine {
    /// Name in profiles.
    pub fn name(&self) -> &'static str {
        match self {
            Routine::TopK { .. } => "host:TopK",
            Routine::NonZero => "host:NonZero",
        }
    }
}

/// Checks operands of a routine against its documentation.
pub(crate) fn check(host: &Host) -> Result<()> {
    let operands = (host.inputs.as_slice(), host.outputs.as_slice(), host.binds.len());
    let fits = match (&host.routine, operands) {
        (Routine::TopK { axis, .. }, ([x, ..], [values, indices], 0)) => {
            let rank = x.shape.len();
            host.inputs.len() <= 2
                && (*axis as usize) < rank
                && (values.shape.len(), indices.shape.len()) == (rank, rank)
                && (values.dtype, indices.dtype) == (x.dtype, DType::I64)
        }
        (Routine::NonZero, ([_], [indices], 1)) => indices.shape.len() == 2 && indices.dtype == DType::I64,
        _ => false,
    };
    let fits = fits && host.inputs.iter().chain(&host.outputs).all(|operand| operand.shape.len() <= MAX_RANK);
    if fits { Ok(()) } else { bad(format!("the operands of {:?} do not fit it", host.routine)) }
}

/// What [`top_k`] works on.
pub(crate) struct TopK {
    /// Product of the axes before the searched one.
    pub(crate) outer: usize,
    /// Size of the searched axis.
    pub(crate) axis: usize,
    /// Product of the axes after it.
    pub(crate) inner: usize,
    /// Number of elements to keep; at most `axis`.
    pub(crate) k: usize,
    /// Largest instead of smallest.
    pub(crate) largest: bool,
}

/// Fills values and indices; `keys` is working memory that is kept between calls.
pub(crate) fn top_k(
    dtype: DType,
    case: &TopK,
    x: RawBytes<'_>,
    values: RawBytes<'_>,
    indices: RawBytes<'_>,
    keys: &mut Vec<(u64, usize)>,
) {
    match dtype.size() {
        1 => top_k_sized::<1>(dtype, case, x, values, indices, keys),
        2 => top_k_sized::<2>(dtype, case, x, values, indices, keys),
        4 => top_k_sized::<4>(dtype, case, x, values, indices, keys),
        _ => top_k_sized::<8>(dtype, case, x, values, indices, keys),
    }
}

fn top_k_sized<const N: usize>(
    dtype: DType,
    case: &TopK,
    x: RawBytes<'_>,
    values: RawBytes<'_>,
    indices: RawBytes<'_>,
    keys: &mut Vec<(u64, usize)>,
) {
    let TopK { outer, axis, inner, k, largest } = *case;
    if k == 0 {
        return;
    }
    // Sorting by the complement puts the largest first and keeps the lower index first among equals.
    let flip = if largest { u64::MAX } else { 0 };
    for row in 0..outer {
        for column in 0..inner {
            let source = |i: usize| (row * axis + i) * inner + column;
            keys.clear();
            keys.extend((0..axis).map(|i| (order_key(dtype, &x.load::<N>(source(i))) ^ flip, i)));
            if k < axis {
                keys.select_nth_unstable(k - 1);
            }
            keys[..k].sort_unstable();
            for (rank, &(_, i)) in keys[..k].iter().enumerate() {
                let target = (row * k + rank) * inner + column;
                values.store(target, x.load::<N>(source(i)));
                indices.store(target, (i as i64).to_le_bytes());
            }
        }
    }
}

/// A number that orders as the element does: NaN last, zeros equal.
fn order_key(dtype: DType, bytes: &[u8]) -> u64 {
    match dtype {
        DType::F64 => float_key(f64::from_le_bytes(array(bytes))),
        DType::F32 => float_key(f64::from(f32::from_le_bytes(array(bytes)))),
        DType::F16 => float_key(f16::from_le_bytes(array(bytes)).to_f64()),
        DType::BF16 => float_key(bf16::from_le_bytes(array(bytes)).to_f64()),
        DType::I64 => signed_key(i64::from_le_bytes(array(bytes))),
        DType::I32 => signed_key(i64::from(i32::from_le_bytes(array(bytes)))),
        DType::I16 => signed_key(i64::from(i16::from_le_bytes(array(bytes)))),
        DType::I8 => signed_key(i64::from(i8::from_le_bytes(array(bytes)))),
        DType::U64 => u64::from_le_bytes(array(bytes)),
        DType::U32 => u64::from(u32::from_le_bytes(array(bytes))),
        DType::U16 => u64::from(u16::from_le_bytes(array(bytes))),
        DType::U8 | DType::Bool => u64::from(bytes[0]),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("invariant: operands are read with the size of their element type")
}

fn signed_key(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

fn float_key(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

/// Number of elements that are not zero.
pub(crate) fn count_nonzero(dtype: DType, x: RawBytes<'_>) -> usize {
    (0..x.len() / dtype.size()).filter(|&i| is_nonzero(dtype, x, i)).count()
}

/// Fills `[rank, count]` indices; `shape` is that of `x`, `count` what [`count_nonzero`] found.
pub(crate) fn nonzero(dtype: DType, shape: &[usize], x: RawBytes<'_>, count: usize, indices: RawBytes<'_>) {
    let mut column = 0;
    for element in 0..x.len() / dtype.size() {
        if !is_nonzero(dtype, x, element) {
            continue;
        }
        let mut rest = element;
        for (axis, &dim) in shape.iter().enumerate().rev() {
            indices.store(axis * count + column, ((rest % dim) as i64).to_le_bytes());
            rest /= dim;
        }
        column += 1;
    }
}

fn is_nonzero(dtype: DType, x: RawBytes<'_>, index: usize) -> bool {
    match dtype {
        DType::F64 => u64::from_le_bytes(x.load(index)) << 1 != 0,
        DType::F32 => u32::from_le_bytes(x.load(index)) << 1 != 0,
        DType::F16 | DType::BF16 => u16::from_le_bytes(x.load(index)) << 1 != 0,
        DType::I64 | DType::U64 => x.load::<8>(index) != [0; 8],
        DType::I32 | DType::U32 => x.load::<4>(index) != [0; 4],
        DType::I16 | DType::U16 => x.load::<2>(index) != [0; 2],
        DType::I8 | DType::U8 | DType::Bool => x.load::<1>(index) != [0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_like_numbers() {
        let floats = [f64::NEG_INFINITY, -2.0, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|pair| float_key(pair[0]) < float_key(pair[1])));
        assert_eq!(float_key(-0.0), float_key(0.0));
        assert_eq!(float_key(-f64::NAN), float_key(f64::NAN));
        let integers = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(integers.windows(2).all(|pair| signed_key(pair[0]) < signed_key(pair[1])));
    }
}
