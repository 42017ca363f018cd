//! What importers build with: the program, the names in scope, and shorthands over the core ops.
//!
//! Small constants are folded as they are made, so that shapes computed from constants are constants.

mod arith;
mod known;
mod layout;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use xlac_ir::DType;
use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Constraint, Loc, Program, RegionId, ValueId};
use xlac_ir::kernel::Const;
use xlac_ir::op::EvalCx;
use xlac_ir::ops::{Bind, Dims, Op};
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;

use crate::ImportOptions;
use crate::external::External;
use crate::fail::{Res, bail};
use crate::import::Scope;
use crate::node::clean;

/// Constants of at most this many elements are folded, and known as dims.
pub const SMALL: usize = 1024;

/// The program being built and what is known about its values.
pub struct Builder<'m> {
    /// The program.
    pub program: Program,
    /// Region that ops are added to.
    pub region: RegionId,
    /// Origin of the ops that are added.
    pub loc: Loc,
    /// Messages that do not stop the import.
    pub warnings: Vec<Diagnostic>,
    /// Messages that do, once everything was looked at.
    pub errors: Vec<Diagnostic>,
    /// Limits and overrides.
    pub options: &'m ImportOptions,
    /// Imported version of each domain.
    pub opsets: HashMap<String, i64>,
    /// Names, innermost graph last.
    pub(crate) scopes: Vec<Scope<'m>>,
    /// Files of external tensors.
    pub(crate) external: External,
    /// Elements of integer values as dims.
    known: HashMap<ValueId, Rc<[Dim]>>,
    /// Values whose elements were bound to symbols, in order, so that leaving a region forgets them.
    bound: Vec<ValueId>,
    scalars: HashMap<Const, ValueId>,
    symbols: HashSet<String>,
    /// Number of If branches that are being built: what is assumed there holds only when they are taken.
    pub(crate) conditional: usize,
    guarded: HashSet<(RegionId, Dim, Dim, bool)>,
    /// Bool values that tell whether two dims are equal, which is not known at import.
    pub(crate) equalities: HashMap<ValueId, (Dim, Dim)>,
}

impl<'m> Builder<'m> {
    /// A builder of an empty program.
    pub fn new(name: &str, options: &'m ImportOptions, external: External) -> Builder<'m> {
        let mut program = Program::default();
        program.graph.name = clean(name);
        Builder {
            program,
            region: BODY,
            loc: Loc::default(),
            warnings: Vec::new(),
            errors: Vec::new(),
            options,
            opsets: HashMap::new(),
            scopes: Vec::new(),
            external,
            known: HashMap::new(),
            bound: Vec::new(),
            scalars: HashMap::new(),
            symbols: HashSet::new(),
            equalities: HashMap::new(),
            conditional: 0,
            guarded: HashSet::new(),
        }
    }

    /// Type of a value.
    pub fn ty(&self, v: ValueId) -> Type { self.program.graph.ty(v).clone() }
    /// Element type of a value.
    pub fn dtype(&self, v: ValueId) -> DType { self.program.graph.ty(v).dtype }
    /// Shape of a value.
    pub fn shape(&self, v: ValueId) -> Vec<Dim> { self.program.graph.ty(v).shape.clone() }
    /// Number of axes of a value.
    pub fn rank(&self, v: ValueId) -> usize { self.program.graph.ty(v).shape.len() }

    /// Adds an op with one result; of small constants, a constant.
    pub fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Res<ValueId> { Ok(self.ops(op, inputs)?[0]) }

    /// Adds an op; of small constants, constants.
    pub fn ops(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Res<Vec<ValueId>> {
        let op = op.into();
        let types: Vec<Type> = inputs.iter().map(|&v| self.ty(v)).collect();
        let results = op.infer(&types)?;
        for ty in &results {
            self.check_size(ty)?;
        }
        if let Some(folded) = self.fold(&op, inputs, &results) {
            return Ok(folded);
        }
        let node = self.program.graph.add_typed(self.region, op, inputs, Vec::new(), results, &self.loc);
        Ok(self.program.graph.node(node).outputs.clone())
    }

    /// Refuses tensors beyond the memory budget, and sizes that cannot be.
    pub fn check_size(&self, ty: &Type) -> Res<()> {
        let mut bytes = ty.dtype.bits().div_ceil(8) as u64;
        for dim in &ty.shape {
            let Some(size) = dim.as_const() else { continue };
            if size < 0 {
                bail!(BAD_SIZE, "the result would have shape {ty}, with a negative size");
            }
            // Sizes of zero must not hide others that are absurd.
            bytes = bytes.saturating_mul(size.max(1) as u64);
        }
        let budget = self.options.limits.tensor_bytes;
        if bytes > budget {
            bail!(MEMORY, "the result {ty} takes {bytes} bytes, more than the budget of {budget}");
        }
        Ok(())
    }

    fn fold(&mut self, op: &Op, inputs: &[ValueId], results: &[Type]) -> Option<Vec<ValueId>> {
        let foldable = !matches!(
            op,
            Op::Constant(_) | Op::Weight(_) | Op::Bind(_) | Op::If(_) | Op::Loop(_) | Op::NonZero(_) | Op::Rnn(_)
        );
        let small = |t: &Type| {
            let count = t.fixed_shape().and_then(|s| s.iter().try_fold(1usize, |a, &b| a.checked_mul(b)));
            t.dtype.in_kernels() && count.is_some_and(|c| c <= SMALL)
        };
        if !foldable || !results.iter().all(small) || inputs.iter().any(|&v| !small(self.program.graph.ty(v))) {
            return None;
        }
        let tensors: Vec<Tensor> = inputs.iter().map(|&v| self.tensor(v)).collect::<Option<_>>()?;
        // An error here is one of run time: left to the program, which may never come to it.
        let folded = op.eval(&tensors, &EvalCx { symbols: &|_| None }).ok()?;
        Some(folded.into_iter().map(|t| self.constant(t)).collect())
    }

    /// The elements of a value that is a constant or a weight.
    pub fn tensor(&self, v: ValueId) -> Option<Tensor> {
        match &self.program.graph.producer(v)?.op {
            Op::Constant(c) => Some(c.tensor()),
            Op::Weight(w) => Some(self.program.weights.get(w.id).tensor.clone()),
            _ => None,
        }
    }

    /// A constant. Lives in the body, so that every region can use it.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId { self.named_constant("const", tensor) }

    /// A constant; `name` is that of the weight it becomes if it is large.
    pub fn named_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let single = (tensor.shape.is_empty() && tensor.dtype.in_kernels()).then(|| tensor.get(0));
        if let Some(&v) = single.and_then(|c| self.scalars.get(&c)) {
            return v;
        }
        let Program { graph, weights } = &mut self.program;
        let v = graph.add_constant(weights, BODY, name, tensor, &self.loc);
        if let Some(c) = single {
            self.scalars.insert(c, v);
        }
        v
    }

    /// A scalar of an element type; integers saturate.
    pub fn scalar(&mut self, dtype: DType, x: f64) -> ValueId { self.constant(Tensor::scalar(Const::number(dtype, x))) }

    /// An i64 scalar.
    pub fn int(&mut self, x: i64) -> ValueId { self.constant(Tensor::scalar(Const::i64(x))) }

    /// An i64 vector.
    pub fn ints(&mut self, x: &[i64]) -> ValueId { self.constant(Tensor::from_i64(vec![x.len()], x)) }

    /// A symbol named like `hint`, and unlike every other.
    pub fn symbol(&mut self, hint: &str) -> Symbol {
        let hint = clean(hint);
        let hint = if hint.is_empty() { "s".to_string() } else { hint };
        let mut name = hint.clone();
        let mut number = 1;
        while !self.symbols.insert(name.clone()) {
            number += 1;
            name = format!("{hint}_{number}");
        }
        name.as_str().into()
    }

    /// The symbol of a `dim_param`: the same name is the same symbol.
    pub fn named_symbol(&mut self, name: &str) -> Symbol {
        let name = clean(name);
        self.symbols.insert(name.clone());
        name.as_str().into()
    }

    /// Records that two dims are equal; an error if they cannot be.
    pub fn equal(&mut self, left: &Dim, right: &Dim, why: &str) -> Res<()> {
        if left == right {
            return Ok(());
        }
        if let (Some(a), Some(b)) = (left.as_const(), right.as_const()) {
            bail!(DIM_CONFLICT, "{why}: {a} and {b} differ");
        }
        self.constrain(left, right, true, why)
    }

    /// Records that `left` is at most `right`; an error if it cannot be.
    pub fn at_most(&mut self, left: &Dim, right: &Dim, why: &str) -> Res<()> {
        match (left.as_const(), right.as_const()) {
            (Some(a), Some(b)) if a > b => bail!(DIM_CONFLICT, "{why}: {a} is larger than {b}"),
            (Some(_), Some(_)) => return Ok(()),
            // No tensor has an axis that long.
            (None, Some(b)) if b >= i64::from(i32::MAX) => return Ok(()),
            _ => {}
        }
        if (right - left).lower_bound().is_none_or(|x| x < 0) {
            self.constrain(left, right, false, why)?;
        }
        Ok(())
    }

    fn constrain(&mut self, left: &Dim, right: &Dim, equal: bool, why: &str) -> Res<()> {
        if self.conditional == 0 {
            self.push_constraint(left, right, equal, why);
            return Ok(());
        }
        // In a branch the dims are bound to symbols of its own, so that the check happens when the branch is taken.
        if !self.guarded.insert((self.region, left.clone(), right.clone(), equal)) {
            return Ok(());
        }
        let symbols = vec![self.symbol("left"), self.symbol("right")];
        let (l, r) = (Dim::sym(&symbols[0]), Dim::sym(&symbols[1]));
        let sides = self.op(Dims { dims: vec![left.clone(), right.clone()], scalar: false }, &[])?;
        self.ops(Bind { symbols }, &[sides])?;
        self.push_constraint(&l, &r, equal, why);
        Ok(())
    }

    fn push_constraint(&mut self, left: &Dim, right: &Dim, equal: bool, why: &str) {
        let node = self.loc.0.first().map_or(String::new(), |n| format!("`{n}`: "));
        let constraint = Constraint { left: left.clone(), right: right.clone(), equal, why: format!("{node}{why}") };
        let list = &mut self.program.graph.constraints;
        if !list.iter().rev().take(64).any(|c| c.left == constraint.left && c.right == constraint.right && c.equal == equal) {
            list.push(constraint);
        }
    }

    /// Runs `f` in a new region: what it adds goes there. Returns the region and its result.
    pub fn in_region<T>(&mut self, f: impl FnOnce(&mut Self, RegionId) -> Res<T>) -> Res<(RegionId, T)> {
        let region = self.program.graph.add_region();
        let outer = std::mem::replace(&mut self.region, region);
        let loc = self.loc.clone();
        let bound = self.bound.len();
        let result = f(self, region);
        for v in self.bound.drain(bound..) {
            self.known.remove(&v);
        }
        self.region = outer;
        self.loc = loc;
        Ok((region, result?))
    }

    /// Puts the ops that `f` adds into the body of the program, before the op whose region is being built.
    pub fn in_body<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        let region = std::mem::replace(&mut self.region, BODY);
        let result = f(self);
        self.region = region;
        result
    }
}
