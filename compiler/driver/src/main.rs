//! The `xlac` command line.
fn main() {}
