//! Code generation's plan to the runtime's: dims become a table of expressions, weights offsets, kernels entry points.

use std::collections::{BTreeMap, HashMap};

use xlac_codegen::pack::Blob;
use xlac_codegen::plan as cg;
use xlac_ir::DType;
use xlac_ir::backend::{BlockShape, Image};
use xlac_ir::dim::{Atom, Dim, Symbol};
use xlac_ir::graph::Loc;
use xlac_ir::kernel::Access;
use xlac_runtime::plan as rt;

/// The blobs that some step reads, in the order of the plan.
pub fn used_blobs(plan: &cg::Plan) -> Vec<&Blob> {
    let used = UsedBuffers::of(plan);
    let mut wanted = vec![false; plan.blobs.len()];
    for (buffer, used) in plan.buffers.iter().zip(&used.0) {
        if let (cg::Storage::Blob(blob), true) = (&buffer.storage, used) {
            wanted[*blob as usize] = true;
        }
    }
    plan.blobs.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(blob, _)| blob).collect()
}

/// The runtime's plan. `image` says where the kernels are and how they are run, `offset` tells where a blob was written.
///
/// An error is a sentence for the user about something the runtime cannot express.
pub fn assemble(plan: &cg::Plan, image: &Image, offset: &dyn Fn(&Blob) -> u64) -> Result<rt::Plan, String> {
    let mut a = Assembler {
        plan,
        image,
        out: rt::Plan::default(),
        exprs: HashMap::new(),
        dims: HashMap::new(),
        symbols: HashMap::new(),
        kernels: HashMap::new(),
        buffers: Vec::new(),
    };
    a.declare_input_symbols();
    a.place_buffers(offset)?;
    a.out.inputs = a.decls(&plan.inputs)?;
    a.out.outputs = a.decls(&plan.outputs)?;
    a.out.arena_bytes = a.dim(&plan.arena);
    a.out.steps = a.steps(&plan.steps)?;
    a.constraints();
    Ok(a.out)
}

/// The element types that cross the runtime's boundary.
pub fn runtime_dtype(dtype: DType) -> Option<rt::DType> {
    Some(match dtype {
        DType::F64 => rt::DType::F64,
        DType::F32 => rt::DType::F32,
        DType::F16 => rt::DType::F16,
        DType::BF16 => rt::DType::BF16,
        DType::I64 => rt::DType::I64,
        DType::I32 => rt::DType::I32,
        DType::I16 => rt::DType::I16,
        DType::I8 => rt::DType::I8,
        DType::U64 => rt::DType::U64,
        DType::U32 => rt::DType::U32,
        DType::U16 => rt::DType::U16,
        DType::U8 => rt::DType::U8,
        DType::Bool => rt::DType::Bool,
        _ => return None,
    })
}

/// The inverse of [`runtime_dtype`].
pub fn ir_dtype(dtype: rt::DType) -> DType {
    match dtype {
        rt::DType::F64 => DType::F64,
        rt::DType::F32 => DType::F32,
        rt::DType::F16 => DType::F16,
        rt::DType::BF16 => DType::BF16,
        rt::DType::I64 => DType::I64,
        rt::DType::I32 => DType::I32,
        rt::DType::I16 => DType::I16,
        rt::DType::I8 => DType::I8,
        rt::DType::U64 => DType::U64,
        rt::DType::U32 => DType::U32,
        rt::DType::U16 => DType::U16,
        rt::DType::U8 => DType::U8,
        rt::DType::Bool => DType::Bool,
    }
}

/// The runtime's expressions as dims again, for showing and for choosing input shapes.
pub fn dims_of(plan: &rt::Plan) -> Vec<Dim> {
    let mut dims: Vec<Dim> = Vec::with_capacity(plan.exprs.len());
    for expr in &plan.exprs {
        let at = |id: rt::ExprId| &dims[id as usize];
        let dim = match *expr {
            rt::Expr::Const(c) => Dim::from(c),
            rt::Expr::Symbol(s) => Dim::sym(&plan.symbols[s as usize].name),
            rt::Expr::Add(a, b) => at(a) + at(b),
            rt::Expr::Mul(a, b) => at(a) * at(b),
            rt::Expr::FloorDiv(a, b) => at(a).floor_div(at(b)),
            rt::Expr::Mod(a, b) => at(a).rem(at(b)),
            rt::Expr::Min(a, b) => Dim::at_most(at(a), at(b)),
            rt::Expr::Max(a, b) => Dim::at_least(at(a), at(b)),
        };
        dims.push(dim);
    }
    dims
}

struct Assembler<'a> {
    plan: &'a cg::Plan,
    image: &'a Image,
    out: rt::Plan,
    exprs: HashMap<rt::Expr, rt::ExprId>,
    dims: HashMap<Dim, rt::ExprId>,
    symbols: HashMap<Symbol, rt::SymbolId>,
    kernels: HashMap<(usize, Loc), rt::KernelId>,
    /// The runtime's number of each buffer; none if nothing uses it.
    buffers: Vec<Option<rt::BufferId>>,
}

impl Assembler<'_> {
    /// Symbols that an axis of an input is exactly, so that the runtime can read them off.
    fn declare_input_symbols(&mut self) {
        for (input, io) in self.plan.inputs.iter().enumerate() {
            for (axis, dim) in io.ty.shape.iter().enumerate() {
                let Some(symbol) = dim.as_symbol() else { continue };
                if !self.symbols.contains_key(symbol) {
                    self.add_symbol(symbol, rt::SymbolSource::Input { input: input as u32, axis: axis as u32 });
                }
            }
        }
    }

    fn add_symbol(&mut self, symbol: &Symbol, source: rt::SymbolSource) -> rt::SymbolId {
        let known = self.plan.ranges.iter().find(|(s, ..)| s == symbol);
        let range = known.map_or((0, i64::MAX), |&(_, low, high)| (low.max(0), high));
        let id = self.out.symbols.len() as rt::SymbolId;
        self.out.symbols.push(rt::Symbol { name: symbol.to_string(), source, range });
        self.symbols.insert(symbol.clone(), id);
        id
    }

    fn symbol(&mut self, symbol: &Symbol) -> rt::SymbolId {
        match self.symbols.get(symbol) {
            Some(&id) => id,
            None => self.add_symbol(symbol, rt::SymbolSource::Step),
        }
    }

    fn expr(&mut self, expr: rt::Expr) -> rt::ExprId {
        let next = self.out.exprs.len() as rt::ExprId;
        let id = *self.exprs.entry(expr).or_insert(next);
        if id == next {
            self.out.exprs.push(expr);
        }
        id
    }

    /// The expression of a dim; what it is made of comes before it in the table.
    fn dim(&mut self, dim: &Dim) -> rt::ExprId {
        if let Some(&id) = self.dims.get(dim) {
            return id;
        }
        let (constant, terms) = dim.parts();
        let mut sum = None;
        for (coefficient, atoms) in terms {
            let term = self.term(coefficient, atoms);
            sum = Some(sum.map_or(term, |sum| self.expr(rt::Expr::Add(sum, term))));
        }
        let id = match (sum, constant) {
            (Some(sum), 0) => sum,
            (Some(sum), c) => {
                let c = self.expr(rt::Expr::Const(c));
                self.expr(rt::Expr::Add(sum, c))
            }
            (None, c) => self.expr(rt::Expr::Const(c)),
        };
        self.dims.insert(dim.clone(), id);
        id
    }

    fn term(&mut self, coefficient: i64, atoms: &[Atom]) -> rt::ExprId {
        let mut product = (coefficient != 1).then(|| self.expr(rt::Expr::Const(coefficient)));
        for atom in atoms {
            let factor = self.atom(atom);
            product = Some(product.map_or(factor, |product| self.expr(rt::Expr::Mul(product, factor))));
        }
        product.unwrap_or_else(|| self.expr(rt::Expr::Const(1)))
    }

    fn atom(&mut self, atom: &Atom) -> rt::ExprId {
        let expr = match atom {
            Atom::Sym(s) => rt::Expr::Symbol(self.symbol(s)),
            Atom::FloorDiv(a, b) => rt::Expr::FloorDiv(self.dim(a), self.dim(b)),
            Atom::Mod(a, b) => rt::Expr::Mod(self.dim(a), self.dim(b)),
            Atom::Min(a, b) => rt::Expr::Min(self.dim(a), self.dim(b)),
            Atom::Max(a, b) => rt::Expr::Max(self.dim(a), self.dim(b)),
        };
        self.expr(expr)
    }

    fn dim_list(&mut self, dims: &[Dim]) -> Vec<rt::ExprId> { dims.iter().map(|d| self.dim(d)).collect() }

    fn place_buffers(&mut self, offset: &dyn Fn(&Blob) -> u64) -> Result<(), String> {
        let used = UsedBuffers::of(self.plan);
        for (number, buffer) in self.plan.buffers.iter().enumerate() {
            if !used.0[number] {
                self.buffers.push(None);
                continue;
            }
            let storage = match &buffer.storage {
                cg::Storage::Arena(at) => rt::Storage::Arena(self.dim(at)),
                cg::Storage::Heap => rt::Storage::Heap,
                cg::Storage::Blob(blob) => rt::Storage::Weight(offset(&self.plan.blobs[*blob as usize])),
                cg::Storage::Input(i) => rt::Storage::Input(*i),
                cg::Storage::Output(i) => rt::Storage::Output(*i),
                cg::Storage::Temp => return Err(format!("buffer {number} was not placed in memory")),
            };
            let bytes = self.dim(&buffer.bytes);
            self.buffers.push(Some(self.out.buffers.len() as rt::BufferId));
            self.out.buffers.push(rt::Buffer { storage, bytes });
        }
        Ok(())
    }

    fn buffer(&self, id: cg::BufferId) -> rt::BufferId {
        self.buffers[id.0 as usize].expect("every buffer that a step names counts as used")
    }

    fn decls(&mut self, ios: &[cg::Io]) -> Result<Vec<rt::TensorDecl>, String> {
        let mut decls = Vec::with_capacity(ios.len());
        for io in ios {
            let dtype = runtime_dtype(io.ty.dtype)
                .ok_or_else(|| format!("`{}` has element type {}, which the runtime cannot pass", io.name, io.ty.dtype))?;
            let shape = self.dim_list(&io.ty.shape);
            decls.push(rt::TensorDecl { name: io.name.clone(), dtype, shape, buffer: self.buffer(io.buffer) });
        }
        Ok(decls)
    }

    fn constraints(&mut self) {
        for c in &self.plan.constraints {
            let (left, right) = (self.dim(&c.left), self.dim(&c.right));
            let relation = if c.equal { rt::Relation::Equal } else { rt::Relation::AtMost };
            self.out.constraints.push(rt::Constraint { left, right, relation, why: c.why.clone() });
        }
    }

    fn steps(&mut self, steps: &[cg::Step]) -> Result<Vec<rt::Step>, String> {
        steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &cg::Step) -> Result<rt::Step, String> {
        Ok(match step {
            cg::Step::Launch(launch) => rt::Step::Launch(self.launch(launch)),
            cg::Step::Copy { from, to, bytes } => {
                rt::Step::Copy { from: self.buffer(*from), to: self.buffer(*to), bytes: self.dim(bytes) }
            }
            cg::Step::Bind { symbol, from, index } => {
                rt::Step::Bind { symbol: self.symbol(symbol), from: self.buffer(*from), index: *index }
            }
            cg::Step::Set { symbol, value } => {
                rt::Step::Set { symbol: self.symbol(symbol), value: self.dim(value) }
            }
            cg::Step::Host(host) => rt::Step::Host(self.host(host)?),
            cg::Step::If { cond, then_steps, else_steps } => rt::Step::If {
                cond: self.buffer(*cond),
                then_steps: self.steps(then_steps)?,
                else_steps: self.steps(else_steps)?,
            },
            cg::Step::Loop { trips, cond, counter, symbol, body } => rt::Step::Loop {
                trips: trips.map(|b| self.buffer(b)),
                cond: cond.map(|b| self.buffer(b)),
                counter: self.buffer(*counter),
                symbol: self.symbol(symbol),
                body: self.steps(body)?,
            },
            cg::Step::Append { from, to, offset, bytes } => rt::Step::Append {
                from: self.buffer(*from),
                to: self.buffer(*to),
                offset: self.dim(offset),
                bytes: self.dim(bytes),
            },
        })
    }

    fn launch(&mut self, launch: &cg::Launch) -> rt::Launch {
        rt::Launch {
            kernel: self.kernel(launch.kernel, &launch.loc),
            tiles: self.dim(&launch.tiles),
            buffers: launch.buffers.iter().map(|(b, at)| (self.buffer(*b), self.dim(at))).collect(),
            dims: self.dim_list(&launch.dims),
            scratch: self.dim(if self.keeps_scratch(launch.kernel) { &launch.scratch } else { &Dim::ZERO }),
            tile_ns: self.dim(&launch.tile_ns),
            flops: self.dim(&launch.flops),
            traffic: self.dim(&launch.traffic),
        }
    }

    /// False if a GPU keeps all of a kernel's scratch memory on the chip.
    fn keeps_scratch(&self, kernel: usize) -> bool { self.image.blocks.get(kernel).is_none_or(|shape| shape.strided) }

    /// A kernel as launched for these nodes: code is shared, but errors and profiles name the nodes of the launch.
    fn kernel(&mut self, kernel: usize, loc: &Loc) -> rt::KernelId {
        let next = self.out.kernels.len() as rt::KernelId;
        let id = *self.kernels.entry((kernel, loc.clone())).or_insert(next);
        if id == next {
            let name = self.plan.kernels[kernel].name.clone();
            let (entry, block) = (self.image.entries[kernel], self.block(kernel));
            self.out.kernels.push(rt::Kernel { name, entry, nodes: nodes(loc), block });
        }
        id
    }

    /// How a GPU runs a kernel; none for processors.
    fn block(&self, kernel: usize) -> Option<rt::BlockShape> {
        let shape = self.image.blocks.get(kernel)?;
        let &BlockShape { threads, tiles, shared, strided } = shape;
        let written = self.plan.kernels[kernel].params.iter().take(64).map(|p| p.access != Access::Read);
        let writes = written.enumerate().fold(0, |bits, (i, written)| bits | u64::from(written) << i);
        Some(rt::BlockShape { threads, tiles, shared, strided, writes })
    }

    fn host(&mut self, host: &cg::Host) -> Result<rt::Host, String> {
        let routine = match &host.routine {
            cg::Routine::TopK { axis, largest } => rt::Routine::TopK { axis: *axis as u32, largest: *largest },
            cg::Routine::NonZero => rt::Routine::NonZero,
        };
        Ok(rt::Host {
            routine,
            inputs: self.operands(&host.inputs)?,
            outputs: self.operands(&host.outputs)?,
            binds: host.binds.iter().map(|s| self.symbol(s)).collect(),
            nodes: nodes(&host.loc),
        })
    }

    fn operands(&mut self, operands: &[cg::Operand]) -> Result<Vec<rt::Operand>, String> {
        let mut out = Vec::with_capacity(operands.len());
        for operand in operands {
            let dtype = runtime_dtype(operand.dtype)
                .ok_or_else(|| format!("a host routine cannot take elements of type {}", operand.dtype))?;
            let shape = self.dim_list(&operand.shape);
            out.push(rt::Operand { buffer: self.buffer(operand.buffer), dtype, shape });
        }
        Ok(out)
    }
}

fn nodes(loc: &Loc) -> Vec<String> { loc.0.iter().map(ToString::to_string).collect() }

/// For each buffer of a plan, whether a step, an input or an output uses it.
struct UsedBuffers(Vec<bool>);

impl UsedBuffers {
    fn of(plan: &cg::Plan) -> UsedBuffers {
        let mut used = UsedBuffers(vec![false; plan.buffers.len()]);
        plan.inputs.iter().chain(&plan.outputs).for_each(|io| used.mark(io.buffer));
        used.steps(&plan.steps);
        used
    }

    fn mark(&mut self, id: cg::BufferId) { self.0[id.0 as usize] = true; }

    fn steps(&mut self, steps: &[cg::Step]) {
        for step in steps {
            match step {
                cg::Step::Launch(launch) => launch.buffers.iter().for_each(|(b, _)| self.mark(*b)),
                cg::Step::Copy { from, to, .. } | cg::Step::Append { from, to, .. } => {
                    self.mark(*from);
                    self.mark(*to);
                }
                cg::Step::Bind { from, .. } => self.mark(*from),
                cg::Step::Set { .. } => {}
                cg::Step::Host(host) => host.inputs.iter().chain(&host.outputs).for_each(|o| self.mark(o.buffer)),
                cg::Step::If { cond, then_steps, else_steps } => {
                    self.mark(*cond);
                    self.steps(then_steps);
                    self.steps(else_steps);
                }
                cg::Step::Loop { trips, cond, counter, body, .. } => {
                    trips.iter().chain(cond).for_each(|b| self.mark(*b));
                    self.mark(*counter);
                    self.steps(body);
                }
            }
        }
    }
}

/// Offsets of blobs in the weights section, and which were written already by another variant.
#[derive(Default)]
pub struct BlobTable<'a> {
    list: Vec<(&'a Blob, u64)>,
    index: BTreeMap<(usize, u64), Vec<usize>>,
}

impl<'a> BlobTable<'a> {
    /// Where an equal blob was written, if one was.
    pub fn find(&self, blob: &Blob) -> Option<u64> {
        let candidates = self.index.get(&key(blob))?;
        candidates.iter().map(|&i| &self.list[i]).find(|(other, _)| *other == blob).map(|(_, at)| *at)
    }

    /// Remembers where a blob was written.
    pub fn insert(&mut self, blob: &'a Blob, offset: u64) {
        self.index.entry(key(blob)).or_default().push(self.list.len());
        self.list.push((blob, offset));
    }
}

/// A cheap key: comparing all blobs with each other would take quadratic time.
fn key(blob: &Blob) -> (usize, u64) {
    match &blob.source {
        xlac_codegen::pack::Source::Weight(id) => (0, u64::from(id.0)),
        xlac_codegen::pack::Source::Tensor(t) => (1, t.data.len() as u64),
    }
}
