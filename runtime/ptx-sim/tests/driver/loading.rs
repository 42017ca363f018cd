//! Devices that do not serve, variants, the driver's compiler and the cache of what it made.

use std::io::Cursor;

use super::common::*;
use super::{PTX, code, on_gpu, session};
use xlac_ptx_sim::driver::{Failure, SimConfig, Simulator};
use xlac_runtime::device::cuda::api::Status;
use xlac_runtime::{ArtifactWriter, CubinCache, CudaOptions, Device, Metadata, Model, Session, TensorRef, VariantInfo};

fn check(model: &Model) {
    let x = [1f32; 8];
    let x = TensorRef::from_slice(&[8], &x).unwrap();
    assert_eq!(session(model).run(&[x, x]).unwrap()[0].as_slice::<f32>().unwrap(), [3.0; 8]);
}

#[test]
fn devices_that_do_not_serve_are_refused() {
    let open = |config: SimConfig| Simulator::new(config).device();
    let none = open(SimConfig { devices: 0, ..SimConfig::default() }).unwrap_err();
    assert_eq!(none.code(), "R0403");
    let old = open(SimConfig { driver: (11, 2), ..SimConfig::default() }).unwrap_err();
    assert_eq!((old.code(), old.to_string().contains("CUDA 11.2")), ("R0402", true), "{old}");
    let old = open(SimConfig { capability: (7, 5), ..SimConfig::default() }).unwrap_err();
    assert_eq!((old.code(), old.to_string().contains("7.5")), ("R0404", true), "{old}");
    let device = open(SimConfig::default()).unwrap();
    let gpu = device.gpu().unwrap();
    assert_eq!((gpu.name.as_str(), gpu.capability, gpu.multiprocessors), ("XLAC PTX simulator", (8, 0), 4));
    assert_eq!((gpu.shared_bytes, gpu.driver, device.name()), (163 << 10, (12, 0), "XLAC PTX simulator"));
    assert!(Device::cpu().gpu().is_none());
}

fn artifact(features: &[&str]) -> Vec<u8> {
    let mut writer = ArtifactWriter::new(Cursor::new(Vec::new())).unwrap();
    let plan = on_gpu(add_twice());
    for feature in features {
        let target = format!("ptx:{feature}");
        let arch = xlac_runtime::device::cuda::ARCH.to_string();
        let info = VariantInfo { target, arch, features: vec![feature.to_string()], backend: "ptx".into() };
        let text = PTX.replace("sm_80", feature);
        assert_eq!(code(writer.add_variant(info.clone(), &plan, text.as_bytes())), "R0006", "no zero at the end");
        writer.add_variant(info, &plan, &[text.as_bytes(), &[0]].concat()).unwrap();
    }
    writer.finish(Metadata::default()).unwrap().into_inner()
}

#[test]
fn the_best_variant_is_chosen_and_others_are_refused_with_reasons() {
    let bytes = artifact(&["sm_80", "sm_90a", "sm_86"]);
    let on = |capability: (u32, u32)| {
        let simulator = Simulator::new(SimConfig { capability, ..SimConfig::default() });
        Model::from_bytes_on(&bytes, &simulator.device().unwrap())
    };
    for (capability, best) in
        [((8, 0), "ptx:sm_80"), ((8, 9), "ptx:sm_86"), ((9, 0), "ptx:sm_90a"), ((12, 0), "ptx:sm_86")]
    {
        let model = on(capability).unwrap();
        assert_eq!(model.variant().target, best);
        check(&model);
    }
    let refused = on((8, 0)).unwrap().refused().to_vec();
    let reasons: Vec<&str> = refused.iter().map(|refusal| refusal.why.as_str()).collect();
    assert_eq!(
        reasons,
        ["it is for sm_90a exactly, the device is sm_80", "it is for sm_86 and newer, the device is sm_80"]
    );
    let error = Model::from_bytes(&bytes).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("NVIDIA")), ("R0007", true), "{error}");
    let device = Simulator::new(SimConfig::default()).device().unwrap();
    assert_eq!(code(Model::from_bytes_on(&artifact(&["sm_90a"]), &device)), "R0007");
    assert_eq!(Model::from_bytes_on(&bytes, &device).unwrap().device().name(), device.name());
}

#[test]
fn the_log_of_the_compiler_is_in_the_error() {
    let device = Simulator::new(SimConfig::default()).device().unwrap();
    let load = |ptx: &str| Model::from_plan_on(on_gpu(add_twice()), ptx, &[], &device).unwrap_err();
    let error = load(&PTX.replace("add.rn.f32 %f2", "frobnicate.f32 %f2"));
    assert_eq!((error.code(), error.to_string().contains("frobnicate")), ("R0405", true), "{error}");
    let error = load(&PTX.replace(".version 7.0", ".version 8.7"));
    assert_eq!((error.code(), error.to_string().contains("8.7")), ("R0405", true), "{error}");
    assert_eq!(load(&PTX.replace("k_add", "k_other")).code(), "R0006");
    let mut plan = on_gpu(add_twice());
    let mut with_block = |threads: u32, shared: u32| {
        let block = plan.kernels[0].block.as_mut().unwrap();
        (block.threads, block.shared) = (threads, shared);
        code(Model::from_plan_on(plan.clone(), PTX, &[], &device).map(|model| check(&model)))
    };
    assert_eq!(with_block(16, 160 << 10), "ok", "more shared memory than usual is asked for");
    assert_eq!(with_block(16, 164 << 10), "R0406");
    assert_eq!(with_block(17, 0), "R0406");
    assert_eq!(with_block(2000, 0), "R0006");
}

#[test]
fn the_loader_takes_over_where_the_linker_fails() {
    let failures = vec![Failure::new("cuLinkCreate_v2", 1, Status::JIT_COMPILER_NOT_FOUND)];
    let simulator = Simulator::new(SimConfig { failures, ..SimConfig::default() });
    check(&Model::from_plan_on(on_gpu(add_twice()), PTX, &[], &simulator.device().unwrap()).unwrap());
}

#[test]
fn compiled_code_is_kept_between_processes() {
    let folder = std::env::temp_dir().join(format!("xlac-sim-cache-{}", std::process::id()));
    let options = CudaOptions { cache: CubinCache::Folder(folder.clone()) };
    // A fresh simulator is a fresh process.
    let links = |driver: (u32, u32), options: &CudaOptions| {
        let simulator = Simulator::new(SimConfig { driver, ..SimConfig::default() });
        let device = simulator.device_with(options).unwrap();
        check(&Model::from_plan_on(on_gpu(add_twice()), PTX, &[], &device).unwrap());
        simulator.calls("cuLinkComplete")
    };
    assert_eq!(links((12, 0), &options), 1);
    assert_eq!(links((12, 0), &options), 0);
    assert_eq!(links((12, 1), &options), 1, "another driver compiles anew");
    assert_eq!(links((12, 0), &CudaOptions { cache: CubinCache::Off }), 1);
    for file in std::fs::read_dir(&folder).unwrap() {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }
    assert_eq!(links((12, 0), &options), 1, "a damaged entry is dropped");
    assert_eq!(links((12, 0), &options), 0);
    // Intact, but the driver does not take it: dropped and made anew.
    for file in std::fs::read_dir(&folder).unwrap() {
        let foreign = b"no image of this driver\0";
        std::fs::write(file.unwrap().path(), [blake3::hash(foreign).as_bytes(), foreign.as_slice()].concat()).unwrap();
    }
    assert_eq!(links((12, 0), &options), 1);
    assert_eq!(links((12, 0), &options), 0);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(links((12, 0), &CudaOptions { cache: CubinCache::Folder("/proc/none".into()) }), 1);
}

#[test]
fn devices_models_and_sessions_may_be_sent() {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>() {}
    shared::<Device>();
    shared::<Model>();
    sent::<Session>();
}
