//! Integer weights that fit 8 bits are stored in 8: a zero point taken off them at compile time made them wider.

use xlac_ir::DType;
use xlac_ir::ops;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/narrow_weights",
    kind: Kind::Exact,
    from: "(matmul|conv:k ?x #w)",
    when: &[(|m| m.ty("w").dtype.is_int() && m.ty("w").dtype.bits() > 8, "the weights are not integers of more than 8 bits")],
    into: Into::Code(into),
    example: "
        graph @g(%x: u8[3, 2]) -> (%r) {
          %w = constant {dtype = i32, shape = [2, 2], bits = [1, 4294967295, 127, 4294967168]} : i32[2, 2]
          %y = matmul %x, %w {trans_a = false, trans_b = false, out = i32} : i32[3, 2]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let w = m.data("w")?;
    let elements = w.to_i64();
    let (least, most) = (elements.iter().min().copied().unwrap_or(0), elements.iter().max().copied().unwrap_or(0));
    let to = match (least, most) {
        (-128.., ..=127) => DType::I8,
        (0.., ..=255) => DType::U8,
        _ => return miss(format!("weights from {least} to {most} do not fit 8 bits")),
    };
    let narrow = m.eval(ops::Cast { to }, &[w])?;
    let mut edit = Edit::new();
    let w = edit.constant(narrow, m.weight_name("w", "narrow"));
    let result = edit.op(m.node("k").op.clone(), &[m.v("x"), w]);
    Ok(edit.give(result))
}
