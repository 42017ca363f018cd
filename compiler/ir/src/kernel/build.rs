//! Builds kernels statement by statement, folding constants as it goes.

use std::collections::HashMap;

use super::*;

mod matrix;

/// A loop whose body is being built.
pub struct OpenFor {
    bounds: (Val, Val, i64),
    /// The counter.
    pub var: Val,
    /// The carried values inside the body.
    pub phis: Vec<Val>,
    init: Vec<Val>,
    hint: LoopHint,
}

/// A branch that is being built.
pub struct OpenIf {
    cond: Val,
    then: Option<Block>,
    values: Vec<Val>,
}

/// Builds one kernel. Values get their types from their operands; a type error is a bug in the caller and panics.
pub struct KernelBuilder {
    kernel: Kernel,
    /// Blocks being filled, innermost last.
    open: Vec<Vec<Stmt>>,
    /// Constants by value, so that `fold` sees through them.
    consts: HashMap<Val, Const>,
    /// Pure instructions already emitted, per open block, to emit each once.
    memo: Vec<HashMap<(Instr, VType), Val>>,
}

impl KernelBuilder {
    /// Starts a kernel.
    pub fn new(name: impl Into<String>) -> KernelBuilder {
        KernelBuilder {
            kernel: Kernel {
                name: name.into(),
                params: Vec::new(),
                dims: Vec::new(),
                scratch: Vec::new(),
                threads: 1,
                values: Vec::new(),
                body: Block::default(),
                notes: Vec::new(),
            },
            open: vec![Vec::new()],
            consts: HashMap::new(),
            memo: vec![HashMap::new()],
        }
    }

    /// Adds a buffer parameter.
    pub fn param(&mut self, name: impl Into<String>, dtype: DType, access: Access) -> Buf {
        self.kernel.params.push(Param { name: name.into(), dtype, access, noalias: access != Access::Read, align: 1 });
        Buf::Param(self.kernel.params.len() as u32 - 1)
    }

    /// Says that a written parameter may overlap one that is read, element for element.
    pub fn may_alias(&mut self, buf: Buf) {
        if let Buf::Param(i) = buf {
            self.kernel.params[i as usize].noalias = false;
        }
    }

    /// Adds a dim parameter and returns its value.
    pub fn dim(&mut self, name: impl Into<String>) -> Val {
        self.kernel.dims.push(name.into());
        let index = self.kernel.dims.len() as u32 - 1;
        self.dim_value(index)
    }

    /// The value of an existing dim parameter.
    pub fn dim_value(&mut self, index: u32) -> Val { self.emit(Instr::Dim(index), VType::scalar(DType::I64)) }

    /// Number of dim parameters so far.
    pub fn dim_count(&self) -> u32 { self.kernel.dims.len() as u32 }

    /// Adds scratch memory.
    pub fn scratch(&mut self, name: impl Into<String>, dtype: DType, len: ScratchLen) -> Buf {
        self.kernel.scratch.push(Scratch { name: name.into(), dtype, len, space: Space::Private });
        Buf::Scratch(self.kernel.scratch.len() as u32 - 1)
    }

    /// Adds scratch memory that all threads of a tile use.
    pub fn shared(&mut self, name: impl Into<String>, dtype: DType, len: u64) -> Buf {
        let len = ScratchLen::Const(len);
        self.kernel.scratch.push(Scratch { name: name.into(), dtype, len, space: Space::Shared });
        Buf::Scratch(self.kernel.scratch.len() as u32 - 1)
    }

    /// Lets `threads` threads run each tile together.
    pub fn set_threads(&mut self, threads: u32) { self.kernel.threads = threads; }

    /// Threads that run a tile.
    pub fn threads(&self) -> u32 { self.kernel.threads }

    /// Adds a remark.
    pub fn note(&mut self, note: impl Into<String>) { self.kernel.notes.push(note.into()); }

    /// Type of a value.
    pub fn ty(&self, v: Val) -> VType { self.kernel.ty(v) }

    /// Element type of a buffer.
    pub fn buf_dtype(&self, buf: Buf) -> DType { self.kernel.buf_dtype(buf) }

    /// The constant a value is known to be (in every lane).
    pub fn known(&self, v: Val) -> Option<Const> { self.consts.get(&v).copied() }

    /// A new value that a statement will define.
    fn value(&mut self, ty: VType) -> Val {
        self.kernel.values.push(ty);
        Val(self.kernel.values.len() as u32 - 1)
    }

    /// Emits an instruction, reusing an equal one that is in scope. Loads are never shared, and neither are matrices of zeros:
    /// each is the start of a sum of its own, and registers of matrices cannot be copied.
    pub fn emit(&mut self, instr: Instr, ty: VType) -> Val {
        let own = instr.is_load() || matches!(instr, Instr::Matrix(MatrixInstr::Zero { .. }));
        let pure = !own && !matches!(instr, Instr::Team(ref t) if *t != TeamInstr::Thread);
        if pure {
            let key = (instr.clone(), ty);
            if let Some(&v) = self.memo.iter().rev().find_map(|m| m.get(&key)) {
                return v;
            }
            let v = self.push(instr, ty);
            self.memo.last_mut().expect("a block is open").insert(key, v);
            return v;
        }
        self.push(instr, ty)
    }

    fn push(&mut self, instr: Instr, ty: VType) -> Val {
        let v = self.value(ty);
        if let Instr::Const(c) = instr {
            self.consts.insert(v, c);
        }
        self.stmt(Stmt::Let(v, instr));
        v
    }

    fn stmt(&mut self, stmt: Stmt) { self.open.last_mut().expect("a block is open").push(stmt); }

    /// A scalar constant.
    pub fn constant(&mut self, c: Const) -> Val { self.emit(Instr::Const(c), VType::scalar(c.dtype)) }

    /// A constant in every lane.
    pub fn splat_const(&mut self, c: Const, lanes: u32) -> Val {
        self.emit(Instr::Const(c), VType::vector(c.dtype, lanes))
    }

    /// An i64 scalar constant.
    pub fn int(&mut self, x: i64) -> Val { self.constant(Const::i64(x)) }

    /// The tile's number.
    pub fn tile(&mut self) -> Val { self.emit(Instr::Tile, VType::scalar(DType::I64)) }

    /// `op a`.
    pub fn un(&mut self, op: UnOp, a: Val) -> Val {
        let ty = self.ty(a);
        if let Some(c) = self.known(a).and_then(|c| crate::scalar::un(op, c)) {
            return self.splat_const(c, ty.lanes);
        }
        self.emit(Instr::Un(op, a), ty)
    }

    /// `op a, b`; a scalar operand is splat to the other's lanes.
    pub fn bin(&mut self, op: BinOp, a: Val, b: Val) -> Val {
        let (a, b) = self.match_lanes(a, b);
        let ty = self.ty(a);
        assert_eq!(ty, self.ty(b), "operands of {} differ in type", op.name());
        if let (Some(x), Some(y)) = (self.known(a), self.known(b)) {
            if let Some(c) = crate::scalar::bin(op, x, y) {
                return self.splat_const(c, ty.lanes);
            }
        }
        if let Some(v) = self.identity(op, a, b) {
            return v;
        }
        self.emit(Instr::Bin(op, a, b), ty)
    }

    /// Integer identities only: they hold for every value, unlike those of floats.
    fn identity(&mut self, op: BinOp, a: Val, b: Val) -> Option<Val> {
        if !self.ty(a).dtype.is_int() {
            return None;
        }
        let x = self.known(a).map(Const::as_i64);
        let y = self.known(b).map(Const::as_i64);
        match (op, x, y) {
            (BinOp::Add, Some(0), _) | (BinOp::Mul, Some(1), _) => Some(b),
            (BinOp::Add | BinOp::Sub, _, Some(0)) | (BinOp::Mul | BinOp::Div, _, Some(1)) => Some(a),
            (BinOp::Mul, Some(0), _) | (BinOp::Div | BinOp::Rem, Some(0), _) => Some(a),
            (BinOp::Mul, _, Some(0)) => Some(b),
            _ => None,
        }
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        let lanes = self.ty(a).lanes.max(self.ty(b).lanes).max(self.ty(c).lanes);
        let (a, b, c) = (self.widen(a, lanes), self.widen(b, lanes), self.widen(c, lanes));
        let ty = self.ty(a);
        assert!(ty == self.ty(b) && ty == self.ty(c), "operands of fma differ in type");
        self.emit(Instr::Fma(a, b, c), ty)
    }

    /// `c` plus, in each lane, the products of four neighbouring 8-bit elements of `a` and `b`.
    pub fn dot4(&mut self, a: Val, b: Val, c: Val) -> Val {
        let ty = self.ty(c);
        self.emit(Instr::Dot4(a, b, c), ty)
    }

    /// Compares.
    pub fn cmp(&mut self, pred: Pred, a: Val, b: Val) -> Val {
        let (a, b) = self.match_lanes(a, b);
        let ty = self.ty(a);
        assert_eq!(ty, self.ty(b), "operands of {} differ in type", pred.name());
        if let (Some(x), Some(y)) = (self.known(a), self.known(b)) {
            return self.splat_const(Const::bool(crate::scalar::cmp(pred, x, y)), ty.lanes);
        }
        self.emit(Instr::Cmp(pred, a, b), ty.with(DType::Bool))
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: Val, a: Val, b: Val) -> Val {
        if let Some(c) = self.known(cond) {
            let lanes = self.ty(cond).lanes.max(self.ty(a).lanes).max(self.ty(b).lanes);
            return if c.bits != 0 { self.widen(a, lanes) } else { self.widen(b, lanes) };
        }
        let lanes = self.ty(cond).lanes.max(self.ty(a).lanes).max(self.ty(b).lanes);
        let (a, b) = (self.widen(a, lanes), self.widen(b, lanes));
        assert_eq!(self.ty(a), self.ty(b), "branches of select differ in type");
        let ty = self.ty(a);
        self.emit(Instr::Select(cond, a, b), ty)
    }

    /// Converts to another element type.
    pub fn convert(&mut self, a: Val, dtype: DType) -> Val {
        let ty = self.ty(a);
        if ty.dtype == dtype {
            return a;
        }
        if let Some(c) = self.known(a) {
            return self.splat_const(crate::scalar::convert(c, dtype), ty.lanes);
        }
        self.emit(Instr::Convert(a), ty.with(dtype))
    }

    /// Reinterprets bits.
    pub fn bitcast(&mut self, a: Val, dtype: DType) -> Val {
        let ty = self.ty(a);
        if ty.dtype == dtype {
            return a;
        }
        assert_eq!(ty.dtype.bits(), dtype.bits(), "bitcast between widths");
        if let Some(c) = self.known(a) {
            return self.splat_const(Const { dtype, bits: c.bits }, ty.lanes);
        }
        self.emit(Instr::Bitcast(a), ty.with(dtype))
    }

    /// A scalar in every lane; a value that already has the lanes is returned as it is.
    pub fn widen(&mut self, a: Val, lanes: u32) -> Val {
        let ty = self.ty(a);
        if ty.lanes == lanes {
            return a;
        }
        assert_eq!(ty.lanes, 1, "cannot widen {} lanes to {lanes}", ty.lanes);
        if let Some(c) = self.known(a) {
            return self.splat_const(c, lanes);
        }
        self.emit(Instr::Splat(a), VType::vector(ty.dtype, lanes))
    }

    fn match_lanes(&mut self, a: Val, b: Val) -> (Val, Val) {
        let lanes = self.ty(a).lanes.max(self.ty(b).lanes);
        (self.widen(a, lanes), self.widen(b, lanes))
    }

    /// `base, base + 1, ...`.
    pub fn iota(&mut self, base: Val, lanes: u32) -> Val {
        if lanes == 1 {
            return base;
        }
        let dtype = self.ty(base).dtype;
        self.emit(Instr::Iota(base), VType::vector(dtype, lanes))
    }

    /// One lane.
    pub fn extract(&mut self, a: Val, lane: u32) -> Val {
        let ty = self.ty(a);
        if ty.lanes == 1 {
            return a;
        }
        self.emit(Instr::Extract(a, lane), VType::scalar(ty.dtype))
    }

    /// Some consecutive lanes.
    pub fn slice(&mut self, a: Val, first: u32, lanes: u32) -> Val {
        let ty = self.ty(a);
        if ty.lanes == lanes {
            return a;
        }
        if lanes == 1 {
            return self.extract(a, first);
        }
        self.emit(Instr::Slice(a, first), VType::vector(ty.dtype, lanes))
    }

    /// The lanes of two values.
    pub fn concat(&mut self, a: Val, b: Val) -> Val {
        let ty = self.ty(a);
        let lanes = ty.lanes + self.ty(b).lanes;
        self.emit(Instr::Concat(a, b), VType::vector(ty.dtype, lanes))
    }

    /// Lanes `picks` of two vectors of one type, those of `b` numbered after those of `a`.
    pub fn permute(&mut self, a: Val, b: Val, picks: &[u32]) -> Val {
        let ty = self.ty(a);
        assert_eq!(ty, self.ty(b), "permuted vectors differ in type");
        let lanes = picks.len() as u32;
        if lanes == ty.lanes && picks.iter().zip(0..).all(|(&p, i)| p == i) {
            return a;
        }
        self.emit(Instr::Permute(a, b, picks.into()), VType::vector(ty.dtype, lanes))
    }

    /// Integer sum.
    pub fn add(&mut self, a: Val, b: Val) -> Val { self.bin(BinOp::Add, a, b) }
    /// Difference.
    pub fn sub(&mut self, a: Val, b: Val) -> Val { self.bin(BinOp::Sub, a, b) }
    /// Product.
    pub fn mul(&mut self, a: Val, b: Val) -> Val { self.bin(BinOp::Mul, a, b) }
    /// Sum with a constant.
    pub fn add_int(&mut self, a: Val, x: i64) -> Val {
        let c = self.int(x);
        self.add(a, c)
    }
    /// Product with a constant.
    pub fn mul_int(&mut self, a: Val, x: i64) -> Val {
        let c = self.int(x);
        self.mul(a, c)
    }

    /// Loads contiguous elements.
    pub fn load(&mut self, buf: Buf, index: Val, offset: i64, lanes: u32, count: Option<Val>) -> Val {
        let ty = VType::vector(self.buf_dtype(buf), lanes);
        self.emit(Instr::Load { buf, index, offset, count }, ty)
    }

    /// Loads elements a stride apart.
    pub fn load_strided(&mut self, buf: Buf, index: Val, stride: Val, lanes: u32, count: Option<Val>) -> Val {
        if self.known(stride).map(Const::as_i64) == Some(1) || lanes == 1 {
            return self.load(buf, index, 0, lanes, count);
        }
        let ty = VType::vector(self.buf_dtype(buf), lanes);
        self.emit(Instr::LoadStrided { buf, index, offset: 0, stride, count }, ty)
    }

    /// Loads elements at the indices of a vector.
    pub fn gather(&mut self, buf: Buf, index: Val, offset: i64, count: Option<Val>) -> Val {
        let lanes = self.ty(index).lanes;
        if lanes == 1 {
            return self.load(buf, index, offset, 1, count);
        }
        let ty = VType::vector(self.buf_dtype(buf), lanes);
        self.emit(Instr::Gather { buf, index, offset, count }, ty)
    }

    /// Stores contiguous elements.
    pub fn store(&mut self, buf: Buf, index: Val, offset: i64, value: Val, count: Option<Val>) {
        assert_eq!(self.buf_dtype(buf), self.ty(value).dtype, "stored value differs in type from its buffer");
        self.stmt(Stmt::Store { buf, index, offset, value, count });
    }

    /// Says that an element will be read soon.
    pub fn prefetch(&mut self, buf: Buf, index: Val, offset: i64) { self.stmt(Stmt::Prefetch { buf, index, offset }); }

    /// Number of this thread in its tile.
    pub fn thread(&mut self) -> Val { self.emit(Instr::Team(TeamInstr::Thread), VType::scalar(DType::I64)) }

    /// The value another lane of the warp gives.
    pub fn shuffle(&mut self, lane: Lane, a: Val) -> Val {
        let ty = self.ty(a);
        self.emit(Instr::Team(TeamInstr::Shuffle(lane, a)), ty)
    }

    /// `a * b + c` of a warp's fragments.
    pub fn mma(&mut self, a: Val, b: Val, c: Val) -> Val {
        let ty = self.ty(c);
        self.emit(Instr::Team(TeamInstr::Mma { a, b, c }), ty)
    }

    /// Fragments of `matrices` matrices of 8 rows of 16 bytes in shared scratch.
    pub fn load_matrix(&mut self, buf: Buf, index: Val, offset: i64, matrices: u32, transposed: bool) -> Val {
        let dtype = self.buf_dtype(buf);
        let ty = VType::vector(dtype, matrices * 4 / dtype.size() as u32);
        self.emit(Instr::Team(TeamInstr::LoadMatrix { buf, index, offset, transposed }), ty)
    }

    /// Waits for all threads of the tile.
    pub fn barrier(&mut self) { self.stmt(Stmt::Team(TeamStmt::Barrier)); }

    /// Begins to copy `lanes` elements from a parameter to shared scratch; beyond `count` they become zero.
    pub fn copy_async(&mut self, to: (Buf, Val, i64), from: (Buf, Val, i64), lanes: u32, count: Option<Val>) {
        assert_eq!(self.buf_dtype(to.0), self.buf_dtype(from.0), "a copy keeps the element type");
        self.stmt(Stmt::Team(TeamStmt::CopyAsync {
            to: to.0,
            to_index: to.1,
            to_offset: to.2,
            from: from.0,
            from_index: from.1,
            from_offset: from.2,
            lanes,
            count,
        }));
    }

    /// Makes a group of the copies begun since the last one.
    pub fn copy_commit(&mut self) { self.stmt(Stmt::Team(TeamStmt::CopyCommit)); }

    /// Waits until at most `pending` groups are under way.
    pub fn copy_wait(&mut self, pending: u32) { self.stmt(Stmt::Team(TeamStmt::CopyWait(pending))); }

    /// Ends the kernel with `code` unless `cond` holds.
    pub fn check(&mut self, cond: Val, code: u32) {
        if self.known(cond).is_some_and(|c| c.bits != 0) {
            return;
        }
        self.stmt(Stmt::Check { cond, code });
    }

    /// Opens a loop. Its body is what is emitted until [`KernelBuilder::end_for`].
    pub fn begin_for(&mut self, (lo, hi, step): (Val, Val, i64), init: &[Val], hint: LoopHint) -> OpenFor {
        assert!(step > 0, "loop steps are positive");
        let var = self.value(VType::scalar(DType::I64));
        let phis: Vec<Val> = init.iter().map(|&v| self.value(self.ty(v))).collect();
        self.enter();
        OpenFor { bounds: (lo, hi, step), var, phis, init: init.to_vec(), hint }
    }

    /// Closes a loop, given the next values of what it carries; returns their last values.
    pub fn end_for(&mut self, open: OpenFor, next: &[Val]) -> Vec<Val> {
        let body = self.leave();
        assert_eq!(next.len(), open.init.len(), "a loop yields what it carries");
        let mut carried = Vec::with_capacity(next.len());
        for ((&init, &phi), &next) in open.init.iter().zip(&open.phis).zip(next) {
            assert_eq!(self.ty(init), self.ty(next), "a carried value changes its type");
            let result = self.value(self.ty(init));
            carried.push(Carried { phi, init, next, result });
        }
        let results = carried.iter().map(|c| c.result).collect();
        let (lo, hi, step) = open.bounds;
        self.stmt(Stmt::For(Box::new(For { var: open.var, lo, hi, step, carried, body, hint: open.hint })));
        results
    }

    /// A loop; `body` gets the counter and the carried values and returns their next values. Returns their last values.
    pub fn for_carry(
        &mut self,
        bounds: (Val, Val, i64),
        init: &[Val],
        hint: LoopHint,
        body: impl FnOnce(&mut KernelBuilder, Val, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let open = self.begin_for(bounds, init, hint);
        let next = body(self, open.var, &open.phis.clone());
        self.end_for(open, &next)
    }

    /// A loop that carries nothing.
    pub fn for_each(&mut self, lo: Val, hi: Val, step: i64, body: impl FnOnce(&mut KernelBuilder, Val)) {
        self.for_carry((lo, hi, step), &[], LoopHint::Plain, |k, i, _| {
            body(k, i);
            Vec::new()
        });
    }

    /// A branch with results.
    pub fn if_else(
        &mut self,
        cond: Val,
        then: impl FnOnce(&mut KernelBuilder) -> Vec<Val>,
        els: impl FnOnce(&mut KernelBuilder) -> Vec<Val>,
    ) -> Vec<Val> {
        if let Some(c) = self.known(cond) {
            return if c.bits != 0 { then(self) } else { els(self) };
        }
        let mut open = self.begin_if(cond);
        let a = then(self);
        self.begin_else(&mut open, &a);
        let b = els(self);
        self.end_if(open, &b)
    }

    /// Opens a branch. What follows runs if `cond` holds.
    pub fn begin_if(&mut self, cond: Val) -> OpenIf {
        self.enter();
        OpenIf { cond, then: None, values: Vec::new() }
    }

    /// Ends the first part of a branch, which gives `values`, and opens the second.
    pub fn begin_else(&mut self, open: &mut OpenIf, values: &[Val]) {
        open.then = Some(self.leave());
        open.values = values.to_vec();
        self.enter();
    }

    /// Ends the second part of a branch, which gives `values`; returns the results.
    pub fn end_if(&mut self, open: OpenIf, values: &[Val]) -> Vec<Val> {
        let els = self.leave();
        let then = open.then.expect("begin_else comes before end_if");
        assert_eq!(open.values.len(), values.len(), "branches yield the same number of values");
        let results: Vec<(Val, Val, Val)> =
            open.values.iter().zip(values).map(|(&a, &b)| (self.value(self.ty(a)), a, b)).collect();
        let names = results.iter().map(|r| r.0).collect();
        self.stmt(Stmt::If(Box::new(If { cond: open.cond, then, els, results })));
        names
    }

    /// A branch without results and without an else.
    pub fn if_then(&mut self, cond: Val, then: impl FnOnce(&mut KernelBuilder)) {
        self.if_else(
            cond,
            |k| {
                then(k);
                Vec::new()
            },
            |_| Vec::new(),
        );
    }

    fn enter(&mut self) {
        self.open.push(Vec::new());
        self.memo.push(HashMap::new());
    }

    fn leave(&mut self) -> Block {
        self.memo.pop();
        Block(self.open.pop().expect("enter and leave are paired"))
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        assert_eq!(self.open.len(), 1, "every block is closed");
        self.kernel.body = Block(self.open.pop().expect("the body is open"));
        self.kernel
    }
}
