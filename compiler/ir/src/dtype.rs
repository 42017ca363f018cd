//! The one table of element types: name, size, class and ONNX code.

use std::fmt;

/// Broad class of an element type; it decides which operations apply.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class { Float, Signed, Unsigned, Bool, String, Complex }

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal $class:ident $onnx:literal;)*) => {
        /// Element type of a tensor, a kernel buffer or a kernel value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $($(#[$doc])* $variant),* }

        impl DType {
            /// Every element type, in the order of the table.
            pub const ALL: &[DType] = &[$(DType::$variant),*];
            /// Name in the text forms.
            pub fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }
            /// Bits of one element; 0 for strings, which have no fixed size.
            pub fn bits(self) -> usize { match self { $(DType::$variant => $bits),* } }
            /// Broad class.
            pub fn class(self) -> Class { match self { $(DType::$variant => Class::$class),* } }
            /// `TensorProto.DataType` code.
            pub fn onnx_code(self) -> i32 { match self { $(DType::$variant => $onnx),* } }
        }
    };
}

dtypes! {
    /// IEEE 754 binary64.
    F64 "f64" 64 Float 11;
    /// IEEE 754 binary32.
    F32 "f32" 32 Float 1;
    /// IEEE 754 binary16.
    F16 "f16" 16 Float 10;
    /// bfloat16.
    BF16 "bf16" 16 Float 16;
    /// OCP E4M3, finite and NaN.
    F8E4M3FN "f8e4m3fn" 8 Float 17;
    /// E4M3 without negative zero.
    F8E4M3FNUZ "f8e4m3fnuz" 8 Float 18;
    /// OCP E5M2.
    F8E5M2 "f8e5m2" 8 Float 19;
    /// E5M2 without negative zero and infinities.
    F8E5M2FNUZ "f8e5m2fnuz" 8 Float 20;
    /// OCP E8M0: a power of two, for scales.
    F8E8M0 "f8e8m0" 8 Float 24;
    /// OCP E2M1.
    F4E2M1 "f4e2m1" 4 Float 23;
    /// 64-bit signed integer.
    I64 "i64" 64 Signed 7;
    /// 32-bit signed integer.
    I32 "i32" 32 Signed 6;
    /// 16-bit signed integer.
    I16 "i16" 16 Signed 5;
    /// 8-bit signed integer.
    I8 "i8" 8 Signed 3;
    /// 4-bit signed integer, two in a byte.
    I4 "i4" 4 Signed 22;
    /// 2-bit signed integer, four in a byte.
    I2 "i2" 2 Signed 26;
    /// 64-bit unsigned integer.
    U64 "u64" 64 Unsigned 13;
    /// 32-bit unsigned integer.
    U32 "u32" 32 Unsigned 12;
    /// 16-bit unsigned integer.
    U16 "u16" 16 Unsigned 4;
    /// 8-bit unsigned integer.
    U8 "u8" 8 Unsigned 2;
    /// 4-bit unsigned integer, two in a byte.
    U4 "u4" 4 Unsigned 21;
    /// 2-bit unsigned integer, four in a byte.
    U2 "u2" 2 Unsigned 25;
    /// Truth value, one byte holding 0 or 1.
    Bool "bool" 8 Bool 9;
    /// UTF-8 text.
    String "string" 0 String 8;
    /// Two f32.
    C64 "c64" 64 Complex 14;
    /// Two f64.
    C128 "c128" 128 Complex 15;
}

impl DType {
    /// The type with this text name.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// The type with this `TensorProto.DataType` code.
    pub fn from_onnx(code: i32) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.onnx_code() == code)
    }

    /// Bytes that `count` elements take, packed as in `TensorProto.raw_data`; none on overflow.
    pub fn bytes_for(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }

    /// Bytes of one element for types of at least one byte.
    pub fn size(self) -> usize {
        debug_assert!(self.bits() >= 8, "{self} is smaller than a byte");
        self.bits() / 8
    }

    /// True for the floating-point types.
    pub fn is_float(self) -> bool { self.class() == Class::Float }

    /// True for the integer types, `bool` not included.
    pub fn is_int(self) -> bool { matches!(self.class(), Class::Signed | Class::Unsigned) }

    /// True for the signed integer types.
    pub fn is_signed(self) -> bool { self.class() == Class::Signed }

    /// The type arithmetic on this type is done in: narrow floats compute in f32 and round once per operation.
    pub fn compute(self) -> DType {
        match self {
            DType::F64 => DType::F64,
            t if t.is_float() => DType::F32,
            t => t,
        }
    }

    /// True for the types kernels can load, store and compute with.
    pub fn in_kernels(self) -> bool {
        use DType::*;
        matches!(self, F64 | F32 | F16 | BF16 | I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8 | Bool)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { f.write_str(self.name()) }
}
