//! Examples of using XLAC, one file each beside this folder: `cargo run -p xlac-examples --example NAME`.
