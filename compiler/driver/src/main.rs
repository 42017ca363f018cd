//! The `xlac` program: see [`xlac::commands`].

fn main() -> std::process::ExitCode { xlac::commands::main() }
