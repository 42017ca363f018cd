//! Comparisons in full generality, and lane-wise operations.

use std::cmp::Ordering;

use crate::exec::int::number;
use crate::fault::Stop;
use crate::float::{BF16, F16, F32};
use crate::instr::{Cmp, Compare, Guard, LaneFn, Logic, Mods};
use crate::regs::{LANES, Reg, Regs, lanes};
use crate::types::Ty;

/// Whether `cmp` holds for operands in this order; `None` is unordered.
pub(crate) fn apply(cmp: Cmp, order: Option<Ordering>) -> bool {
    use Ordering::{Equal, Greater, Less};
    match (cmp, order) {
        (Cmp::Num, order) => order.is_some(),
        (Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Nan, None) => true,
        (_, None) | (Cmp::Nan, Some(_)) => false,
        (Cmp::Eq | Cmp::Equ, Some(o)) => o == Equal,
        (Cmp::Ne | Cmp::Neu, Some(o)) => o != Equal,
        (Cmp::Lt | Cmp::Ltu, Some(o)) => o == Less,
        (Cmp::Le | Cmp::Leu, Some(o)) => o != Greater,
        (Cmp::Gt | Cmp::Gtu, Some(o)) => o == Greater,
        (Cmp::Ge | Cmp::Geu, Some(o)) => o != Less,
    }
}

/// `ne`, which is false for unordered operands.
#[inline(always)]
#[allow(clippy::double_comparisons)]
pub(crate) fn ordered_ne<T: PartialOrd>(a: T, b: T) -> bool {
    a < b || a > b
}

fn order(c: &Compare, a: u64, b: u64) -> Option<Ordering> {
    let format = match c.ty {
        Ty::F16 => F16,
        Ty::Bf16 => BF16,
        Ty::F32 => F32,
        Ty::F64 => return f64::from_bits(a).partial_cmp(&f64::from_bits(b)),
        _ => return Some(number(c.ty, a).cmp(&number(c.ty, b))),
    };
    let load = |x: u64| format.decode(if c.ftz { format.flush(x) } else { x });
    load(a).partial_cmp(&load(b))
}

/// The lanes for which a guard's predicate holds; it must be defined in `mask`.
pub(crate) fn guard_bits(r: &Regs, guard: Guard, mask: u32) -> Result<u32, Stop> {
    r.need_pred(mask, guard.pred)?;
    let bits = r.pred[guard.pred as usize];
    Ok(if guard.negated { !bits } else { bits })
}

/// `set` and `setp`.
pub(crate) fn execute(r: &mut Regs, c: &Compare, mask: u32) -> Result<(), Stop> {
    r.need(mask, c.a)?;
    r.need(mask, c.b)?;
    let (a, b) = (r.row(c.a), r.row(c.b));
    let result = lanes(mask).fold(0u32, |bits, i| bits | u32::from(apply(c.cmp, order(c, a[i], b[i]))) << i);
    let (mut first, mut second) = (result, !result);
    if let Some((logic, guard)) = c.logic {
        let other = guard_bits(r, guard, mask)?;
        let combine = |bits: u32| match logic {
            Logic::And => bits & other,
            Logic::Or => bits | other,
            Logic::Xor => bits ^ other,
        };
        (first, second) = (combine(first), combine(second));
    }
    for (to, bits) in [(c.to, first), (c.to_other, second)] {
        let Some(to) = to else { continue };
        let row = std::array::from_fn(|i| if bits >> i & 1 == 1 { c.truth } else { 0 });
        r.set_row(to, mask, &row);
    }
    Ok(())
}

/// Applies `f` lane by lane.
pub(crate) fn lane_wise(r: &mut Regs, f: LaneFn, mods: Mods, d: Reg, s: &[Reg], mask: u32) -> Result<(), Stop> {
    let mut rows = [[0u64; LANES]; 3];
    for (row, reg) in rows.iter_mut().zip(s) {
        r.need(mask, *reg)?;
        *row = r.row(*reg);
    }
    let mut result = [0; LANES];
    for lane in lanes(mask) {
        result[lane] = f([rows[0][lane], rows[1][lane], rows[2][lane]], mods);
    }
    r.set_row(d, mask, &result);
    Ok(())
}
