//! Every instruction × element type × lane count against `xlac_ir::scalar`, on random and corner values.

mod common;

use common::{Code, Guarded, Random, bare, dtypes, host};
use xlac_ir::backend::Target;
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, BinOp, Buf, Const, Instr, Kernel, KernelBuilder, Pred, UnOp, Val};
use xlac_ir::scalar;

const LANES: &[u32] = &[1, 2, 3, 4, 7, 8, 16, 32];
const TRIALS: usize = 40;

/// Values worth a test, as bits.
fn corners(t: DType) -> Vec<u64> {
    let bits = t.bits();
    if t == DType::Bool {
        return vec![0, 1];
    }
    if !t.is_float() {
        let mut out: Vec<u64> = [0i64, 1, 2, 3, -1, -2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256]
            .iter()
            .map(|&x| Const::int(t, x).bits)
            .collect();
        let top = 1u64 << (bits - 1);
        out.extend([top, top - 1, top + 1]);
        out.extend([24, 53].iter().map(|&n| Const::int(t, (1i64 << n) + 1).bits));
        return out;
    }
    let numbers = [
        0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.5, 127.0, 128.0, 127.5, 255.5, 256.0, -128.0, -129.0, 32767.0,
        32768.0, 65504.0, 65519.9, 65520.0, 65535.0, 65536.0, 2147483647.0, 2147483648.0, 4294967295.0, 4294967296.0,
        9.2233720368547e18, 9.3e18, 1.8446744073709e19, 1.9e19, -9.3e18, 1e30, -1e30, 3.4e38, 3.5e38, 1e300, -1e300,
        6.103515625e-5, 5.9604645e-8, 2.98e-8, 2.9802322387695312e-8, 1e-10, 1e-40, 1e-45, 1.00048828125,
        1.0004882812500002, 1.00390625, 1.0039062500000002, f64::INFINITY, f64::NEG_INFINITY, f64::NAN,
    ];
    let mut out: Vec<u64> = numbers.iter().map(|&x| Const::number(t, x).bits).collect();
    out.push(1);
    out.push((1 << (bits - 1)) | 1);
    out
}

fn pick(random: &mut Random, t: DType, corners: &[u64]) -> u64 {
    let x = random.next();
    let mask = u64::MAX >> (64 - t.bits());
    match x % 4 {
        0 | 1 => corners[(x >> 8) as usize % corners.len()],
        2 if t.is_float() => Const::number(t, (random.next() as i32) as f64 / 1e6).bits,
        _ if t == DType::Bool => random.next() & 1,
        _ => random.next() & mask,
    }
}

fn write(bytes: &mut [u8], t: DType, at: usize, bits: u64) {
    let s = t.size();
    bytes[at * s..(at + 1) * s].copy_from_slice(&bits.to_le_bytes()[..s]);
}

fn read(bytes: &[u8], t: DType, at: usize) -> u64 {
    let s = t.size();
    let mut out = [0u8; 8];
    out[..s].copy_from_slice(&bytes[at * s..(at + 1) * s]);
    u64::from_le_bytes(out)
}

fn nan(t: DType, bits: u64) -> bool { t.is_float() && scalar::cmp(Pred::Ne, Const { dtype: t, bits }, Const { dtype: t, bits }) }

/// Equal bits, or both NaN.
fn same(t: DType, a: u64, b: u64) -> bool { a == b || nan(t, a) && nan(t, b) }

type Make = Box<dyn Fn(&mut KernelBuilder, &[Val]) -> Val>;
type Want = Box<dyn Fn(&[Const]) -> Option<Const>>;

/// One operation to be tested.
struct Case {
    name: String,
    inputs: Vec<DType>,
    output: DType,
    make: Make,
    want: Want,
}

fn kernel(case: &Case, lanes: u32) -> Kernel {
    let name: String = case.name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let mut k = KernelBuilder::new(format!("{name}_{lanes}"));
    let bufs: Vec<Buf> = case.inputs.iter().enumerate().map(|(i, &t)| k.param(format!("i{i}"), t, Access::Read)).collect();
    let out = k.param("o", case.output, Access::Write);
    let n = k.int(i64::from(lanes));
    let tile = k.tile();
    let at = k.mul(tile, n);
    let vals: Vec<Val> = bufs.iter().map(|&b| k.load(b, at, 0, lanes, None)).collect();
    let v = (case.make)(&mut k, &vals);
    k.store(out, at, 0, v, None);
    k.finish()
}

fn check(cases: &[Case], target: &Target) { check_lanes(cases, target, LANES); }

fn check_lanes(cases: &[Case], target: &Target, sizes: &[u32]) {
    let kernels: Vec<Kernel> = cases.iter().flat_map(|c| sizes.iter().map(|&n| kernel(c, n))).collect();
    let code = Code::for_target(&kernels, target);
    let mut random = Random(7);
    for (which, (case, &lanes)) in cases.iter().flat_map(|c| sizes.iter().map(move |n| (c, n))).enumerate() {
        let n = lanes as usize * TRIALS;
        let mut buffers: Vec<Vec<u8>> = case.inputs.iter().map(|t| vec![0; n * t.size()]).collect();
        for (buffer, &t) in buffers.iter_mut().zip(&case.inputs) {
            let corners = corners(t);
            (0..n).for_each(|i| write(buffer, t, i, pick(&mut random, t, &corners)));
        }
        let mut out = vec![0xa5u8; n * case.output.size()];
        let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr()).collect();
        pointers.push(out.as_mut_ptr());
        assert_eq!(code.run(which, &pointers, &[], 0..TRIALS as i64), 0);
        for i in 0..n {
            let args: Vec<Const> = case
                .inputs
                .iter()
                .zip(&buffers)
                .map(|(&dtype, b)| Const { dtype, bits: read(b, dtype, i) })
                .collect();
            let want = (case.want)(&args).expect("the reference knows the case");
            let got = read(&out, case.output, i);
            assert!(
                same(case.output, got, want.bits),
                "{} × {lanes}, lane {i}: {args:x?} gives {got:#x}, not {:#x}",
                case.name,
                want.bits
            );
        }
    }
}

fn applies(t: DType, f: impl Fn(Const) -> Option<Const>) -> bool {
    f(Const { dtype: t, bits: 1 }).is_some_and(|c| c.dtype == t)
}

#[test]
fn operations_of_one_operand() {
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
    check(&cases, &host());
}

fn binary_cases() -> Vec<Case> {
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

#[test]
fn operations_of_two_operands() { check(&binary_cases(), &host()); }

#[test]
#[cfg(target_arch = "x86_64")]
fn the_base_instruction_set_will_do() { check(&binary_cases(), &bare()); }

#[test]
fn operations_with_constants() {
    let mut cases = Vec::new();
    for t in dtypes() {
        for &op in BinOp::ALL {
            if !applies(t, |x| scalar::bin(op, x, x)) {
                continue;
            }
            for bits in corners(t).into_iter().step_by(if t.is_float() { 11 } else { 4 }) {
                let c = Const { dtype: t, bits };
                cases.push(Case {
                    name: format!("{} {t} by {bits:#x}", op.name()),
                    inputs: vec![t],
                    output: t,
                    make: Box::new(move |k, v| {
                        let c = k.constant(c);
                        k.bin(op, v[0], c)
                    }),
                    want: Box::new(move |x| scalar::bin(op, x[0], c)),
                });
            }
        }
    }
    check_lanes(&cases, &host(), &[1, 3, 16]);
}

#[test]
fn fused_multiply_add() {
    let cases: Vec<Case> = [DType::F32, DType::F64]
        .into_iter()
        .map(|t| Case {
            name: format!("fma {t}"),
            inputs: vec![t, t, t],
            output: t,
            make: Box::new(move |k, v| k.fma(v[0], v[1], v[2])),
            want: Box::new(move |x| scalar::fma(x[0], x[1], x[2])),
        })
        .collect();
    check(&cases, &host());
}

#[test]
fn comparisons() {
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
    check(&cases, &host());
}

#[test]
fn selections_by_masks_of_every_width() {
    let mut cases = Vec::new();
    for by in dtypes() {
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
    check(&cases, &host());
}

#[test]
fn conversions() {
    let mut cases = Vec::new();
    for from in dtypes() {
        for to in dtypes().filter(|&to| to != from) {
            // The reference rounds f64 to the halves by way of f32; kernels round once.
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
    check(&cases, &host());
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

#[test]
fn bitcasts() {
    let mut cases = Vec::new();
    for from in dtypes() {
        for to in dtypes().filter(|&to| to != from && to.bits() == from.bits()) {
            if from == DType::Bool || to == DType::Bool {
                continue;
            }
            cases.push(Case {
                name: format!("{from} as {to}"),
                inputs: vec![from],
                output: to,
                make: Box::new(move |k, v| k.bitcast(v[0], to)),
                want: Box::new(move |x| Some(Const { dtype: to, bits: x[0].bits })),
            });
        }
    }
    check(&cases, &host());
}

#[test]
fn lanes_permute() {
    for t in dtypes() {
        for (n, count) in [(1, 3), (2, 2), (3, 7), (4, 4), (8, 8), (16, 16), (16, 1), (17, 5), (4, 20)] {
            let mut k = KernelBuilder::new("permute");
            let (a, b) = (k.param("a", t, Access::Read), k.param("b", t, Access::Read));
            let out = k.param("o", t, Access::Write);
            let zero = k.int(0);
            let (x, y) = (k.load(a, zero, 0, n, None), k.load(b, zero, 0, n, None));
            let picks: Vec<u32> = (0..count).map(|i| (i * 7 + 3) % (2 * n)).collect();
            let both = k.permute(x, y, &picks);
            k.store(out, zero, 0, both, None);
            let code = Code::new(&[k.finish()]);
            let mut random = Random(7);
            let corners = corners(t);
            let mut bytes = [vec![0u8; n as usize * t.size()], vec![0u8; n as usize * t.size()]];
            for x in &mut bytes {
                (0..n as usize).for_each(|i| write(x, t, i, pick(&mut random, t, &corners)));
            }
            let [xs, ys] = &mut bytes;
            let mut got = vec![0u8; count as usize * t.size()];
            assert_eq!(code.tile(0, &mut [xs, ys, &mut got], &[]), 0);
            for (i, &p) in picks.iter().enumerate() {
                let (p, from) = if p < n { (p, &bytes[0]) } else { (p - n, &bytes[1]) };
                assert_eq!(read(&got, t, i), read(from, t, p as usize), "{t} {n} lanes, lane {i} of {count}");
            }
        }
    }
}

#[test]
fn lanes_move() {
    for t in dtypes() {
        for (n, m) in [(1, 1), (1, 4), (3, 1), (4, 4), (3, 5), (7, 2), (16, 3), (5, 16), (8, 8)] {
            let mut k = KernelBuilder::new("move");
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
            let code = Code::new(&[k.finish()]);
            let mut random = Random(3);
            let corners = corners(t);
            let mut xs = vec![0u8; n as usize * t.size()];
            let mut ys = vec![0u8; m as usize * t.size()];
            (0..n as usize).for_each(|i| write(&mut xs, t, i, pick(&mut random, t, &corners)));
            (0..m as usize).for_each(|i| write(&mut ys, t, i, pick(&mut random, t, &corners)));
            let total = total as usize;
            let mut got = vec![0u8; total * (total + 2) * t.size()];
            assert_eq!(code.tile(0, &mut [&mut xs, &mut ys, &mut got], &[]), 0);
            let bytes: Vec<u8> = xs.iter().chain(&ys).copied().collect();
            for first in 0..total {
                for i in 0..total - first {
                    assert_eq!(read(&got, t, total * (first + 1) + i), read(&bytes, t, first + i), "{t} {n}+{m} from {first}");
                }
            }
            for i in 0..total {
                assert_eq!(read(&got, t, i), read(&bytes, t, i), "{t} {n}+{m}");
                assert_eq!(read(&got, t, total * (total + 1) + i), read(&bytes, t, total - 1), "{t} splat");
            }
        }
    }
}

#[test]
fn iota_counts() {
    for t in dtypes().filter(|t| t.is_int()) {
        for &n in LANES {
            let mut k = KernelBuilder::new("iota");
            let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
            let zero = k.int(0);
            let x = k.load(a, zero, 0, 1, None);
            let v = k.iota(x, n);
            k.store(out, zero, 0, v, None);
            let code = Code::new(&[k.finish()]);
            let mut x = vec![0u8; 8];
            write(&mut x, t, 0, 250);
            let mut got = vec![0u8; n as usize * t.size()];
            code.tile(0, &mut [&mut x, &mut got], &[]);
            for i in 0..n as usize {
                assert_eq!(read(&got, t, i), Const::int(t, 250 + i as i64).bits, "{t} × {n}");
            }
        }
    }
}

/// A kernel that loads some way and stores, both of `count` lanes.
fn tail_kernel(t: DType, lanes: u32, how: usize) -> Kernel {
    let mut k = KernelBuilder::new("tail");
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let whole = k.param("w", t, Access::Write);
    let (zero, count, stride) = (k.int(0), k.dim("count"), k.dim("stride"));
    let x = match how {
        0 => k.load(a, zero, 0, lanes, Some(count)),
        1 if lanes > 1 => k.load_strided(a, zero, stride, lanes, Some(count)),
        2 if lanes > 1 => {
            let two = k.int(2);
            k.load_strided(a, zero, two, lanes, Some(count))
        }
        3 if lanes > 1 => {
            let steps = k.iota(zero, lanes);
            let steps = k.mul(steps, stride);
            k.gather(a, steps, 0, Some(count))
        }
        _ => k.load(a, zero, 0, lanes, Some(count)),
    };
    k.store(whole, zero, 0, x, None);
    k.store(out, zero, 0, x, Some(count));
    k.finish()
}

#[test]
fn tails_touch_nothing_beyond() {
    for t in dtypes() {
        for &lanes in LANES {
            let kernels: Vec<Kernel> = (0..4).map(|how| tail_kernel(t, lanes, how)).collect();
            let code = Code::new(&kernels);
            for count in [-3i64, 0, 1, 2, i64::from(lanes) - 1, i64::from(lanes), i64::from(lanes) + 5] {
                for how in 0..4 {
                    tail(&code, t, lanes, how, count);
                }
            }
        }
    }
}

fn tail(code: &Code, t: DType, lanes: u32, how: usize, count: i64) {
    let n = count.clamp(0, i64::from(lanes)) as usize;
    let step = if how == 0 || lanes == 1 { 1 } else { 2 };
    let size = t.size();
    let elements = if n == 0 { 0 } else { (n - 1) * step + 1 };
    let (mut a, mut out) = (Guarded::new(elements * size), Guarded::new(n * size));
    let mut random = Random(count as u64);
    let corners = corners(t);
    (0..elements).for_each(|i| write(a.bytes(), t, i, pick(&mut random, t, &corners)));
    let mut whole = vec![0xffu8; lanes as usize * size];
    let pointers = [a.bytes().as_mut_ptr(), out.bytes().as_mut_ptr(), whole.as_mut_ptr()];
    assert_eq!(code.run(how, &pointers, &[count, 2], 0..1), 0);
    for i in 0..lanes as usize {
        let want = if i < n { read(a.bytes(), t, i * step) } else { 0 };
        assert_eq!(read(&whole, t, i), want, "{t} × {lanes}, {count} by way {how}, lane {i}");
        if i < n {
            assert_eq!(read(out.bytes(), t, i), want);
        }
    }
}

#[test]
fn whole_strided_loads_and_gathers() {
    for t in dtypes() {
        for &lanes in &LANES[1..] {
            let mut k = KernelBuilder::new("strided");
            let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
            let (stride, start) = (k.dim("stride"), k.dim("start"));
            let three = k.int(3);
            let x = k.load_strided(a, start, stride, lanes, None);
            let y = k.load_strided(a, start, three, lanes, None);
            let steps = k.iota(start, lanes);
            let steps = k.mul(steps, stride);
            let z = k.gather(a, steps, 2, None);
            let part = k.int(i64::from(lanes) - 1);
            let w = k.emit(Instr::Load { buf: a, index: start, offset: 1, count: Some(part) }, k_type(t, lanes));
            for (i, v) in [x, y, z, w].into_iter().enumerate() {
                let at = k.int(i as i64 * i64::from(lanes));
                k.store(out, at, 0, v, None);
            }
            let code = Code::new(&[k.finish()]);
            let n = lanes as usize;
            let mut random = Random(1);
            let corners = corners(t);
            let mut a = vec![0u8; 300 * t.size()];
            (0..300).for_each(|i| write(&mut a, t, i, pick(&mut random, t, &corners)));
            let mut got = vec![0u8; 4 * n * t.size()];
            code.tile(0, &mut [&mut a, &mut got], &[5, 4]);
            for i in 0..n {
                assert_eq!(read(&got, t, i), read(&a, t, 4 + 5 * i), "{t} × {lanes} strided");
                assert_eq!(read(&got, t, n + i), read(&a, t, 4 + 3 * i), "{t} × {lanes} by three");
                assert_eq!(read(&got, t, 2 * n + i), read(&a, t, 2 + 5 * (4 + i)), "{t} × {lanes} gathered");
                let want = if i + 1 < n { read(&a, t, 5 + i) } else { 0 };
                assert_eq!(read(&got, t, 3 * n + i), want, "{t} × {lanes} by a constant count");
            }
        }
    }
}

fn k_type(t: DType, lanes: u32) -> xlac_ir::kernel::VType { xlac_ir::kernel::VType::vector(t, lanes) }

/// `dot4` is not element by element: four lanes are loaded for each one of the result.
#[test]
fn sums_of_byte_products() {
    let types = [DType::I8, DType::U8];
    let signs: Vec<(DType, DType)> = types.iter().flat_map(|&a| types.map(|b| (a, b))).collect();
    let shapes: Vec<(DType, DType, u32)> =
        signs.iter().flat_map(|&(a, b)| LANES.iter().map(move |&n| (a, b, n))).collect();
    let kernels: Vec<Kernel> = shapes.iter().map(|&(a, b, lanes)| {
        let mut k = KernelBuilder::new(format!("dot_{a}_{b}_{lanes}"));
        let (a, b) = (k.param("a", a, Access::Read), k.param("b", b, Access::Read));
        let c = k.param("c", DType::I32, Access::ReadWrite);
        let tile = k.tile();
        let at = k.mul_int(tile, i64::from(lanes));
        let at4 = k.mul_int(at, 4);
        let (x, y) = (k.load(a, at4, 0, 4 * lanes, None), k.load(b, at4, 0, 4 * lanes, None));
        let z = k.load(c, at, 0, lanes, None);
        let sum = k.dot4(x, y, z);
        k.store(c, at, 0, sum, None);
        k.finish()
    }).collect();
    let code = Code::for_target(&kernels, &host());
    let mut random = Random(11);
    for (which, &(a, b, lanes)) in shapes.iter().enumerate() {
        let n = lanes as usize * TRIALS;
        let mut memory = [vec![0u8; 4 * n], vec![0u8; 4 * n], vec![0u8; 4 * n]];
        // Extremes half of the time: four of them in a row are what a saturating sum gets wrong.
        for bytes in &mut memory[..2] {
            bytes.chunks_mut(4).for_each(|four| match random.next() % 6 {
                0 => four.fill(128),
                1 => four.fill(127),
                2 => four.fill(255),
                _ => four.iter_mut().for_each(|x| *x = random.next() as u8),
            });
        }
        memory[2].iter_mut().for_each(|x| *x = random.next() as u8);
        let before = memory[2].clone();
        let pointers: Vec<*mut u8> = memory.iter_mut().map(|b| b.as_mut_ptr()).collect();
        assert_eq!(code.run(which, &pointers, &[], 0..TRIALS as i64), 0);
        let value = |x: u8, t: DType| if t == DType::I8 { i32::from(x as i8) } else { i32::from(x) };
        for i in 0..n {
            let product = |j: usize| value(memory[0][j], a) * value(memory[1][j], b);
            let want = (4 * i..4 * i + 4).map(product).fold(read(&before, DType::I32, i) as i32, i32::wrapping_add);
            assert_eq!(read(&memory[2], DType::I32, i) as i32, want, "{a} {b} x{lanes}, lane {i}");
        }
    }
}
