//! The scale inside of a clamped gate, as in `x * clip(x / 6 + 1/2, 0, 1)`, moves into the weights of the contraction that gives
//! `x`.
//!
//! With `s * s = c`, `x * clamp(c * x + a, lo, hi)` is `s * x * clamp(s * x + a / s, lo / s, hi / s)`.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/gate_scale_inside",
    kind: Kind::Fast,
    from: "(mul ?x (min:u (max:l (add:s (mul:y ?x #c) #a) #lo) #hi))",
    when: &[
        (|m| m.is_float() && m.same_type("x"), "a constant widens the shape, or integers wrap"),
        (|m| ["y", "u", "l", "s"].iter().all(|n| m.used_once(n)), "a result in between is used elsewhere"),
        (|m| help::is_scalable_used(m, m.id("x"), 2), "no contraction with constant weights is scaled"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4]) -> (%r) {
          %w = weight @w : f32[4, 3]
          %b = weight @b : f32[3]
          %half = constant {dtype = f32, shape = [], bits = [1056964608]} : f32[]
          %zero = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %one = constant {dtype = f32, shape = [], bits = [1065353216]} : f32[]
          %sixth = constant {dtype = f32, shape = [], bits = [1042983595]} : f32[]
          %k = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 3]
          %a = add %k, %b : f32[2, 3]
          %m = mul %a, %sixth : f32[2, 3]
          %s = add %m, %half : f32[2, 3]
          %l = max %s, %zero : f32[2, 3]
          %u = min %l, %one : f32[2, 3]
          %y = mul %a, %u : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let s = help::root_of_scale(m, "c")?;
    help::gate(m, s, 1.0 / s)
}
