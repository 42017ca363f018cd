//! The `xlac` program as the tests run it.

fn main() -> std::process::ExitCode { xlac::commands::main() }
