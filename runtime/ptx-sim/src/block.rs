//! One block: its warps, who runs next, and how warps split and join.

use std::cell::RefCell;
use std::rc::Rc;

use crate::barrier::{self, BARRIERS, BarrierState};
use crate::exec::{self, Env, Fragment, Site, State, Warp, copy, warp};
use crate::fault::{Fault, FaultKind, Stop, source_line, stop};
use crate::fragments::{active_lanes, gather, merge_ready, pick, split_rest};
use crate::instr::{Instr, Op};
use crate::memory::Memory;
use crate::module::Kernel;
use crate::race::{GlobalShadow, Races};
use crate::random::Random;
use crate::regs::{FULL, Init, LANES, Special, lanes};
use crate::schedule::{Launch, Options};
use crate::types::SHARED_BASE;

/// Warp instructions that a warp of an ordered run executes before others have their turn.
const TURN: u64 = 1 << 13;
/// Warp instructions of a block before other blocks have their turn, ordered and adversarial.
const SLICE: u64 = 1 << 16;
const SHORT_SLICE: u64 = 1 << 9;

/// One block of a launch, reused for the next one when it is done.
pub(crate) struct Block<'a> {
    pub env: Env<'a>,
    warps: Vec<Warp>,
    barriers: Vec<BarrierState>,
    shape: [u32; 3],
    grid: [u32; 3],
    index: [u32; 3],
    live: u32,
    fresh: bool,
    /// The processor has AVX2 and fused multiply-add.
    wide: bool,
    pub warp_instructions: u64,
    pub instructions: u64,
}

/// How a turn of a fragment ended.
enum Turn {
    /// Someone else must run: it waits, exited or met another fragment.
    Over,
    /// It could go on.
    Preempted,
}

impl<'a> Block<'a> {
    pub fn new(
        kernel: &'a Kernel,
        launch: &Launch<'a>,
        memory: &'a Memory,
        options: &Options,
        shadow: &Rc<RefCell<GlobalShadow>>,
    ) -> Block<'a> {
        let threads = launch.block.iter().product::<u32>() as usize;
        let shared = launch.shared_bytes(kernel);
        let late = options.seed.is_some() || options.races;
        let races = options
            .races
            .then(|| Box::new(Races::new(kernel, launch.block, shared, shadow.clone(), options.uninitialized_global)));
        let make_warp = |index| Warp {
            index,
            regs: kernel.make_regs(),
            live: 0,
            waited: 0,
            copies: copy::Copies::default(),
            fragments: Vec::new(),
        };
        let env = Env {
            kernel,
            memory,
            params: launch.params,
            shared: vec![0xff; shared],
            local: vec![0xff; threads * kernel.local_bytes],
            check_defined: options.uninitialized_global && memory.is_tracked(),
            dependent: options.dependent,
            late,
            pending: vec![0; if late { shared.div_ceil(4) } else { 0 }],
            pending_words: 0,
            races,
            random: None,
            hints: vec![u32::MAX; kernel.code.len()],
            mma: 0,
            barriers: 0,
        };
        Block {
            env,
            warps: (0..threads.div_ceil(LANES)).map(make_warp).collect(),
            barriers: Vec::new(),
            shape: launch.block,
            grid: launch.grid,
            index: [0; 3],
            live: 0,
            fresh: true,
            wide: has_wide_vectors(),
            warp_instructions: 0,
            instructions: 0,
        }
    }

    /// Starts block number `number` of the grid.
    pub fn start(&mut self, number: u64, seed: Option<u64>) {
        let [x, y, _] = self.grid.map(u64::from);
        self.index = [number % x, number / x % y, number / x / y].map(|i| i as u32);
        let fresh = std::mem::take(&mut self.fresh);
        self.live = self.shape.iter().product();
        self.barriers.clear();
        self.barriers.resize_with(BARRIERS, BarrierState::default);
        let env = &mut self.env;
        env.random = seed.map(|seed| Random::new(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)));
        env.pending.fill(0);
        env.pending_words = 0;
        if !fresh {
            env.shared.fill(0xff);
            env.local.fill(0xff);
        }
        if let Some(races) = &mut env.races {
            races.reset(number as u32);
        }
        for index in 0..self.warps.len() {
            self.start_warp(index, fresh);
        }
    }

    fn start_warp(&mut self, index: usize, fresh: bool) {
        let lanes = (self.live as usize - index * LANES).min(LANES);
        let mask = (u64::MAX >> (64 - lanes)) as u32;
        let warp = &mut self.warps[index];
        warp.live = mask;
        warp.waited = 0;
        warp.copies.clear();
        warp.fragments.clear();
        warp.fragments.push(Fragment { pc: 0, mask, state: State::Ready });
        warp.regs.clear();
        for (reg, init) in &self.env.kernel.inits {
            if fresh || matches!(init, Init::Special(Special::Ctaid(_))) {
                let row = std::array::from_fn(|lane| self.initial(*init, index, lane));
                self.warps[index].regs.set_row(*reg, FULL, &row);
            } else {
                self.warps[index].regs.define(*reg, FULL);
            }
        }
    }

    fn initial(&self, init: Init, warp: usize, lane: usize) -> u64 {
        let kernel = self.env.kernel;
        let special = match init {
            Init::Const(value) => return value,
            Init::Dynamic(offset) => return (SHARED_BASE + kernel.dynamic_offset as u64).wrapping_add(offset),
            Init::Special(special) => special,
        };
        let bit = 1u64 << lane;
        match special {
            Special::Tid(axis) => u64::from(self.thread_index((warp * LANES + lane) as u32)[axis as usize]),
            Special::Ntid(axis) => u64::from(self.shape[axis as usize]),
            Special::Ctaid(axis) => u64::from(self.index[axis as usize]),
            Special::Nctaid(axis) => u64::from(self.grid[axis as usize]),
            Special::Lane => lane as u64,
            Special::Warp => warp as u64,
            Special::Warps => self.warps.len() as u64,
            Special::LanesEq => bit,
            Special::LanesLt => bit - 1,
            Special::LanesLe => bit | (bit - 1),
            Special::LanesGt => !(bit | (bit - 1)) & 0xffff_ffff,
            Special::LanesGe => !(bit - 1) & 0xffff_ffff,
            Special::DynamicShared => (self.env.shared.len() - kernel.dynamic_offset.min(self.env.shared.len())) as u64,
            Special::TotalShared => self.env.shared.len() as u64,
            Special::Zero => 0,
        }
    }

    fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.shape;
        [thread % x, thread / x % y, thread / x / y]
    }

    /// Runs for a while; true if the block is finished.
    pub fn run(&mut self) -> Result<bool, Box<Fault>> {
        let slice = if self.env.random.is_some() { SHORT_SLICE } else { SLICE };
        let end = self.warp_instructions + slice;
        while self.live > 0 && self.warp_instructions < end {
            let ran = if self.env.random.is_some() { self.random_turn()? } else { self.ordered_turns()? };
            if !ran && self.live > 0 {
                return Err(self.deadlock());
            }
        }
        Ok(self.live == 0)
    }

    /// One turn for each warp in order; false if none could run.
    fn ordered_turns(&mut self) -> Result<bool, Box<Fault>> {
        let mut ran = false;
        for w in 0..self.warps.len() {
            let end = self.warp_instructions + TURN;
            let mut preempted = false;
            while self.warp_instructions < end {
                let Some((f, limit)) = pick(&mut self.warps[w], preempted) else { break };
                let budget = end - self.warp_instructions;
                ran = true;
                // A fragment that spins must not keep the others of its warp from running.
                preempted = matches!(self.turn(w, f, limit, budget.min(TURN / 4))?, Turn::Preempted);
            }
        }
        Ok(ran)
    }

    /// A turn of random length for a random fragment; false if none could run.
    fn random_turn(&mut self) -> Result<bool, Box<Fault>> {
        let mut ready = Vec::with_capacity(64);
        for (w, warp) in self.warps.iter_mut().enumerate() {
            warp.fragments.retain(|f| f.mask != 0);
            let runs = warp.fragments.iter().enumerate().filter(|(_, f)| f.state == State::Ready);
            ready.extend(runs.map(|(f, _)| (w, f)));
        }
        let Some(random) = &mut self.env.random else { return Ok(false) };
        if ready.is_empty() {
            return Ok(false);
        }
        let (w, f) = ready[random.below(ready.len())];
        let longest = 1 << random.below(10);
        let budget = 1 + random.below(longest) as u64;
        // Now and then a warp loses its convergence for no reason, as the device is free to do.
        let split = if random.one_in(16) { random.next() as u32 } else { 0 };
        let join = random.one_in(2);
        let warp = &mut self.warps[w];
        let fragment = warp.fragments[f];
        if fragment.mask & split != 0 && fragment.mask & !split != 0 {
            warp.fragments[f].mask &= !split;
            warp.fragments.push(Fragment { mask: fragment.mask & split, ..fragment });
        } else if join {
            merge_ready(warp, f);
        }
        let f = self.warps[w].fragments.iter().position(|x| x.pc == fragment.pc && x.state == State::Ready);
        if let Some(f) = f {
            self.turn(w, f, u32::MAX, budget)?;
        }
        Ok(true)
    }

    /// Runs fragment `f` of warp `w` until it reaches `limit`, has to wait, or has used its budget.
    fn turn(&mut self, w: usize, f: usize, limit: u32, budget: u64) -> Result<Turn, Box<Fault>> {
        let before = self.warp_instructions;
        let mut pc = self.warps[w].fragments[f].pc;
        self.steps(w, f, limit, before + budget, &mut pc).map_err(|problem| self.fault(w, pc, *problem))
    }

    /// [`Block::step_loop`], compiled for this machine's vectors where it has them: twice to eight times as fast.
    fn steps(&mut self, w: usize, f: usize, limit: u32, end: u64, at: &mut u32) -> Result<Turn, Stop> {
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: `wide` says that the processor has these features.
            #[allow(unsafe_code)]
            return unsafe { self.wide_steps(w, f, limit, end, at) };
        }
        self.step_loop(w, f, limit, end, at)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn wide_steps(&mut self, w: usize, f: usize, limit: u32, end: u64, at: &mut u32) -> Result<Turn, Stop> {
        self.step_loop(w, f, limit, end, at)
    }

    #[inline(always)]
    fn step_loop(&mut self, w: usize, f: usize, limit: u32, end: u64, at: &mut u32) -> Result<Turn, Stop> {
        let kernel = self.env.kernel;
        let mut mask = self.warps[w].fragments[f].mask;
        let mut pc = *at;
        while self.warp_instructions < end {
            *at = pc;
            let instr = &kernel.code[pc as usize];
            let warp = &mut self.warps[w];
            let active = active_lanes(warp, instr, mask)?;
            self.warp_instructions += 1;
            self.instructions += u64::from(active.count_ones());
            match &instr.op {
                Op::Branch { target } if active == mask => pc = *target,
                Op::Branch { .. } if active == 0 => pc += 1,
                Op::Branch { target } => {
                    warp.fragments[f] = Fragment { pc: pc + 1, mask: mask & !active, state: State::Ready };
                    warp.fragments.push(Fragment { pc: *target, mask: active, state: State::Ready });
                    return Ok(Turn::Over);
                }
                Op::BranchTable { .. } | Op::Exit | Op::Barrier(_) | Op::Warp(_) => {
                    if active == 0 {
                        pc += 1;
                    } else {
                        warp.fragments[f].pc = pc;
                        match self.control(w, f, instr, active)? {
                            Some(next) => pc = next,
                            None => return Ok(Turn::Over),
                        }
                        mask = self.warps[w].fragments[f].mask;
                    }
                }
                Op::Mma(_) | Op::LoadMatrix(_) if active != FULL && active != 0 => {
                    warp.fragments[f].pc = pc;
                    if !gather(warp, f, active, FULL)? {
                        return Ok(Turn::Over);
                    }
                    mask = FULL;
                    continue;
                }
                op => {
                    if active != 0 {
                        let site = Site { pc: pc as usize, line: instr.line };
                        exec::execute(&mut self.env, warp, op, active, site)?;
                    }
                    pc += 1;
                }
            }
            if pc >= limit {
                self.warps[w].fragments[f].pc = pc;
                return Ok(Turn::Over);
            }
        }
        self.warps[w].fragments[f].pc = pc;
        Ok(Turn::Preempted)
    }

    /// Instructions that wait or end threads. The next instruction of the same fragment, or `None` if another one
    /// must be picked.
    fn control(&mut self, w: usize, f: usize, instr: &Instr, active: u32) -> Result<Option<u32>, Stop> {
        let warp = &mut self.warps[w];
        let Fragment { pc, mask, .. } = warp.fragments[f];
        match &instr.op {
            Op::Exit => {
                self.exit(w, f, active)?;
                Ok(None)
            }
            Op::BranchTable { index, targets } => {
                warp.regs.need32(active, [*index])?;
                let row = warp.regs.w32[*index as usize];
                warp.fragments.remove(f);
                if mask & !active != 0 {
                    warp.fragments.push(Fragment { pc: pc + 1, mask: mask & !active, state: State::Ready });
                }
                for lane in lanes(active) {
                    let Some(target) = targets.get(row[lane] as usize) else {
                        let message = format!("index {} of {} branch targets", row[lane], targets.len());
                        return Err(stop(FaultKind::BadInstruction, lane as u32, message));
                    };
                    warp.fragments.push(Fragment { pc: *target, mask: 1 << lane, state: State::Ready });
                    let last = warp.fragments.len() - 1;
                    merge_ready(warp, last);
                }
                Ok(None)
            }
            Op::Warp(op) => {
                let members = warp::members(warp, op, active)?;
                if members & !active != 0 {
                    // Another round once they are here.
                    return Ok(gather(warp, f, active, members)?.then_some(pc));
                }
                warp::execute(warp, op, active)?;
                if let (crate::instr::WarpKind::Collective(crate::instr::Collective::Sync), Some(races)) =
                    (op.kind, &mut self.env.races)
                {
                    let mut joined = crate::race::Joined::default();
                    lanes(active).for_each(|lane| races.release(warp.thread(lane), &mut joined));
                    races.acquire(lanes(active).map(|lane| warp.thread(lane)), joined);
                }
                Ok(Some(pc + 1))
            }
            Op::Barrier(b) => {
                if b.aligned && active != warp.live {
                    let live = warp.live;
                    return Ok(gather(warp, f, active, live)?.then_some(pc));
                }
                let id = barrier::arrive(&mut self.env, warp, &mut self.barriers, b, active)?;
                if b.waits {
                    split_rest(warp, f, active);
                    warp.fragments[f].state = State::Barrier(id as u8);
                }
                if self.barriers[id].is_complete(self.live) {
                    barrier::release(&mut self.env, &mut self.warps, &mut self.barriers, id);
                }
                Ok((!b.waits).then_some(pc + 1))
            }
            _ => Ok(Some(pc + 1)),
        }
    }

    fn exit(&mut self, w: usize, f: usize, active: u32) -> Result<(), Stop> {
        let warp = &mut self.warps[w];
        copy::abandon(&mut self.env, warp, active)?;
        warp.live &= !active;
        self.live -= active.count_ones();
        let fragment = &mut warp.fragments[f];
        fragment.mask &= !active;
        fragment.pc += 1;
        if fragment.mask == 0 {
            warp.fragments.remove(f);
        }
        // Lanes that wait for the whole warp wait for fewer now.
        for fragment in &mut warp.fragments {
            if fragment.state == State::Gathering {
                fragment.state = State::Ready;
            }
        }
        for id in 0..BARRIERS {
            if self.barriers[id].is_complete(self.live) {
                barrier::release(&mut self.env, &mut self.warps, &mut self.barriers, id);
            }
        }
        Ok(())
    }

    fn fault(&self, w: usize, pc: u32, problem: crate::fault::Problem) -> Box<Fault> {
        let line = self.env.kernel.code[pc as usize].line;
        Box::new(Fault {
            kind: problem.kind,
            kernel: self.env.kernel.name.clone(),
            line,
            text: source_line(&self.env.kernel.source, line),
            block: self.index,
            thread: self.thread_index((w * LANES) as u32 + problem.lane),
            message: problem.message,
        })
    }

    /// Everyone waits: for whom, and where.
    fn deadlock(&self) -> Box<Fault> {
        let kernel = self.env.kernel;
        let mut kind = FaultKind::Deadlock;
        let mut places = Vec::new();
        let mut first = None;
        for (w, warp) in self.warps.iter().enumerate() {
            for fragment in warp.fragments.iter().filter(|f| f.mask != 0) {
                let instr = &kernel.code[fragment.pc as usize];
                if fragment.state == State::Gathering && matches!(instr.op, Op::Barrier(_)) {
                    kind = FaultKind::BarrierDivergence;
                }
                first.get_or_insert((w, fragment.pc, fragment.mask.trailing_zeros()));
                if places.len() < 6 {
                    let text = source_line(&kernel.source, instr.line);
                    let mask = fragment.mask;
                    places.push(format!("warp {w} lanes {mask:#010x} at line {} `{text}`", instr.line));
                }
            }
        }
        let counts = self.barriers.iter().enumerate().filter(|(_, b)| b.arrived > 0);
        let counts: Vec<String> = counts.map(|(id, b)| format!("barrier {id} has {} arrivals", b.arrived)).collect();
        let (w, pc, lane) = first.unwrap_or((0, 0, 0));
        let message = format!(
            "no thread can go on, {} have not exited; {}; waiting: {}",
            self.live,
            counts.join(", "),
            places.join("; ")
        );
        self.fault(w, pc, crate::fault::Problem { kind, lane, message })
    }
}

fn has_wide_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}
