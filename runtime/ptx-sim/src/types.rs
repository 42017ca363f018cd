//! Element types and state spaces of PTX.

/// A PTX type: what a register holds or how an instruction reads its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Tf32,
}

/// How the bits of a [`Ty`] are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Pred,
    Bits,
    Unsigned,
    Signed,
    Float,
}

impl Ty {
    /// The type named `name`, without its leading dot.
    pub fn parse(name: &str) -> Option<Ty> {
        Some(match name {
            "pred" => Ty::Pred,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::Bf16,
            "bf16x2" => Ty::Bf16x2,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            "tf32" => Ty::Tf32,
            _ => return None,
        })
    }

    /// Size in bytes; a predicate counts as one.
    pub fn bytes(self) -> usize {
        match self {
            Ty::Pred | Ty::B8 | Ty::U8 | Ty::S8 => 1,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 => 2,
            Ty::B32 | Ty::U32 | Ty::S32 | Ty::F32 | Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32 => 4,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 8,
        }
    }

    /// Size in bits.
    pub fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    /// How the bits are meant.
    pub fn class(self) -> Class {
        match self {
            Ty::Pred => Class::Pred,
            // Registers of the half and tf32 formats are declared as bits in practice.
            Ty::B8 | Ty::B16 | Ty::B32 | Ty::B64 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 | Ty::Tf32 => Class::Bits,
            Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64 => Class::Unsigned,
            Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64 => Class::Signed,
            Ty::F16 | Ty::F32 | Ty::F64 => Class::Float,
        }
    }

    /// Whether this is a signed integer.
    pub fn is_signed(self) -> bool {
        self.class() == Class::Signed
    }

    /// Whether this is an integer or plain bits.
    pub fn is_integer(self) -> bool {
        matches!(self.class(), Class::Unsigned | Class::Signed) || matches!(self, Ty::B8 | Ty::B16 | Ty::B32 | Ty::B64)
    }

    /// Whether a register declared `self` may stand where an instruction of type `wanted` expects it.
    pub fn fits(self, wanted: Ty) -> bool {
        let float = |c: Class| c == Class::Float;
        let (have, want) = (self.class(), wanted.class());
        let kinds = have == Class::Bits || want == Class::Bits || float(have) == float(want);
        (self == Ty::Pred) == (wanted == Ty::Pred) && self.bytes() == wanted.bytes() && kinds
    }
}

/// A state space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

impl Space {
    /// The space named `name`, without its leading dot.
    pub fn parse(name: &str) -> Option<Space> {
        Some(match name {
            "global" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "local" => Space::Local,
            "const" => Space::Const,
            "param" | "param::entry" => Space::Param,
            _ => return None,
        })
    }
}

/// Shared memory starts here within its space, so that an offset taken for an address is caught.
pub(crate) const SHARED_BASE: u64 = 1024;
/// Generic addresses of shared memory are this much higher than addresses within the space.
pub(crate) const SHARED_WINDOW: u64 = 0x7e00_0000_0000;
/// The same for local memory.
pub(crate) const LOCAL_WINDOW: u64 = 0x7e80_0000_0000;
/// The same for constant memory.
pub(crate) const CONST_WINDOW: u64 = 0x7ec0_0000_0000;
/// The lowest address of global memory.
pub(crate) const GLOBAL_BASE: u64 = 0x7f00_0000_0000;
