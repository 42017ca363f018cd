//! A small artifact with real machine code, written, read, run, and damaged in every way.

use std::io::Cursor;

use super::*;
use crate::plan::*;
use crate::{Error, Model, Session, TensorRef};

/// `*buffers[0] = dims[0]; return 0`
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0x48, 0x8b, 0x07, 0x48, 0x8b, 0x0e, 0x48, 0x89, 0x08, 0x31, 0xc0, 0xc3];
/// `*buffers[0] = dims[0]; return 0`
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0x08, 0x00, 0x40, 0xf9, 0x29, 0x00, 0x40, 0xf9, 0x09, 0x01, 0x00, 0xf9, 0x00, 0x00, 0x80, 0xd2, 0xc0, 0x03, 0x5f,
    0xd6,
];

/// Output `y` is the size of input `x`; output `w` is a weight.
fn plan() -> Plan {
    let decl = |name: &str, dtype, shape: &[ExprId], buffer| TensorDecl {
        name: name.into(),
        dtype,
        shape: shape.into(),
        buffer,
    };
    let launch = Launch {
        kernel: 0,
        tiles: 1,
        buffers: vec![(1, 2)],
        dims: vec![0],
        scratch: 2,
        tile_ns: 2,
        flops: 2,
        traffic: 2,
    };
    Plan {
        symbols: vec![Symbol { name: "N".into(), source: SymbolSource::Input { input: 0, axis: 0 }, range: (0, 99) }],
        exprs: vec![Expr::Symbol(0), Expr::Const(1), Expr::Const(0), Expr::Const(8)],
        constraints: vec![],
        inputs: vec![decl("x", DType::U8, &[0], 0)],
        outputs: vec![decl("y", DType::I64, &[], 1), decl("w", DType::I64, &[], 2)],
        buffers: vec![
            Buffer { storage: Storage::Input(0), bytes: 0 },
            Buffer { storage: Storage::Output(0), bytes: 3 },
            Buffer { storage: Storage::Weight(64), bytes: 3 },
        ],
        arena_bytes: 2,
        kernels: vec![Kernel { name: "size".into(), entry: 0, nodes: vec!["Size_0".into()], block: None }],
        steps: vec![Step::Launch(launch)],
    }
}

fn variant(arch: &str, features: &[&str]) -> VariantInfo {
    VariantInfo {
        target: format!("cpu:{arch}"),
        arch: arch.into(),
        features: features.iter().map(|&name| name.into()).collect(),
        backend: "hand".into(),
    }
}

fn write(variants: &[VariantInfo]) -> Vec<u8> {
    let mut writer = ArtifactWriter::new(Cursor::new(Vec::new())).unwrap();
    assert_eq!(writer.write_weight(b"some bytes").unwrap(), 0);
    assert_eq!(writer.start_weight().unwrap(), 64);
    writer.extend_weight(&1234i64.to_le_bytes()[..3]).unwrap();
    writer.extend_weight(&1234i64.to_le_bytes()[3..]).unwrap();
    for variant in variants {
        writer.add_variant(variant.clone(), &plan(), CODE).unwrap();
    }
    let metadata = Metadata { model_name: "tiny".into(), numerics: "exact".into(), ..Metadata::default() };
    writer.finish(metadata).unwrap().into_inner()
}

fn artifact() -> Vec<u8> {
    write(&[variant(std::env::consts::ARCH, &[])])
}

fn run(model: &Model) -> (i64, i64) {
    let outputs = Session::new(model).run(&[TensorRef::from_slice(&[3], &[1u8, 2, 3]).unwrap()]).unwrap();
    (outputs[0].as_slice().unwrap()[0], outputs[1].as_slice().unwrap()[0])
}

#[test]
fn what_is_written_can_be_run() {
    let bytes = artifact();
    assert_eq!(bytes, artifact(), "the same input gives the same bytes");
    let model = Model::from_bytes(&bytes).unwrap();
    assert_eq!(model.metadata().model_name, "tiny");
    assert_eq!(run(&model), (3, 1234));
    let path = std::env::temp_dir().join(format!("xlac-artifact-{}.xlac", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let model = Model::load_with(&path, &LoadOptions { verify_weights: false, ..LoadOptions::default() }).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&model), (3, 1234));
    assert_eq!(Model::load(&path).unwrap_err().code(), "R0001");
    let artifact = Artifact::from_bytes(&bytes).unwrap();
    assert!(artifact.sections().iter().all(|section| section.offset % 64 == 0));
    assert_eq!(artifact.plan(0).unwrap(), plan());
}

/// Weights of several pieces of the digest and several writes, the last of both incomplete, given in `part`s.
fn write_large(part: usize) -> Vec<u8> {
    let mut writer = ArtifactWriter::new(Cursor::new(Vec::new())).unwrap();
    writer.write_weight(&[0; 64]).unwrap();
    assert_eq!(writer.write_weight(&1234i64.to_le_bytes()).unwrap(), 64);
    writer.start_weight().unwrap();
    let weights: Vec<u8> = (0..5 << 20).map(|i: usize| (i * 31 + i / 251) as u8).collect();
    weights.chunks(part).for_each(|part| writer.extend_weight(part).unwrap());
    writer.add_variant(variant(std::env::consts::ARCH, &[]), &plan(), CODE).unwrap();
    writer.finish(Metadata::default()).unwrap().into_inner()
}

#[test]
fn parts_of_weights_do_not_matter() {
    let bytes = write_large(usize::MAX >> 1);
    assert_eq!(run(&Model::from_bytes(&bytes).unwrap()), (3, 1234));
    for part in [(1 << 16) - 3, 1 << 20, 2 << 20, (2 << 20) + 1, 4 << 20] {
        assert!(write_large(part) == bytes, "parts of {part}");
    }
}

#[test]
fn damaged_weights_never_give_a_result() {
    let mut bytes = write_large(1 << 20);
    let artifact = Artifact::from_bytes(&bytes).unwrap();
    let (begin, len) = (artifact.weights_range().start, artifact.weights().len());
    assert!(!len.is_multiple_of(1 << 20));
    let path = std::env::temp_dir().join(format!("xlac-damaged-{}.xlac", std::process::id()));
    for position in [0, 1 << 20, len / 2, (3 << 20) - 1, 5 << 20, len - 1] {
        bytes[begin + position] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Model::from_bytes(&bytes).unwrap_err().code(), "R0005", "byte {position}");
        for threads in (1..=4).map(Some).chain([None]) {
            let options = LoadOptions { threads, ..LoadOptions::default() };
            let error = Model::load_with(&path, &options).unwrap_err();
            assert_eq!(error.code(), "R0005", "byte {position}, {threads:?} threads");
            assert!(error.to_string().contains("the weights section"));
        }
        bytes[begin + position] ^= 0x10;
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(run(&Model::load(&path).unwrap()), (3, 1234));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = artifact();
    for len in 0..bytes.len() {
        let error = Model::from_bytes(&bytes[..len]).unwrap_err();
        assert!(matches!(error.code(), "R0002" | "R0004"), "{len} bytes: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Model::from_bytes(&longer).unwrap_err().code(), "R0004");
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let mut bytes = artifact();
    let mut harmless = 0;
    for position in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            bytes[position] ^= flip;
            match Model::from_bytes(&bytes) {
                Ok(model) => {
                    assert_eq!(*model.plan(), plan());
                    harmless += 1;
                }
                Err(error) => assert!(error.code().starts_with("R000"), "{error}"),
            }
            bytes[position] ^= flip;
        }
    }
    // Padding between sections.
    assert!(harmless < 3 * 64 * 4, "{harmless}");
}

/// The digests show damage, not ill will: what is behind them must be checked as well.
#[test]
fn forged_plans_are_refused_or_sound() {
    let encoded = postcard::to_stdvec(&plan()).unwrap();
    for position in 0..encoded.len() {
        for value in [0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xff] {
            let mut forged = encoded.clone();
            forged[position] = value;
            if let Ok(plan) = postcard::from_bytes::<Plan>(&forged) {
                let _ = crate::model::check_plan(&plan, CODE.len() as u64, 72);
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    // Each level: one step, `If` on buffer 0, whose first list holds the next level.
    let mut forged = vec![0; 6];
    forged.extend([0, 0]);
    for _ in 0..1_000_000 {
        forged.extend([1, 5, 0]);
    }
    assert_eq!(postcard::from_bytes::<Plan>(&forged), Err(postcard::Error::SerdeDeCustom));
}

#[test]
fn broken_plans_are_refused() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut broken = plan();
        change(&mut broken);
        let result = crate::model::check_plan(&broken, CODE.len() as u64, 72);
        assert!(matches!(result, Err(Error::BadPlan(_))), "{result:?} for {broken:?}");
    };
    refused(&|plan| plan.exprs[1] = Expr::Add(1, 0));
    refused(&|plan| plan.exprs[1] = Expr::Symbol(1));
    refused(&|plan| plan.symbols[0].range = (3, 2));
    refused(&|plan| plan.symbols[0].source = SymbolSource::Input { input: 0, axis: 1 });
    refused(&|plan| plan.symbols[0].source = SymbolSource::Step);
    refused(&|plan| plan.buffers[2].storage = Storage::Weight(65));
    refused(&|plan| plan.buffers[2].storage = Storage::Weight(u64::MAX - 4));
    refused(&|plan| plan.buffers[2].bytes = 0);
    refused(&|plan| plan.buffers[0].storage = Storage::Input(1));
    refused(&|plan| plan.buffers[1].storage = Storage::Output(2));
    refused(&|plan| plan.buffers[1].storage = Storage::Arena(9));
    refused(&|plan| plan.arena_bytes = 4);
    refused(&|plan| plan.kernels[0].entry = CODE.len() as u64);
    refused(&|plan| plan.kernels.clear());
    refused(&|plan| plan.outputs[0].buffer = 3);
    refused(&|plan| plan.inputs[0].buffer = 1);
    refused(&|plan| plan.steps.push(Step::Copy { from: 1, to: 0, bytes: 3 }));
    refused(&|plan| plan.steps.push(Step::Copy { from: 1, to: 2, bytes: 3 }));
    refused(&|plan| {
        plan.outputs[1].buffer = 0;
        plan.buffers[2].storage = Storage::Output(1);
    });
    refused(&|plan| plan.steps.push(Step::Set { symbol: 0, value: 0 }));
    refused(&|plan| plan.steps.push(Step::Swap { a: 0, b: 1 }));
    refused(&|plan| plan.steps.push(Step::Append { from: 0, to: 1, offset: 3, bytes: 3 }));
}

#[test]
fn symbols_are_bound_before_use() {
    let with_steps = |steps: Vec<Step>| {
        let mut plan = plan();
        plan.symbols.push(Symbol { name: "k".into(), source: SymbolSource::Step, range: (0, 9) });
        plan.exprs.push(Expr::Symbol(1));
        plan.buffers.push(Buffer { storage: Storage::Heap, bytes: 3 });
        plan.steps = steps;
        crate::model::check_plan(&plan, CODE.len() as u64, 72)
    };
    let set = Step::Set { symbol: 1, value: 1 };
    let copy = Step::Copy { from: 1, to: 3, bytes: 4 };
    let branch = |then_steps, else_steps| Step::If { cond: 2, then_steps, else_steps };
    let repeat = |body| Step::Loop { trips: Some(2), cond: None, counter: 3, symbol: 1, body };
    assert!(with_steps(vec![copy.clone()]).is_err());
    assert!(with_steps(vec![set.clone(), copy.clone()]).is_ok());
    assert!(with_steps(vec![branch(vec![set.clone()], vec![]), copy.clone()]).is_err());
    assert!(with_steps(vec![branch(vec![set.clone()], vec![set.clone()]), copy.clone()]).is_ok());
    assert!(with_steps(vec![repeat(vec![copy.clone()]), copy.clone()]).is_ok());
    let nested = (0..65).fold(set, |step, _| branch(vec![step], vec![]));
    assert!(with_steps(vec![nested]).is_err());
}

#[test]
fn the_best_variant_is_chosen_and_others_explained() {
    let here = std::env::consts::ARCH;
    let present = crate::device::features::present();
    let mut variants = vec![variant(here, &[]), variant("pdp11", &[]), variant(here, &["warp-drive"])];
    variants.extend(present.first().map(|&name| variant(here, &[name])));
    let model = Model::from_bytes(&write(&variants)).unwrap();
    assert_eq!(model.variant().features.len(), present.len().min(1));
    assert_eq!(model.refused().len(), 2);
    assert!(model.refused()[0].why.contains("it is for pdp11"));
    assert!(model.refused()[1].why.contains("lacks warp-drive"));
    let error = Model::from_bytes(&write(&variants[1..3])).unwrap_err();
    assert_eq!(error.code(), "R0007");
    assert!(error.to_string().contains("warp-drive") && error.to_string().contains("pdp11"));
}

#[test]
fn writers_insist_on_their_order() {
    let mut writer = ArtifactWriter::new(Cursor::new(Vec::new())).unwrap();
    assert_eq!(writer.extend_weight(b"x").unwrap_err().code(), "R0009");
    assert_eq!(writer.add_variant(variant("x", &[]), &plan(), CODE).unwrap_err().code(), "R0006");
    assert_eq!(writer.write_weight(b"x").unwrap_err().code(), "R0009");
}
