//! Kernel IR to LLVM IR text: the function around the tiles, loops, branches and names.
//!
//! Text rather than builder calls: it can be read next to the kernel it comes from, needs no unsafe code, and reading
//! it back takes a twentieth of compile time. What the emitter guarantees, whatever passes run later:
//! - no fast-math flag anywhere, and only `llvm.fma` fuses;
//! - no address is marked inbounds: an index may start outside of its buffer and come back by its offset;
//! - loops are rotated already (guard, body, test), so that no pass has to do it.

mod arith;
mod convert;
mod dot;
mod matrix;
mod memory;

use std::fmt::Display;
use std::fmt::Write as _;

use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::kernel::*;

/// Why a kernel made for a GPU cannot run here.
const NO_TEAM: &str = "a processor runs a tile with one thread";

/// What the emitter must know of the instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Isa {
    /// Fused multiply-add exists.
    pub fma: bool,
    /// Conversion between f16 and f32 exists.
    pub f16: bool,
    /// Masked loads and stores of 4- and 8-byte elements exist.
    pub masked: bool,
    /// They are as fast as whole ones, and masks are bits in a register (AVX-512).
    pub mask_bits: bool,
    /// They exist for 1- and 2-byte elements too.
    pub masked_bytes: bool,
    /// Preferred width of a vector in bits.
    pub vector_bits: u32,
    /// How 8-bit products are summed.
    pub dots: dot::Dots,
    /// Matrices fit in registers and are multiplied there.
    pub matrices: bool,
}

impl Isa {
    /// Reads the features of a target.
    pub(crate) fn of(target: &Target) -> Isa {
        let arm = target.arch == "aarch64";
        let avx512 = target.has("avx512f") && target.has("avx512vl");
        Isa {
            fma: arm || target.has("fma") || target.has("avx512f"),
            f16: arm || target.has("f16c") || target.has("avx512f"),
            masked: avx512 || target.has("avx2"),
            mask_bits: avx512,
            masked_bytes: avx512 && target.has("avx512bw"),
            vector_bits: target.vector_bytes * 8,
            dots: dot::Dots::of(target),
            matrices: matrix::exist(target),
        }
    }
}

/// Text of a module with the one function that runs `kernel`.
pub(crate) fn module(kernel: &Kernel, isa: &Isa, tune: &str) -> Result<String, String> {
    let mut e = Emitter::new(kernel, isa);
    e.function()?;
    let mut text = String::new();
    for note in &kernel.notes {
        let _ = writeln!(text, "; {}", note.replace('\n', " "));
    }
    let _ = writeln!(
        text,
        "define i64 @{}(ptr noundef nonnull %buffers, ptr noundef %dims, ptr noundef align 64 %scratch, \
         i64 noundef %begin, i64 noundef %end) #0 align 64 {{",
        kernel.name
    );
    text += &e.out;
    text += "}\n\n";
    let bits = isa.vector_bits;
    let _ = writeln!(
        text,
        "attributes #0 = {{ nounwind mustprogress willreturn nofree norecurse nosync \"no-builtins\" \
         \"tune-cpu\"=\"{tune}\" \"prefer-vector-width\"=\"{bits}\" \"min-legal-vector-width\"=\"{bits}\" }}"
    );
    for (i, node) in e.metadata.iter().enumerate() {
        let _ = writeln!(text, "!{i} = {node}");
    }
    Ok(text)
}

/// Metadata node 0: what a passing check looks like to block placement.
const LIKELY: &str = "!{!\"branch_weights\", i32 1048575, i32 1}";

/// State while one kernel is written.
struct Emitter<'a> {
    kernel: &'a Kernel,
    isa: &'a Isa,
    /// Text of the function's body so far.
    out: String,
    /// Number of temporaries and labels handed out.
    fresh: u32,
    /// Label of the block being filled.
    block: String,
    /// Operand text of each kernel value, empty before its definition.
    vals: Vec<String>,
    /// The constant a value is in every lane.
    known: Vec<Option<Const>>,
    /// True for floats that cannot be NaN.
    never_nan: Vec<bool>,
    /// True for matrices.
    matrices: Vec<bool>,
    /// Metadata nodes by number.
    metadata: Vec<String>,
    /// Per parameter, then per scratch buffer: text appended to each access.
    access: Vec<String>,
    /// Alike: text appended to each load, if nothing writes there while the kernel runs.
    constant_data: Vec<String>,
    /// Bytes of stack that partial loads and stores pass through.
    bounce: usize,
}

impl<'a> Emitter<'a> {
    fn new(kernel: &'a Kernel, isa: &'a Isa) -> Emitter<'a> {
        let n = kernel.values.len();
        let mut e = Emitter {
            kernel,
            isa,
            out: String::new(),
            fresh: 0,
            block: "entry".into(),
            vals: vec![String::new(); n],
            known: vec![None; n],
            never_nan: vec![false; n],
            matrices: vec![false; n],
            metadata: vec![LIKELY.into()],
            access: Vec::new(),
            constant_data: Vec::new(),
            bounce: 0,
        };
        e.alias_scopes();
        e
    }

    /// The whole function: bases and dims once, then the loop over tiles.
    fn function(&mut self) -> Result<(), String> {
        self.out += "entry:\n";
        self.bases();
        let entry = std::mem::take(&mut self.out);
        let body = &self.kernel.body;
        self.counted_loop(("%tile", "%begin", "%end", 1), &[], "unroll.disable", |e| e.stmts(body))?;
        self.line("ret i64 0");
        let body = std::mem::replace(&mut self.out, entry);
        if self.bounce > 0 {
            // One buffer serves all: each use is over before the next begins.
            self.out += &format!("  %bounce = alloca [{} x i8], align 16\n", self.bounce);
        }
        self.out += &body;
        Ok(())
    }

    /// Loads buffer pointers and dims, and lays out scratch memory.
    fn bases(&mut self) {
        let invariant = self.node("!{}");
        for i in 0..self.kernel.params.len() {
            self.line(format!("%p{i}.at = getelementptr inbounds ptr, ptr %buffers, i64 {i}"));
            self.line(format!("%p{i} = load ptr, ptr %p{i}.at, align 8, !invariant.load !{invariant}"));
        }
        for i in 0..self.kernel.dims.len() {
            self.line(format!("%d{i}.at = getelementptr inbounds i64, ptr %dims, i64 {i}"));
            self.line(format!("%d{i} = load i64, ptr %d{i}.at, align 8, !invariant.load !{invariant}"));
        }
        let mut start = String::from("0");
        for (i, s) in self.kernel.scratch.iter().enumerate() {
            let size = s.dtype.size();
            self.line(format!("%s{i} = getelementptr i8, ptr %scratch, i64 {start}"));
            let bytes = match s.len {
                ScratchLen::Const(n) => (n * size as u64).next_multiple_of(64).to_string(),
                ScratchLen::Dim(d) => {
                    let bytes = self.op(format!("mul i64 %d{d}, {size}"));
                    let bytes = self.op(format!("add i64 {bytes}, 63"));
                    self.op(format!("and i64 {bytes}, -64"))
                }
            };
            start = self.op(format!("add i64 {start}, {bytes}"));
        }
    }

    /// Tells LLVM which buffers cannot overlap: a scope for each that overlaps no other.
    fn alias_scopes(&mut self) {
        let domain = self.node("!{!\"buffers\"}");
        let params = self.kernel.params.iter().map(|p| p.noalias);
        let alone: Vec<bool> = params.chain(self.kernel.scratch.iter().map(|_| true)).collect();
        let mut scope = |(i, &alone): (usize, &bool)| alone.then(|| self.node(format!("!{{!\"b{i}\", !{domain}}}")));
        let scopes: Vec<Option<usize>> = alone.iter().enumerate().map(&mut scope).collect();
        let written_apart = self.kernel.params.iter().all(|p| p.access == Access::Read || p.noalias);
        let empty = self.node("!{}");
        for (i, own) in scopes.iter().enumerate() {
            let mut text = String::new();
            if let Some(own) = own {
                let list = self.node(format!("!{{!{own}}}"));
                let _ = write!(text, ", !alias.scope !{list}");
            }
            let others: Vec<String> =
                (0..scopes.len()).filter(|&j| j != i).filter_map(|j| scopes[j].map(|s| format!("!{s}"))).collect();
            if !others.is_empty() {
                let list = self.node(format!("!{{{}}}", others.join(", ")));
                let _ = write!(text, ", !noalias !{list}");
            }
            let constant = written_apart && self.kernel.params.get(i).is_some_and(|p| p.access == Access::Read);
            self.access.push(text);
            self.constant_data.push(if constant { format!(", !invariant.load !{empty}") } else { String::new() });
        }
    }

    fn stmts(&mut self, block: &Block) -> Result<(), String> {
        block.0.iter().try_for_each(|s| match s {
            Stmt::Let(v, instr) => self.instr(*v, instr),
            Stmt::Store { buf, index, offset, value, count } => self.store(*buf, (*index, *offset), *value, *count),
            Stmt::Prefetch { buf, index, offset } => {
                self.prefetch(*buf, (*index, *offset));
                Ok(())
            }
            Stmt::MatrixStore(store) => self.matrix_store(store),
            Stmt::For(f) => self.for_loop(f),
            Stmt::If(i) => self.branch(i),
            Stmt::Check { cond, code } => {
                self.check(*cond, *code);
                Ok(())
            }
            Stmt::Team(_) => Err(NO_TEAM.into()),
        })
    }

    fn for_loop(&mut self, f: &For) -> Result<(), String> {
        let hint = match f.hint {
            LoopHint::Plain => String::new(),
            LoopHint::Unroll(n) => format!("unroll.count {n}"),
        };
        let var = self.define(f.var);
        let (lo, hi) = (self.val(f.lo), self.val(f.hi));
        let carried: Vec<&Carried> = f.carried.iter().collect();
        for c in &f.carried {
            self.define(c.phi);
            self.define(c.result);
            self.same_matrix(c.phi, c.init);
            self.same_matrix(c.result, c.init);
        }
        self.counted_loop((&var, &lo, &hi, f.step), &carried, &hint, |e| e.stmts(&f.body))
    }

    /// `for var in (lo..hi).step_by(step)`: a guard, the body, a test at its end.
    fn counted_loop(
        &mut self,
        (var, lo, hi, step): (&str, &str, &str, i64),
        carried: &[&Carried],
        hint: &str,
        body: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let (head, exit) = (self.label("loop"), self.label("done"));
        let runs = matches!((lo.parse::<i64>(), hi.parse::<i64>()), (Ok(lo), Ok(hi)) if lo < hi);
        if runs {
            self.line(format!("br label %{head}"));
        } else {
            let any = self.op(format!("icmp slt i64 {lo}, {hi}"));
            self.line(format!("br i1 {any}, label %{head}, label %{exit}"));
        }
        let before = std::mem::take(&mut self.block);
        let outer = std::mem::take(&mut self.out);
        self.block.clone_from(&head);
        body(self)?;
        let next = self.op(format!("add nsw i64 {var}, {step}"));
        let again = self.op(format!("icmp slt i64 {next}, {hi}"));
        let id = self.loop_id(hint);
        self.line(format!("br i1 {again}, label %{head}, label %{exit}{id}"));
        let inner = std::mem::replace(&mut self.out, outer);
        let latch = self.block.clone();
        // The phis come first in the text, but their last operands are known only now.
        self.start(&head);
        self.line(format!("{var} = phi i64 [ {lo}, %{before} ], [ {next}, %{latch} ]"));
        for c in carried {
            let (phi, init, last) = (self.val(c.phi), self.val(c.init), self.val(c.next));
            let ty = self.ty(c.phi);
            self.line(format!("{phi} = phi {ty} [ {init}, %{before} ], [ {last}, %{latch} ]"));
        }
        self.out += &inner;
        self.start(&exit);
        for c in carried {
            let (result, init, last) = (self.val(c.result), self.val(c.init), self.val(c.next));
            let ty = self.ty(c.phi);
            let skipped = if runs { String::new() } else { format!("[ {init}, %{before} ], ") };
            self.line(format!("{result} = phi {ty} {skipped}[ {last}, %{latch} ]"));
        }
        Ok(())
    }

    /// Text that ties a loop's branch to its hint; empty without a hint.
    fn loop_id(&mut self, hint: &str) -> String {
        if hint.is_empty() {
            return String::new();
        }
        let (name, value) = hint.split_once(' ').unwrap_or((hint, ""));
        let value = if value.is_empty() { String::new() } else { format!(", i32 {value}") };
        let property = self.node(format!("!{{!\"llvm.loop.{name}\"{value}}}"));
        let id = self.metadata.len();
        self.node(format!("distinct !{{!{id}, !{property}}}"));
        format!(", !llvm.loop !{id}")
    }

    fn branch(&mut self, i: &If) -> Result<(), String> {
        let (then, els, join) = (self.label("then"), self.label("else"), self.label("join"));
        let cond = self.val(i.cond);
        self.line(format!("br i1 {cond}, label %{then}, label %{els}"));
        let mut ends = Vec::new();
        for (label, block) in [(&then, &i.then), (&els, &i.els)] {
            self.start(label);
            self.stmts(block)?;
            ends.push(self.block.clone());
            self.line(format!("br label %{join}"));
        }
        self.start(&join);
        for &(result, a, b) in &i.results {
            self.same_matrix(result, a);
            let (ty, a, b) = (self.ty(result), self.val(a), self.val(b));
            let name = self.define(result);
            self.line(format!("{name} = phi {ty} [ {a}, %{} ], [ {b}, %{} ]", ends[0], ends[1]));
        }
        Ok(())
    }

    fn check(&mut self, cond: Val, code: u32) {
        let (ok, failed) = (self.label("ok"), self.label("failed"));
        let cond = self.val(cond);
        self.line(format!("br i1 {cond}, label %{ok}, label %{failed}, !prof !0"));
        self.start(&failed);
        self.line(format!("ret i64 {code}"));
        self.start(&ok);
    }

    fn instr(&mut self, v: Val, instr: &Instr) -> Result<(), String> {
        let t = self.kernel.ty(v);
        if !t.dtype.in_kernels() || t.lanes == 0 {
            return Err(format!("value of type {} x{} is not a kernel value", t.dtype, t.lanes));
        }
        let text = match *instr {
            Instr::Const(c) => {
                self.known[v.0 as usize] = Some(c);
                self.never_nan[v.0 as usize] = !arith::is_nan(c);
                arith::constant(c, t.lanes)
            }
            Instr::Tile => "%tile".into(),
            Instr::Dim(i) => format!("%d{i}"),
            Instr::Un(op, a) => self.un(op, a)?,
            Instr::Bin(op, a, b) => self.bin(op, a, b)?,
            Instr::Fma(a, b, c) => self.fma(a, b, c)?,
            Instr::Dot4(a, b, c) => self.dot4(a, b, c),
            Instr::Cmp(pred, a, b) => self.cmp(pred, a, b),
            Instr::Select(c, a, b) => self.select(c, a, b),
            Instr::Convert(a) => {
                self.never_nan[v.0 as usize] = !self.kernel.ty(a).dtype.is_float() || self.nan_free(a);
                self.convert(a, t.dtype)
            }
            Instr::Bitcast(a) => self.bitcast(a, t.dtype),
            Instr::Splat(a) => {
                self.known[v.0 as usize] = self.known[a.0 as usize];
                self.never_nan[v.0 as usize] = self.nan_free(a);
                match self.known[a.0 as usize] {
                    Some(c) => arith::constant(c, t.lanes),
                    None => {
                        let a = self.val(a);
                        self.splat(&a, elem(t.dtype), t.lanes)
                    }
                }
            }
            Instr::Iota(a) => self.iota(a, t.lanes),
            Instr::Extract(a, lane) => self.slice(a, lane, 1),
            Instr::Slice(a, first) => self.slice(a, first, t.lanes),
            Instr::Concat(a, b) => self.concat(a, b),
            Instr::Permute(a, b, ref picks) => self.permute(a, b, picks),
            Instr::Load { buf, index, offset, count } => self.load(buf, (index, offset), t.lanes, count),
            Instr::LoadStrided { buf, index, offset, stride, count } => {
                self.load_strided(buf, (index, offset), stride, t.lanes, count)
            }
            Instr::Gather { buf, index, offset, count } => self.gather(buf, (index, offset), t.lanes, count),
            Instr::Matrix(ref instr) => self.matrix(v, instr)?,
            Instr::Team(_) => return Err(NO_TEAM.into()),
        };
        self.vals[v.0 as usize] = text;
        Ok(())
    }

    /// Operand text of a value.
    fn val(&self, v: Val) -> String { self.vals[v.0 as usize].clone() }

    /// Type text of a value.
    fn ty(&self, v: Val) -> String {
        if self.matrices[v.0 as usize] {
            return matrix::TYPE.into();
        }
        let t = self.kernel.ty(v);
        vector(elem(t.dtype), t.lanes)
    }

    /// True if no lane of the float `v` can be NaN.
    fn nan_free(&self, v: Val) -> bool { self.never_nan[v.0 as usize] }

    /// The integer a value is known to be in every lane.
    fn known_int(&self, v: Val) -> Option<i64> { self.known[v.0 as usize].map(Const::as_i64) }

    /// Gives a value a name of its own.
    fn define(&mut self, v: Val) -> String {
        let name = format!("%v{}", v.0);
        self.vals[v.0 as usize].clone_from(&name);
        name
    }

    /// Writes a line into the current block.
    fn line(&mut self, text: impl Display) { let _ = writeln!(self.out, "  {text}"); }

    /// Writes an instruction with a result and returns the result's name.
    fn op(&mut self, text: impl Display) -> String {
        self.fresh += 1;
        let name = format!("%t{}", self.fresh);
        let _ = writeln!(self.out, "  {name} = {text}");
        name
    }

    /// A new label.
    fn label(&mut self, stem: &str) -> String {
        self.fresh += 1;
        format!("{stem}{}", self.fresh)
    }

    /// Begins a block.
    fn start(&mut self, label: &str) {
        let _ = writeln!(self.out, "{label}:");
        self.block = label.into();
    }

    /// Adds a metadata node and returns its number.
    fn node(&mut self, text: impl Into<String>) -> usize {
        self.metadata.push(text.into());
        self.metadata.len() - 1
    }
}

/// LLVM type of one element in a register. The narrow floats are only stored and converted, so they are integers.
fn elem(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "double",
        DType::F32 => "float",
        DType::Bool => "i1",
        _ => memory_elem(dtype),
    }
}

/// LLVM type of one element in memory.
fn memory_elem(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "double",
        DType::F32 => "float",
        _ => int(dtype.bits()),
    }
}

/// Integer type of this width.
fn int(bits: usize) -> &'static str {
    match bits {
        8 => "i8",
        16 => "i16",
        32 => "i32",
        _ => "i64",
    }
}

/// `lanes` elements; one lane is a scalar.
fn vector(elem: &str, lanes: u32) -> String {
    if lanes == 1 { elem.into() } else { format!("<{lanes} x {elem}>") }
}

/// Suffix of an intrinsic's name for a type: `v16f32`, `i64`.
fn suffix(dtype: DType, lanes: u32) -> String {
    let elem = match dtype {
        DType::F64 => "f64",
        DType::F32 => "f32",
        _ => elem(dtype),
    };
    if lanes == 1 { elem.into() } else { format!("v{lanes}{elem}") }
}
