//! Kernel IR to CLIF, one function per kernel.
//!
//! A value of many lanes is a list of 16-byte chunks ([`Rep`]); the last one is padded. Loads, splats and constants are
//! made where they are first needed, so that they fold into their users and hold a register no longer than they must.

mod arith;
mod control;
mod convert;
mod dot;
mod half;
mod lanes;
mod memory;
mod rep;

use std::collections::HashMap;

use cranelift_codegen::ir::{
    AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, Signature, StackSlot, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FuncInstBuilder, FunctionBuilder, FunctionBuilderContext};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Buf, Instr, Kernel, ScratchLen, Stmt, Val};

use crate::hoist::{self, Hoisted};
use crate::isa::Caps;
use rep::Rep;

/// Why a kernel with matrices cannot be made.
const NO_MATRIX: &str = "Cranelift has no instructions for matrices in registers";
/// Why a kernel made for a GPU cannot run here.
const NO_TEAM: &str = "a processor runs a tile with one thread";

/// What stands in the way, as text.
pub type Result<T> = std::result::Result<T, String>;

/// Scalar i64 computations already made in the open blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Add(Value, Value),
    Sub(Value, Value),
    Mul(Value, i64),
    Plus(Value, i64),
}

/// The state of emitting one kernel.
pub struct Emitter<'a> {
    b: FunctionBuilder<'a>,
    kernel: &'a Kernel,
    caps: Caps,
    /// What each kernel value is, as far as it is made.
    env: Vec<Option<Rep>>,
    /// Instructions of the block being emitted that nothing has asked for yet, in their order.
    pending: Vec<(Val, Instr)>,
    /// Splats of elements that are still loaded wherever they are used, and the buffers of these.
    elements: Vec<(Val, Buf)>,
    memo: HashMap<Key, Value>,
    /// Keys of `memo` by open scope, innermost last.
    scopes: Vec<Vec<Key>>,
    params: Vec<Value>,
    scratch: Vec<Value>,
    dims: Vec<Value>,
    tile: Value,
    /// Room for the elements of a partial access, and for the indices of a partial gather.
    slots: [Option<StackSlot>; 2],
}

/// Translates `kernel`.
pub fn function(
    kernel: &Kernel,
    isa: &dyn TargetIsa,
    caps: Caps,
    context: &mut FunctionBuilderContext,
) -> Result<Function> {
    let mut signature = Signature::new(CallConv::triple_default(isa.triple()));
    signature.params.extend([AbiParam::new(types::I64); 5]);
    signature.returns.push(AbiParam::new(types::I64));
    let mut func = Function::with_name_signature(UserFuncName::default(), signature);
    let hoisted = hoist::hoist(kernel);
    let mut emitter = Emitter::new(kernel, caps, FunctionBuilder::new(&mut func, context));
    emitter.body(&hoisted)?;
    emitter.b.seal_all_blocks();
    emitter.b.finalize(isa.frontend_config());
    Ok(func)
}

impl<'a> Emitter<'a> {
    fn new(kernel: &'a Kernel, caps: Caps, b: FunctionBuilder<'a>) -> Emitter<'a> {
        Emitter {
            b,
            kernel,
            caps,
            env: vec![None; kernel.values.len()],
            pending: Vec::new(),
            elements: Vec::new(),
            memo: HashMap::new(),
            scopes: vec![Vec::new()],
            params: Vec::new(),
            scratch: Vec::new(),
            dims: Vec::new(),
            tile: Value::from_u32(0),
            slots: [None, None],
        }
    }

    fn ins(&mut self) -> FuncInstBuilder<'_, 'a> { self.b.ins() }

    /// The whole function: entry, loop over tiles, return.
    fn body(&mut self, hoisted: &Hoisted) -> Result<()> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let args = self.b.block_params(entry).to_vec();
        self.entry(args[0], args[1], args[2]);
        self.statements(&hoisted.entry)?;
        self.flush()?;
        let (tile_block, done) = (self.b.create_block(), self.b.create_block());
        let tile = self.b.append_block_param(tile_block, types::I64);
        self.branch_if_less(args[3], args[4], (tile_block, &[args[3]]), (done, &[]));
        self.b.switch_to_block(tile_block);
        self.tile = tile;
        self.open();
        self.statements(&hoisted.body.0)?;
        self.forget();
        self.close();
        let one = self.int(1);
        let next = self.ins().iadd(tile, one);
        self.branch_if_less(next, args[4], (tile_block, &[next]), (done, &[]));
        self.b.switch_to_block(done);
        let zero = self.int(0);
        self.ins().return_(&[zero]);
        Ok(())
    }

    /// Loads what the caller passes and lays out the scratch buffers.
    fn entry(&mut self, buffers: Value, dims: Value, scratch: Value) {
        // The tables of pointers and dims do not change while the kernel runs.
        let flags = MemFlagsData::trusted().with_readonly();
        for i in 0..self.kernel.params.len() {
            let p = self.ins().load(types::I64, flags, buffers, 8 * i as i32);
            self.params.push(p);
        }
        for i in 0..self.kernel.dims.len() {
            let d = self.ins().load(types::I64, flags, dims, 8 * i as i32);
            self.dims.push(d);
        }
        let mut at = scratch;
        for s in &self.kernel.scratch {
            self.scratch.push(at);
            let bytes = match s.len {
                ScratchLen::Const(n) => {
                    let bytes = (n * s.dtype.size() as u64).next_multiple_of(64);
                    self.int(bytes as i64)
                }
                ScratchLen::Dim(d) => {
                    let len = self.dims[d as usize];
                    let (size, round, mask) = (self.int(s.dtype.size() as i64), self.int(63), self.int(-64));
                    let bytes = self.ins().imul(len, size);
                    let up = self.ins().iadd(bytes, round);
                    self.ins().band(up, mask)
                }
            };
            at = self.ins().iadd(at, bytes);
        }
    }

    /// Statements of one block, in order; instructions may be made later, where they are first needed.
    fn statements(&mut self, stmts: &[Stmt]) -> Result<()> {
        let mut at = 0;
        while at < stmts.len() {
            let run = self.strip(&stmts[at..]);
            if run > 1 {
                self.emit_strip(&stmts[at..at + run])?;
                at += run;
            } else {
                self.statement(&stmts[at])?;
                at += 1;
            }
        }
        Ok(())
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(v, instr) => self.define(*v, instr),
            Stmt::Store { buf, index, offset, value, count } => self.store(*buf, *index, *offset, *value, *count),
            // Cranelift has no such instruction.
            Stmt::Prefetch { .. } => Ok(()),
            Stmt::MatrixStore(_) => Err(NO_MATRIX.into()),
            Stmt::For(f) => {
                self.flush()?;
                self.emit_for(f)
            }
            Stmt::If(i) => {
                self.flush()?;
                self.emit_if(i)
            }
            Stmt::Check { cond, code } => self.check(*cond, *code),
            Stmt::Team(_) => Err(NO_TEAM.into()),
        }
    }

    /// Makes an instruction, or notes it for later.
    fn define(&mut self, v: Val, instr: &Instr) -> Result<()> {
        let lazy = match instr {
            Instr::Load { count, .. } => count.is_none(),
            Instr::Splat(_) => true,
            _ => false,
        };
        if lazy {
            self.env[v.0 as usize] = None;
            self.pending.push((v, instr.clone()));
            return Ok(());
        }
        let rep = self.instr(v, instr)?;
        self.env[v.0 as usize] = Some(rep);
        Ok(())
    }

    /// Makes everything still pending: control flow follows.
    fn flush(&mut self) -> Result<()> {
        self.flush_if(|_, _| true)?;
        self.settle(None)
    }

    /// Forgets what nothing asked for: its block ends.
    fn forget(&mut self) {
        self.pending.clear();
        self.elements.clear();
    }

    /// Loads for good the elements that a store to `buf` (anything, if none) may change.
    fn settle(&mut self, buf: Option<Buf>) -> Result<()> {
        for (v, from) in self.elements.clone() {
            if buf.is_none_or(|b| self.may_overlap(from, b)) {
                self.get(v)?;
            }
        }
        Ok(())
    }

    fn flush_if(&mut self, which: impl Fn(&Self, &Instr) -> bool) -> Result<()> {
        let vals: Vec<Val> = self.pending.iter().filter(|(_, i)| which(self, i)).map(|(v, _)| *v).collect();
        for v in vals {
            self.get(v)?;
        }
        Ok(())
    }

    /// The value `v`, made now if it is pending.
    fn get(&mut self, v: Val) -> Result<Rep> {
        if let Some(at) = self.pending.iter().position(|(p, _)| *p == v) {
            let (_, instr) = self.pending.remove(at);
            let rep = self.instr(v, &instr)?;
            self.env[v.0 as usize] = Some(rep);
        }
        let rep = self.env[v.0 as usize].clone();
        let rep = rep.ok_or_else(|| format!("value %{} is used before its definition", v.0))?;
        let Some(at) = rep.element else { return Ok(rep) };
        self.elements.retain(|(e, _)| *e != v);
        let x = self.load_scalar(rep.ty.dtype, at);
        let rep = self.splat(&Rep::scalar(rep.ty.dtype, x), rep.ty.lanes);
        self.env[v.0 as usize] = Some(rep.clone());
        Ok(rep)
    }

    /// The value `v` as a factor. A splat of a loaded element that fills one chunk stays in memory, to be loaded into a
    /// fresh register by each multiply-add: those overwrite a factor. With more chunks a copy of a register is cheaper.
    fn factor(&mut self, v: Val) -> Result<Rep> {
        if Rep::constant(self.kernel.ty(v), 0).count() > 1 {
            return self.get(v);
        }
        if let Some(rep) = self.env[v.0 as usize].as_ref().filter(|rep| rep.element.is_some()) {
            return Ok(rep.clone());
        }
        let pending = |e: &Self, v: Val| e.pending.iter().find(|(p, _)| *p == v).map(|(_, i)| i.clone());
        let Some(Instr::Splat(a)) = pending(self, v) else { return self.get(v) };
        let Some(Instr::Load { buf, index, offset, count: None }) = pending(self, a) else { return self.get(v) };
        self.pending.retain(|(p, _)| *p != v);
        let index = self.get(index)?;
        let at = self.address(buf, &index, offset);
        let rep = Rep { bits: None, element: Some(at), ..Rep::constant(self.kernel.ty(v), 0) };
        self.env[v.0 as usize] = Some(rep.clone());
        self.elements.push((v, buf));
        Ok(rep)
    }

    fn instr(&mut self, v: Val, instr: &Instr) -> Result<Rep> {
        let ty = self.kernel.ty(v);
        match instr {
            Instr::Const(c) => Ok(Rep::constant(ty, c.bits)),
            Instr::Tile => Ok(Rep::scalar(DType::I64, self.tile)),
            Instr::Dim(d) => Ok(Rep::scalar(DType::I64, self.dims[*d as usize])),
            Instr::Un(op, a) => {
                let a = self.get(*a)?;
                self.un(*op, &a)
            }
            Instr::Bin(op, a, b) => {
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                self.bin(*op, &a, &b)
            }
            Instr::Fma(a, b, c) => {
                let (a, b, c) = (self.factor(*a)?, self.factor(*b)?, self.get(*c)?);
                self.fma(&a, &b, &c)
            }
            Instr::Dot4(a, b, c) => {
                let (a, b, c) = (self.get(*a)?, self.get(*b)?, self.get(*c)?);
                Ok(self.dot4(&a, &b, &c))
            }
            Instr::Cmp(pred, a, b) => {
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                self.cmp(*pred, &a, &b)
            }
            Instr::Select(c, a, b) => {
                let (c, a, b) = (self.get(*c)?, self.get(*a)?, self.get(*b)?);
                self.select(&c, &a, &b)
            }
            Instr::Convert(a) => {
                let a = self.get(*a)?;
                self.convert(&a, ty.dtype)
            }
            Instr::Bitcast(a) => {
                let a = self.get(*a)?;
                Ok(self.reinterpret(&a, ty.dtype))
            }
            Instr::Splat(a) => {
                let a = self.get(*a)?;
                Ok(self.splat(&a, ty.lanes))
            }
            Instr::Iota(a) => {
                let a = self.get(*a)?;
                self.iota(&a, ty.lanes)
            }
            Instr::Extract(a, lane) => {
                let a = self.get(*a)?;
                Ok(self.extract(&a, *lane))
            }
            Instr::Slice(a, first) => {
                let a = self.get(*a)?;
                Ok(self.slice(&a, *first, ty.lanes))
            }
            Instr::Concat(a, b) => {
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                Ok(self.concat(&a, &b))
            }
            Instr::Permute(a, b, picks) => {
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                Ok(self.permute(&a, &b, picks))
            }
            Instr::Load { .. } | Instr::LoadStrided { .. } | Instr::Gather { .. } => self.load(ty, instr),
            Instr::Matrix(_) => Err(NO_MATRIX.into()),
            Instr::Team(_) => Err(NO_TEAM.into()),
        }
    }

    /// An i64 constant.
    fn int(&mut self, x: i64) -> Value { self.ins().iconst(types::I64, x) }

    /// A scalar i64 as one CLIF value.
    fn word(&mut self, v: Val) -> Result<Value> {
        let rep = self.get(v)?;
        Ok(self.chunk(&rep, 0))
    }

    /// `make`, or the value it made before in an open scope.
    fn memoize(&mut self, key: Key, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if let Some(&v) = self.memo.get(&key) {
            return v;
        }
        let v = make(self);
        self.memo.insert(key, v);
        self.scopes.last_mut().expect("a scope is open").push(key);
        v
    }

    /// Opens a scope: what is computed from here on does not dominate what follows [`Emitter::close`].
    fn open(&mut self) { self.scopes.push(Vec::new()); }

    fn close(&mut self) {
        for key in self.scopes.pop().expect("open and close are paired") {
            self.memo.remove(&key);
        }
    }
}

/// Values as arguments of a jump.
fn block_args(values: &[Value]) -> Vec<BlockArg> { values.iter().map(|&v| BlockArg::Value(v)).collect() }
