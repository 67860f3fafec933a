//! Floating-point weights become ternary ones: with the error that is reported, and rotated if that is asked for.

use std::path::{Path, PathBuf};

use bitnet::file::convert::{
    ConvertOptions, ConvertReport, ConvertType, Fit, FitRotation, ScaleRule, convert_with,
};
use bitnet::file::synth::{self, CheckpointWeights, SynthArch, SynthOptions};
use bitnet::file::{Gguf, GgufTensor, SafeTensorsModel};
use bitnet::{Error, Model};
use bitnet_core::Rotation;
use bitnet_quant::{ErrorMetrics, Format, I2sLayout};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A checkpoint of floating-point weights that says nothing of ternary ones.
fn floats(directory: &Path, arch: SynthArch) -> bitnet::Result<PathBuf> {
    let path = directory.join(format!("{arch}-floats"));
    let options = SynthOptions {
        arch,
        ..SynthOptions::default()
    };
    synth::write_checkpoint(&options, CheckpointWeights::Floats, &path)?;
    Ok(path)
}

fn fitted(from: &Path, out: &Path, to: ConvertType, fit: Fit) -> bitnet::Result<ConvertReport> {
    let options = ConvertOptions {
        fit: Some(fit),
        ..ConvertOptions::default()
    };
    convert_with(from, out, to, &options, &mut |_, _| ())
}

fn by(scales: ScaleRule) -> Fit {
    Fit {
        scales,
        rotation: None,
    }
}

/// The values of a matrix of a GGUF file, row after row.
fn decoded(tensor: &GgufTensor) -> Vec<f32> {
    let format = tensor.format(I2sLayout::A, "").expect("a format");
    let scale = tensor.i2s_scale("").unwrap_or(1.0);
    let (cols, rows) = (tensor.cols(), tensor.row_data());
    let mut values = vec![0.0; tensor.elements()];
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    for (row, values) in rows.chunks(row_bytes).zip(values.chunks_mut(cols)) {
        format.decode_row(row, scale, values).expect("values");
    }
    values
}

/// The floats of a projection that keeps the order of its rows.
fn original(from: &Path, part: &str) -> Vec<f32> {
    let checkpoint = SafeTensorsModel::open(from).expect("a checkpoint");
    let name = format!("model.layers.1.mlp.{part}_proj.weight");
    let raw = checkpoint.tensor(&name).expect("the floats");
    let mut values = vec![0.0; raw.data.len() / 2];
    Format::Bf16
        .decode_row(&raw.data, 1.0, &mut values)
        .expect("floats");
    values
}

fn sqnr(report: &ConvertReport, name: &str) -> f64 {
    let error = report.errors.iter().find(|error| error.name == name);
    error.expect("the matrix").metrics.sqnr_db
}

#[test]
fn every_type_has_the_error_that_is_reported() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in [SynthArch::Llama, SynthArch::BitnetB158] {
        let from = floats(directory.path(), arch)?;
        for to in ConvertType::ALL {
            let mut found = Vec::new();
            for scales in ScaleRule::ALL {
                let out = directory.path().join(format!("{arch}-{to}-{scales}"));
                let report = fitted(&from, &out, *to, by(*scales))?;
                assert_eq!(
                    (report.ternary, report.fitted, report.quantized),
                    (14, 14, 0)
                );
                assert_eq!(report.errors.len(), 14);
                assert!(!report.lossless() && report.to_string().contains("perplexity"));
                let [least, mean, most] = report.sqnr_db().expect("errors");
                assert!(least <= mean && mean <= most, "{report}");
                found.push(mean);
                // The models run.
                let model = Model::open(&out)?;
                model
                    .session()?
                    .forward(&[1, 2, 3], bitnet::LogitsFor::Last)?;
                if *to == ConvertType::SafeTensors {
                    continue;
                }
                let file = Gguf::open(&out)?;
                for part in ["up", "down"] {
                    let name = format!("blk.1.ffn_{part}.weight");
                    let values = decoded(file.tensor(&name).expect("the matrix"));
                    let expected = ErrorMetrics::between(&original(&from, part), &values)?;
                    let reported = sqnr(&report, &name);
                    assert!(
                        (expected.sqnr_db - reported).abs() < 1e-3,
                        "{to}, {scales}, {name}: {} of {reported}",
                        expected.sqnr_db
                    );
                }
            }
            // What has the least error has less than what has not.
            assert!(found[1] > found[0], "{to}: {found:?}");
        }
    }
    Ok(())
}

#[test]
fn rotated_matrices_are_those_of_the_contract() -> Outcome {
    let directory = tempfile::tempdir()?;
    let from = floats(directory.path(), SynthArch::Qwen3)?;
    let out = directory.path().join("rotated.gguf");
    let mut found = Vec::new();
    for block in [0, 64] {
        let fit = Fit {
            scales: ScaleRule::LeastSquares,
            rotation: Some(FitRotation { block, seed: 5 }),
        };
        let report = fitted(&from, &out, ConvertType::PQ2_0, fit)?;
        let file = Gguf::open(&out)?;
        let size = file.usize("prism.hadamard.block_size")?.expect("a block");
        found.push(size);
        let widths = file.i32s("prism.hadamard.sign_widths")?.expect("widths");
        let mut rest = &file.i32s("prism.hadamard.sign_values")?.expect("signs")[..];
        for width in widths {
            let (own, others) = rest.split_at(width as usize);
            rest = others;
            let name = match width {
                256 => "up",
                512 => "down",
                other => panic!("{other} columns"),
            };
            let rotation = Rotation {
                block: size,
                signs: own.iter().map(|sign| *sign as f32).collect(),
                regroup: None,
            };
            let mut expected = original(&from, name);
            for row in expected.chunks_mut(width as usize) {
                rotation.rotate(row)?;
            }
            let name = format!("blk.1.ffn_{name}.weight");
            let values = decoded(file.tensor(&name).expect("the matrix"));
            let metrics = ErrorMetrics::between(&expected, &values)?;
            assert!((metrics.sqnr_db - sqnr(&report, &name)).abs() < 1e-3);
            assert!(metrics.cosine > 0.85, "{metrics:?}");
        }
        // A model that reads rotated weights rotates its rows: its logits are like those of the floats.
        let logits = |path: &Path| -> bitnet::Result<Vec<f32>> {
            let ids: Vec<u32> = (5..29).collect();
            let model = Model::open(path)?;
            Ok(model
                .session()?
                .forward(&ids, bitnet::LogitsFor::All)?
                .to_vec())
        };
        let alike = ErrorMetrics::between(&logits(&from)?, &logits(&out)?)?;
        assert!(alike.cosine > 0.7, "{alike:?}");
    }
    assert_eq!(found, [256, 64]);
    Ok(())
}

#[test]
fn what_cannot_be_fitted_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("out.gguf");
    let rotated = |block| Fit {
        scales: ScaleRule::AbsMean,
        rotation: Some(FitRotation { block, seed: 0 }),
    };
    let from = floats(directory.path(), SynthArch::Llama)?;
    let plain = bitnet::file::convert::convert(&from, &out, ConvertType::I2S, &mut |_, _| ());
    let plain = plain.expect_err("floats").to_string();
    assert!(plain.contains("--quantize"), "{plain}");
    let error = fitted(&from, &out, ConvertType::I2S, rotated(0)).expect_err("llama");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let from = floats(directory.path(), SynthArch::Qwen3)?;
    for block in [3, 48, 512, usize::MAX] {
        let error = fitted(&from, &out, ConvertType::I2S, rotated(block)).expect_err("a block");
        assert!(
            error.to_string().contains("power of two up to 256"),
            "{error}"
        );
    }
    let error = fitted(&from, &out, ConvertType::SafeTensors, rotated(0)).expect_err("a folder");
    assert!(error.to_string().contains("GGUF"), "{error}");
    // Ternary weights are never quantized again.
    let options = SynthOptions::default();
    let ternary = directory.path().join("ternary.gguf");
    synth::write(&options, &ternary, &mut |_, _| ())?;
    let error = fitted(&ternary, &out, ConvertType::TQ2_0, by(ScaleRule::AbsMean));
    let error = error.expect_err("nothing to fit").to_string();
    assert!(error.contains("has none"), "{error}");
    Ok(())
}
