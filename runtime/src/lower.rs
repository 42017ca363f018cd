//! Checks a plan's steps and makes them flat, in one walk.
//!
//! The walk knows at every point which run-time symbols are bound on every way there. A step may use only expressions
//! over those, so that the executor never meets a value that nobody has set.

use crate::check::{bad, check_buffer, check_expr};
use crate::error::Result;
use crate::expr::Dependencies;
use crate::plan::*;
use crate::program::{LaunchInfo, LoopInfo, Op, Program};

/// Deepest nesting of `If` and `Loop`; decoding has the same limit.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most operations of a flat program: a forged plan may have many constraints checked after each of many binds.
const MAX_OPS: usize = 1 << 24;

/// Flattens the steps of a plan whose tables are checked.
pub(crate) fn lower(plan: &Plan, dependencies: Dependencies) -> Result<Program> {
    let mut lowering = Lowering::new(plan, dependencies)?;
    lowering.steps(&plan.steps, 0)?;
    for output in &plan.outputs {
        for &dim in &output.shape {
            lowering.usable(dim, &output.name)?;
        }
        if output.shape.iter().all(|&dim| lowering.program.dependencies.is_static(dim)) {
            lowering.readable(output.buffer, &output.name)?;
        }
    }
    Ok(lowering.finish())
}

struct Lowering<'a> {
    plan: &'a Plan,
    program: Program,
    /// Run-time symbols bound on every way to this point.
    bound: Vec<bool>,
    /// Those of them that were bound since some outer point, in order: the undo log for branches.
    log: Vec<SymbolId>,
    /// For each symbol, the constraints that wait for it.
    constraints: Vec<Vec<u32>>,
}

impl<'a> Lowering<'a> {
    fn new(plan: &'a Plan, dependencies: Dependencies) -> Result<Lowering<'a>> {
        let mut constraints = vec![Vec::new(); plan.symbols.len()];
        let mut static_constraints = Vec::new();
        for (number, constraint) in plan.constraints.iter().enumerate() {
            let sides = [constraint.left, constraint.right];
            if sides.iter().all(|&side| dependencies.is_static(side)) {
                static_constraints.push(number as u32);
            }
            for &symbol in sides.iter().flat_map(|&side| dependencies.of(side)) {
                let waiting: &mut Vec<u32> = &mut constraints[symbol as usize];
                if waiting.last() != Some(&(number as u32)) {
                    waiting.push(number as u32);
                }
            }
        }
        let program = Program {
            dependencies,
            static_constraints,
            launches_of_symbol: vec![Vec::new(); plan.symbols.len()],
            args_of_buffer: vec![Vec::new(); plan.buffers.len()],
            ..Program::default()
        };
        Ok(Lowering { plan, program, bound: vec![false; plan.symbols.len()], log: Vec::new(), constraints })
    }

    fn finish(mut self) -> Program {
        self.program.swapped.sort_unstable();
        self.program.swapped.dedup();
        let chooses = self.program.ops.iter().any(|op| matches!(op, Op::Branch { .. } | Op::LoopStart(_)));
        self.program.has_fixed_work = !chooses && self.program.launches.iter().all(|launch| launch.is_static);
        self.program
    }

    fn steps(&mut self, steps: &[Step], depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return bad(format!("steps are nested more than {MAX_DEPTH} deep"));
        }
        steps.iter().try_for_each(|step| self.step(step, depth))
    }

    fn step(&mut self, step: &Step, depth: usize) -> Result<()> {
        match step {
            Step::Launch(launch) => self.launch(launch),
            Step::Copy { from, to, bytes } => {
                self.readable(*from, "a copy")?;
                self.writable(*to, "a copy")?;
                self.usable(*bytes, "a copy")?;
                self.push(Op::Copy { from: *from, to: *to, bytes: *bytes })
            }
            Step::Bind { symbol, from, index } => {
                self.readable(*from, "a bind")?;
                self.bindable(*symbol)?;
                self.push(Op::Bind { symbol: *symbol, from: *from, index: *index })?;
                self.bind(*symbol)
            }
            Step::Set { symbol, value } => {
                self.usable(*value, "a set")?;
                self.bindable(*symbol)?;
                self.push(Op::Set { symbol: *symbol, value: *value })?;
                self.bind(*symbol)
            }
            Step::Host(host) => self.host(host),
            Step::If { cond, then_steps, else_steps } => self.branch(*cond, then_steps, else_steps, depth),
            Step::Loop { trips, cond, counter, symbol, body } => {
                let info =
                    LoopInfo { trips: *trips, cond: *cond, counter: *counter, symbol: *symbol, test: 0, exit: 0 };
                self.repeat(info, body, depth)
            }
            Step::Swap { a, b } => self.swap(*a, *b),
            Step::Append { from, to, offset, bytes } => {
                self.readable(*from, "an append")?;
                check_buffer(self.plan, *to, "an append")?;
                if self.plan.buffers[*to as usize].storage != Storage::Heap {
                    return bad("an append to a buffer that is not on the heap");
                }
                self.usable(*offset, "an append")?;
                self.usable(*bytes, "an append")?;
                self.push(Op::Append { from: *from, to: *to, offset: *offset, bytes: *bytes })
            }
        }
    }

    fn push(&mut self, op: Op) -> Result<()> {
        if self.program.ops.len() >= MAX_OPS {
            return bad("there are too many steps");
        }
        self.program.ops.push(op);
        Ok(())
    }

    fn position(&self) -> u32 {
        self.program.ops.len() as u32
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let plan = self.plan;
        let Some(kernel) = plan.kernels.get(launch.kernel as usize) else {
            return bad(format!("a launch of kernel {} of {}", launch.kernel, plan.kernels.len()));
        };
        let mut used = vec![launch.tiles, launch.scratch, launch.tile_ns, launch.flops, launch.traffic];
        used.extend_from_slice(&launch.dims);
        for &(buffer, offset) in &launch.buffers {
            self.readable(buffer, &kernel.name)?;
            used.extend([offset, plan.buffers[buffer as usize].bytes]);
        }
        used.iter().try_for_each(|&id| self.usable(id, &kernel.name))?;

        let number = self.program.launches.len() as u32;
        let first_arg = self.program.launch_of_arg.len();
        let is_static = used.iter().all(|&id| self.program.dependencies.is_static(id));
        for (arg, &(buffer, _)) in launch.buffers.iter().enumerate() {
            self.program.args_of_buffer[buffer as usize].push((first_arg + arg) as u32);
            self.program.launch_of_arg.push(number);
        }
        for &id in &used {
            for &symbol in self.program.dependencies.of(id) {
                let launches = &mut self.program.launches_of_symbol[symbol as usize];
                if launches.last() != Some(&number) {
                    launches.push(number);
                }
            }
        }
        self.program.launches.push(LaunchInfo {
            kernel: launch.kernel,
            tiles: launch.tiles,
            scratch: launch.scratch,
            tile_ns: launch.tile_ns,
            flops: launch.flops,
            traffic: launch.traffic,
            buffers: launch.buffers.clone(),
            first_arg,
            dims: launch.dims.clone(),
            first_dim: self.program.dims,
            is_static,
        });
        self.program.dims += launch.dims.len();
        self.push(Op::Launch(number))
    }

    fn host(&mut self, host: &Host) -> Result<()> {
        crate::host::check(host)?;
        for operand in &host.inputs {
            self.readable(operand.buffer, "a host routine")?;
            operand.shape.iter().try_for_each(|&dim| self.usable(dim, "a host routine"))?;
        }
        for operand in &host.outputs {
            self.assignable(operand.buffer, "a host routine")?;
        }
        host.binds.iter().try_for_each(|&symbol| self.bindable(symbol))?;
        let number = self.program.hosts.len() as u32;
        self.program.hosts.push(host.clone());
        self.push(Op::Host(number))?;
        host.binds.iter().try_for_each(|&symbol| self.bind(symbol))?;
        for operand in &host.outputs {
            self.writable(operand.buffer, "a host routine")?;
            operand.shape.iter().try_for_each(|&dim| self.usable(dim, "a host routine"))?;
        }
        Ok(())
    }

    fn branch(&mut self, cond: BufferId, then_steps: &[Step], else_steps: &[Step], depth: usize) -> Result<()> {
        self.readable(cond, "an if")?;
        let branch = self.position() as usize;
        self.push(Op::Branch { cond, otherwise: 0 })?;
        let mark = self.log.len();
        self.steps(then_steps, depth + 1)?;
        let bound_by_then = self.undo(mark);
        let jump = self.position() as usize;
        self.push(Op::Jump(0))?;
        self.program.ops[branch] = Op::Branch { cond, otherwise: self.position() };
        self.steps(else_steps, depth + 1)?;
        let bound_by_else = self.undo(mark);
        self.program.ops[jump] = Op::Jump(self.position());
        let mut in_both = bound_by_then;
        in_both.sort_unstable();
        for symbol in bound_by_else {
            if in_both.binary_search(&symbol).is_ok() {
                self.mark(symbol);
            }
        }
        Ok(())
    }

    fn repeat(&mut self, mut info: LoopInfo, body: &[Step], depth: usize) -> Result<()> {
        for buffer in [info.trips, info.cond].into_iter().flatten() {
            self.readable(buffer, "a loop")?;
        }
        self.writable(info.counter, "a loop")?;
        self.bindable(info.symbol)?;
        let number = self.program.loops.len() as u32;
        self.program.loops.push(info);
        self.push(Op::LoopStart(number))?;
        info.test = self.position();
        self.push(Op::LoopTest(number))?;
        self.bind(info.symbol)?;
        let mark = self.log.len();
        self.steps(body, depth + 1)?;
        self.undo(mark);
        self.push(Op::LoopNext(number))?;
        info.exit = self.position();
        self.program.loops[number as usize] = info;
        Ok(())
    }

    fn swap(&mut self, a: BufferId, b: BufferId) -> Result<()> {
        check_buffer(self.plan, a, "a swap")?;
        check_buffer(self.plan, b, "a swap")?;
        let storages = [a, b].map(|buffer| self.plan.buffers[buffer as usize].storage);
        match storages {
            [Storage::Heap, Storage::Heap] => {}
            [Storage::Arena(_), Storage::Arena(_)] => {
                self.readable(a, "a swap")?;
                self.readable(b, "a swap")?;
            }
            _ => return bad("a swap of buffers that are not both in the arena or both on the heap"),
        }
        self.program.swapped.extend([a, b]);
        self.push(Op::Swap { a, b })
    }

    /// The expression exists and all its run-time symbols are bound.
    fn usable(&self, id: ExprId, what: &str) -> Result<()> {
        check_expr(self.plan, id, what)?;
        match self.program.dependencies.of(id).iter().find(|&&symbol| !self.bound[symbol as usize]) {
            Some(&symbol) => {
                bad(format!("{what} uses `{}` before it is bound", self.plan.symbols[symbol as usize].name))
            }
            None => Ok(()),
        }
    }

    /// The buffer exists and its size is known.
    fn readable(&self, buffer: BufferId, what: &str) -> Result<()> {
        check_buffer(self.plan, buffer, what)?;
        self.usable(self.plan.buffers[buffer as usize].bytes, what)
    }

    /// The buffer exists, and steps may write it.
    fn assignable(&self, buffer: BufferId, what: &str) -> Result<()> {
        check_buffer(self.plan, buffer, what)?;
        match self.plan.buffers[buffer as usize].storage {
            Storage::Weight(_) | Storage::Input(_) => bad(format!("{what} writes to an input or a weight")),
            Storage::Arena(_) | Storage::Heap | Storage::Output(_) => Ok(()),
        }
    }

    fn writable(&self, buffer: BufferId, what: &str) -> Result<()> {
        self.assignable(buffer, what)?;
        self.readable(buffer, what)
    }

    fn bindable(&self, symbol: SymbolId) -> Result<()> {
        match self.plan.symbols.get(symbol as usize) {
            None => bad(format!("a step binds symbol {symbol} of {}", self.plan.symbols.len())),
            Some(known) if known.source != SymbolSource::Step => {
                bad(format!("a step binds `{}`, which the inputs bind", known.name))
            }
            Some(_) => Ok(()),
        }
    }

    fn mark(&mut self, symbol: SymbolId) {
        if !std::mem::replace(&mut self.bound[symbol as usize], true) {
            self.log.push(symbol);
        }
    }

    /// Notes that `symbol` is bound, and has the constraints checked that are complete with it.
    fn bind(&mut self, symbol: SymbolId) -> Result<()> {
        self.mark(symbol);
        for position in 0..self.constraints[symbol as usize].len() {
            let number = self.constraints[symbol as usize][position];
            let constraint = &self.plan.constraints[number as usize];
            let sides = [constraint.left, constraint.right];
            let mut needed = sides.iter().flat_map(|&side| self.program.dependencies.of(side));
            if needed.all(|&symbol| self.bound[symbol as usize]) {
                self.push(Op::Check(number))?;
            }
        }
        Ok(())
    }

    /// Forgets what was bound since `mark` and tells what that was.
    fn undo(&mut self, mark: usize) -> Vec<SymbolId> {
        let undone = self.log.split_off(mark);
        for &symbol in &undone {
            self.bound[symbol as usize] = false;
        }
        undone
    }
}
