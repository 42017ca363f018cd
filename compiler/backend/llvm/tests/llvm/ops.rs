//! Every operation, type and conversion on corner and random values, at several lane counts.

use xlac_ir::DType;
use xlac_ir::backend::{Backend, Target};
use xlac_ir::kernel::*;
use xlac_ir::scalar;
use xlac_llvm::Llvm;

use crate::support::*;

/// Lane counts: scalar, odd, a register, more than one, many.
const LANES: [u32; 5] = [1, 3, 8, 16, 33];

/// What a result must be, given the operands.
type Meaning = Box<dyn Fn(Const, Const, Const) -> Const>;

/// A kernel that applies each operation of a list to three buffers, and what each must give.
struct Case {
    kernel: Kernel,
    results: Vec<(String, DType, Meaning)>,
}

/// Emits an operation on the loaded `a`, `b`, `c`.
type Emit<'a> = Box<dyn Fn(&mut KernelBuilder, Val, Val, Val) -> Val + 'a>;

/// Builds a case: one output buffer per operation, partial loads and stores for the last tile.
fn case(dtype: DType, lanes: u32, ops: Vec<(String, DType, Emit, Meaning)>) -> Case {
    let mut k = KernelBuilder::new(format!("ops_{dtype}_{lanes}"));
    let inputs: Vec<Buf> = ["a", "b", "c"].iter().map(|n| k.param(*n, dtype, Access::Read)).collect();
    let outputs: Vec<Buf> =
        ops.iter().enumerate().map(|(i, op)| k.param(format!("out{i}"), op.1, Access::Write)).collect();
    let n = k.dim("n");
    let tile = k.tile();
    let at = k.mul_int(tile, i64::from(lanes));
    let left = k.sub(n, at);
    let x: Vec<Val> = inputs.iter().map(|&b| k.load(b, at, 0, lanes, Some(left))).collect();
    let mut results = Vec::new();
    for ((name, to, emit, meaning), out) in ops.into_iter().zip(outputs) {
        let y = emit(&mut k, x[0], x[1], x[2]);
        k.store(out, at, 0, y, Some(left));
        results.push((name, to, meaning));
    }
    Case { kernel: k.finish(), results }
}

/// The element operations that apply to a type.
fn element_ops(dtype: DType, with_fma: bool) -> Vec<(String, DType, Emit<'static>, Meaning)> {
    let one = Const::number(dtype, 1.0);
    let mut ops: Vec<(String, DType, Emit, Meaning)> = Vec::new();
    // Narrow floats have their sign operations only.
    for &op in UnOp::ALL.iter().filter(|&&op| scalar::un(op, one).is_some_and(|c| c.dtype == dtype)) {
        let meaning: Meaning = Box::new(move |a, _, _| scalar::un(op, a).expect("applies"));
        ops.push((op.name().into(), dtype, Box::new(move |k, a, _, _| k.un(op, a)), meaning));
    }
    for &op in BinOp::ALL.iter().filter(|&&op| scalar::bin(op, one, one).is_some()) {
        let meaning: Meaning = Box::new(move |a, b, _| scalar::bin(op, a, b).expect("applies"));
        ops.push((op.name().into(), dtype, Box::new(move |k, a, b, _| k.bin(op, a, b)), meaning));
    }
    for &pred in Pred::ALL {
        let meaning: Meaning = Box::new(move |a, b, _| Const::bool(scalar::cmp(pred, a, b)));
        ops.push((pred.name().into(), DType::Bool, Box::new(move |k, a, b, _| k.cmp(pred, a, b)), meaning));
        let meaning: Meaning = Box::new(move |a, b, c| if scalar::cmp(pred, a, b) { b } else { c });
        let emit: Emit = Box::new(move |k, a, b, c| {
            let cond = k.cmp(pred, a, b);
            k.select(cond, b, c)
        });
        ops.push((format!("select {}", pred.name()), dtype, emit, meaning));
    }
    if with_fma && matches!(dtype, DType::F32 | DType::F64) {
        let meaning: Meaning = Box::new(|a, b, c| scalar::fma(a, b, c).expect("applies"));
        ops.push(("fma".into(), dtype, Box::new(|k, a, b, c| k.fma(a, b, c)), meaning));
    }
    ops
}

/// Conversions to every other type, and bit casts.
fn conversions(dtype: DType) -> Vec<(String, DType, Emit<'static>, Meaning)> {
    let mut ops: Vec<(String, DType, Emit, Meaning)> = Vec::new();
    for to in dtypes().filter(|&to| to != dtype) {
        let meaning: Meaning = Box::new(move |a, _, _| convert(a, to));
        ops.push((format!("convert {to}"), to, Box::new(move |k, a, _, _| k.convert(a, to)), meaning));
        if to.bits() == dtype.bits() && to != DType::Bool {
            let meaning: Meaning = Box::new(move |a, _, _| Const { dtype: to, bits: a.bits });
            ops.push((format!("bitcast {to}"), to, Box::new(move |k, a, _, _| k.bitcast(a, to)), meaning));
        }
    }
    ops
}

/// Operations with a constant on either side: they are emitted without guards.
fn constant_ops(dtype: DType) -> Vec<(String, DType, Emit<'static>, Meaning)> {
    let mut ops: Vec<(String, DType, Emit, Meaning)> = Vec::new();
    let wanted = [BinOp::Min, BinOp::Max, BinOp::Div, BinOp::Rem, BinOp::Shl, BinOp::Shr];
    for op in wanted {
        for c in values(dtype, 0) {
            if scalar::bin(op, c, c).is_none() {
                continue;
            }
            let meaning: Meaning = Box::new(move |a, _, _| scalar::bin(op, a, c).expect("applies"));
            let emit: Emit = Box::new(move |k, a, _, _| {
                let c = k.constant(c);
                k.bin(op, a, c)
            });
            ops.push((format!("{} _, {:x}", op.name(), c.bits), dtype, emit, meaning));
            let meaning: Meaning = Box::new(move |a, _, _| scalar::bin(op, c, a).expect("applies"));
            let emit: Emit = Box::new(move |k, a, _, _| {
                let c = k.constant(c);
                k.bin(op, c, a)
            });
            ops.push((format!("{} {:x}, _", op.name(), c.bits), dtype, emit, meaning));
        }
    }
    ops
}

/// The meaning of a conversion, but for narrowing from f64, which rounds once: `half` rounds twice.
fn convert(a: Const, to: DType) -> Const {
    let guess = scalar::convert(a, to);
    if a.dtype != DType::F64 || !matches!(to, DType::F16 | DType::BF16) {
        return guess;
    }
    let x = f64::from_bits(a.bits).abs();
    if x.is_nan() {
        return guess;
    }
    let near = guess.bits & 0x7fff;
    let infinite = if to == DType::F16 { 0x7c00 } else { 0x7f80 };
    let candidates = [near.saturating_sub(1), near, (near + 1).min(infinite)];
    let distance = |bits: u64| {
        if bits == infinite && x.is_infinite() {
            return 0.0;
        }
        // Infinity stands for the next power of two, as in the rounding rule.
        let limit = if to == DType::F16 { 65536.0 } else { 2f64.powi(128) };
        let value = f64::from_bits(scalar::convert(Const { dtype: to, bits }, DType::F64).bits);
        (x - if bits == infinite { limit } else { value }).abs()
    };
    let best = candidates.into_iter().min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))));
    Const { dtype: to, bits: guess.bits & 0x8000 | best.expect("three candidates") }
}

fn run(case: &Case, dtype: DType, lanes: u32, target: &Target) {
    let corners = values(dtype, 24);
    let mut columns: [Vec<Const>; 3] = Default::default();
    for (i, &a) in corners.iter().enumerate() {
        for (j, &b) in corners.iter().enumerate() {
            columns[0].push(a);
            columns[1].push(b);
            columns[2].push(corners[(i * 7 + j * 3) % corners.len()]);
        }
    }
    let n = columns[0].len();
    let mut memory: Vec<Vec<u8>> = columns.iter().map(|c| pack(c)).collect();
    memory.extend(case.results.iter().map(|r| vec![0xee; n * r.1.size()]));
    let buffers: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    let loaded = Loaded::new(std::slice::from_ref(&case.kernel), target);
    let tiles = (n as i64 + i64::from(lanes) - 1) / i64::from(lanes);
    assert_eq!(loaded.call(0, &buffers, &[n as i64], 0..tiles), 0);
    for (r, (name, to, meaning)) in case.results.iter().enumerate() {
        for (i, &a) in columns[0].iter().enumerate() {
            let (b, c) = (columns[1][i], columns[2][i]);
            let (got, want) = (element(&memory[3 + r], *to, i), meaning(a, b, c));
            assert!(
                same(got, want),
                "{}: {name} on {dtype} x{lanes}, element {i}: {:#x} {:#x} {:#x} gives {:#x}, not {:#x}",
                target.cpu, a.bits, b.bits, c.bits, got.bits, want.bits
            );
        }
    }
}

#[test]
fn element_operations() {
    for target in runnable() {
        for dtype in dtypes() {
            for lanes in LANES {
                run(&case(dtype, lanes, element_ops(dtype, target.has("fma"))), dtype, lanes, &target);
            }
        }
    }
}

#[test]
fn conversions_between_all_types() {
    for target in runnable() {
        for dtype in dtypes() {
            for lanes in LANES {
                run(&case(dtype, lanes, conversions(dtype)), dtype, lanes, &target);
            }
        }
    }
}

#[test]
fn constant_operands() {
    for target in runnable() {
        for dtype in dtypes() {
            run(&case(dtype, 8, constant_ops(dtype)), dtype, 8, &target);
        }
    }
}

/// Every f16 and bf16, there and back.
#[test]
fn narrow_floats_exhaustively() {
    for target in runnable() {
        for dtype in [DType::F16, DType::BF16] {
            let mut k = KernelBuilder::new("narrow");
            let a = k.param("a", dtype, Access::Read);
            let wide = k.param("wide", DType::F32, Access::Write);
            let back = k.param("back", dtype, Access::Write);
            let tile = k.tile();
            let at = k.mul_int(tile, 16);
            let x = k.load(a, at, 0, 16, None);
            let x = k.convert(x, DType::F32);
            k.store(wide, at, 0, x, None);
            let x = k.convert(x, dtype);
            k.store(back, at, 0, x, None);
            let loaded = Loaded::new(&[k.finish()], &target);
            let all: Vec<Const> = (0..=0xffff).map(|bits| Const { dtype, bits }).collect();
            let mut memory = [pack(&all), vec![0; 4 << 16], vec![0; 2 << 16]];
            let buffers: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
            assert_eq!(loaded.call(0, &buffers, &[], 0..4096), 0);
            for (i, &c) in all.iter().enumerate() {
                assert!(same(element(&memory[1], DType::F32, i), scalar::convert(c, DType::F32)), "{dtype} {i:#x}");
                assert!(same(element(&memory[2], dtype, i), c), "{dtype} {i:#x} and back");
            }
        }
    }
}

/// Splat, iota, extract, slice and concat at all sorts of lane counts.
#[test]
fn lanes() {
    for target in runnable() {
        for (lanes, first, part) in [(2, 1, 1), (5, 1, 3), (8, 4, 4), (16, 3, 13), (33, 16, 17), (64, 0, 63)] {
            let mut k = KernelBuilder::new("lanes");
            let a = k.param("a", DType::I32, Access::Read);
            let out = k.param("out", DType::I32, Access::Write);
            let bools = k.param("bools", DType::Bool, Access::Write);
            let zero = k.int(0);
            let x = k.load(a, zero, 0, lanes, None);
            let slice = k.slice(x, first, part);
            let both = k.concat(slice, x);
            let lane = k.extract(x, lanes - 1);
            let iota = k.iota(lane, lanes + part);
            let sum = k.add(both, iota);
            k.store(out, zero, 0, sum, None);
            let limit = k.constant(Const::int(DType::I32, 20));
            let small = k.cmp(Pred::Lt, both, limit);
            let small = k.slice(small, 1, lanes);
            k.store(bools, zero, 0, small, None);
            let loaded = Loaded::new(&[k.finish()], &target);
            let x: Vec<i32> = (0..lanes as i32).map(|i| i * i).collect();
            let (mut x, mut out, mut bools) = (x, vec![0i32; (lanes + part) as usize], vec![9u8; lanes as usize]);
            let buffers = [x.as_mut_ptr().cast(), out.as_mut_ptr().cast(), bools.as_mut_ptr()];
            assert_eq!(loaded.call(0, &buffers, &[], 0..1), 0);
            let both: Vec<i32> = x[first as usize..][..part as usize].iter().chain(&x).copied().collect();
            let last = x[lanes as usize - 1];
            let want: Vec<i32> = both.iter().enumerate().map(|(i, v)| v + last + i as i32).collect();
            assert_eq!(out, want, "{} lanes {lanes}", target.cpu);
            let want: Vec<u8> = both[1..][..lanes as usize].iter().map(|&v| u8::from(v < 20)).collect();
            assert_eq!(bools, want, "{} lanes {lanes}", target.cpu);
        }
    }
}

/// Lanes of two vectors in any order, more and fewer than they have.
#[test]
fn permutations() {
    for target in runnable() {
        for (lanes, count) in [(1, 3), (2, 2), (3, 7), (4, 4), (8, 8), (16, 16), (16, 1), (17, 5), (32, 64)] {
            let mut k = KernelBuilder::new("permute");
            let (a, b) = (k.param("a", DType::I32, Access::Read), k.param("b", DType::I32, Access::Read));
            let (out, bools) = (k.param("out", DType::I32, Access::Write), k.param("bools", DType::Bool, Access::Write));
            let zero = k.int(0);
            let (x, y) = (k.load(a, zero, 0, lanes, None), k.load(b, zero, 0, lanes, None));
            let picks: Vec<u32> = (0..count).map(|i| (i * 7 + 3) % (2 * lanes)).collect();
            let both = k.permute(x, y, &picks);
            k.store(out, zero, 0, both, None);
            let less = k.cmp(Pred::Lt, x, y);
            let more = k.cmp(Pred::Gt, x, y);
            let chosen = k.permute(less, more, &picks);
            k.store(bools, zero, 0, chosen, None);
            let loaded = Loaded::new(&[k.finish()], &target);
            let mut x: Vec<i32> = (0..lanes as i32).map(|i| i * i % 11).collect();
            let mut y: Vec<i32> = (0..lanes as i32).map(|i| 100 + i).map(|i| i * i % 13).collect();
            let (mut out, mut bools) = (vec![0i32; count as usize], vec![9u8; count as usize]);
            let buffers = [x.as_mut_ptr().cast(), y.as_mut_ptr().cast(), out.as_mut_ptr().cast(), bools.as_mut_ptr()];
            assert_eq!(loaded.call(0, &buffers, &[], 0..1), 0);
            let both: Vec<i32> = x.iter().chain(&y).copied().collect();
            let want: Vec<i32> = picks.iter().map(|&p| both[p as usize]).collect();
            assert_eq!(out, want, "{} lanes {lanes}", target.cpu);
            let pairs = || x.iter().zip(&y);
            let both: Vec<u8> = pairs().map(|(x, y)| u8::from(x < y)).chain(pairs().map(|(x, y)| u8::from(x > y))).collect();
            let want: Vec<u8> = picks.iter().map(|&p| both[p as usize]).collect();
            assert_eq!(bools, want, "{} lanes {lanes}", target.cpu);
        }
    }
}

/// 64-bit Arm cannot run here, but everything compiles and needs no outside symbol.
#[test]
fn cross_compiles_to_arm() {
    for dtype in dtypes() {
        for lanes in LANES {
            for ops in [element_ops(dtype, true), conversions(dtype)] {
                let kernel = case(dtype, lanes, ops).kernel;
                let image = Llvm.compile(&[kernel], &arm(), 1).unwrap_or_else(|e| panic!("{e}"));
                assert!(!image.bytes.is_empty());
            }
        }
    }
}
