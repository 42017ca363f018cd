//! What a processor can do at best: a short measurement of its multiply-adds and of its memory.
//!
//! A model cannot be faster than the larger of its operations at the one rate and its bytes at the other (S. Williams et al.,
//! "Roofline: An Insightful Visual Performance Model", 2009).

use xlac_codegen::probe;
use xlac_ir::diag::Diagnostic;
use xlac_runtime::{Model, TensorRef};

use crate::compile::{self, CompileOptions};
use crate::engine::{self, runtime_error};

/// Bytes that no cache holds.
const BYTES: i64 = 256 << 20;
/// Measurements, of which the best counts: others on the machine only ever slow it down.
const ROUNDS: usize = 5;

/// Rates that the threads of a session reach together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Thousand million f32 operations a second; a multiply-add counts as two.
    pub gflops: f64,
    /// Thousand million bytes read from memory a second.
    pub gbps: f64,
}

impl Roofline {
    /// Measures this machine, with the best backend built in, on this many threads. Takes about half a second.
    pub fn measure(threads: usize) -> Result<Roofline, Diagnostic> {
        let options = CompileOptions { threads: Some(1), ..CompileOptions::default() };
        let bytes = compile::artifact_of("cpu:native", &options, |target| probe::plan(target, BYTES, 4 * threads as i64))?;
        let model = Model::from_bytes(&bytes).map_err(runtime_error)?;
        let mut session = engine::session(&model, Some(threads));
        // A factor and a summand that keep numbers finite.
        let x = xlac_runtime::Tensor::from_slice(&[2], &[0.5f32, 1.0]).map_err(runtime_error)?;
        let inputs: [TensorRef; 1] = [x.view()];
        let mut best = Roofline { gflops: 0.0, gbps: 0.0 };
        for _ in 0..ROUNDS {
            let (_, profile) = session.run_profiled(&inputs).map_err(runtime_error)?;
            for launch in &profile.launches {
                let rate = |amount: u64| amount as f64 / launch.ns.max(1) as f64;
                match launch.kernel.as_str() {
                    probe::PEAK => best.gflops = best.gflops.max(rate(launch.flops)),
                    probe::READ => best.gbps = best.gbps.max(rate(launch.bytes)),
                    _ => {}
                }
            }
        }
        Ok(best)
    }

    /// Milliseconds that this many operations and bytes take at least.
    pub fn least_ms(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.gflops).max(bytes as f64 / self.gbps) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_is_read() {
        let options = CompileOptions::default();
        let pieces = 3;
        let bytes = compile::artifact_of("cpu:native", &options, |target| probe::plan(target, 1, pieces)).expect("it compiles");
        let model = Model::from_bytes(&bytes).expect("it loads");
        let x = xlac_runtime::Tensor::from_slice(&[2], &[0.5f32, 1.0]).expect("two numbers");
        let y = engine::session(&model, Some(2)).run(&[x.view()]).expect("it runs").swap_remove(0);
        // The sums of ones are the last to be stored.
        let sums: &[f32] = y.as_slice().expect("f32");
        let total: f32 = sums.iter().sum();
        assert_eq!(total as i64, pieces * probe::PIECE / 4);
    }

    #[test]
    fn rates_are_those_of_a_processor() {
        let measured = Roofline::measure(1).expect("it runs");
        assert!(measured.gflops > 0.5 && measured.gbps > 0.1, "{measured:?}");
        assert_eq!(measured.least_ms(0, 0), 0.0);
        let roofline = Roofline { gflops: 100.0, gbps: 10.0 };
        assert_eq!(roofline.least_ms(100_000_000, 5_000_000), 1.0);
        assert_eq!(roofline.least_ms(100_000_000, 20_000_000), 2.0);
    }
}
