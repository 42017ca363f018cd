//! Runs an artifact on raw files, for machines with nothing but this crate, emulated ones for example.
//!
//! `cargo run -p xlac-runtime --example raw -- model.xlac OUTPUT_FOLDER INPUT.bin:2x3x4...`
//!
//! Inputs are given in the model's order: little-endian elements in row-major order, and the shape. Output `i` is written to
//! `OUTPUT_FOLDER/i.bin` in the same form; its element type and shape are printed.

use std::error::Error;
use std::path::Path;

use xlac_runtime::{Model, Session, Tensor, TensorRef};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, inputs @ ..] = &args[..] else {
        return Err("usage: raw MODEL.xlac OUTPUT_FOLDER INPUT.bin:2x3x4...".into());
    };
    let model = Model::load(model)?;
    let tensors = inputs.iter().zip(model.inputs()).map(|(arg, info)| {
        let (file, shape) = arg.rsplit_once(':').ok_or_else(|| format!("`{arg}` has no shape"))?;
        let sizes = shape.split('x').filter(|n| !n.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        Ok(Tensor::from_bytes(info.dtype, &sizes, &std::fs::read(file)?)?)
    });
    let tensors = tensors.collect::<Result<Vec<Tensor>, Box<dyn Error>>>()?;
    let views: Vec<TensorRef> = tensors.iter().map(Tensor::view).collect();
    let outputs = Session::new(&model).run(&views)?;
    for (i, output) in outputs.iter().enumerate() {
        std::fs::write(Path::new(folder).join(format!("{i}.bin")), output.bytes())?;
        println!("{} {:?}", output.dtype(), output.shape());
    }
    Ok(())
}
