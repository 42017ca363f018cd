//! Small constant powers are products, roots and reciprocals.

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/pow_constant",
    kind: Kind::Fast,
    from: "(pow ?x #e)",
    when: &[(|m| m.is_float(), "integer powers wrap"), (|m| m.same_type("x"), "the exponent widens the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1073741824]} : f32[]
          %y = pow %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let x = m.v("x");
    let mut edit = Edit::new();
    let result = match m.number("e") {
        Some(1.0) => x,
        Some(2.0) => edit.op(Op::Binary(BinaryFn::Mul), &[x, x]),
        Some(3.0) => {
            let square = edit.op(Op::Binary(BinaryFn::Mul), &[x, x]);
            edit.op(Op::Binary(BinaryFn::Mul), &[square, x])
        }
        Some(0.5) => edit.op(Op::Unary(UnaryFn::Sqrt), &[x]),
        Some(e @ (0.25 | 0.75 | 1.5)) => {
            let root = edit.op(Op::Unary(UnaryFn::Sqrt), &[x]);
            let root_of_root = |edit: &mut Edit| edit.op(Op::Unary(UnaryFn::Sqrt), &[root]);
            match e {
                0.25 => root_of_root(&mut edit),
                0.75 => {
                    let quarter = root_of_root(&mut edit);
                    edit.op(Op::Binary(BinaryFn::Mul), &[root, quarter])
                }
                _ => edit.op(Op::Binary(BinaryFn::Mul), &[x, root]),
            }
        }
        Some(-1.0) => edit.op(Op::Unary(UnaryFn::Reciprocal), &[x]),
        _ => return miss("the exponent is not 1, 2, 3, 0.25, 0.5, 0.75, 1.5 or -1"),
    };
    Ok(edit.give(result))
}
