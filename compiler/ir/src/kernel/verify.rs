//! Checks that a kernel is well formed.
//!
//! - K1: every value is defined exactly once.
//! - K2: a value is used after its definition, in the block that defines it or one inside that.
//! - K3: buffers, dims and scratch lengths refer to ones that exist; alignments are powers of two.
//! - K4: values, parameters and scratch have an element type with [`DType::in_kernels`]; values have at least one lane.
//! - K5: a constant has its value's element type, and bits that fit it.
//! - K6: `tile` and `dim` are i64 scalars.
//! - K7: operands and result of arithmetic have equal types, and [`crate::scalar`] applies the operation to them.
//! - K8: compared operands have equal types; the result is bool with their lanes.
//! - K9: a `select` chooses between values of its type; the condition is bool, of one lane or of theirs.
//! - K10: a `convert` keeps the lanes; a `bitcast` keeps lanes and width and makes no bool.
//! - K11: `splat`, `iota`, `extract`, `slice`, `concat` and `permute` take and give as many lanes as they say.
//! - K12: indices, strides and counts are i64 scalars (the index of a `gather` an i64 vector with the result's lanes),
//!   and memory is accessed as its own element type.
//! - K13: loads read parameters that may be read, or scratch; stores write parameters that may be written, or scratch.
//! - K14: a loop counts i64 scalars by a positive step, unrolls at least once, and carries values that keep their type.
//! - K15: a branch tests a scalar bool, and each result has the type of its values from both sides.
//! - K16: a check tests a scalar bool; its code is not 0.
//! - K17: the name consists of letters, digits and `_`; buffers have different names, and so have dims. No buffer's
//!   name is a number.
//! - K18: a tile has at least one thread; what a team does, and shared scratch, needs more than one, a multiple of a
//!   warp's. Shared scratch has a constant length. Operands are those [`super::team`] describes.
//! - K19: a `dot4` adds to i32 lanes, which are its result's; its factors are 8-bit integers, four for each lane.
//! - K20: matrices are what [`super::matrix`] describes, made and used by its instructions, carried by loops and given by
//!   branches with their rows; factors are 8-bit, sums i32, and their shapes fit. They need one thread a tile.

use std::collections::HashSet;

use super::*;
use crate::scalar;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {message}")]
pub struct KernelError {
    /// Which: `K1` and so on, see the list above.
    pub rule: &'static str,
    /// What is wrong with what.
    pub message: String,
}

/// Checks a kernel; gives everything that is wrong with it.
pub fn verify(kernel: &Kernel) -> Result<(), Vec<KernelError>> {
    let count = kernel.values.len();
    let mut v = Verifier { kernel, errors: Vec::new(), defined: vec![false; count], visible: vec![false; count], matrices: vec![None; count] };
    v.header();
    v.values();
    // Types are looked up from here on, so that every reference must be one into the tables.
    if v.errors.is_empty() {
        v.block(&kernel.body, |_| {});
        v.all_defined();
    }
    if v.errors.is_empty() { Ok(()) } else { Err(v.errors) }
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    errors: Vec<KernelError>,
    /// Values defined so far, anywhere.
    defined: Vec<bool>,
    /// Values that may be used here.
    visible: Vec<bool>,
    /// Rows of the values that are matrices.
    matrices: Vec<Option<u32>>,
}

const I64: VType = VType { dtype: DType::I64, lanes: 1 };
const BOOL: VType = VType { dtype: DType::Bool, lanes: 1 };

impl Verifier<'_> {
    fn require(&mut self, holds: bool, rule: &'static str, message: impl FnOnce() -> String) {
        if !holds {
            self.errors.push(KernelError { rule, message: message() });
        }
    }

    fn header(&mut self) {
        let k = self.kernel;
        let plain = !k.name.is_empty() && k.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        self.require(plain, "K17", || format!("{:?} is no name for a kernel", k.name));
        let buffers = k.params.iter().map(|p| (&p.name, p.dtype)).chain(k.scratch.iter().map(|s| (&s.name, s.dtype)));
        let mut names = HashSet::new();
        for (name, dtype) in buffers {
            self.require(dtype.in_kernels(), "K4", || format!("buffer {name:?} has type {dtype}"));
            let is_number = name.bytes().all(|b| b.is_ascii_digit());
            self.require(!is_number, "K17", || format!("buffer {name:?} is named like a value"));
            self.require(names.insert(name), "K17", || format!("two buffers are named {name:?}"));
        }
        let team = k.threads > 1 && k.threads % WARP == 0;
        self.require(k.threads == 1 || team, "K18", || format!("{} threads run a tile", k.threads));
        for p in &k.params {
            let fits = p.align.is_power_of_two();
            self.require(fits, "K3", || format!("{:?} is aligned to {} bytes", p.name, p.align));
        }
        let mut names = HashSet::new();
        for name in &k.dims {
            self.require(names.insert(name), "K17", || format!("two dims are named {name:?}"));
        }
        for s in &k.scratch {
            let exists = match s.len {
                ScratchLen::Const(_) => true,
                ScratchLen::Dim(i) => (i as usize) < k.dims.len(),
            };
            let fits = s.space == Space::Private || (team && matches!(s.len, ScratchLen::Const(_)));
            self.require(fits, "K18", || format!("scratch {:?} cannot be shared", s.name));
            self.require(exists, "K3", || format!("scratch {:?} has the length of a dim that does not exist", s.name));
        }
    }

    fn values(&mut self) {
        for (i, ty) in self.kernel.values.iter().enumerate() {
            self.require(ty.dtype.in_kernels(), "K4", || format!("%{i} has type {}", ty.dtype));
            self.require(ty.lanes > 0, "K4", || format!("%{i} has no lanes"));
        }
    }

    fn all_defined(&mut self) {
        for i in 0..self.defined.len() {
            self.require(self.defined[i], "K1", || format!("%{i} is not defined"));
        }
    }

    /// Checks a block; `inside` runs where its values are still visible.
    fn block(&mut self, block: &Block, inside: impl FnOnce(&mut Self)) {
        let outside = self.visible.clone();
        for stmt in &block.0 {
            self.stmt(stmt);
        }
        inside(self);
        self.visible = outside;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(v, instr) => {
                let Some(ty) = self.type_of(*v, "K1") else { return };
                self.instr(*v, ty, instr);
                self.define(*v);
            }
            Stmt::Store { buf, index, offset: _, value, count } => {
                self.access(*buf, *value, false);
                self.expect(*index, I64, "K12", "an index");
                self.count(*count);
                self.used(*value);
            }
            Stmt::Prefetch { buf, index, offset: _ } => {
                let found = match *buf {
                    Buf::Param(i) => (i as usize) < self.kernel.params.len(),
                    Buf::Scratch(i) => (i as usize) < self.kernel.scratch.len(),
                };
                self.require(found, "K3", || format!("{buf:?} does not exist"));
                self.expect(*index, I64, "K12", "an index");
            }
            Stmt::MatrixStore(store) => self.matrix_store(store),
            Stmt::For(f) => self.for_loop(f),
            Stmt::If(i) => self.branch(i),
            Stmt::Check { cond, code } => {
                self.expect(*cond, BOOL, "K16", "what is checked");
                self.require(*code != 0, "K16", || "a check has code 0".into());
            }
            Stmt::Team(stmt) => self.team_stmt(stmt),
        }
    }

    /// The type of a value, if it exists.
    fn type_of(&mut self, v: Val, rule: &'static str) -> Option<VType> {
        let ty = self.kernel.values.get(v.0 as usize).copied();
        self.require(ty.is_some(), rule, || format!("%{} has no type", v.0));
        ty
    }

    fn define(&mut self, v: Val) {
        if self.type_of(v, "K1").is_none() {
            return;
        }
        let i = v.0 as usize;
        self.require(!self.defined[i], "K1", || format!("%{i} is defined twice"));
        self.defined[i] = true;
        self.visible[i] = true;
    }

    /// The type of a value that is used here as a vector.
    fn used(&mut self, v: Val) -> Option<VType> {
        let ty = self.used_any(v)?;
        self.require(self.rows_of(v).is_none(), "K20", || format!("%{}, a matrix, is used as a vector", v.0));
        Some(ty)
    }

    /// The type of a value that is used here.
    fn used_any(&mut self, v: Val) -> Option<VType> {
        let ty = self.type_of(v, "K2")?;
        let i = v.0 as usize;
        self.require(self.visible[i], "K2", || format!("%{i} is used where it is not defined"));
        Some(ty)
    }

    /// True if all of these values that exist have one type.
    fn same_type(&self, values: &[Val]) -> bool {
        let types: Vec<_> = values.iter().filter_map(|v| self.kernel.values.get(v.0 as usize)).collect();
        types.windows(2).all(|t| t[0] == t[1])
    }

    /// Checks the type of a value that is used here.
    fn expect(&mut self, v: Val, want: VType, rule: &'static str, what: &str) {
        let Some(ty) = self.used(v) else { return };
        self.require(ty == want, rule, || format!("%{}, {what}, is {ty}, not {want}", v.0));
    }

    fn count(&mut self, count: Option<Val>) {
        if let Some(count) = count {
            self.expect(count, I64, "K12", "a count");
        }
    }

    /// Checks a load into `value` or a store of it.
    fn access(&mut self, buf: Buf, value: Val, load: bool) {
        let k = self.kernel;
        let (found, allowed) = match buf {
            Buf::Param(i) => match k.params.get(i as usize) {
                Some(p) => (true, p.access != if load { Access::Write } else { Access::Read }),
                None => (false, true),
            },
            Buf::Scratch(i) => ((i as usize) < k.scratch.len(), true),
        };
        self.require(found, "K3", || format!("{buf:?} does not exist"));
        let verb = if load { "read" } else { "written" };
        self.require(allowed, "K13", || format!("{buf:?} may not be {verb}"));
        let Some(ty) = self.type_of(value, "K2").filter(|_| found) else { return };
        let dtype = k.buf_dtype(buf);
        self.require(ty.dtype == dtype, "K12", || format!("%{} of {} accesses memory of {dtype}", value.0, ty.dtype));
    }

    fn for_loop(&mut self, f: &For) {
        self.expect(f.lo, I64, "K14", "where a loop starts");
        self.expect(f.hi, I64, "K14", "where a loop ends");
        self.require(f.step > 0, "K14", || format!("a loop has step {}", f.step));
        self.require(f.hint != LoopHint::Unroll(0), "K14", || "a loop is unrolled 0 times".into());
        for c in &f.carried {
            self.used_any(c.init);
        }
        let outside = self.visible.clone();
        self.define(f.var);
        self.expect(f.var, I64, "K14", "a loop's counter");
        for c in &f.carried {
            self.define(c.phi);
            self.same_matrix(c.phi, c.init);
        }
        self.block(&f.body, |v| {
            for c in &f.carried {
                v.used_any(c.next);
            }
        });
        self.visible = outside;
        for c in &f.carried {
            self.define(c.result);
            let same = self.same_type(&[c.init, c.phi, c.next, c.result]);
            self.require(same, "K14", || format!("what %{} carries changes its type", c.phi.0));
            let same = self.rows_of(c.init) == self.rows_of(c.next);
            self.require(same, "K20", || format!("what %{} carries is not always the same kind of matrix", c.phi.0));
            self.same_matrix(c.result, c.init);
        }
    }

    fn branch(&mut self, i: &If) {
        self.expect(i.cond, BOOL, "K15", "a branch's condition");
        self.block(&i.then, |v| i.results.iter().for_each(|r| _ = v.used_any(r.1)));
        self.block(&i.els, |v| i.results.iter().for_each(|r| _ = v.used_any(r.2)));
        for &(result, then, els) in &i.results {
            self.define(result);
            let same = self.same_type(&[result, then, els]);
            self.require(same, "K15", || format!("%{} has not the type of both its values", result.0));
            let same = self.rows_of(then) == self.rows_of(els);
            self.require(same, "K20", || format!("%{} is not always the same kind of matrix", result.0));
            self.same_matrix(result, then);
        }
    }

    fn instr(&mut self, v: Val, ty: VType, instr: &Instr) {
        let id = v.0;
        match *instr {
            Instr::Const(c) => {
                self.require(c.dtype == ty.dtype, "K5", || format!("%{id} of {ty} is a constant of {}", c.dtype));
                let bits = if c.dtype == DType::Bool { 1 } else { c.dtype.bits() as u32 };
                let fits = c.bits.checked_shr(bits).unwrap_or(0) == 0;
                self.require(fits, "K5", || format!("%{id} has bits {:#x}, too many for {}", c.bits, c.dtype));
            }
            Instr::Tile => self.require(ty == I64, "K6", || format!("%{id}, the tile, is {ty}")),
            Instr::Dim(i) => {
                let exists = (i as usize) < self.kernel.dims.len();
                self.require(exists, "K3", || format!("%{id} is dim {i}, which does not exist"));
                self.require(ty == I64, "K6", || format!("%{id}, a dim, is {ty}"));
            }
            Instr::Un(op, a) => {
                self.expect(a, ty, "K7", "an operand");
                let applies = scalar::un(op, one(ty.dtype)).is_some();
                self.require(applies, "K7", || format!("%{id}: {} does not apply to {ty}", op.name()));
            }
            Instr::Bin(op, a, b) => {
                self.expect(a, ty, "K7", "an operand");
                self.expect(b, ty, "K7", "an operand");
                let applies = scalar::bin(op, one(ty.dtype), one(ty.dtype)).is_some();
                self.require(applies, "K7", || format!("%{id}: {} does not apply to {ty}", op.name()));
            }
            Instr::Fma(a, b, c) => {
                [a, b, c].into_iter().for_each(|x| self.expect(x, ty, "K7", "an operand"));
                let x = one(ty.dtype);
                let applies = scalar::fma(x, x, x).is_some();
                self.require(applies, "K7", || format!("%{id}: fma does not apply to {ty}"));
            }
            Instr::Dot4(a, b, c) => {
                self.expect(c, ty, "K19", "an addend");
                let (Some(a), Some(b)) = (self.used(a), self.used(b)) else { return };
                let bytes = [a, b].iter().all(|x| matches!(x.dtype, DType::I8 | DType::U8));
                let four = ty.lanes.checked_mul(4);
                let fits = ty.dtype == DType::I32 && bytes && [a, b].iter().all(|x| four == Some(x.lanes));
                self.require(fits, "K19", || format!("%{id} of {ty} is no sum of products of {a} and {b}"));
            }
            Instr::Cmp(_, a, b) => {
                let Some(operand) = self.used(a) else { return };
                self.expect(b, operand, "K8", "an operand");
                let want = operand.with(DType::Bool);
                self.require(ty == want, "K8", || format!("%{id}, a comparison of {operand}, is {ty}"));
            }
            Instr::Select(c, a, b) => {
                self.expect(a, ty, "K9", "a choice");
                self.expect(b, ty, "K9", "a choice");
                let Some(cond) = self.used(c) else { return };
                let fits = cond == BOOL || cond == ty.with(DType::Bool);
                self.require(fits, "K9", || format!("%{}, which selects {ty}, is {cond}", c.0));
            }
            Instr::Convert(a) => {
                let Some(from) = self.used(a) else { return };
                self.require(from.lanes == ty.lanes, "K10", || format!("%{id} converts {from} to {ty}"));
            }
            Instr::Bitcast(a) => {
                let Some(from) = self.used(a) else { return };
                let fits = from.lanes == ty.lanes && from.dtype.bits() == ty.dtype.bits();
                let fits = fits && (ty.dtype != DType::Bool || from.dtype == DType::Bool);
                self.require(fits, "K10", || format!("%{id} reinterprets {from} as {ty}"));
            }
            Instr::Splat(_) | Instr::Iota(_) | Instr::Extract(..) | Instr::Slice(..) | Instr::Concat(..) | Instr::Permute(..) => {
                self.shuffle(id, ty, instr);
            }
            Instr::Load { .. } | Instr::LoadStrided { .. } | Instr::Gather { .. } => self.load(v, ty, instr),
            Instr::Matrix(ref instr) => self.matrix_instr(v, ty, instr),
            Instr::Team(ref instr) => self.team_instr(id, ty, instr),
        }
    }

    fn shuffle(&mut self, id: u32, ty: VType, instr: &Instr) {
        let a = match *instr {
            Instr::Splat(a) | Instr::Iota(a) | Instr::Extract(a, _) | Instr::Slice(a, _) => a,
            Instr::Concat(a, _) | Instr::Permute(a, ..) => a,
            _ => unreachable!("called for these only"),
        };
        let Some(from) = self.used(a) else { return };
        let fits = match *instr {
            Instr::Splat(_) => from.lanes == 1,
            Instr::Iota(_) => from.lanes == 1 && from.dtype.is_int(),
            Instr::Extract(_, lane) => lane < from.lanes && ty.lanes == 1,
            Instr::Slice(_, first) => first.checked_add(ty.lanes).is_some_and(|end| end <= from.lanes),
            Instr::Concat(_, b) => {
                let Some(second) = self.used(b) else { return };
                second.dtype == from.dtype && from.lanes.checked_add(second.lanes) == Some(ty.lanes)
            }
            Instr::Permute(_, b, ref picks) => {
                let same = self.used(b) == Some(from) && picks.len() as u64 == u64::from(ty.lanes);
                same && picks.iter().all(|&p| u64::from(p) < 2 * u64::from(from.lanes))
            }
            _ => true,
        };
        self.require(fits && from.dtype == ty.dtype, "K11", || format!("%{id} makes {ty} out of {from}: {instr:?}"));
    }

    fn is_shared(&self, buf: Buf) -> bool {
        let Buf::Scratch(i) = buf else { return false };
        self.kernel.scratch.get(i as usize).is_some_and(|s| s.space == Space::Shared)
    }

    fn needs_team(&mut self) {
        self.require(self.kernel.threads > 1, "K18", || "a team's work in a kernel of one thread a tile".into());
    }

    fn team_instr(&mut self, id: u32, ty: VType, instr: &TeamInstr) {
        self.needs_team();
        let bad = || format!("%{id} of {ty} is not made by {instr:?}");
        match *instr {
            TeamInstr::Thread => self.require(ty == I64, "K18", bad),
            TeamInstr::Shuffle(lane, a) => {
                let (Lane::Xor(n) | Lane::Down(n) | Lane::Index(n)) = lane;
                self.expect(a, ty, "K18", "what is shuffled");
                self.require(ty.lanes == 1 && n < WARP, "K18", bad);
            }
            TeamInstr::Mma { a, b, c } => {
                self.expect(c, ty, "K18", "an addend");
                let (Some(a), Some(b)) = (self.used(a), self.used(b)) else { return };
                let integer = matches!(a.dtype, DType::I8 | DType::U8);
                let lanes = match a.dtype {
                    DType::F16 | DType::BF16 => 8,
                    DType::F32 => 4,
                    _ if integer => 16,
                    _ => 0,
                };
                let same = a.dtype == b.dtype || (integer && matches!(b.dtype, DType::I8 | DType::U8));
                let sum = VType::vector(if integer { DType::I32 } else { DType::F32 }, 4);
                let fits = lanes > 0 && a.lanes == lanes && b.lanes * 2 == lanes && same && ty == sum;
                self.require(fits, "K18", || format!("%{id} of {ty} is no product of {a} and {b}"));
            }
            TeamInstr::LoadMatrix { buf, index, transposed, .. } => {
                self.expect(index, I64, "K12", "an index");
                let shared = self.is_shared(buf);
                self.require(shared, "K18", || format!("%{id} reads matrices from {buf:?}, which is not shared"));
                if shared {
                    let size = ty.dtype.size() as u32;
                    let whole = matches!(ty.lanes * size, 4 | 8 | 16) && size <= 2 && (size == 2 || !transposed);
                    self.require(whole && self.kernel.buf_dtype(buf) == ty.dtype, "K18", bad);
                }
            }
        }
    }

    fn team_stmt(&mut self, stmt: &TeamStmt) {
        self.needs_team();
        let TeamStmt::CopyAsync { to, to_index, from, from_index, lanes, count, .. } = *stmt else { return };
        self.expect(to_index, I64, "K12", "an index");
        self.expect(from_index, I64, "K12", "an index");
        self.count(count);
        let shared = self.is_shared(to);
        self.require(shared, "K18", || format!("an asynchronous copy to {to:?}, which is not shared"));
        let source = match from {
            Buf::Param(i) => self.kernel.params.get(i as usize).filter(|p| p.access == Access::Read),
            Buf::Scratch(_) => None,
        };
        let bytes = source.map(|p| p.dtype.size() as u32 * lanes);
        self.require(bytes.is_some_and(|b| matches!(b, 4 | 8 | 16)), "K18", || format!("a copy of {lanes} elements of {from:?}"));
        let same = !shared || source.is_none_or(|p| p.dtype == self.kernel.buf_dtype(to));
        self.require(same, "K18", || "a copy changes the element type".into());
    }

    fn load(&mut self, v: Val, ty: VType, instr: &Instr) {
        match *instr {
            Instr::Load { buf, index, count, .. } => {
                self.access(buf, v, true);
                self.expect(index, I64, "K12", "an index");
                self.count(count);
            }
            Instr::LoadStrided { buf, index, stride, count, .. } => {
                self.access(buf, v, true);
                self.expect(index, I64, "K12", "an index");
                self.expect(stride, I64, "K12", "a stride");
                self.count(count);
            }
            Instr::Gather { buf, index, count, .. } => {
                self.access(buf, v, true);
                self.expect(index, ty.with(DType::I64), "K12", "the indices");
                self.count(count);
            }
            _ => unreachable!("called for loads only"),
        }
    }
}

/// A constant to try operations on.
fn one(dtype: DType) -> Const {
    Const::number(dtype, 1.0)
}

mod matrix;

#[cfg(test)]
mod tests;
