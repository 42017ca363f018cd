//! What a pass is, and the runner: verifies, measures, dumps, stops where asked.

use std::time::Instant;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::Program;
use xlac_ir::{text, verify};

use crate::pipeline::{PIPELINE, Stage};
use crate::report::{PassReport, Report};
use crate::{Options, passes};

/// A pass over a whole program.
pub struct Pass {
    /// A verb, or the thing it deals with.
    pub name: &'static str,
    /// Why it exists.
    pub why: &'static str,
    /// Does it; true if it changed the program.
    pub run: fn(&mut Program, &mut PassCx) -> Result<bool, Diagnostic>,
}

/// What passes share.
pub struct PassCx<'a, 'b> {
    /// What the user chose.
    pub options: &'a Options<'b>,
    /// What is told afterwards.
    pub report: &'a mut Report,
    /// Rewrites and folds left.
    pub fuel: Option<u64>,
    /// Bytes that folds of weights may still produce.
    pub weight_bytes: usize,
    started: Instant,
}

impl<'a, 'b> PassCx<'a, 'b> {
    /// What passes over `program` share.
    pub fn new(options: &'a Options<'b>, report: &'a mut Report, program: &Program) -> PassCx<'a, 'b> {
        let all: usize = program.weights.iter().map(|(_, w)| w.tensor.data.len()).sum();
        let weight_bytes = options.weight_bytes.max(all / 2 * 3);
        PassCx { options, report, fuel: options.fuel, weight_bytes, started: Instant::now() }
    }

    /// Takes fuel for one change; false if there is none left.
    pub fn burn(&mut self) -> bool {
        match &mut self.fuel {
            None => true,
            Some(0) => false,
            Some(n) => {
                *n -= 1;
                true
            }
        }
    }

    /// True if the time is up.
    pub fn is_late(&self) -> bool {
        self.started.elapsed() > self.options.time_limit
    }
}

/// Runs the pipeline, or the passes that the options name.
pub fn run_pipeline(program: &mut Program, options: &mut Options) -> Result<Report, Diagnostic> {
    let mut dump = options.dump.take();
    let mut report = Report::default();
    let options = &*options;
    let mut cx = PassCx::new(options, &mut report, program);
    let chosen = chosen_passes(options)?;
    let stages = chosen.as_deref().unwrap_or(PIPELINE);
    'stages: for stage in stages {
        for round in 0..stage.rounds {
            let mut changed = false;
            for pass in stage.passes {
                let skip = cx.is_late() && pass.name != "dce";
                changed |= !skip && run_pass(pass, program, &mut cx, &mut dump)?;
                if options.stop_after.as_deref() == Some(pass.name) {
                    break 'stages;
                }
            }
            if !changed {
                break;
            }
            // Every round leaves a valid program: one more would only simplify further.
            if round + 1 == stage.rounds && stage.rounds > 1 {
                let text = format!("passes still changed the program after {} rounds", stage.rounds);
                cx.report.notes.push(Diagnostic::warning("X0724", text));
            }
        }
    }
    if cx.is_late() {
        let text = format!("optimization stopped after {:?}, its time limit", options.time_limit);
        report.notes.push(Diagnostic::warning("X0725", text).help("raise the limit to let it finish"));
    }
    Ok(report)
}

fn run_pass(
    pass: &'static Pass,
    program: &mut Program,
    cx: &mut PassCx,
    dump: &mut Option<crate::Dump>,
) -> Result<bool, Diagnostic> {
    let start = Instant::now();
    let changed = (pass.run)(program, cx)?;
    cx.report.passes.push(PassReport { pass: pass.name, time: start.elapsed(), changed });
    if let Some(dump) = dump {
        let body = if changed { text::print(program) } else { "unchanged\n".into() };
        dump(pass.name, &body);
    }
    if cx.options.verify && changed {
        check(program, pass.name)?;
    }
    Ok(changed)
}

/// An error that names the first invariant a pass has broken, if it has.
fn check(program: &Program, pass: &str) -> Result<(), Diagnostic> {
    let broken = |errors: Vec<verify::VerifyError>| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Diagnostic::error("X0727", format!("pass `{pass}` made the program invalid: {first}"))
            .help("this is a fault of the compiler; `--fuel N` finds the rewrite, please report it")
    };
    verify::verify(program).map_err(broken)
}

/// The named passes as single stages; none to run the pipeline.
fn chosen_passes(options: &Options) -> Result<Option<Vec<Stage>>, Diagnostic> {
    let Some(names) = &options.passes else { return Ok(None) };
    let find = |name: &String| {
        let found = passes::PASSES.iter().find(|p| p.name == name);
        let all = || passes::PASSES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        found.map(|p| Stage { passes: std::slice::from_ref(p), rounds: 1 }).ok_or_else(|| {
            Diagnostic::error("X0726", format!("no pass is called `{name}`")).help(format!("there are {}", all()))
        })
    };
    names.iter().map(find).collect::<Result<_, _>>().map(Some)
}
