//! The sorted list of rules: one file each in a folder for each group. A test keeps it current.
//!
//! - `canon`: simpler, same meaning, same bits.
//! - `fast`: changes bits; only with fast numerics.
//! - `fold`: puts scales and shifts into the weights of contractions.

pub mod canon;
pub mod fast;
pub mod fold;
pub mod help;

use crate::rule::Rule;

/// Every rule.
pub const RULES: &[&Rule] = &[
    &canon::add_negated::RULE,
    &canon::add_zero::RULE,
    &canon::broadcast_later::RULE,
    &canon::broadcast_of_broadcast::RULE,
    &canon::broadcast_operand::RULE,
    &canon::cast_into_contraction_left::RULE,
    &canon::cast_into_contraction_right::RULE,
    &canon::cast_of_cast::RULE,
    &canon::compare_truth::RULE,
    &canon::computed_zero_point_after_matmul::RULE,
    &canon::concat_of_concat::RULE,
    &canon::concat_of_one::RULE,
    &canon::constant_right::RULE,
    &canon::div_one::RULE,
    &canon::div_power_of_two::RULE,
    &canon::gather_known::RULE,
    &canon::idempotent::RULE,
    &canon::identity_broadcast::RULE,
    &canon::identity_cast::RULE,
    &canon::identity_pad::RULE,
    &canon::identity_reshape::RULE,
    &canon::identity_slice::RULE,
    &canon::identity_transpose::RULE,
    &canon::merge_bounds::RULE,
    &canon::merge_integers::RULE,
    &canon::mul_one::RULE,
    &canon::narrow_weights::RULE,
    &canon::neg_neg::RULE,
    &canon::not_compare::RULE,
    &canon::not_not::RULE,
    &canon::one_over::RULE,
    &canon::pad_into_conv::RULE,
    &canon::pad_into_pool::RULE,
    &canon::reduce_of_reduce::RULE,
    &canon::reduce_units::RULE,
    &canon::reshape_of_reshape::RULE,
    &canon::select_known::RULE,
    &canon::select_not::RULE,
    &canon::select_same::RULE,
    &canon::slice_of_slice::RULE,
    &canon::sub_constant::RULE,
    &canon::transpose_into_matmul_left::RULE,
    &canon::transpose_into_matmul_right::RULE,
    &canon::transpose_of_transpose::RULE,
    &canon::transpose_units::RULE,
    &canon::view_later::RULE,
    &canon::zero_point_after_contraction::RULE,
    &fast::add_positive_zero::RULE,
    &fast::div_constant::RULE,
    &fast::gate_scale_after::RULE,
    &fast::gate_scale_inside::RULE,
    &fast::merge_floats::RULE,
    &fast::pow_constant::RULE,
    &fast::quantized_contraction::RULE,
    &fast::reduce_unit_sum::RULE,
    &fast::scale_and_shift::RULE,
    &fast::sum_of_sum::RULE,
    &fold::merge_bias::RULE,
    &fold::scale_bias::RULE,
    &fold::scale_by_quotient::RULE,
    &fold::scale_conv::RULE,
    &fold::scale_conv_transpose::RULE,
    &fold::scale_matmul::RULE,
];
