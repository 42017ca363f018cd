//! `xlac test`: runs ONNX test cases, each in a process of its own, so that a crash costs one case only.

pub mod one;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xlac_ir::diag::Diagnostic;

use super::args::{Build, On};
use super::{Failure, Outcome};
use crate::render::{self, Ui};
use crate::{case, codes};

/// Arguments of `xlac test`.
#[derive(clap::Args)]
pub struct Args {
    /// Test cases (folders with model.onnx and test_data_set_*), or folders of test cases
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    build: Build,
    /// Cases at a time
    #[arg(short, long)]
    jobs: Option<usize>,
    /// Seconds a case may take
    #[arg(long, default_value_t = 120.0)]
    timeout: f64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// How a case ended.
#[derive(Clone, Debug)]
struct Ended {
    name: String,
    status: String,
    code: Option<String>,
    detail: String,
    ms: f64,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let cases: Vec<PathBuf> = args.dirs.iter().flat_map(|d| case::find_cases(d)).collect();
    if cases.is_empty() {
        return Err(Diagnostic::error(codes::NO_CASE, "there is no test case in these folders").into());
    }
    args.on.place()?;
    let ended = run_all(ui, &args, &cases)?;
    let count = |status: &str| ended.iter().filter(|e| e.status == status).count();
    let (passed, refused) = (count("passed"), count("refused"));
    let failed = ended.len() - passed - refused;
    if args.json {
        ui.result(&as_json(&ended, passed, failed, refused).to_string());
    } else {
        for e in ended.iter().filter(|e| e.status != "passed" || ui.level == render::Level::Verbose) {
            let code = e.code.as_ref().map(|c| format!("[{c}] ")).unwrap_or_default();
            let status = render::verdict(e.status == "passed", &format!("{:>8}", e.status));
            ui.result(&format!("{status}  {}  {code}{}", e.name, e.detail));
        }
        let verdict = render::verdict(failed == 0, if failed == 0 { "ok" } else { "failed" });
        ui.result(&format!("{verdict}: {passed} passed, {failed} failed, {refused} refused"));
    }
    if failed > 0 { Err(Failure::Code(1)) } else { Ok(()) }
}

fn as_json(ended: &[Ended], passed: usize, failed: usize, refused: usize) -> Value {
    let case = |e: &Ended| json!({ "name": e.name, "status": e.status, "code": e.code, "detail": e.detail, "ms": e.ms });
    let cases: Vec<Value> = ended.iter().map(case).collect();
    json!({ "passed": passed, "failed": failed, "refused": refused, "cases": cases })
}

/// Runs the cases on a few threads; the results come in the order of the cases.
fn run_all(ui: &Ui, args: &Args, cases: &[PathBuf]) -> Result<Vec<Ended>, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Diagnostic::error(codes::NO_FILE, format!("cannot find this program's file: {e}")))?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    // A session with several threads takes several cores.
    let jobs = args.jobs.unwrap_or_else(|| (cores / args.on.threads().unwrap_or(1)).max(1));
    let next = AtomicUsize::new(0);
    let ended: Vec<Mutex<Option<Ended>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let bar = ui.bar(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run_one(&program, args, case);
                    bar.set_message(result.name.clone());
                    bar.inc(1);
                    let at = cases.iter().position(|c| c == case).unwrap_or_default();
                    *ended[at].lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
                }
            });
        }
    });
    bar.finish_and_clear();
    Ok(ended.into_iter().filter_map(|e| e.into_inner().unwrap_or_else(|e| e.into_inner())).collect())
}

fn run_one(program: &Path, args: &Args, case: &Path) -> Ended {
    let name = case.file_name().unwrap_or(case.as_os_str()).to_string_lossy().into_owned();
    let start = Instant::now();
    let ended = |status: &str, code: Option<String>, detail: String| Ended {
        name: name.clone(),
        status: status.into(),
        code,
        detail,
        ms: start.elapsed().as_secs_f64() * 1e3,
    };
    let spawned = command(program, args, case).spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(e) => return ended("error", None, format!("cannot start a process: {e}")),
    };
    let (status, stdout, stderr) = match wait(child, Duration::from_secs_f64(args.timeout.max(0.0))) {
        Ok(done) => done,
        Err(reason) => return ended("timeout", None, reason),
    };
    let last = stdout.lines().last().unwrap_or("");
    match (serde_json::from_str::<Value>(last), status.code()) {
        (Ok(v), Some(0)) => {
            let text = |key: &str| v.get(key).and_then(Value::as_str).map(String::from);
            ended(&text("status").unwrap_or_else(|| "error".into()), text("code"), text("detail").unwrap_or_default())
        }
        (_, Some(101)) => ended("crash", Some(codes::INTERNAL.into()), first_line(&stderr)),
        (_, code) => ended("crash", None, format!("the process ended with {}: {}", ending(status, code), first_line(&stderr))),
    }
}

fn command(program: &Path, args: &Args, case: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--color=never").arg("test-case").arg(case).arg("--device").arg(&args.on.device);
    if let Some(threads) = args.on.threads {
        command.arg("--threads").arg(threads.to_string());
    }
    if let Some(backend) = &args.build.backend {
        command.arg("--backend").arg(backend);
    }
    if let Some(numerics) = args.build.numerics {
        command.arg("--numerics").arg(numerics.name());
    }
    for target in &args.build.target {
        command.arg("--target").arg(target);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a process and what it wrote; kills it when the time is up.
fn wait(mut child: Child, timeout: Duration) -> Result<(ExitStatus, String, String), String> {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was written before a crash is still worth showing.
            let _ = pipe.map(|mut p| p.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>));
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < timeout => {}
            _ => {
                let killed = child.kill().and_then(|()| child.wait());
                return Err(format!("no result after {:.0} s{}", timeout.as_secs_f64(), killed.err().map_or(String::new(), |e| format!(": {e}"))));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    Ok((status, stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default()))
}

fn ending(status: ExitStatus, code: Option<i32>) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    code.map_or_else(|| status.to_string(), |c| format!("exit code {c}"))
}

/// The line that says what happened: the first error, else the first line.
fn first_line(text: &str) -> String {
    let error = text.lines().find(|l| l.starts_with("error"));
    error.or(text.lines().find(|l| !l.trim().is_empty())).unwrap_or("").trim().to_string()
}
