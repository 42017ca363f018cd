//! The scalar functions elementwise ops apply. [`crate::math`] says what each means, once for every target.

use crate::dtype::DType;
use crate::kernel::mnemonics;

mnemonics! {
    /// Functions of one operand.
    UnaryFn {
        /// Negation.
        Neg "neg",
        /// Absolute value.
        Abs "abs",
        /// -1, 0 or 1; NaN stays NaN.
        Sign "sign",
        /// Towards negative infinity.
        Floor "floor",
        /// Towards positive infinity.
        Ceil "ceil",
        /// To nearest, ties to even.
        Round "round",
        /// Square root.
        Sqrt "sqrt",
        /// `1 / x`.
        Reciprocal "reciprocal",
        /// e to the x.
        Exp "exp",
        /// Natural logarithm.
        Log "log",
        /// Sine, radians.
        Sin "sin",
        /// Cosine, radians.
        Cos "cos",
        /// Tangent, radians.
        Tan "tan",
        /// Inverse sine.
        Asin "asin",
        /// Inverse cosine.
        Acos "acos",
        /// Inverse tangent.
        Atan "atan",
        /// Hyperbolic sine.
        Sinh "sinh",
        /// Hyperbolic cosine.
        Cosh "cosh",
        /// Inverse hyperbolic sine.
        Asinh "asinh",
        /// Inverse hyperbolic cosine.
        Acosh "acosh",
        /// Inverse hyperbolic tangent.
        Atanh "atanh",
        /// Hyperbolic tangent.
        Tanh "tanh",
        /// Error function.
        Erf "erf",
        /// `1 / (1 + exp(-x))`.
        Sigmoid "sigmoid",
        /// `log(1 + exp(x))`.
        Softplus "softplus",
        /// Logical or bitwise complement.
        Not "not",
        /// True for NaN; the result is bool.
        IsNan "is_nan",
        /// True for positive infinity; the result is bool.
        IsPosInf "is_pos_inf",
        /// True for negative infinity; the result is bool.
        IsNegInf "is_neg_inf",
    }
}

mnemonics! {
    /// Functions of two operands of one type.
    BinaryFn {
        /// Sum.
        Add "add",
        /// Difference.
        Sub "sub",
        /// Product.
        Mul "mul",
        /// Quotient; truncated for integers.
        Div "div",
        /// Remainder with the divisor's sign; for floats `x - floor(x / y) * y`.
        Mod "mod",
        /// Remainder with the dividend's sign.
        Fmod "fmod",
        /// Power.
        Pow "pow",
        /// Smaller; NaN wins.
        Min "min",
        /// Larger; NaN wins.
        Max "max",
        /// Bits or truths in both.
        And "and",
        /// Bits or truths in either.
        Or "or",
        /// Bits or truths in one.
        Xor "xor",
        /// Left shift.
        Shl "shl",
        /// Right shift.
        Shr "shr",
    }
}

impl UnaryFn {
    /// Element type of the result for an operand of type `x`.
    pub fn result(self, x: DType) -> DType {
        match self {
            UnaryFn::IsNan | UnaryFn::IsPosInf | UnaryFn::IsNegInf => DType::Bool,
            _ => x,
        }
    }

    /// True if it applies to operands of type `x`.
    pub fn accepts(self, x: DType) -> bool {
        use UnaryFn::*;
        match self {
            Neg | Abs | Sign => x.is_float() || x.is_int(),
            Floor | Ceil | Round => x.is_float(),
            Not => x.is_int() || x == DType::Bool,
            _ => x.is_float(),
        }
    }

    /// Rough cost in arithmetic instructions: decides between computing twice and storing.
    pub fn cost(self) -> u32 {
        use UnaryFn::*;
        match self {
            Neg | Abs | Floor | Ceil | Round | Not | IsNan | IsPosInf | IsNegInf => 1,
            Sign => 3,
            Sqrt | Reciprocal => 5,
            Sigmoid | Exp | Log | Tanh | Erf => 20,
            _ => 40,
        }
    }
}

impl BinaryFn {
    /// True if it applies to operands of type `x`.
    pub fn accepts(self, x: DType) -> bool {
        use BinaryFn::*;
        match self {
            Add | Sub | Mul | Div | Mod | Fmod | Pow => x.is_float() || x.is_int(),
            Min | Max => x.is_float() || x.is_int() || x == DType::Bool,
            And | Or | Xor => x.is_int() || x == DType::Bool,
            Shl | Shr => x.is_int(),
        }
    }

    /// True if operands may be exchanged. Not `min` and `max`, which prefer one side among equals.
    pub fn commutes(self) -> bool {
        use BinaryFn::*;
        matches!(self, Add | Mul | And | Or | Xor)
    }

    /// Rough cost in arithmetic instructions.
    pub fn cost(self) -> u32 {
        match self {
            BinaryFn::Div => 5,
            BinaryFn::Pow => 60,
            BinaryFn::Mod | BinaryFn::Fmod => 10,
            _ => 1,
        }
    }
}
