//! Random plans without kernels: each is refused, fails with a code, or runs; none panics or touches foreign memory.
#![allow(missing_docs)]

#[path = "common/random.rs"]
mod random;

use random::{Random, random_plan};
use xlac_runtime::{Model, Session, SessionOptions, TensorRef};

#[test]
fn random_plans_never_panic() {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut failed, mut ran) = (0, 0, 0);
    for _ in 0..60_000 {
        let plan = random_plan(&mut r);
        let Ok(model) = Model::from_plan(plan, Vec::new(), &[2, 0, 0, 0, 0, 0, 0, 0]) else {
            refused += 1;
            continue;
        };
        let options = SessionOptions {
            threads: Some(1),
            loop_fuel: 20,
            memory_ceiling: 1 << 16,
            cancel: None,
            debug_sync: false,
        };
        let mut session = Session::with_options(&model, options);
        for n in [0usize, 3, 3, 50] {
            let x: Vec<i64> = (0..n as i64).collect();
            match session.run(&[TensorRef::from_slice(&[n], &x).unwrap()]) {
                Ok(outputs) => {
                    assert_eq!(outputs[0].shape(), [n]);
                    ran += 1;
                }
                Err(error) => {
                    assert!(error.code().starts_with('R'));
                    failed += 1;
                }
            }
        }
    }
    // The generator is worth something only if it reaches the executor often.
    assert!(refused > 1000 && failed > 1000 && ran > 10_000, "{refused} refused, {failed} failed, {ran} ran");
}
