//! Embeds a compiled model: loads an artifact, runs it on made-up inputs and shows the first values of each output.
//!
//! `cargo run -p xlac-examples --example embed -- model.xlac [SYMBOL=SIZE]...`

use std::collections::HashMap;
use std::process::ExitCode;

use xlac_runtime::plan::SymbolSource;
use xlac_runtime::{DType, Error, Model, Session, Tensor, TensorRef};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(path) = args.next() else {
        eprintln!("usage: embed MODEL.xlac [SYMBOL=SIZE]...");
        return ExitCode::from(2);
    };
    let sizes =
        args.filter_map(|arg| arg.split_once('=').and_then(|(name, size)| Some((name.into(), size.parse().ok()?))));
    match run(&path, &sizes.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error[{}]: {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str, sizes: &HashMap<String, usize>) -> Result<(), Error> {
    let model = Model::load(path)?;
    println!("model   {} for {}", model.metadata().model_name, model.variant().target);
    println!("memory  {} bytes of weights, arena of {}", model.weight_bytes(), model.memory_formula());

    let mut inputs = Vec::new();
    for (number, info) in model.inputs().iter().enumerate() {
        let shape: Vec<usize> = (0..info.shape.len()).map(|axis| size_of(&model, number, axis, sizes)).collect();
        println!("input   {}: {}[{}], here {shape:?}", info.name, info.dtype, info.shape.join(", "));
        inputs.push(made_up(info.dtype, &shape)?);
    }

    let mut session = Session::new(&model);
    let views: Vec<TensorRef<'_>> = inputs.iter().map(Tensor::view).collect();
    let outputs = session.run(&views)?;
    println!("ran on {} threads with {} bytes of working memory", session.threads(), session.memory_bytes());
    for (info, output) in model.outputs().iter().zip(&outputs) {
        println!("output  {}: {}{:?} = {}", info.name, output.dtype(), output.shape(), first_values(output)?);
    }
    Ok(())
}

/// Size of an axis: fixed by the model, chosen on the command line, or the smallest the model allows, but not 0.
fn size_of(model: &Model, input: usize, axis: usize, sizes: &HashMap<String, usize>) -> usize {
    let text = &model.inputs()[input].shape[axis];
    let symbol = model.plan().symbols.iter().find(|symbol| {
        let own = SymbolSource::Input { input: input as u32, axis: axis as u32 };
        symbol.source == own || symbol.name == *text
    });
    let smallest = symbol.map_or(1, |symbol| symbol.range.0.max(1) as usize);
    text.parse().ok().or_else(|| sizes.get(text).copied()).unwrap_or(smallest)
}

/// The same small numbers every time: valid for every element type, and as indices of most tables.
fn made_up(dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
    let count = shape.iter().product();
    match dtype {
        DType::F32 => {
            let values: Vec<f32> = (0..count).map(|i: usize| (i % 17) as f32 / 17.0).collect();
            Tensor::from_slice(shape, &values)
        }
        DType::I64 => {
            let values: Vec<i64> = (0..count).map(|i: usize| (i % 2) as i64).collect();
            Tensor::from_slice(shape, &values)
        }
        other => Tensor::zeros(other, shape),
    }
}

fn first_values(tensor: &Tensor) -> Result<String, Error> {
    const SHOWN: usize = 8;
    Ok(match tensor.dtype() {
        DType::F32 => format!("{:?}", tensor.as_slice::<f32>()?.iter().take(SHOWN).collect::<Vec<_>>()),
        DType::I64 => format!("{:?}", tensor.as_slice::<i64>()?.iter().take(SHOWN).collect::<Vec<_>>()),
        _ => format!("bytes {:?}", &tensor.bytes()[..tensor.bytes().len().min(SHOWN)]),
    })
}
