//! A cast after one that loses nothing casts from the start.

use xlac_ir::DType;
use xlac_ir::dtype::Class;
use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/cast_of_cast",
    kind: Kind::Exact,
    from: "(cast:outer (cast ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: i32[2, 3]) -> (%r) {
          %a = cast %x {to = i64} : i64[2, 3]
          %y = cast %a {to = f32} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (from, to) = (m.ty("x").dtype, attrs!(m, "outer", Cast).to);
    let middle = m.program.graph.ty(m.root().inputs[0]).dtype;
    if !keeps_every_value(from, middle) {
        return miss(format!("{middle} does not hold every {from}"));
    }
    // Integers reach f16 and bf16 through f32, and so may round twice.
    if from.is_int() && from.bits() > 16 && matches!(to, DType::F16 | DType::BF16) {
        return miss("integers round twice on the way to narrow floats");
    }
    Ok(Edit::node(ops::Cast { to }, &[m.v("x")]))
}

fn keeps_every_value(from: DType, to: DType) -> bool {
    if !from.in_kernels() || !to.in_kernels() {
        return false;
    }
    let mantissa = |t: DType| match t {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        _ => 8,
    };
    match (from.class(), to.class()) {
        _ if from == to || from == DType::Bool => true,
        (Class::Float, Class::Float) => {
            matches!((from, to), (DType::F16 | DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64))
        }
        (Class::Signed | Class::Unsigned, Class::Float) => from.bits() <= mantissa(to),
        (Class::Signed, Class::Signed) | (Class::Unsigned, Class::Unsigned) => from.bits() <= to.bits(),
        (Class::Unsigned, Class::Signed) => from.bits() < to.bits(),
        _ => false,
    }
}
