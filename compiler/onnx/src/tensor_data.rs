//! `TensorProto` to tensors: every place elements can be stored in, checked against type and shape.

use bytes::Bytes;
use xlac_ir::DType;
use xlac_ir::tensor::Tensor;

use crate::external::External;
use crate::fail::{Fail, Res, bail, ensure};
use crate::proto::{SparseTensorProto, TensorProto};
use crate::{codes, proto};

/// The tensor of a `TensorProto`.
pub fn tensor(proto: &TensorProto, external: &mut External, budget: u64) -> Res<Tensor> {
    let dtype = dtype(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    ensure!(dtype != DType::String, DTYPE, "tensor `{}` holds strings, which are not supported", proto.name);
    ensure!(proto.segment.is_none(), TENSOR_FIELDS, "tensor `{}` is stored in segments", proto.name);
    let size = byte_size(dtype, &shape, &proto.name)?;
    ensure!(size as u64 <= budget, MEMORY, "tensor `{}` takes {size} bytes, more than the budget of {budget}", proto.name);
    let data = elements(proto, dtype, size, external)?;
    let data = if dtype == DType::Bool { normalized_bools(data) } else { data };
    let (found, name) = (data.len(), &proto.name);
    Tensor::new(dtype, shape, data).ok_or_else(|| {
        let message = format!("tensor `{name}` of type {dtype} and dims {:?} takes {size} bytes, but {found} are stored", proto.dims);
        Fail::new(codes::TENSOR_SIZE, message)
    })
}

/// An element type by its ONNX code.
pub fn dtype(code: i32) -> Res<DType> {
    DType::from_onnx(code).ok_or_else(|| Fail::new(codes::DTYPE, format!("{code} is no element type")))
}

/// A constant shape.
pub fn shape(dims: &[i64]) -> Res<Vec<usize>> {
    let size = |&d: &i64| usize::try_from(d).map_err(|_| Fail::new(codes::BAD_DIM, format!("dim {d} is negative")));
    dims.iter().map(size).collect()
}

/// Bytes a tensor takes.
pub fn byte_size(dtype: DType, shape: &[usize], name: &str) -> Res<usize> {
    let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let bytes = count.and_then(|c| dtype.bytes_for(c)).filter(|&b| i64::try_from(b).is_ok());
    bytes.ok_or_else(|| Fail::new(codes::BAD_DIM, format!("tensor `{name}` has too many elements: {shape:?}")))
}

fn elements(p: &TensorProto, dtype: DType, size: usize, external: &mut External) -> Res<Bytes> {
    let is_external = p.data_location == proto::tensor_proto::DataLocation::External as i32;
    let fields = [
        ("raw_data", !p.raw_data.is_empty()),
        ("float_data", !p.float_data.is_empty()),
        ("int32_data", !p.int32_data.is_empty()),
        ("int64_data", !p.int64_data.is_empty()),
        ("double_data", !p.double_data.is_empty()),
        ("uint64_data", !p.uint64_data.is_empty()),
        ("string_data", !p.string_data.is_empty()),
    ];
    let used: Vec<&str> = fields.iter().filter(|f| f.1).map(|f| f.0).chain(is_external.then_some("external_data")).collect();
    ensure!(used.len() <= 1, TENSOR_FIELDS, "tensor `{}` is stored in several fields: {}", p.name, used.join(", "));
    let Some(&field) = used.first() else { return Ok(Bytes::new()) };
    ensure!(
        field == "raw_data" || field == "external_data" || field == typed_field(dtype),
        TENSOR_FIELDS, "tensor `{}` of type {dtype} is stored in `{field}`", p.name
    );
    Ok(match field {
        "raw_data" => p.raw_data.clone(),
        "external_data" => external.load(p, size)?,
        "float_data" => bytes(&p.float_data, |x| x.to_le_bytes()),
        "double_data" => bytes(&p.double_data, |x| x.to_le_bytes()),
        "int64_data" => bytes(&p.int64_data, |x| x.to_le_bytes()),
        "uint64_data" if dtype == DType::U32 => narrowed_u32(p)?,
        "uint64_data" => bytes(&p.uint64_data, |x| x.to_le_bytes()),
        "int32_data" => narrowed_i32(p, dtype)?,
        _ => bail!(DTYPE, "tensor `{}` holds strings, which are not supported", p.name),
    })
}

/// The typed field that elements of a type are stored in.
fn typed_field(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::C64 => "float_data",
        DType::F64 | DType::C128 => "double_data",
        DType::I64 => "int64_data",
        DType::U64 | DType::U32 => "uint64_data",
        DType::String => "string_data",
        _ => "int32_data",
    }
}

fn bytes<T: Copy, const N: usize>(values: &[T], to: impl Fn(T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(|&x| to(x)).collect::<Vec<u8>>().into()
}

fn narrowed_u32(p: &TensorProto) -> Res<Bytes> {
    let narrow = |&x: &u64| u32::try_from(x).map_err(|_| out_of_type(p, x as i64, DType::U32));
    Ok(bytes(&p.uint64_data.iter().map(narrow).collect::<Res<Vec<u32>>>()?, u32::to_le_bytes))
}

/// Elements of `int32_data`: one each, or one byte of several elements for types smaller than a byte.
fn narrowed_i32(p: &TensorProto, dtype: DType) -> Res<Bytes> {
    let width = dtype.bits().div_ceil(8);
    let (low, high): (i64, i64) = match dtype {
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::I16 => (-32768, 32767),
        DType::I8 => (-128, 127),
        DType::Bool => (0, 1),
        // Bit patterns; packed bytes are written as signed ones by some exporters.
        _ if width == 1 => (-128, 255),
        _ => (0, 65535),
    };
    let mut out = Vec::with_capacity(p.int32_data.len() * width);
    for &x in &p.int32_data {
        if !(low..=high).contains(&i64::from(x)) {
            return Err(out_of_type(p, i64::from(x), dtype));
        }
        out.extend_from_slice(&x.to_le_bytes()[..width]);
    }
    Ok(out.into())
}

fn out_of_type(p: &TensorProto, x: i64, dtype: DType) -> Fail {
    Fail::new(codes::TENSOR_VALUE, format!("tensor `{}`: element {x} is outside of {dtype}", p.name))
}

/// Bools as bytes 0 and 1; other bytes count as true.
fn normalized_bools(data: Bytes) -> Bytes {
    if data.iter().all(|&b| b <= 1) { data } else { data.iter().map(|&b| u8::from(b != 0)).collect::<Vec<u8>>().into() }
}

/// The dense tensor of a sparse one.
pub fn sparse(proto: &SparseTensorProto, external: &mut External, budget: u64) -> Res<Tensor> {
    let missing = || Fail::new(codes::SPARSE_TENSOR, "a sparse tensor without values or indices");
    let values_proto = proto.values.as_ref().ok_or_else(missing)?;
    let values = tensor(values_proto, external, budget)?;
    let indices = tensor(proto.indices.as_ref().ok_or_else(missing)?, external, budget)?;
    let shape = shape(&proto.dims)?;
    let size = byte_size(values.dtype, &shape, &values_proto.name)?;
    ensure!(size as u64 <= budget, MEMORY, "sparse tensor `{}` takes {size} bytes when dense", values_proto.name);
    ensure!(values.dtype.bits() >= 8, SPARSE_TENSOR, "sparse tensors of {} are not supported", values.dtype);
    ensure!(indices.dtype == DType::I64, SPARSE_TENSOR, "sparse indices of type {}", indices.dtype);
    let places = positions(&indices.to_i64(), &indices.shape, &shape, values.len())?;
    let width = values.dtype.size();
    let mut data = vec![0u8; size];
    for (i, at) in places.into_iter().enumerate() {
        data[at * width..(at + 1) * width].copy_from_slice(&values.data[i * width..(i + 1) * width]);
    }
    Tensor::new(values.dtype, shape, data.into()).ok_or_else(missing)
}

/// Flat positions of sparse values, checked to be in range and ascending.
fn positions(indices: &[i64], form: &[usize], shape: &[usize], count: usize) -> Res<Vec<usize>> {
    let total: usize = shape.iter().product();
    let flat: Vec<Option<usize>> = match form {
        [n] if *n == count => indices.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i < total)).collect(),
        [n, rank] if *n == count && *rank == shape.len() && *rank > 0 => {
            indices.chunks(*rank).map(|tuple| flat_position(tuple, shape)).collect()
        }
        _ => bail!(SPARSE_TENSOR, "sparse indices of shape {form:?} for {count} values of a tensor of rank {}", shape.len()),
    };
    let Some(flat) = flat.into_iter().collect::<Option<Vec<usize>>>() else {
        bail!(SPARSE_TENSOR, "a sparse index is out of range")
    };
    ensure!(flat.windows(2).all(|w| w[0] < w[1]), SPARSE_TENSOR, "sparse indices are not ascending and unique");
    Ok(flat)
}

fn flat_position(tuple: &[i64], shape: &[usize]) -> Option<usize> {
    tuple.iter().zip(shape).try_fold(0usize, |at, (&i, &size)| {
        let i = usize::try_from(i).ok().filter(|&i| i < size)?;
        Some(at * size + i)
    })
}
