//! How a kernel value is held: chunks of 16 bytes, a scalar, or a constant not yet made.

use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::VType;

use super::memory::Address;
use super::{Emitter, Key};

/// A kernel value in CLIF.
///
/// Invariants: a scalar (one lane) has one chunk, its CLIF scalar; a vector has `ceil(lanes * width / 16)` chunks, whose
/// lanes past the end hold anything; lanes of a bool vector are masks, all ones or all zeros, of `width` bytes; a bool
/// scalar is an `i8` of 0 or 1; half-precision lanes are their bits. A constant has no chunks.
#[derive(Clone, Debug)]
pub struct Rep {
    /// Kernel type.
    pub ty: VType,
    /// Bytes of a lane.
    pub width: u32,
    /// The chunks.
    pub chunks: Vec<Value>,
    /// To be added to an i64 scalar: it becomes part of an address for free.
    pub off: i64,
    /// The bits in every lane, if known.
    pub bits: Option<u64>,
    /// Where the element is that fills every lane, as long as that may be loaded; then there are no chunks.
    pub element: Option<Address>,
}

impl Rep {
    /// A constant in every lane.
    pub fn constant(ty: VType, bits: u64) -> Rep {
        Rep { ty, width: ty.dtype.size() as u32, chunks: Vec::new(), off: 0, bits: Some(bits), element: None }
    }

    /// A scalar.
    pub fn scalar(dtype: DType, v: Value) -> Rep { Rep::new(VType::scalar(dtype), vec![v]) }

    /// A value of lanes as wide as its elements.
    pub fn new(ty: VType, chunks: Vec<Value>) -> Rep { Rep::wide(ty, ty.dtype.size() as u32, chunks) }

    /// A value of lanes of `width` bytes.
    pub fn wide(ty: VType, width: u32, chunks: Vec<Value>) -> Rep {
        debug_assert_eq!(chunks.len(), count(ty.lanes, width));
        Rep { ty, width, chunks, off: 0, bits: None, element: None }
    }

    /// Number of lanes.
    pub fn lanes(&self) -> u32 { self.ty.lanes }

    /// True for one lane.
    pub fn is_scalar(&self) -> bool { self.ty.lanes == 1 }

    /// Number of chunks, made or not.
    pub fn count(&self) -> usize { count(self.ty.lanes, self.width) }

    /// CLIF type of a chunk.
    pub fn clif(&self) -> Type {
        match (self.is_scalar(), self.ty.dtype) {
            (true, t) => scalar_type(t),
            (false, DType::Bool) => mask_type(self.width),
            (false, t) => vector_type(t),
        }
    }

    /// The same lanes under another type of the same width.
    pub fn relabel(&self, dtype: DType) -> Rep { Rep { ty: self.ty.with(dtype), ..self.clone() } }
}

/// Chunks of a value.
pub fn count(lanes: u32, width: u32) -> usize { if lanes == 1 { 1 } else { (lanes * width).div_ceil(16) as usize } }

/// CLIF type of one element.
pub fn scalar_type(t: DType) -> Type {
    match t {
        DType::F64 => types::F64,
        DType::F32 => types::F32,
        _ => int_type(t.size() as u32),
    }
}

/// CLIF integer of `bytes`.
pub fn int_type(bytes: u32) -> Type {
    match bytes {
        1 => types::I8,
        2 => types::I16,
        4 => types::I32,
        _ => types::I64,
    }
}

/// CLIF type of a chunk of elements.
pub fn vector_type(t: DType) -> Type {
    match t {
        DType::F64 => types::F64X2,
        DType::F32 => types::F32X4,
        _ => mask_type(t.size() as u32),
    }
}

/// CLIF integer vector of lanes of `bytes`.
pub fn mask_type(bytes: u32) -> Type {
    match bytes {
        1 => types::I8X16,
        2 => types::I16X8,
        4 => types::I32X4,
        _ => types::I64X2,
    }
}

impl Emitter<'_> {
    /// Chunk `i` as a CLIF value, constants and offsets made.
    pub fn chunk(&mut self, rep: &Rep, i: usize) -> Value {
        if let Some(at) = rep.element {
            let x = self.load_scalar(rep.ty.dtype, at);
            let clif = rep.clif();
            return self.ins().splat(clif, x);
        }
        match rep.bits {
            Some(bits) => self.constant_chunk(rep, bits),
            None if rep.off != 0 => self.plus(rep.chunks[0], rep.off),
            None => rep.chunks[i],
        }
    }

    /// Every chunk.
    pub fn chunks(&mut self, rep: &Rep) -> Vec<Value> { (0..rep.count()).map(|i| self.chunk(rep, i)).collect() }

    fn constant_chunk(&mut self, rep: &Rep, bits: u64) -> Value {
        if rep.is_scalar() {
            return self.scalar_constant(rep.ty.dtype, bits);
        }
        let lane = if rep.ty.dtype == DType::Bool && bits != 0 { u64::MAX } else { bits };
        let bytes: Vec<u8> = lane.to_le_bytes()[..rep.width as usize].iter().copied().cycle().take(16).collect();
        self.vector_constant(rep.clif(), bytes)
    }

    /// A constant chunk from its bytes.
    pub fn vector_constant(&mut self, ty: Type, bytes: Vec<u8>) -> Value {
        let c = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.ins().vconst(ty, c)
    }

    /// The integer `x` in every lane of a vector.
    pub fn int_lanes(&mut self, ty: Type, x: u64) -> Value {
        let width = ty.lane_bits() as usize / 8;
        let bytes = x.to_le_bytes()[..width].iter().copied().cycle().take(16).collect();
        self.vector_constant(ty, bytes)
    }

    /// A constant scalar.
    pub fn scalar_constant(&mut self, dtype: DType, bits: u64) -> Value {
        match dtype {
            DType::F32 => self.ins().f32const(f32::from_bits(bits as u32)),
            DType::F64 => self.ins().f64const(f64::from_bits(bits)),
            t => {
                let shift = 64 - t.bits();
                // Cranelift wants small constants zero-extended.
                self.ins().iconst(int_type(t.size() as u32), ((bits << shift) >> shift) as i64)
            }
        }
    }

    /// `v + x`, once per scope.
    pub fn plus(&mut self, v: Value, x: i64) -> Value {
        if x == 0 {
            return v;
        }
        self.memoize(Key::Plus(v, x), |e| {
            let c = e.int(x);
            e.ins().iadd(v, c)
        })
    }

    /// `v` under another type of the same size.
    pub fn cast(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty {
            return v;
        }
        self.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), v)
    }

    /// Bytes of `a` then `b` picked by `at`.
    pub fn shuffle(&mut self, a: Value, b: Value, at: [u8; 16]) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        let (a, b) = (self.cast(types::I8X16, a), self.cast(types::I8X16, b));
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(&at[..]));
        let out = self.ins().shuffle(a, b, mask);
        self.cast(ty, out)
    }
}
