//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use xlac_codegen::Numerics;
use xlac_ir::diag::Diagnostic;
use xlac_onnx::DimOverride;

use crate::compile::{CompileOptions, HOST_OPS};
use crate::device::Place;
use crate::render::{self, Ui};

/// How a model is compiled.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Build {
    /// Processor or GPU to compile for: cpu, cpu:native, cpu:x86-64-v3, cpu:znver4, ..., ptx, ptx:sm_90; several give one
    /// artifact for all
    #[arg(long, value_name = "TARGET", env = "XLAC_TARGET", value_delimiter = ',')]
    pub target: Vec<String>,
    /// Code generator: llvm or cranelift; the best one built in without it
    #[arg(long, env = "XLAC_BACKEND")]
    pub backend: Option<String>,
    /// ONNX operators that a GPU may leave to the host: NonZero, TopK
    #[arg(long, value_name = "OPS", value_delimiter = ',', value_parser = parse_host_op)]
    pub allow_host: Vec<String>,
    /// Numeric contract
    #[arg(long, value_enum, env = "XLAC_NUMERICS")]
    pub numerics: Option<NumericsArg>,
    /// Set a symbolic dim: NAME=4, or a range NAME=1..64
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    pub dim: Vec<(String, DimArg)>,
    /// Write the text of every stage to this folder
    #[arg(long, value_name = "DIR")]
    pub dump_dir: Option<PathBuf>,
}

/// Values of `--numerics`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NumericsArg {
    /// May reassociate, within a stated error bound
    Fast,
    /// The same bits on every target and any number of threads
    Exact,
}

impl NumericsArg {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            NumericsArg::Fast => "fast",
            NumericsArg::Exact => "exact",
        }
    }
}

/// Value of a dim.
#[derive(Clone, Copy, Debug)]
pub struct DimArg(pub DimOverride);

/// The core op of an operator with a host routine.
fn parse_host_op(text: &str) -> Result<String, String> {
    let found = HOST_OPS.iter().find(|(onnx, _)| *onnx == text).map(|(_, core)| core.to_string());
    let names: Vec<&str> = HOST_OPS.iter().map(|(onnx, _)| *onnx).collect();
    found.ok_or_else(|| format!("only {} have a host routine; every other operator runs on the device", names.join(", ")))
}

fn parse_dim(text: &str) -> Result<(String, DimArg), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=SIZE or NAME=LOW..HIGH")?;
    let number = |s: &str| s.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(format!("`{s}` is not a size"));
    let value = match value.split_once("..") {
        Some((low, high)) => DimOverride::Range(number(low)?, number(high.trim_start_matches('='))?),
        None => DimOverride::Fixed(number(value)?),
    };
    Ok((name.to_string(), DimArg(value)))
}

impl Build {
    /// Options of the compiler.
    pub fn options(&self, ui: &Arc<Ui>) -> CompileOptions {
        CompileOptions {
            dims: self.dim.iter().map(|(name, value)| (name.clone(), value.0)).collect(),
            numerics: self.numerics(),
            targets: self.target.clone(),
            backend: self.backend.clone(),
            allow_host: self.allow_host.clone(),
            dump_dir: self.dump_dir.clone(),
            progress: Some(render::progress(ui)),
            ..CompileOptions::default()
        }
    }

    /// Options for code that runs at once on a device.
    pub fn options_for(&self, ui: &Arc<Ui>, place: Place) -> CompileOptions {
        let mut options = self.options(ui);
        if options.targets.is_empty() {
            options.targets.push(place.target().into());
        }
        options
    }

    /// The numeric contract.
    pub fn numerics(&self) -> Numerics {
        match self.numerics {
            Some(NumericsArg::Exact) => Numerics::Exact,
            _ => Numerics::Fast,
        }
    }

    /// Dims that have one value.
    pub fn sizes(&self) -> BTreeMap<String, i64> {
        let fixed = |(name, value): &(String, DimArg)| match value.0 {
            DimOverride::Fixed(n) => Some((name.clone(), n)),
            DimOverride::Range(..) => None,
        };
        self.dim.iter().filter_map(fixed).collect()
    }
}

/// What a model runs on.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct On {
    /// Device: cpu, cuda or cuda:NUMBER (NVIDIA), ptx-sim or ptx-sim:SEED (a simulated one), or interp (the reference
    /// interpreter on the optimized graph)
    #[arg(long, default_value = "cpu", env = "XLAC_DEVICE")]
    pub device: String,
    /// Threads, the caller's included; one per core without it
    #[arg(long, env = "XLAC_THREADS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

impl On {
    /// The device.
    pub fn place(&self) -> Result<Place, Diagnostic> { Place::parse(&self.device) }

    /// Number of threads, if it was given.
    pub fn threads(&self) -> Option<usize> { self.threads.map(|n| n as usize) }
}

/// Data for a model.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Inputs {
    /// Data of one input, NAME=FILE.npy or NAME=FILE.pb, or its shape alone, NAME=1x3x224x224
    #[arg(long, value_name = "NAME=FILE|SHAPE")]
    pub input: Vec<String>,
    /// Data of several inputs: a .npz file, or a folder of .npy and .pb files
    #[arg(long, value_name = "FILE.npz|DIR")]
    pub inputs: Option<PathBuf>,
}

/// What stands behind `--input`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputArg {
    /// A file.
    File(PathBuf),
    /// A shape to fill.
    Shape(Vec<i64>),
}

impl Inputs {
    /// Names (empty for "the next one") with what was given for them.
    pub fn parsed(&self) -> Vec<(String, InputArg)> {
        let parse = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or(("", text));
            let shape: Option<Vec<i64>> = value.split('x').map(|d| d.parse().ok()).collect();
            let value = match shape.filter(|_| !std::path::Path::new(value).exists()) {
                Some(shape) => InputArg::Shape(shape),
                None => InputArg::File(value.into()),
            };
            (name.to_string(), value)
        };
        self.input.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_are_sizes_or_ranges() {
        assert_eq!(parse_dim("N=4").unwrap().1.0, DimOverride::Fixed(4));
        assert_eq!(parse_dim("a=b=1..64").unwrap().0, "a=b");
        assert!(parse_dim("N=-1").is_err() && parse_dim("N").is_err());
    }

    #[test]
    fn inputs_are_files_or_shapes() {
        let args = Inputs { input: vec!["x=1x3".into(), "y=a.npy".into(), "b.pb".into()], inputs: None };
        let parsed = args.parsed();
        assert_eq!(parsed[0], ("x".into(), InputArg::Shape(vec![1, 3])));
        assert_eq!(parsed[1], ("y".into(), InputArg::File("a.npy".into())));
        assert_eq!(parsed[2].0, "");
    }
}
