//! Compiles a small real model and asks it whether a line of text is upright or upside down.
//!
//! `cargo run --release -p xlac-examples --example classify [PICTURE.pgm]`
//!
//! A picture is a binary PGM of 192 x 48 grey pixels, dark text on light ground.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use xlac_runtime::{Model, Session, TensorRef};

const WIDTH: usize = 192;
const HEIGHT: usize = 48;

fn main() -> ExitCode {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ppocr_v2_cls");
    let picture = std::env::args_os().nth(1).map_or_else(|| data.join("hello.pgm"), Into::into);
    match run(&data.join("model.onnx"), &picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(model: &Path, picture: &Path) -> Result<(), String> {
    let pixels = read_pgm(picture)?;

    // Compile: this happens once, ahead of time, usually with `xlac compile`.
    let start = Instant::now();
    let compiled = xlac::compile(model, &xlac::CompileOptions::default()).map_err(|errors| errors[0].to_string())?;
    let variant = &compiled.report.variants[0];
    println!("compiled {} kernels with {} in {:.0?}", variant.kernels, variant.backend, start.elapsed());

    // Run: needs `xlac-runtime` and the artifact, nothing else.
    let model = Model::from_bytes(&compiled.bytes).map_err(|e| e.to_string())?;
    let mut session = Session::new(&model);
    let turned: Vec<u8> = pixels.iter().rev().copied().collect();
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    for (what, pixels) in [(format!("{name}"), &pixels), (format!("{name}, turned by 180 degrees"), &turned)] {
        let input = normalize(pixels);
        let start = Instant::now();
        let tensor = TensorRef::from_slice(&[1, 3, HEIGHT, WIDTH], &input).map_err(|e| e.to_string())?;
        let outputs = session.run(&[tensor]).map_err(|e| e.to_string())?;
        let time = start.elapsed();
        let scores = outputs[0].as_slice::<f32>().map_err(|e| e.to_string())?;
        let answer = if scores[0] >= scores[1] { "upright" } else { "upside down" };
        println!("{what}: {answer} {:.4} ({:.2} ms)", scores[0].max(scores[1]), time.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// What the model was trained on: three equal planes of values from -1 to 1.
fn normalize(pixels: &[u8]) -> Vec<f32> {
    let plane: Vec<f32> = pixels.iter().map(|&p| (f32::from(p) / 255.0 - 0.5) / 0.5).collect();
    plane.repeat(3)
}

/// The pixels of a binary PGM without comments.
fn read_pgm(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let header = format!("P5\n{WIDTH} {HEIGHT}\n255\n");
    let pixels = bytes.strip_prefix(header.as_bytes()).filter(|p| p.len() == WIDTH * HEIGHT);
    pixels.map(<[u8]>::to_vec).ok_or_else(|| format!("{} is not a PGM of {WIDTH} x {HEIGHT} grey pixels", path.display()))
}
