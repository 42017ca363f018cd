//! Products of f32 by tensor cores: every element is the sum of three bf16, and of the nine products of their parts the six
//! largest are added up: `a0 b0`, `a0 b1`, `a1 b0`, `a1 b1`, `a0 b2`, `a2 b0`. What is left out is below `2^-23` of the
//! product and of either sign.
//!
//! Parts are rounded to nearest, numbers next to the largest towards zero. An infinity or NaN is its first part alone.
//!
//! Tensor cores do not round to nearest when they add. The products of first parts therefore start from zero in every chunk
//! (32 terms) and are added to totals by ordinary additions. The five others, which are below `2^-7` of them, have sums of
//! their own that go on through all chunks.
//!
//! Weights are split when the artifact is written. Activations are split on their way to shared memory, once for each tile
//! of columns: about 12 instructions an element (max, min, shift, sub, compare, 2 select, shift, sub, and half of 4
//! conversions of pairs), which is 1,500 a chunk for the 128 rows of a tile of 128 x 64 with 768 products of matrices, of
//! which each keeps its unit busy for 4 to 8 cycles. Splitting fragments in registers instead would repeat this for every
//! warp of a row, and reading them from memory already split would move half as many bytes again.
//!
//! Where an infinity occurs, or a sum overflows, parts of different signs can make a NaN of what is an infinity. If a thread
//! has a NaN, the tile is summed once more with the first parts alone, and NaNs are replaced by what that gives: it has the
//! sign and size of the sum, if not its digits. A sum whose size is within 1% of the largest number may become infinite.

use super::*;
use crate::pack::LARGEST;
use xlac_ir::kernel::UnOp;

/// The parts of a vector of f32; as [`crate::pack::split`].
pub(super) fn planes(kb: &mut Kb, x: Val) -> Vec<Val> {
    let lanes = kb.k.ty(x).lanes;
    let bound = kb.k.splat_const(Const::f32(LARGEST), lanes);
    let low = kb.k.un(UnOp::Neg, bound);
    let inside = kb.k.bin(BinOp::Max, low, x);
    let inside = kb.k.bin(BinOp::Min, bound, inside);
    let near = kb.k.convert(inside, DType::BF16);
    let near = kb.k.convert(near, DType::F32);
    let rest = kb.k.sub(x, near);
    let size = kb.k.un(UnOp::Abs, rest);
    let infinity = kb.k.splat_const(Const::f32(f32::INFINITY), lanes);
    let finite = kb.k.cmp(Pred::Lt, size, infinity);
    let zero = kb.k.splat_const(Const::f32(0.0), lanes);
    let (first, rest) = (kb.k.select(finite, near, x), kb.k.select(finite, rest, zero));
    let first = kb.k.convert(first, DType::BF16);
    let second = kb.k.convert(rest, DType::BF16);
    let wide = kb.k.convert(second, DType::F32);
    let rest = kb.k.sub(rest, wide);
    vec![first, second, kb.k.convert(rest, DType::BF16)]
}

/// Parts of A and B whose products are small, smallest first.
pub(super) const SMALL: [(usize, usize); 5] = [(2, 0), (0, 2), (1, 1), (1, 0), (0, 1)];
