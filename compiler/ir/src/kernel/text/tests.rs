//! Printing, reading, and that they are each other's inverse.

use proptest::prelude::*;

use super::*;
use crate::kernel::verify::verify;

const EXAMPLE: &str = "\
kernel @add(%x: f32 read, %y: f32 write noalias) dims(N, \"a b\") scratch(%s: f32[256], %t: i64[N]) {
  // Add_0
  %0 = tile : i64
  %1 = const 16 : i64
  %2 = mul %0, %1 : i64
  %3 = const -0.0 : f32x16
  %4 = dim N : i64
  %5 = dim \"a b\" : i64
  for %6: i64 = %2 to %4 step 16 carry (%7: f32x16 = %3) unroll 4 {
    %8 = load %x[%6 + 3] count %1 : f32x16
    %9 = load %x[%6 - 3 by %5] : f32x16
    prefetch %x[%6 + 64]
    %10 = fma %8, %9, %7 : f32x16
    yield %10
  } -> (%11)
  %12 = extract %11[3] : f32
  %13 = const 0x7fc00001 : f32
  %14 = lt %12, %13 : bool
  check %14, code 7
  if %14 {
    store %y[%2], %11 count %1 : f32x16
  }
  if %14 {
    yield %12
  } else {
    %15 = const inf : f32
    yield %15
  } -> (%16: f32)
  store %s[%0 - 1], %16 : f32
  %17 = const 255 : u8x8
  %18 = const -128 : i8x8
  %19 = const 0 : i32x2
  %20 = dot4 %17, %18, %19 : i32x2
}
";

#[test]
fn an_example_round_trips() {
    let kernel = parse(EXAMPLE).unwrap();
    assert_eq!(verify(&kernel), Ok(()));
    assert_eq!(print(&kernel), EXAMPLE);
}

#[test]
fn names_are_free_and_renumbered() {
    let body = "%b = const 1 : i64 %a = tile : i64 store %\"0 x\"[%a], %b : i64";
    let kernel = parse(&format!("kernel @k(%\"0 x\": i64 write) {{ {body} }}")).unwrap();
    let text = print(&kernel);
    let want = "  %0 = const 1 : i64\n  %1 = tile : i64\n  store %\"0 x\"[%1], %0 : i64\n";
    assert_eq!(text, format!("kernel @k(%\"0 x\": i64 write) {{\n{want}}}\n"));
}

#[test]
fn several_kernels_in_one_text() {
    let two = format!("{EXAMPLE}\n// between\n{EXAMPLE}");
    let kernels = parse_all(&two).unwrap();
    assert_eq!(kernels.len(), 2);
    assert_eq!(kernels[0], kernels[1]);
    assert_eq!(parse(&two).unwrap_err().message, "expected one kernel, found 2");
}

#[test]
fn errors_say_where_and_what() {
    let check = |body: &str, line: usize, message: &str| {
        let error = parse(&format!("kernel @k(%x: f32 read) {{\n{body}\n}}")).unwrap_err();
        assert_eq!(error, ParseError { line, message: message.into() });
    };
    check("%0 = tile : i64\n%1 = add %0, %2 : i64", 3, "there is no value `%2` yet");
    check("%0 = tile : i64\n%0 = tile : i64", 4, "`%0` is defined twice");
    check("%0 = frobnicate : i64", 2, "there is no instruction `frobnicate`");
    check("%0 = const 1.5 : i64", 2, "`1.5` is not a number of type i64");
    check("%0 = const 300 : u8", 2, "`300` is not a number of type u8");
    check("%0 = tile : i65", 2, "`i65` is not a type");
    check("%0 = tile : i64\n%1 = load %z[%0] : f32", 3, "there is no buffer `%z`");
    check("%0 = tile : i64\n%1 = add %0 : i64", 3, "expected 2 operands, found 1");
    check("%0 = dim M : i64", 2, "there is no dim `M`");
    check("%0 = tile", 3, "expected `:`, found `}`");
}

#[test]
fn constants_of_every_type_round_trip() {
    for &dtype in DType::ALL.iter().filter(|t| t.in_kernels()) {
        let mask = if dtype == DType::Bool { 1 } else { u64::MAX >> (64 - dtype.bits()) };
        for i in 0..3000u64 {
            let bits = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32) & mask;
            let c = Const { dtype, bits };
            assert_eq!(number::parse_text(&number::print(c), dtype), Some(c));
        }
    }
}

proptest! {
    #[test]
    fn random_kernels_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let kernel = random_kernel(&bytes);
        prop_assert_eq!(verify(&kernel), Ok(()));
        let canonical = canonical(&kernel);
        prop_assert_eq!(verify(&canonical), Ok(()));
        let text = print(&kernel);
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&read, &canonical);
        prop_assert_eq!(print(&read), text);
    }
}

/// A well-formed kernel with whatever the bytes choose; its accesses go anywhere.
pub(crate) fn random_kernel(bytes: &[u8]) -> Kernel {
    let mut k = KernelBuilder::new("random");
    let mut g = Chooser { bytes, at: 0, buffers: Vec::new(), values: Vec::new() };
    g.header(&mut k);
    while g.at < bytes.len() {
        g.stmt(&mut k, 3);
    }
    k.finish()
}

const TYPES: [DType; 6] = [DType::F32, DType::I64, DType::F16, DType::U8, DType::Bool, DType::F64];

struct Chooser<'a> {
    bytes: &'a [u8],
    at: usize,
    buffers: Vec<(Buf, Access)>,
    /// Values in scope.
    values: Vec<Val>,
}

impl Chooser<'_> {
    fn pick(&mut self, below: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte as usize % below
    }

    fn header(&mut self, k: &mut KernelBuilder) {
        for (i, dtype) in TYPES.into_iter().enumerate() {
            let access = [Access::Read, Access::Write, Access::ReadWrite][self.pick(3)];
            self.buffers.push((k.param(format!("p{i}"), dtype, access), access));
            let len = if self.pick(2) == 0 { ScratchLen::Const(64) } else { ScratchLen::Dim(0) };
            self.buffers.push((k.scratch(format!("s{i}"), dtype, len), Access::ReadWrite));
        }
        self.values.push(k.dim("n"));
        self.values.push(k.dim("m + 1"));
        self.values.push(k.tile());
        k.note("a note");
    }

    /// A value of this type: one in scope or a constant.
    fn value(&mut self, k: &mut KernelBuilder, ty: VType) -> Val {
        let found: Vec<Val> = self.values.iter().copied().filter(|&v| k.ty(v) == ty).collect();
        if !found.is_empty() && self.pick(4) > 0 {
            return found[self.pick(found.len())];
        }
        let x = self.pick(256) as f64 - 100.5;
        k.splat_const(Const::number(ty.dtype, x), ty.lanes)
    }

    fn ty(&mut self) -> VType {
        VType::vector(TYPES[self.pick(TYPES.len())], [1, 1, 4, 7][self.pick(4)])
    }

    fn buffer(&mut self) -> (Buf, Access) {
        let i = self.pick(self.buffers.len());
        self.buffers[i]
    }

    fn index(&mut self, k: &mut KernelBuilder) -> Val {
        self.value(k, VType::scalar(DType::I64))
    }

    fn count(&mut self, k: &mut KernelBuilder) -> Option<Val> {
        if self.pick(2) == 0 { None } else { Some(self.index(k)) }
    }

    fn stmt(&mut self, k: &mut KernelBuilder, depth: u32) {
        match self.pick(11) {
            0..=5 => {
                let v = self.instr(k);
                self.values.push(v);
            }
            6 => {
                let (buf, access) = self.buffer();
                if access != Access::Read {
                    let ty = VType::vector(k.buf_dtype(buf), [1, 4][self.pick(2)]);
                    let (value, index, count) = (self.value(k, ty), self.index(k), self.count(k));
                    k.store(buf, index, self.pick(256) as i64 - 128, value, count);
                }
            }
            7 => {
                let cond = self.value(k, VType::scalar(DType::Bool));
                k.check(cond, 1 + self.pick(9) as u32);
            }
            8 if depth == 0 => {
                let ((buf, _), index) = (self.buffer(), self.index(k));
                k.prefetch(buf, index, self.pick(256) as i64 - 128);
            }
            8 if depth > 0 => self.for_loop(k, depth - 1),
            9 if depth > 0 => self.branch(k, depth - 1),
            10 => self.matrices(k),
            _ => {}
        }
    }

    /// Adds a few products of small matrices up and stores the sum.
    fn matrices(&mut self, k: &mut KernelBuilder) {
        let (rows, steps, columns) = (1 + self.pick(3) as u32, 1 + self.pick(2) as u32, 1 + self.pick(4) as u32);
        let bytes: Vec<Buf> =
            self.buffers.iter().filter(|(b, a)| k.buf_dtype(*b) == DType::U8 && *a != Access::Write).map(|b| b.0).collect();
        let zero = k.matrix_zero(rows, columns);
        let (lo, stride) = (self.index(k), self.index(k));
        let hi = k.add_int(lo, self.pick(3) as i64);
        let sums = k.for_carry((lo, hi, 1), &[zero], LoopHint::Plain, |k, i, sums| {
            let from = bytes[self.pick(bytes.len())];
            let a = k.matrix_load((from, i, self.pick(64) as i64), stride, rows, 4 * steps);
            let b = k.matrix_load((from, i, self.pick(64) as i64), stride, steps, 4 * columns);
            vec![k.matrix_dot4(a, b, sums[0], rows)]
        });
        let to = k.scratch(format!("sums{}", self.at), DType::I32, ScratchLen::Const(64));
        let index = self.index(k);
        k.matrix_store((to, index, self.pick(16) as i64), stride, sums[0], rows);
    }

    fn block(&mut self, k: &mut KernelBuilder, depth: u32) {
        for _ in 0..self.pick(5) {
            self.stmt(k, depth);
        }
    }

    fn for_loop(&mut self, k: &mut KernelBuilder, depth: u32) {
        let (lo, step) = (self.index(k), 1 + self.pick(20) as i64);
        // Few trips: the interpreter runs these kernels too.
        let hi = k.add_int(lo, self.pick(40) as i64);
        let types: Vec<VType> = (0..self.pick(3)).map(|_| self.ty()).collect();
        let init: Vec<Val> = types.iter().map(|&t| self.value(k, t)).collect();
        let hint = if self.pick(2) == 0 { LoopHint::Plain } else { LoopHint::Unroll(4) };
        let scope = self.values.len();
        let results = k.for_carry((lo, hi, step), &init, hint, |k, i, phis| {
            self.values.push(i);
            self.values.extend(phis);
            self.block(k, depth);
            types.iter().map(|&t| self.value(k, t)).collect()
        });
        self.values.truncate(scope);
        self.values.extend(results);
    }

    fn branch(&mut self, k: &mut KernelBuilder, depth: u32) {
        // A condition that is not a constant, which the builder would fold.
        let (a, b) = (self.values[0], self.values[1]);
        let cond = k.cmp(Pred::Lt, a, b);
        let types: Vec<VType> = (0..self.pick(3)).map(|_| self.ty()).collect();
        let scope = self.values.len();
        let chooser = std::cell::RefCell::new(&mut *self);
        let side = |k: &mut KernelBuilder| {
            let mut g = chooser.borrow_mut();
            g.block(k, depth);
            let yields = types.iter().map(|&t| g.value(k, t)).collect();
            g.values.truncate(scope);
            yields
        };
        let results = k.if_else(cond, side, side);
        self.values.extend(results);
    }

    fn instr(&mut self, k: &mut KernelBuilder) -> Val {
        let ty = self.ty();
        match self.pick(13) {
            0 => {
                let applies = |&o: &UnOp| crate::scalar::un(o, zero(ty)).is_some();
                let ops: Vec<UnOp> = UnOp::ALL.iter().copied().filter(applies).collect();
                let (op, a) = (ops[self.pick(ops.len())], self.value(k, ty));
                k.un(op, a)
            }
            1 | 2 => {
                let applies = |&o: &BinOp| crate::scalar::bin(o, zero(ty), zero(ty)).is_some();
                let ops: Vec<BinOp> = BinOp::ALL.iter().copied().filter(applies).collect();
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                if ops.is_empty() { a } else { k.bin(ops[self.pick(ops.len())], a, b) }
            }
            3 => {
                let ty = ty.with([DType::F32, DType::F64][self.pick(2)]);
                let (a, b, c) = (self.value(k, ty), self.value(k, ty), self.value(k, ty));
                k.fma(a, b, c)
            }
            4 => {
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                k.cmp(Pred::ALL[self.pick(6)], a, b)
            }
            5 => {
                let lanes = if self.pick(2) == 0 { 1 } else { ty.lanes };
                let cond = self.value(k, VType::vector(DType::Bool, lanes));
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                k.select(cond, a, b)
            }
            6 => {
                let a = self.value(k, ty);
                k.convert(a, TYPES[self.pick(TYPES.len())])
            }
            7 => {
                let a = self.value(k, ty.with(DType::F64));
                k.bitcast(a, DType::I64)
            }
            8 => {
                let base = self.index(k);
                k.iota(base, ty.lanes)
            }
            9 => {
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                let both = k.concat(a, b);
                k.slice(both, self.pick(ty.lanes as usize) as u32, ty.lanes)
            }
            10 => {
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                let picks: Vec<u32> = (0..ty.lanes).map(|_| self.pick(2 * ty.lanes as usize) as u32).collect();
                k.permute(a, b, &picks)
            }
            11 => {
                let a = self.value(k, ty);
                let lane = k.extract(a, self.pick(ty.lanes as usize) as u32);
                k.widen(lane, 3)
            }
            _ => self.load(k, ty.lanes),
        }
    }

    fn load(&mut self, k: &mut KernelBuilder, lanes: u32) -> Val {
        let (buf, access) = self.buffer();
        let buf = if access == Access::Write { self.buffers[1].0 } else { buf };
        let offset = self.pick(256) as i64 - 128;
        match self.pick(3) {
            0 => {
                let (index, count) = (self.index(k), self.count(k));
                k.load(buf, index, offset, lanes, count)
            }
            1 => {
                let (index, stride, count) = (self.index(k), self.index(k), self.count(k));
                k.load_strided(buf, index, stride, lanes, count)
            }
            _ => {
                let (index, count) = (self.value(k, VType::vector(DType::I64, lanes)), self.count(k));
                k.gather(buf, index, offset, count)
            }
        }
    }
}

fn zero(ty: VType) -> Const {
    Const { dtype: ty.dtype, bits: 0 }
}
