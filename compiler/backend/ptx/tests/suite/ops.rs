//! Every instruction × element type × lane count against `xlac_ir::scalar`, on random and corner values.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::interp::Buffer;
use xlac_ir::kernel::{Access, BinOp, Buf, Const, Kernel, KernelBuilder, Pred, UnOp, Val};
use xlac_ir::scalar;

use crate::support::*;

const LANES: &[u32] = &[1, 2, 3, 4, 8];
const TRIALS: usize = 150;

type Make = Box<dyn Fn(&mut KernelBuilder, &[Val]) -> Val>;
type Want = Box<dyn Fn(&[Const]) -> Option<Const>>;

/// One operation to be tested.
pub struct Case {
    pub name: String,
    pub inputs: Vec<DType>,
    pub output: DType,
    make: Make,
    want: Want,
}

pub fn kernel(case: &Case, lanes: u32) -> Kernel {
    let name: String = case.name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let mut k = KernelBuilder::new(format!("op_{name}_{lanes}"));
    let bufs: Vec<Buf> =
        case.inputs.iter().enumerate().map(|(i, &t)| k.param(format!("i{i}"), t, Access::Read)).collect();
    let out = k.param("o", case.output, Access::Write);
    let n = k.int(i64::from(lanes));
    let tile = k.tile();
    let at = k.mul(tile, n);
    let vals: Vec<Val> = bufs.iter().map(|&b| k.load(b, at, 0, lanes, None)).collect();
    let v = (case.make)(&mut k, &vals);
    k.store(out, at, 0, v, None);
    k.finish()
}

fn check(cases: &[Case]) {
    check_lanes(cases, LANES);
}

fn check_lanes(cases: &[Case], sizes: &[u32]) {
    let kernels: Vec<Kernel> = cases.iter().flat_map(|c| sizes.iter().map(|&n| kernel(c, n))).collect();
    let code = Code::new(&kernels);
    for (which, (case, &lanes)) in cases.iter().flat_map(|c| sizes.iter().map(move |n| (c, n))).enumerate() {
        let n = lanes as usize * TRIALS;
        let mut buffers: Vec<Buffer> =
            case.inputs.iter().enumerate().map(|(i, &t)| buffer(t, n, (which * 4 + i) as u64)).collect();
        buffers.push(zeros(case.output, n));
        let status = code.run(&kernels[which], which, &mut buffers, &[], TRIALS as i64, &How::default());
        assert_eq!(status, 0);
        let out = buffers.pop().expect("there is an output");
        for i in 0..n {
            let args: Vec<Const> = buffers.iter().map(|b| Const { dtype: b.dtype, bits: element(b, i) }).collect();
            let want = (case.want)(&args).expect("the reference knows the case");
            let got = element(&out, i);
            assert!(
                same(case.output, got, want.bits),
                "{} × {lanes}, lane {i}: {args:x?} gives {got:#x}, not {:#x}\n{}",
                case.name,
                want.bits,
                numbered(&code.text, &kernels[which].name)
            );
        }
    }
}

fn applies(t: DType, f: impl Fn(Const) -> Option<Const>) -> bool {
    f(Const { dtype: t, bits: 1 }).is_some_and(|c| c.dtype == t)
}

pub fn unary() -> Vec<Case> {
    let mut cases = Vec::new();
    for t in dtypes() {
        for &op in UnOp::ALL {
            if applies(t, |x| scalar::un(op, x)) {
                cases.push(Case {
                    name: format!("{} {t}", op.name()),
                    inputs: vec![t],
                    output: t,
                    make: Box::new(move |k, v| k.un(op, v[0])),
                    want: Box::new(move |x| scalar::un(op, x[0])),
                });
            }
        }
    }
    cases
}

pub fn binary() -> Vec<Case> {
    let mut cases = Vec::new();
    for t in dtypes() {
        for &op in BinOp::ALL {
            if applies(t, |x| scalar::bin(op, x, x)) {
                cases.push(Case {
                    name: format!("{} {t}", op.name()),
                    inputs: vec![t, t],
                    output: t,
                    make: Box::new(move |k, v| k.bin(op, v[0], v[1])),
                    want: Box::new(move |x| scalar::bin(op, x[0], x[1])),
                });
            }
        }
    }
    cases
}

/// Operations with a constant on either side.
fn with_constants() -> Vec<Case> {
    let mut cases = Vec::new();
    for t in dtypes() {
        for &op in BinOp::ALL {
            if !applies(t, |x| scalar::bin(op, x, x)) {
                continue;
            }
            let some = corners(t).into_iter().step_by(if t.is_float() { 7 } else { 3 });
            let sides = some.flat_map(|b| [(b, false), (b, true)]);
            for (n, (bits, left)) in sides.enumerate() {
                let c = Const { dtype: t, bits };
                cases.push(Case {
                    name: format!("{} {t} by {bits:#x} {n}", op.name()),
                    inputs: vec![t],
                    output: t,
                    make: Box::new(move |k, v| {
                        let c = k.constant(c);
                        if left { k.bin(op, c, v[0]) } else { k.bin(op, v[0], c) }
                    }),
                    want: Box::new(move |x| if left { scalar::bin(op, c, x[0]) } else { scalar::bin(op, x[0], c) }),
                });
            }
        }
    }
    cases
}

/// Index arithmetic on i64 that is known to fit in fewer bits.
fn narrow() -> Vec<Case> {
    let mut cases = Vec::new();
    let types = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32];
    for (a, b) in types.into_iter().flat_map(|a| types.map(|b| (a, b))) {
        let i64s = |x: &[Const]| [scalar::convert(x[0], DType::I64), scalar::convert(x[1], DType::I64)];
        for &op in BinOp::ALL {
            cases.push(Case {
                name: format!("{} of {a} and {b} as i64", op.name()),
                inputs: vec![a, b],
                output: DType::I64,
                make: Box::new(move |k, v| {
                    let (x, y) = (k.convert(v[0], DType::I64), k.convert(v[1], DType::I64));
                    k.bin(op, x, y)
                }),
                want: Box::new(move |x| {
                    let [x, y] = i64s(x);
                    scalar::bin(op, x, y)
                }),
            });
        }
        for &pred in Pred::ALL {
            cases.push(Case {
                name: format!("{} of {a} and {b} as i64", pred.name()),
                inputs: vec![a, b],
                output: DType::Bool,
                make: Box::new(move |k, v| {
                    let (x, y) = (k.convert(v[0], DType::I64), k.convert(v[1], DType::I64));
                    k.cmp(pred, x, y)
                }),
                want: Box::new(move |x| {
                    let [x, y] = i64s(x);
                    Some(Const::bool(scalar::cmp(pred, x, y)))
                }),
            });
        }
    }
    cases
}

fn fma() -> Vec<Case> {
    let case = |t: DType| Case {
        name: format!("fma {t}"),
        inputs: vec![t, t, t],
        output: t,
        make: Box::new(move |k, v| k.fma(v[0], v[1], v[2])),
        want: Box::new(move |x| scalar::fma(x[0], x[1], x[2])),
    };
    vec![case(DType::F32), case(DType::F64)]
}

fn comparisons() -> Vec<Case> {
    let mut cases = Vec::new();
    for t in dtypes() {
        for &pred in Pred::ALL {
            cases.push(Case {
                name: format!("{} {t}", pred.name()),
                inputs: vec![t, t],
                output: DType::Bool,
                make: Box::new(move |k, v| k.cmp(pred, v[0], v[1])),
                want: Box::new(move |x| Some(Const::bool(scalar::cmp(pred, x[0], x[1])))),
            });
        }
    }
    cases
}

fn selections() -> Vec<Case> {
    let mut cases = Vec::new();
    for by in [DType::F32, DType::I64, DType::U8, DType::BF16] {
        for t in dtypes() {
            cases.push(Case {
                name: format!("select {t} by {by}"),
                inputs: vec![by, by, t, t],
                output: t,
                make: Box::new(move |k, v| {
                    let c = k.cmp(Pred::Lt, v[0], v[1]);
                    k.select(c, v[2], v[3])
                }),
                want: Box::new(|x| Some(if scalar::cmp(Pred::Lt, x[0], x[1]) { x[2] } else { x[3] })),
            });
        }
    }
    cases
}

pub fn conversions() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in dtypes() {
        for to in dtypes().filter(|&to| to != from) {
            // The reference may round f64 to the halves by way of f32; kernels round once.
            let want = move |x: &[Const]| {
                let half = matches!(to, DType::F16 | DType::BF16);
                if from == DType::F64 && half {
                    return Some(scalar::convert(round_to_odd(x[0]), to));
                }
                Some(scalar::convert(x[0], to))
            };
            cases.push(Case {
                name: format!("{from} to {to}"),
                inputs: vec![from],
                output: to,
                make: Box::new(move |k, v| k.convert(v[0], to)),
                want: Box::new(want),
            });
        }
    }
    cases
}

/// An f64 as the f32 next to zero from it, with the last bit set if they differ.
fn round_to_odd(x: Const) -> Const {
    let x = f64::from_bits(x.bits);
    let near = x as f32;
    if f64::from(near) == x || x.is_nan() {
        return Const::f32(near);
    }
    let bits = near.to_bits() - u32::from(f64::from(near).abs() > x.abs());
    Const::f32(f32::from_bits(bits | 1))
}

fn bitcasts() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in dtypes() {
        for to in dtypes().filter(|&to| to != from && to.bits() == from.bits() && to != DType::Bool) {
            cases.push(Case {
                name: format!("{from} as {to}"),
                inputs: vec![from],
                output: to,
                make: Box::new(move |k, v| k.bitcast(v[0], to)),
                want: Box::new(move |x| Some(Const { dtype: to, bits: x[0].bits })),
            });
        }
    }
    cases
}

/// Every case there is.
pub fn all() -> Vec<Case> {
    [unary(), binary(), with_constants(), narrow(), fma(), comparisons(), selections(), conversions(), bitcasts()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn operations_of_one_operand() {
    check(&unary());
}

#[test]
fn operations_of_two_operands() {
    check(&binary());
}

#[test]
fn operations_with_constants() {
    check_lanes(&with_constants(), &[1, 4]);
}

#[test]
fn narrow_indices() {
    check_lanes(&narrow(), &[1]);
}

#[test]
fn fused_multiply_add() {
    check(&fma());
}

#[test]
fn comparing() {
    check(&comparisons());
}

#[test]
fn selecting() {
    check(&selections());
}

#[test]
fn converting() {
    check(&conversions());
}

#[test]
fn reinterpreting() {
    check(&bitcasts());
}

#[test]
fn lanes_move() {
    for t in dtypes() {
        for (n, m) in [(1, 1), (1, 4), (3, 1), (4, 4), (3, 5), (7, 2), (16, 3), (5, 16), (8, 8)] {
            let mut k = KernelBuilder::new("moving");
            let (a, b) = (k.param("a", t, Access::Read), k.param("b", t, Access::Read));
            let out = k.param("o", t, Access::Write);
            let zero = k.int(0);
            let (x, y) = (k.load(a, zero, 0, n, None), k.load(b, zero, 0, m, None));
            let both = k.concat(x, y);
            k.store(out, zero, 0, both, None);
            let total = n + m;
            for first in 0..total {
                let rest = total - first;
                let part = if rest == total { both } else { k.slice(both, first, rest) };
                k.store(out, zero, i64::from(total * (first + 1)), part, None);
            }
            let last = k.extract(both, total - 1);
            let all = k.widen(last, total);
            k.store(out, zero, i64::from(total * (total + 1)), all, None);
            let buffers =
                [buffer(t, n as usize, 1), buffer(t, m as usize, 2), zeros(t, (total * (total + 2)) as usize)];
            agree(&k.finish(), &buffers, &[], 1);
        }
    }
}

#[test]
fn lanes_permute() {
    for t in dtypes() {
        for (n, count) in [(1, 3), (2, 2), (3, 7), (4, 4), (8, 8), (16, 1), (17, 5)] {
            let mut k = KernelBuilder::new("permute");
            let (a, b) = (k.param("a", t, Access::Read), k.param("b", t, Access::Read));
            let out = k.param("o", t, Access::Write);
            let zero = k.int(0);
            let (x, y) = (k.load(a, zero, 0, n, None), k.load(b, zero, 0, n, None));
            let picks: Vec<u32> = (0..count).map(|i| (i * 7 + 3) % (2 * n)).collect();
            let both = k.permute(x, y, &picks);
            k.store(out, zero, 0, both, None);
            let buffers = [buffer(t, n as usize, 1), buffer(t, n as usize, 2), zeros(t, count as usize)];
            agree(&k.finish(), &buffers, &[], 1);
        }
    }
}

#[test]
fn iota_counts() {
    for t in dtypes().filter(|t| t.is_int()) {
        for n in [1, 2, 4, 7, 8, 16] {
            let mut k = KernelBuilder::new("iota");
            let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
            let zero = k.int(0);
            let x = k.load(a, zero, 0, 1, None);
            let v = k.iota(x, n);
            k.store(out, zero, 0, v, None);
            let mut start = zeros(t, 1);
            set_element(&mut start, 0, Const::int(t, 250).bits);
            agree(&k.finish(), &[start, zeros(t, n as usize)], &[], 1);
        }
    }
}
