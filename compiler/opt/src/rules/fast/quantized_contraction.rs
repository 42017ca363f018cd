//! A contraction of dequantized operands multiplies the integers, and scales once at the end: `(s x) (t w) = s t (x w)`.
//! The sum of integers is exact; it is rounded once where the original rounds at each term.
//!
//! The weights are numbers by now: they are taken apart again where each column is a scale times integers of 8 bits, to the
//! last bit.

use xlac_ir::DType;
use xlac_ir::elementwise::BinaryFn;
use xlac_ir::kernel::Const;
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/quantized_contraction",
    kind: Kind::Fast,
    from: "(matmul|conv:k (mul (cast ?x) #s) #w)",
    when: &[
        (|m| m.root_ty().dtype == DType::F32 && m.ty("w").dtype == DType::F32, "the numbers are not f32"),
        (|m| is_quantized(m), "the first operand was not 8-bit integers"),
        (|m| help::terms_lie_together(m), "the products are not summed along neighbouring elements"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: i8[2, 4]) -> (%r) {
          %s = constant {dtype = f32, shape = [], bits = [1036831949]} : f32[]
          %w = constant {dtype = f32, shape = [4, 2], bits = [1115553792, 1107165184, 3212836864, 1048576000, 1056964608, 3254648832, 0, 1065353216]} : f32[4, 2]
          %c = cast %x {to = f32} : f32[2, 4]
          %d = mul %c, %s : f32[2, 4]
          %y = matmul %d, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 2]
          yield %y
        }
    ",
};

/// Most terms of a sum that surely fits i32: no operand is larger than 2 * 255, no weight than 128.
const TERMS: usize = 1 << 15;

/// True if `x` is of 8 bits, or that with a zero point taken off.
fn is_quantized(m: &Match) -> bool {
    let graph = &m.program.graph;
    let byte = |v| matches!(graph.ty(v).dtype, DType::I8 | DType::U8);
    let x = m.id("x");
    let Some(node) = graph.producer(x).filter(|_| !byte(x)) else { return byte(x) };
    if !matches!(node.op, Op::Binary(BinaryFn::Add | BinaryFn::Sub)) || graph.ty(x).dtype != DType::I32 {
        return false;
    }
    let cast = graph.producer(node.inputs[0]).filter(|n| matches!(n.op, Op::Cast(_)));
    // Any other number may take sums out of the range of i32, where those of floats go on.
    let zero = graph.splat_constant(node.inputs[1]);
    cast.is_some_and(|n| byte(n.inputs[0])) && zero.is_some_and(|z| z.as_i64().abs() <= 255)
}

fn into(m: &Match) -> Result<Edit, Miss> {
    let scale = m.splat("s").ok_or_else(|| Miss("the scale is not one number".into()))?;
    let (w, columns) = (m.data("w")?, help::column_axis(m));
    let terms = w.len() / w.shape[columns].max(1);
    if terms > TERMS {
        return miss("so many terms may not fit i32");
    }
    let (integers, scales) = taken_apart(&w, columns)?;
    let scales = help::combine(m, BinaryFn::Mul, &scales, &Tensor::scalar(scale))?;
    if !help::is_normal(&scales) {
        return miss("a scale is too small");
    }
    let (axis, rank) = (help::result_axis(m), m.root_ty().rank());
    let mut edit = Edit::new();
    let w = edit.constant(integers, m.weight_name("w", "integers"));
    let scales = edit.constant(help::along(&scales, axis, rank), m.weight_name("w", "scales"));
    let op: Op = match &m.node("k").op {
        Op::Conv(conv) => ops::Conv { out: DType::I32, ..conv.clone() }.into(),
        Op::MatMul(product) => ops::MatMul { out: DType::I32, ..product.clone() }.into(),
        other => return miss(format!("`{}` has no integers", other.mnemonic())),
    };
    let product = edit.op(op, &[m.v("x"), w]);
    let product = edit.op(ops::Cast { to: DType::F32 }, &[product]);
    let result = edit.op(Op::Binary(BinaryFn::Mul), &[product, scales]);
    Ok(edit.give(result))
}

/// Weights as 8-bit integers and a scale for each index along `axis`, whose products they are exactly.
fn taken_apart(w: &Tensor, axis: usize) -> Result<(Tensor, Tensor), Miss> {
    let numbers = w.to_f32();
    let inner: usize = w.shape[axis + 1..].iter().product();
    let n = w.shape[axis];
    let mut integers = vec![0i8; numbers.len()];
    let mut scales = vec![1f32; n];
    for (column, scale) in scales.iter_mut().enumerate() {
        let at: Vec<usize> = (0..numbers.len()).filter(|i| i / inner % n == column).collect();
        let of: Vec<f32> = at.iter().map(|&i| numbers[i]).collect();
        let (q, found) = quantized(&of).ok_or_else(|| Miss("the weights are not a scale times 8-bit integers".into()))?;
        *scale = found;
        at.iter().zip(q).for_each(|(&i, q)| integers[i] = q);
    }
    let integers = integers.iter().map(|&q| Const::int(DType::I8, q.into()));
    Ok((Tensor::from_consts(DType::I8, w.shape.clone(), integers), Tensor::from_f32(vec![n], &scales)))
}

/// Integers and a scale whose products are exactly these numbers. The largest is mostly 127 or -128.
fn quantized(numbers: &[f32]) -> Option<(Vec<i8>, f32)> {
    let largest = numbers.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return Some((vec![0; numbers.len()], 1.0));
    }
    let near = |s: f32| [s, s.next_up(), s.next_down()];
    let candidates = (1..=128u8).rev().flat_map(|most| near(largest / f32::from(most)));
    let with = |s: f32| {
        let integer = |&x: &f32| {
            let q = (x / s).round();
            ((-128.0..=127.0).contains(&q) && q * s == x).then_some(q as i8)
        };
        numbers.iter().map(integer).collect::<Option<Vec<i8>>>()
    };
    candidates.filter(|s| s.is_normal()).find_map(|s| Some((with(s)?, s)))
}
