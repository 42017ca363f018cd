//! Rules that put scales and shifts into weights.

pub mod merge_bias;
pub mod scale_bias;
pub mod scale_by_quotient;
pub mod scale_conv;
pub mod scale_conv_transpose;
pub mod scale_matmul;
