//! Random plans without kernels do on the simulated device what they do on the CPU, and no call of the driver is wrong.

#[path = "../../../tests/common/random.rs"]
mod generator;

use generator::{Random, random_plan};
use xlac_ptx_sim::driver::{SimConfig, Simulator};
use xlac_runtime::{Error, Model, Session, SessionOptions, Tensor, TensorRef};

const WEIGHTS: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0];

/// Runs with each of some sizes in a session of its own: what nobody writes is then zero everywhere.
fn runs(model: &Model, sizes: &[usize], ahead: bool) -> Vec<xlac_runtime::Result<Vec<Tensor>>> {
    let run = |&n: &usize| {
        let options =
            SessionOptions { threads: Some(1), loop_fuel: 20, memory_ceiling: 1 << 20, ..SessionOptions::default() };
        let mut session = Session::with_options(model, options);
        let x: Vec<i64> = (0..n as i64).collect();
        if ahead {
            session.prepare(&[&[n]])?;
        }
        session.run(&[TensorRef::from_slice(&[n], &x).unwrap()])
    };
    sizes.iter().map(run).collect()
}

#[test]
fn random_plans_do_the_same_as_on_the_cpu() {
    let mut r = Random(0x0123_4567_89ab_cdef);
    let (mut same, mut failed, mut graphs) = (0, 0, 0);
    for number in 0..20_000 {
        let plan = random_plan(&mut r);
        let Ok(model) = Model::from_plan(plan.clone(), Vec::new(), WEIGHTS) else { continue };
        let simulator = Simulator::new(SimConfig { zeroed: true, seed: Some(number), ..SimConfig::default() });
        let device = simulator.device().unwrap();
        let gpu = Model::from_plan_on(plan.clone(), "", WEIGHTS, &device).unwrap();
        let sizes = [0usize, 3, 50];
        for (cpu, gpu) in runs(&model, &sizes, false).into_iter().zip(runs(&gpu, &sizes, number % 2 == 0)) {
            // Inputs and outputs count against the ceiling of a device only.
            let is_full = |result: &xlac_runtime::Result<_>| {
                matches!(result, Err(Error::MemoryCeiling { .. } | Error::OutOfMemory(_)))
            };
            if is_full(&cpu) || is_full(&gpu) {
                continue;
            }
            let codes = [&cpu, &gpu].map(|result| result.as_ref().map_err(Error::code));
            assert_eq!(codes[0], codes[1], "plan {number}: {cpu:?}, {gpu:?}, {plan:#?}");
            same += usize::from(cpu.is_ok());
            failed += usize::from(cpu.is_err());
        }
        graphs += simulator.calls("cuGraphLaunch");
        drop(gpu);
        assert_eq!((simulator.last_fault(), simulator.live()), (None, 0), "plan {number}");
    }
    assert!(same > 1000 && failed > 1000 && graphs > 50, "{same} the same, {failed} failed, {graphs} graphs");
}
