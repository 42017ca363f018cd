//! `xlac bench`: how long a run takes, and where the time goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xlac_ir::diag::Diagnostic;
use xlac_ir::tensor::Tensor;
use xlac_runtime::{LaunchTime, Session, TensorMut, TensorRef};

use super::args::{Build, Inputs, On};
use super::{Outcome, load};
use crate::case;
use crate::device::Place;
use crate::engine::{self, Engine};
use crate::render::{self, Ui};
use crate::roofline::Roofline;

/// Arguments of `xlac bench`.
#[derive(clap::Args)]
pub struct Args {
    /// A model, an artifact, or a test case's folder
    file: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    build: Build,
    /// Runs to time; as many as fit in the duration without it
    #[arg(short = 'n', long)]
    iterations: Option<usize>,
    /// Runs before timing starts
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Seconds to time for
    #[arg(long, default_value_t = 2.0)]
    duration: f64,
    /// Kernels in the table
    #[arg(long, default_value_t = 12)]
    kernels: usize,
    /// Leave out measuring what the machine can do at best
    #[arg(long)]
    no_roofline: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.file)?;
    let mut loaded = load::load(ui, &case, &args.build, &args.inputs, &args.on)?;
    let inputs = load::inputs(ui, &loaded.engine, &case, &args.build, &args.inputs)?;
    ui.phase("timing");
    let mut result = match &mut loaded.engine {
        Engine::Compiled(session, _) => compiled(session, &inputs, &args)?,
        engine => interpreted(engine, &inputs, &args)?,
    };
    if Place::parse(&args.on.device)? == Place::Cpu && !args.no_roofline {
        ui.phase("measuring the machine");
        result.roofline = Some(Roofline::measure(result.threads)?);
    }
    if args.json {
        ui.result(&result.json(&args).to_string());
    } else {
        ui.result(&result.text(&args));
    }
    Ok(())
}

/// What was measured.
struct Result {
    model: String,
    target: String,
    backend: String,
    threads: usize,
    times: Vec<Duration>,
    peak_bytes: u64,
    weight_bytes: u64,
    numerics: String,
    kernels: Vec<LaunchTime>,
    /// What the machine can do at best, for processors.
    roofline: Option<Roofline>,
}

fn compiled(session: &mut Session, inputs: &[Tensor], args: &Args) -> std::result::Result<Result, Diagnostic> {
    let owned = inputs.iter().map(engine::to_runtime).collect::<std::result::Result<Vec<_>, _>>()?;
    let views: Vec<TensorRef> = owned.iter().map(xlac_runtime::Tensor::view).collect();
    let failed = engine::runtime_error;
    // The first run allocates; it also tells the shapes of outputs that depend on data.
    let mut outputs = session.run(&views).map_err(failed)?;
    let mut run = |session: &mut Session| {
        let mut slots: Vec<TensorMut> = outputs.iter_mut().map(|t| t.view_mut()).collect();
        session.run_into(&views, &mut slots).map_err(failed)
    };
    let times = measure(args, || run(session))?;
    let (_, profile) = profiled(session, &views, args)?;
    let model = session.model();
    Ok(Result {
        model: model.metadata().model_name.clone(),
        target: model.variant().target.clone(),
        backend: model.variant().backend.clone(),
        threads: session.threads(),
        times,
        peak_bytes: session.memory_bytes(),
        weight_bytes: model.weight_bytes() as u64,
        numerics: model.metadata().numerics.clone(),
        kernels: profile,
        roofline: None,
    })
}

/// Launches with the least time each took in a few runs: noise only ever adds.
fn profiled(
    session: &mut Session,
    views: &[TensorRef],
    args: &Args,
) -> std::result::Result<(u64, Vec<LaunchTime>), Diagnostic> {
    let mut best: Option<(u64, Vec<LaunchTime>)> = None;
    let start = Instant::now();
    for run in 0..20 {
        if run >= 3 && start.elapsed().as_secs_f64() > args.duration / 2.0 {
            break;
        }
        let (_, profile) = session.run_profiled(views).map_err(engine::runtime_error)?;
        match &mut best {
            Some((_, kernels)) if kernels.len() == profile.launches.len() => {
                kernels.iter_mut().zip(profile.launches).for_each(|(k, new)| k.ns = k.ns.min(new.ns));
            }
            _ => best = Some((profile.total_ns, profile.launches)),
        }
    }
    Ok(best.unwrap_or_default())
}

fn interpreted(engine: &mut Engine, inputs: &[Tensor], args: &Args) -> std::result::Result<Result, Diagnostic> {
    let times = measure(args, || engine.run(inputs).map(|_| ()))?;
    let Engine::Interp(program) = engine else { unreachable!("compiled code is timed elsewhere") };
    let weights = program.weights.iter().map(|(_, w)| w.tensor.data.len() as u64).sum();
    Ok(Result {
        model: program.graph.name.clone(),
        target: "interp".into(),
        backend: "interp".into(),
        threads: 1,
        times,
        peak_bytes: 0,
        weight_bytes: weights,
        numerics: "exact".into(),
        kernels: Vec::new(),
        roofline: None,
    })
}

/// Times of runs after the warm-up, sorted.
fn measure(
    args: &Args,
    mut run: impl FnMut() -> std::result::Result<(), Diagnostic>,
) -> std::result::Result<Vec<Duration>, Diagnostic> {
    for _ in 0..args.warmup {
        run()?;
    }
    const MOST: usize = 1_000_000;
    let mut times = Vec::new();
    let start = Instant::now();
    let goes_on = |times: &Vec<Duration>| match args.iterations {
        Some(n) => times.len() < n.max(1),
        None => times.len() < 3 || start.elapsed().as_secs_f64() < args.duration && times.len() < MOST,
    };
    while goes_on(&times) {
        let begin = Instant::now();
        run()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times)
}

fn ms(time: Duration) -> f64 { time.as_secs_f64() * 1e3 }

impl Result {
    /// The time below which this share of the runs stayed.
    fn quantile(&self, share: f64) -> f64 {
        let at = (share * (self.times.len() - 1) as f64).round() as usize;
        ms(self.times[at])
    }

    fn mean(&self) -> f64 { ms(self.times.iter().sum::<Duration>()) / self.times.len() as f64 }

    /// Share of the machine's rate of operations that a kernel reaches. Short algorithms count the operations they save.
    fn peak_share(&self, k: &LaunchTime) -> Option<f64> { self.roofline.map(|r| rate(k.flops, k.ns) / r.gflops) }

    /// Milliseconds that all kernels take at least, one after the other.
    fn least_ms(&self) -> Option<f64> {
        let roofline = self.roofline?;
        Some(self.kernels.iter().map(|k| roofline.least_ms(k.flops, 0)).sum::<f64>().max(roofline.least_ms(0, self.weight_bytes)))
    }

    fn kernel_total(&self) -> u64 { self.kernels.iter().map(|k| k.ns).sum::<u64>().max(1) }

    fn json(&self, args: &Args) -> Value {
        let total = self.kernel_total() as f64;
        let kernel = |k: &LaunchTime| {
            json!({
                "name": k.kernel, "nodes": k.nodes, "calls": k.calls, "ms": k.ns as f64 / 1e6,
                "gflops": rate(k.flops, k.ns), "gbps": rate(k.bytes, k.ns),
                "percent": 100.0 * k.ns as f64 / total, "threads": k.threads, "peak_share": self.peak_share(k),
            })
        };
        let roofline = self.roofline.map(|r| {
            json!({
                "gflops": r.gflops, "gbps": r.gbps, "least_ms": self.least_ms(),
                "share": self.least_ms().map(|least| least / self.quantile(0.5)),
            })
        });
        json!({
            "file": args.file.display().to_string(),
            "model": self.model, "target": self.target, "backend": self.backend, "numerics": self.numerics,
            "device": args.on.device, "threads": self.threads, "iterations": self.times.len(),
            "latency_ms": {
                "min": self.quantile(0.0), "median": self.quantile(0.5), "mean": self.mean(),
                "p90": self.quantile(0.9), "p99": self.quantile(0.99), "max": self.quantile(1.0),
            },
            "throughput_per_s": 1e3 / self.mean(),
            "peak_bytes": self.peak_bytes, "weight_bytes": self.weight_bytes,
            "roofline": roofline,
            "kernels": self.kernels.iter().map(kernel).collect::<Vec<_>>(),
        })
    }

    fn text(&self, args: &Args) -> String {
        let mut text = format!(
            "{} on {} with {}, {} numerics, {} thread{}\n",
            render::bold(&self.model), self.target, self.backend, self.numerics, self.threads,
            if self.threads == 1 { "" } else { "s" }
        );
        text.push_str(&format!(
            "latency     min {:.3} ms, median {}, p99 {:.3} ms ({} runs)\n",
            self.quantile(0.0), render::bold(&format!("{:.3} ms", self.quantile(0.5))), self.quantile(0.99), self.times.len()
        ));
        text.push_str(&format!("throughput  {:.1} per second\n", 1e3 / self.mean()));
        let (working, weights) = (render::bytes(self.peak_bytes), render::bytes(self.weight_bytes));
        text.push_str(&format!("memory      {working} working, {weights} of weights\n"));
        if let (Some(r), Some(least)) = (self.roofline, self.least_ms()) {
            text.push_str(&format!(
                "machine     {:.1} GFLOP/s and {:.1} GB/s at best: {least:.3} ms for this model, {:.0}% of them reached\n",
                r.gflops, r.gbps, 100.0 * least / self.quantile(0.5)
            ));
        }
        if !self.kernels.is_empty() {
            text.push('\n');
            text.push_str(&self.table(args.kernels));
        }
        text
    }

    fn table(&self, most: usize) -> String {
        let total = self.kernel_total() as f64;
        let mut sorted: Vec<&LaunchTime> = self.kernels.iter().collect();
        sorted.sort_by_key(|k| std::cmp::Reverse(k.ns));
        let row = |k: &&LaunchTime| {
            vec![
                format!("{:.4}", k.ns as f64 / 1e6),
                format!("{:.1}", 100.0 * k.ns as f64 / total),
                format!("{:.2}", rate(k.flops, k.ns)),
                self.peak_share(k).map_or(String::new(), |share| format!("{:.0}", 100.0 * share)),
                format!("{:.2}", rate(k.bytes, k.ns)),
                k.kernel.clone(),
                shorten(&k.nodes.join(", "), 60),
            ]
        };
        let rows: Vec<Vec<String>> = sorted.iter().take(most).map(row).collect();
        let header = ["ms", "%", "GFLOP/s", "% of peak", "GB/s", "kernel", "nodes"];
        let mut text = render::table(&header, &[true, true, true, true, true, false, false], &rows);
        let rest: u64 = sorted.iter().skip(most).map(|k| k.ns).sum();
        if rest > 0 {
            let count = sorted.len() - most;
            text.push_str(&format!("{:.4} ms in {count} more launches; `--kernels {}` shows all\n", rest as f64 / 1e6, sorted.len()));
        }
        text
    }
}

/// Per nanosecond is giga per second.
fn rate(amount: u64, ns: u64) -> f64 { if ns == 0 { 0.0 } else { amount as f64 / ns as f64 } }

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
