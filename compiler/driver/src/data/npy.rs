//! NumPy's `.npy` format, versions 1 to 3: a header that is a Python dict, then the elements.

use xlac_ir::DType;
use xlac_ir::tensor::{Tensor, strides};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Type descriptions, without the byte order. bfloat16 has none of its own: ml_dtypes stores it as two raw bytes.
const DESCRIPTIONS: &[(&str, DType)] = &[
    ("f8", DType::F64),
    ("f4", DType::F32),
    ("f2", DType::F16),
    ("V2", DType::BF16),
    ("i8", DType::I64),
    ("i4", DType::I32),
    ("i2", DType::I16),
    ("i1", DType::I8),
    ("u8", DType::U64),
    ("u4", DType::U32),
    ("u2", DType::U16),
    ("u1", DType::U8),
    ("b1", DType::Bool),
];

/// Reads a `.npy` file.
pub fn read_npy(bytes: Vec<u8>) -> Result<Tensor, String> {
    let (header, start) = header(&bytes).ok_or("not a .npy file")?;
    let description = field(header, "descr").and_then(|v| quoted(v)).ok_or("the element type is not a plain one")?;
    let (order, kind) = description.split_at_checked(1).ok_or("the element type is not a plain one")?;
    let dtype = DESCRIPTIONS.iter().find(|(name, _)| *name == kind).map(|(_, dtype)| *dtype);
    let dtype = dtype.ok_or_else(|| format!("element type `{description}` is not supported"))?;
    if order == ">" {
        return Err("big-endian elements are not supported: save them with `.astype('<...')`".into());
    }
    let fortran = field(header, "fortran_order").is_some_and(|v| v.starts_with("True"));
    let shape = field(header, "shape").and_then(shape_of).ok_or("the shape cannot be read")?;
    let data = bytes::Bytes::from(bytes).slice(start..);
    let short = format!("{} bytes do not fit {dtype}{shape:?}", data.len());
    if dtype == DType::Bool && data.iter().any(|&b| b > 1) {
        return Err("a truth value is neither 0 nor 1".into());
    }
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    let stored = if fortran { &reversed } else { &shape };
    let tensor = Tensor::new(dtype, stored.clone(), data).ok_or(short)?;
    if !fortran {
        return Ok(tensor);
    }
    let steps: Vec<i64> = strides(&reversed).into_iter().rev().map(|s| s as i64).collect();
    Ok(tensor.strided(&shape, 0, &steps))
}

/// The header's text, and where the elements begin.
fn header(bytes: &[u8]) -> Option<(&str, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (len, at): (usize, usize) = match rest.first()? {
        1 => (usize::from(u16::from_le_bytes([*rest.get(2)?, *rest.get(3)?])), 10),
        2 | 3 => (u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize, 12),
        _ => return None,
    };
    let end = at.checked_add(len)?;
    Some((std::str::from_utf8(bytes.get(at..end)?).ok()?, end))
}

/// What stands behind a key of the dict.
fn field<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let at = header.find(&format!("'{key}'"))?;
    Some(header[at + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(text: &str) -> Option<&str> { text.strip_prefix('\'')?.split('\'').next() }

fn shape_of(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.split(')').next()?;
    inner.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.trim_end_matches('L').parse().ok()).collect()
}

/// A tensor as a `.npy` file; none for types NumPy has no name for.
pub fn write_npy(tensor: &Tensor) -> Option<Vec<u8>> {
    let (name, _) = DESCRIPTIONS.iter().find(|(_, dtype)| *dtype == tensor.dtype)?;
    let order = if name.ends_with('1') || name.starts_with('V') { "|" } else { "<" };
    let dims: String = tensor.shape.iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '{order}{name}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // Elements begin at a multiple of 64 bytes.
    let len = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', len - header.len() - 1));
    header.push('\n');
    let mut out = [MAGIC, &[1, 0], &u16::try_from(header.len()).ok()?.to_le_bytes()].concat();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&tensor.data);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_round_trip() {
        for shape in [vec![], vec![3], vec![2, 3], vec![0, 4]] {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
            let t = Tensor::from_f32(shape, &values);
            let bytes = write_npy(&t).unwrap();
            assert_eq!(read_npy(bytes).unwrap(), t);
        }
    }

    #[test]
    fn column_major_files_are_transposed() {
        let t = Tensor::from_i64(vec![2, 3], &[1, 2, 3, 4, 5, 6]);
        let bytes = write_npy(&t).unwrap();
        let text = String::from_utf8_lossy(&bytes[..64]).into_owned();
        assert!(text.contains("'fortran_order': False"));
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        let mut fortran = bytes.clone();
        fortran[at..at + 5].copy_from_slice(b"True ");
        assert_eq!(read_npy(fortran).unwrap().to_i64(), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn damaged_files_are_errors() {
        let t = Tensor::from_i64(vec![2], &[1, 2]);
        let bytes = write_npy(&t).unwrap();
        for end in 0..bytes.len() {
            assert!(read_npy(bytes[..end].to_vec()).is_err());
        }
    }
}
