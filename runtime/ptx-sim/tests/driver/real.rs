//! The same on a real GPU, where there is one; it says so where there is none.

use super::common::*;
use super::{PTX, code, on_gpu, session};
use xlac_runtime::{CubinCache, CudaOptions, Device, Model, TensorRef};

#[test]
fn a_real_gpu_does_the_same() {
    let device = match Device::cuda_with(0, &CudaOptions { cache: CubinCache::Off }) {
        Ok(device) => device,
        Err(error) => {
            assert!(error.code().starts_with("R04"), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    eprintln!("{:?}", device.gpu());
    let load = |builder: Builder, weights: &[u8]| Model::from_plan_on(on_gpu(builder), PTX, weights, &device).unwrap();

    let model = load(add_twice(), &[]);
    let mut adding = session(&model);
    for n in [1000usize, 1000, 17, 0, 1 << 18, 1 << 18] {
        let (a, shape) = ((0..n).map(|i| i as f32).collect::<Vec<_>>(), [n]);
        let expected: Vec<f32> = a.iter().map(|a| 3.0 * a).collect();
        let a = TensorRef::from_slice(&shape, &a).unwrap();
        assert_eq!(adding.run(&[a, a]).unwrap()[0].as_slice::<f32>().unwrap(), expected);
    }

    let model = load(counting_loop(1000), &i64_weights(&[0]));
    let mut counting = session(&model);
    for (trips, total) in [(0i64, 0i64), (9, 36), (100, 1035), (2, 1)] {
        let outputs = counting.run(&[TensorRef::from_slice(&[], &[trips]).unwrap()]).unwrap();
        assert_eq!(outputs[0].as_slice::<i64>().unwrap(), [total]);
    }

    let model = load(nonzero_gather(), &[]);
    let x = [0f32, 4.0, 0.0, 5.0];
    let x = TensorRef::from_slice(&[4], &x).unwrap();
    let (outputs, profile) = session(&model).run_profiled(&[x]).unwrap();
    assert_eq!(outputs[1].as_slice::<f32>().unwrap(), [4.0, 5.0]);
    eprintln!("{profile:?}");
    assert_eq!(code(Model::from_plan_on(on_gpu(add_twice()), &PTX.replace("add.rn", "ad.rn"), &[], &device)), "R0405");
}
