//! The committed protobuf code is what `proto/onnx.proto3` gives. `XLAC_BLESS=1` rewrites it.

use std::path::{Path, PathBuf};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/proto/generated.rs");
    let fresh = generate(root);
    if std::env::var_os("XLAC_BLESS").is_some() {
        std::fs::create_dir_all(committed.parent().expect("has a parent")).expect("folder can be made");
        std::fs::write(&committed, &fresh).expect("file can be written");
    }
    let old = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(old == fresh, "src/proto/generated.rs is stale: run this test with XLAC_BLESS=1");
}

fn generate(root: &Path) -> String {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proto");
    std::fs::create_dir_all(&out).expect("folder can be made");
    let files = protox::compile(["onnx.proto3"], [root.join("proto")]).expect("the schema parses");
    prost_build::Config::new().bytes(["."]).out_dir(&out).compile_fds(files).expect("code can be generated");
    std::fs::read_to_string(out.join("onnx.rs")).expect("a file for the package")
}
