//! Loops, branches, checks.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block as ClifBlock, InstBuilder, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{For, If, LoopHint, Val};

use super::rep::Rep;
use super::{Emitter, Result, block_args};
use crate::hoist;

/// Statements an unrolled body may grow to.
const UNROLL_BUDGET: usize = 2048;

/// A place to jump to with arguments.
type To<'v> = (ClifBlock, &'v [Value]);

/// What a loop carries, as CLIF values between trips.
struct Trip {
    var: Value,
    carried: Vec<Value>,
}

impl Trip {
    fn args(&self) -> Vec<Value> { [self.var].into_iter().chain(self.carried.iter().copied()).collect() }
}

impl Emitter<'_> {
    /// Ends the block: to `yes` if `a < b`, else to `no`.
    pub fn branch_if_less(&mut self, a: Value, b: Value, yes: To, no: To) {
        let less = self.ins().icmp(IntCC::SignedLessThan, a, b);
        self.branch(less, yes, no);
    }

    /// Ends the block by a scalar condition.
    pub fn branch(&mut self, cond: Value, yes: To, no: To) {
        let (yes_args, no_args) = (block_args(yes.1), block_args(no.1));
        self.ins().brif(cond, yes.0, &yes_args, no.0, &no_args);
    }

    /// Ends the block.
    pub fn jump(&mut self, to: ClifBlock, args: &[Value]) {
        let args = block_args(args);
        self.ins().jump(to, &args);
    }

    /// A loop, unrolled as its hint says.
    pub(super) fn emit_for(&mut self, f: &For) -> Result<()> {
        let layout = self.carried_layout(f)?;
        let start = self.start(f, &layout)?;
        let trips = self.known_trips(f);
        let factor = unroll_factor(f, trips);
        let last = match trips {
            Some(n) if n <= factor => self.straight(f, &layout, start, n)?,
            _ => self.looped(f, &layout, start, factor, trips)?,
        };
        let mut rest = &last.carried[..];
        for (c, shape) in f.carried.iter().zip(&layout) {
            let (chunks, tail) = rest.split_at(shape.count());
            self.env[c.result.0 as usize] = Some(Rep { chunks: chunks.to_vec(), ..shape.clone() });
            rest = tail;
        }
        Ok(())
    }

    /// How each carried value is held from trip to trip.
    fn carried_layout(&mut self, f: &For) -> Result<Vec<Rep>> {
        f.carried
            .iter()
            .map(|c| {
                let init = self.get(c.init)?;
                // A constant bool does not know how wide masks it will meet; four bytes are the most common.
                let width = match init.bits {
                    Some(_) if init.ty.dtype == DType::Bool && init.lanes() > 1 => 4,
                    _ => init.width,
                };
                Ok(Rep { width, chunks: Vec::new(), off: 0, bits: None, element: None, ty: init.ty })
            })
            .collect()
    }

    fn start(&mut self, f: &For, layout: &[Rep]) -> Result<Trip> {
        let var = self.word(f.lo)?;
        let inits: Vec<Val> = f.carried.iter().map(|c| c.init).collect();
        Ok(Trip { var, carried: self.conform(&inits, layout)? })
    }

    /// Values in the given layouts, one after the other.
    fn conform(&mut self, values: &[Val], layout: &[Rep]) -> Result<Vec<Value>> {
        let mut out = Vec::new();
        for (&v, shape) in values.iter().zip(layout) {
            let rep = self.get(v)?;
            let rep = self.mask_width(&rep, shape.width);
            out.extend(self.chunks(&rep));
        }
        Ok(out)
    }

    fn known_trips(&mut self, f: &For) -> Option<u64> {
        let constant = |e: &Self, v: Val| e.env[v.0 as usize].as_ref().and_then(|r| r.bits).map(|x| x as i64);
        let (lo, hi) = (constant(self, f.lo)?, constant(self, f.hi)?);
        Some(if lo < hi { (hi.checked_sub(lo)? as u64).div_ceil(f.step as u64) } else { 0 })
    }

    /// All trips in a row.
    fn straight(&mut self, f: &For, layout: &[Rep], start: Trip, trips: u64) -> Result<Trip> {
        let mut carried = start.carried;
        for i in 0..trips as i64 {
            let var = match self.get(f.lo)?.bits {
                Some(lo) => Rep::constant(xlac_ir::kernel::VType::scalar(DType::I64), lo.wrapping_add((i * f.step) as u64)),
                None => Rep { off: i * f.step, ..Rep::scalar(DType::I64, start.var) },
            };
            carried = self.trip(f, layout, var, &carried)?;
        }
        Ok(Trip { var: start.var, carried })
    }

    /// The body once.
    fn trip(&mut self, f: &For, layout: &[Rep], var: Rep, carried: &[Value]) -> Result<Vec<Value>> {
        self.env[f.var.0 as usize] = Some(var);
        let mut rest = carried;
        for (c, shape) in f.carried.iter().zip(layout) {
            let (chunks, tail) = rest.split_at(shape.count());
            self.env[c.phi.0 as usize] = Some(Rep { chunks: chunks.to_vec(), ..shape.clone() });
            rest = tail;
        }
        self.statements(&f.body.0)?;
        let nexts: Vec<Val> = f.carried.iter().map(|c| c.next).collect();
        let out = self.conform(&nexts, layout)?;
        self.forget();
        Ok(out)
    }

    /// A loop of `factor` trips a turn, and one of single trips for what is left.
    fn looped(&mut self, f: &For, layout: &[Rep], start: Trip, factor: u64, trips: Option<u64>) -> Result<Trip> {
        let hi = self.word(f.hi)?;
        let exact = factor == 1 || trips.is_some_and(|n| n % factor == 0);
        if exact {
            return self.turns(f, layout, start, hi, factor);
        }
        let ahead = (factor as i64 - 1) * f.step;
        let bound = self.plus(hi, -ahead);
        let rest = self.turns(f, layout, start, bound, factor)?;
        self.turns(f, layout, rest, hi, 1)
    }

    /// `factor` trips at a time while the counter is below `bound`; leaves the counter where it stopped.
    fn turns(&mut self, f: &For, layout: &[Rep], start: Trip, bound: Value, factor: u64) -> Result<Trip> {
        // The test is a block of its own, so that what a trip makes is used once, by the jump back: Cranelift folds loads
        // only into values that are used once.
        let (test, body, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let at = self.trip_params(test, layout);
        self.jump(test, &start.args());
        self.b.switch_to_block(test);
        self.branch_if_less(at.var, bound, (body, &[]), (after, &[]));
        self.b.switch_to_block(body);
        self.open();
        let mut carried = at.carried.clone();
        for i in 0..factor as i64 {
            let var = Rep { off: i * f.step, ..Rep::scalar(DType::I64, at.var) };
            carried = self.trip(f, layout, var, &carried)?;
        }
        let step = self.int(factor as i64 * f.step);
        let var = self.ins().iadd(at.var, step);
        self.jump(test, &Trip { var, carried }.args());
        self.close();
        self.b.switch_to_block(after);
        Ok(at)
    }

    fn trip_params(&mut self, block: ClifBlock, layout: &[Rep]) -> Trip {
        let var = self.b.append_block_param(block, types::I64);
        let carried = layout
            .iter()
            .flat_map(|shape| vec![shape.clif(); shape.count()])
            .map(|ty| self.b.append_block_param(block, ty))
            .collect();
        Trip { var, carried }
    }

    /// A branch with results.
    pub(super) fn emit_if(&mut self, i: &If) -> Result<()> {
        let cond = self.word(i.cond)?;
        let (then, els, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.branch(cond, (then, &[]), (els, &[]));
        self.b.switch_to_block(then);
        self.open();
        self.statements(&i.then.0)?;
        let layout = i.results.iter().map(|r| self.get(r.1)).collect::<Result<Vec<Rep>>>()?;
        let yes: Vec<Val> = i.results.iter().map(|r| r.1).collect();
        let args = self.conform(&yes, &layout)?;
        self.leave_arm(after, &args);
        self.b.switch_to_block(els);
        self.open();
        self.statements(&i.els.0)?;
        let no: Vec<Val> = i.results.iter().map(|r| r.2).collect();
        let args = self.conform(&no, &layout)?;
        self.leave_arm(after, &args);
        for (r, shape) in i.results.iter().zip(&layout) {
            let chunks = (0..shape.count()).map(|_| self.b.append_block_param(after, shape.clif())).collect();
            self.env[r.0.0 as usize] = Some(Rep { chunks, off: 0, bits: None, ..shape.clone() });
        }
        self.b.switch_to_block(after);
        Ok(())
    }

    fn leave_arm(&mut self, after: ClifBlock, args: &[Value]) {
        self.forget();
        self.jump(after, args);
        self.close();
    }

    /// Returns `code` unless the condition holds.
    pub(super) fn check(&mut self, cond: Val, code: u32) -> Result<()> {
        let cond = self.word(cond)?;
        let (good, bad) = (self.b.create_block(), self.b.create_block());
        self.branch(cond, (good, &[]), (bad, &[]));
        self.b.set_cold_block(bad);
        self.b.switch_to_block(bad);
        let code = self.int(i64::from(code));
        self.ins().return_(&[code]);
        self.b.switch_to_block(good);
        Ok(())
    }
}

/// How many trips to put in a row.
fn unroll_factor(f: &For, trips: Option<u64>) -> u64 {
    let wanted = match f.hint {
        LoopHint::Plain => 1,
        LoopHint::Unroll(n) => u64::from(n.max(1)),
    };
    let most = (UNROLL_BUDGET / hoist::size(&f.body).max(1)).max(1) as u64;
    let factor = wanted.min(most);
    match trips {
        // A shorter factor that leaves no rest is better than a longer one that does.
        Some(n) if n > factor => (factor.div_ceil(2)..=factor).rev().find(|d| n % d == 0).unwrap_or(factor),
        _ => factor,
    }
}
