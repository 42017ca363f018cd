//! Assembles the tests' kernels with ptxas, where there is one: `XLAC_PTXAS`, or `ptxas` on the path.

use std::process::Command;

use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Kernel, LoopHint, ScratchLen};

use crate::support::*;
use crate::{control, memory, ops, random, team};

fn assembler() -> Option<String> {
    let path = std::env::var("XLAC_PTXAS").unwrap_or_else(|_| "ptxas".into());
    let runs = Command::new(&path).arg("--version").output().is_ok_and(|o| o.status.success());
    runs.then_some(path)
}

/// Assembles for each target, without warnings and spills.
fn assemble(name: &str, kernels: &[Kernel]) {
    assemble_with(name, kernels, false);
}

fn assemble_with(name: &str, kernels: &[Kernel], may_spill: bool) {
    let Some(ptxas) = assembler() else {
        eprintln!("skipped: there is no ptxas; set XLAC_PTXAS to try it");
        return;
    };
    let code = Code::new(kernels);
    let folder = std::env::temp_dir().join(format!("xlac-ptxas-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary files can be made");
    let (text, cubin) = (folder.join("k.ptx"), folder.join("k.cubin"));
    std::fs::write(&text, &code.text).expect("temporary files can be written");
    for sm in ["sm_80", "sm_90", "sm_120"] {
        let out = Command::new(&ptxas).args(["-v", "-arch", sm, "-o"]).arg(&cubin).arg(&text).output();
        let out = out.expect("it just ran");
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{sm}: {told}\n{}", code.text);
        assert!(!told.to_lowercase().contains("warning"), "{sm}: {told}");
        let spills = |l: &&str| l.contains("spill stores") && !l.contains("0 bytes spill stores");
        assert_eq!(told.lines().find(spills).filter(|_| !may_spill), None, "{sm}: {told}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn operations_assemble() {
    let wide = ops::all().iter().map(|c| ops::kernel(c, 4)).collect::<Vec<_>>();
    let some: Vec<Kernel> = wide.into_iter().step_by(3).collect();
    assemble("ops", &some);
}

#[test]
fn accesses_assemble() {
    let mut kernels = Vec::new();
    for t in dtypes() {
        kernels.extend((0..4).map(|how| memory::tail_kernel(t, 8, how)));
        kernels.push(memory::copy_kernel(t, 8, 1, 9));
        kernels.push(Kernel { name: format!("back_{t}"), ..memory::copy_kernel(t, 3, -8, 8) });
        kernels.push(memory::copy_kernel(t, 16, 0, 16));
    }
    kernels.push(Kernel { name: "s1".into(), ..memory::scratch_kernel(DType::F32, 12, ScratchLen::Const(12)) });
    kernels.push(Kernel { name: "s2".into(), ..memory::scratch_kernel(DType::F16, 12, ScratchLen::Dim(0)) });
    assemble("memory", &kernels);
}

#[test]
fn control_assembles() {
    let mut kernels: Vec<Kernel> = dtypes().map(|t| control::branches(t, 4)).collect();
    for (i, hint) in [LoopHint::Plain, LoopHint::Unroll(4)].into_iter().enumerate() {
        kernels.push(Kernel { name: format!("dynamic{i}"), ..control::sum_kernel(None, 3, hint) });
        kernels.push(Kernel { name: format!("constant{i}"), ..control::sum_kernel(Some((0, 100)), 3, hint) });
    }
    kernels.push(control::check_kernel());
    assemble("control", &kernels);
}

#[test]
fn random_kernels_assemble() {
    let kernels: Vec<Kernel> = (0..60).map(random::kernel).collect();
    assemble_with("random", &kernels, true);
}

#[test]
fn teams_assemble() {
    let mut kernels: Vec<Kernel> = team::FACTORS.iter().map(|&(a, b)| team::product(a, b)).collect();
    kernels.push(team::row_sum(128));
    kernels.extend([DType::F32, DType::F16, DType::I8].map(team::pipeline));
    kernels.extend([1, 2, 4].map(|n| team::matrices(DType::F16, n, n == 2)));
    assemble("team", &kernels);
}
