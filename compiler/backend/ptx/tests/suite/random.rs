//! Random kernels: everything of the IR in any order, within the bounds of its buffers.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, BinOp, Buf, Const, Kernel, KernelBuilder, LoopHint, Pred, ScratchLen, UnOp, VType, Val};
use xlac_ir::scalar;

use crate::support::*;

const TYPES: [DType; 9] =
    [DType::F32, DType::I64, DType::F16, DType::U8, DType::Bool, DType::F64, DType::BF16, DType::I32, DType::I16];
/// Elements of each buffer that belong to a tile.
const PART: i64 = 64;
const TILES: i64 = 5;

struct Chooser {
    random: Random,
    inputs: Vec<Buf>,
    outputs: Vec<Buf>,
    scratch: Vec<Buf>,
    /// Values in scope.
    values: Vec<Val>,
    tile: Option<Val>,
}

impl Chooser {
    fn pick(&mut self, below: usize) -> usize {
        (self.random.next() >> 20) as usize % below
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.pick(list.len())]
    }

    fn header(&mut self, k: &mut KernelBuilder) {
        for (i, t) in TYPES.into_iter().enumerate() {
            self.inputs.push(k.param(format!("in{i}"), t, Access::Read));
            let access = self.of(&[Access::Write, Access::ReadWrite]);
            self.outputs.push(k.param(format!("out{i}"), t, access));
        }
        let len = self.of(&[ScratchLen::Const(PART as u64), ScratchLen::Dim(0)]);
        let (n, m) = (k.dim("n"), k.dim("m"));
        self.values.extend([n, m]);
        let tile = k.tile();
        self.tile = Some(tile);
        self.values.push(tile);
        let zero = k.int(0);
        for i in 0..2 {
            let t = self.of(&TYPES);
            let s = k.scratch(format!("s{i}"), t, len);
            let whole = k.splat_const(Const::number(t, 3.0), PART as u32);
            k.store(s, zero, 0, whole, None);
            self.scratch.push(s);
        }
    }

    /// A value of this type: one in scope or a constant.
    fn value(&mut self, k: &mut KernelBuilder, ty: VType) -> Val {
        let found: Vec<Val> = self.values.iter().copied().filter(|&v| k.ty(v) == ty).collect();
        if !found.is_empty() && self.pick(4) > 0 {
            return self.of(&found);
        }
        let x = self.pick(256) as f64 - 100.5;
        k.splat_const(Const::number(ty.dtype, x), ty.lanes)
    }

    fn ty(&mut self) -> VType {
        VType::vector(self.of(&TYPES), self.of(&[1, 1, 2, 4, 7, 8]))
    }

    fn int(&mut self, k: &mut KernelBuilder) -> Val {
        self.value(k, VType::scalar(DType::I64))
    }

    fn count(&mut self, k: &mut KernelBuilder) -> Option<Val> {
        if self.pick(2) == 0 { None } else { Some(self.int(k)) }
    }

    /// An index and an offset such that `lanes` elements fit in a part.
    fn inside(&mut self, k: &mut KernelBuilder) -> (Val, i64) {
        let x = self.int(k);
        let mask = self.of(&[31, 28, 24]);
        let mask = k.int(mask);
        let x = k.bin(BinOp::And, x, mask);
        let offset = self.pick(8) as i64;
        let back = k.add_int(x, -offset);
        (back, 2 * offset)
    }

    fn place(&mut self, k: &mut KernelBuilder) -> (Val, i64) {
        let (x, offset) = self.inside(k);
        let start = k.mul_int(self.tile.expect("it was emitted"), PART);
        (k.add(x, start), offset)
    }

    fn stmt(&mut self, k: &mut KernelBuilder, depth: u32) {
        match self.pick(12) {
            0..=5 => {
                let v = self.instr(k);
                self.values.push(v);
            }
            6 | 7 => {
                let scratch = self.pick(3) == 0;
                let buf = if scratch { self.of(&self.scratch.clone()) } else { self.of(&self.outputs.clone()) };
                let ty = VType::vector(k.buf_dtype(buf), self.of(&[1, 2, 4, 7, 8]));
                let (value, count) = (self.value(k, ty), self.count(k));
                let (index, offset) = if scratch { self.inside(k) } else { self.place(k) };
                k.store(buf, index, offset, value, count);
            }
            8 | 9 if depth > 0 => self.for_loop(k, depth - 1),
            10 | 11 if depth > 0 => self.branch(k, depth - 1),
            _ => {}
        }
    }

    fn block(&mut self, k: &mut KernelBuilder, depth: u32) {
        for _ in 0..self.pick(6) {
            self.stmt(k, depth);
        }
    }

    fn for_loop(&mut self, k: &mut KernelBuilder, depth: u32) {
        let (lo, step) = (self.int(k), 1 + self.pick(20) as i64);
        let hi = k.add_int(lo, self.pick(60) as i64);
        let types: Vec<VType> = (0..self.pick(3)).map(|_| self.ty()).collect();
        let init: Vec<Val> = types.iter().map(|&t| self.value(k, t)).collect();
        let hint = self.of(&[LoopHint::Plain, LoopHint::Unroll(2), LoopHint::Unroll(4)]);
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
        let (a, b) = (self.int(k), self.int(k));
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
        let one = Const { dtype: ty.dtype, bits: 1 };
        match self.pick(15) {
            0 => {
                let applies = |o: &UnOp| scalar::un(*o, one).is_some_and(|c| c.dtype == ty.dtype);
                let ops: Vec<UnOp> = UnOp::ALL.iter().copied().filter(applies).collect();
                let (op, a) = (self.of(&ops), self.value(k, ty));
                k.un(op, a)
            }
            1 => self.bin(k, ty),
            2..=4 => self.bin(k, VType::scalar(DType::I64)),
            5 => {
                let ty = ty.with(self.of(&[DType::F32, DType::F64]));
                let (a, b, c) = (self.value(k, ty), self.value(k, ty), self.value(k, ty));
                k.fma(a, b, c)
            }
            6 => {
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                k.cmp(self.of(Pred::ALL), a, b)
            }
            7 => {
                let lanes = if self.pick(2) == 0 { 1 } else { ty.lanes };
                let cond = self.value(k, VType::vector(DType::Bool, lanes));
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                k.select(cond, a, b)
            }
            8 => {
                // The reference rounds f64 to halves twice.
                let to = self.of(&TYPES);
                let half = matches!(to, DType::F16 | DType::BF16) && ty.dtype == DType::F64;
                let a = self.value(k, ty);
                k.convert(a, if half { DType::F32 } else { to })
            }
            9 => {
                let a = self.value(k, ty.with(DType::F64));
                k.bitcast(a, DType::I64)
            }
            10 => {
                let base = self.int(k);
                k.iota(base, ty.lanes)
            }
            11 => {
                let (a, b) = (self.value(k, ty), self.value(k, ty));
                let both = k.concat(a, b);
                k.slice(both, self.pick(ty.lanes as usize) as u32, ty.lanes)
            }
            12 => {
                let a = self.value(k, ty);
                let lane = k.extract(a, self.pick(ty.lanes as usize) as u32);
                k.widen(lane, self.of(&[3, 4, 8]))
            }
            _ => self.load(k, ty.lanes),
        }
    }

    fn bin(&mut self, k: &mut KernelBuilder, ty: VType) -> Val {
        let one = Const { dtype: ty.dtype, bits: 1 };
        let ops: Vec<BinOp> = BinOp::ALL.iter().copied().filter(|&o| scalar::bin(o, one, one).is_some()).collect();
        let (a, b) = (self.value(k, ty), self.value(k, ty));
        if ops.is_empty() { a } else { k.bin(self.of(&ops), a, b) }
    }

    fn load(&mut self, k: &mut KernelBuilder, lanes: u32) -> Val {
        let count = self.count(k);
        let scratch = self.pick(3) == 0;
        let buf = if scratch { self.of(&self.scratch.clone()) } else { self.of(&self.inputs.clone()) };
        let (index, offset) = if scratch { self.inside(k) } else { self.place(k) };
        match self.pick(4) {
            0 => {
                let stride = k.int(self.of(&[2, 3, 1, -1]));
                let far = k.add_int(index, if scratch { offset } else { 16 });
                let stride = if scratch { k.int(1) } else { stride };
                k.load_strided(buf, far, stride, lanes, count)
            }
            1 => {
                let indices = k.iota(index, lanes);
                k.gather(buf, indices, offset, count)
            }
            _ => k.load(buf, index, offset, lanes, count),
        }
    }
}

/// The kernel of a seed.
pub fn kernel(seed: u64) -> Kernel {
    let mut k = KernelBuilder::new(format!("random{seed}"));
    let mut g = Chooser {
        random: Random(seed),
        inputs: Vec::new(),
        outputs: Vec::new(),
        scratch: Vec::new(),
        values: Vec::new(),
        tile: None,
    };
    g.header(&mut k);
    for _ in 0..8 + g.pick(30) {
        g.stmt(&mut k, 3);
    }
    // What is left in scope counts too.
    for v in std::mem::take(&mut g.values) {
        let ty = k.ty(v);
        let found = TYPES.iter().position(|&t| t == ty.dtype);
        if let Some(i) = found.filter(|_| ty.lanes <= 16) {
            let (index, offset) = g.place(&mut k);
            k.store(g.outputs[i], index, offset, v, None);
        }
    }
    k.finish()
}

/// Number of kernels; `XLAC_RANDOM` asks for more.
fn kernels() -> u64 {
    std::env::var("XLAC_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

#[test]
fn random_kernels_agree() {
    for seed in 0..kernels() {
        let k = kernel(seed);
        let code = Code::new(std::slice::from_ref(&k));
        let n = (PART * TILES + 64) as usize;
        let buffers: Vec<_> =
            k.params.iter().enumerate().map(|(i, p)| buffer(p.dtype, n, seed * 31 + i as u64)).collect();
        for shift in [0, 1] {
            let how = How { shift, blocks: 1, ..How::default() };
            agree_on(&code, &k, 0, &buffers, &[PART, 11], TILES, &how);
        }
    }
}
