//! The text form of graphs: `.xir` files, snapshots, and what `--emit graph` shows.
//!
//! ```text
//! graph @mlp(%x: f32[N, 128]) -> (%y) {
//!   range N 1..64
//!   constraint N <= 32 "batch of MatMul_0"
//!   %w = weight @fc.weight : f32[128, 10]
//!   %h = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[N, 10]  // MatMul_0
//!   %v, %i = top_k %h {k = [3], axis = 1, largest = true} : f32[N, 3], i64[N, 3]
//!   %z = if %c {symbols = []} : f32[N] {
//!     yield %a
//!   } {
//!     yield %b
//!   }
//!   %s = loop %trips, %x {trips = true, cond = false, carried = 1, count = [n]} : f32[N] (%k: i64[], %u: f32[N]) {
//!     yield %u
//!   }
//!   yield %s
//! }
//! ```
//!
//! - The list after `->` holds the names of the outputs; the values that are given stand in the body's `yield`.
//! - A value has its ONNX name where that is an identifier no other value has; the others are numbered in the order they
//!   are defined. An input of the graph that is numbered has its ONNX name behind it: `%0 "data:0": f32[N]`.
//! - The comment after a node says which ONNX nodes it comes from, and is read back.
//! - Weights are named, not written. [`parse`] makes up their contents from the name, always the same; [`parse_with`] takes
//!   them from the caller.
//! - Types are always written. Parsing infers them again and insists that they agree.

mod parse;
mod print;
mod same;
#[cfg(test)]
mod tests;

pub use crate::lex::ParseError;
pub use parse::{made_up_weight, parse, parse_dim, parse_type, parse_with};
pub use print::print;
pub use same::difference;
