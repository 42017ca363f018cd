//! Rules that change bits: only with fast numerics.

pub mod add_positive_zero;
pub mod div_constant;
pub mod gate_scale_after;
pub mod gate_scale_inside;
pub mod merge_floats;
pub mod pow_constant;
pub mod quantized_contraction;
pub mod reduce_unit_sum;
pub mod scale_and_shift;
pub mod sum_of_sum;
