//! `bitnet devices`.

use super::{bitnet, failure, json, stdout};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn devices_say_what_is_used() {
    let report = json(&["devices", "--json"]);
    assert_eq!(report["backend_in_use"], "cpu");
    let kernels = report["kernels"].as_array().unwrap();
    let in_use: Vec<_> = kernels
        .iter()
        .filter(|kernels| kernels["in_use"] == true)
        .collect();
    assert_eq!(in_use.len(), 1);
    assert_eq!(in_use[0]["name"], report["kernels_in_use"]);
    assert!(stdout(&["devices"]).contains("in use"));
    let scalar = bitnet(&["devices", "--json"])
        .env("BITNET_ISA", "scalar")
        .output()
        .unwrap();
    let scalar: Value = serde_json::from_slice(&scalar.stdout).unwrap();
    assert_eq!(scalar["kernels_in_use"], "scalar");

    assert!(report["processor"]["threads"].as_u64().unwrap() >= 1);
    assert!(report["memory"]["total"].as_u64().unwrap() > 0);
    let backends = report["backends"].as_array().unwrap();
    let found = |name: &str| {
        let backend = backends.iter().find(|backend| backend["name"] == name);
        backend.unwrap()["found"] == true
    };
    let with_mlx = cfg!(all(
        feature = "mlx",
        target_os = "macos",
        target_arch = "aarch64"
    ));
    assert!(found("cpu") && !found("metal") && found("mlx") == with_mlx);
    assert_eq!(
        found("wgpu"),
        report["adapters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|a| a["kind"] != "software")
    );
    for device in ["metal", "mlx"] {
        if device == "mlx" && with_mlx {
            continue;
        }
        let refused = failure(&["run", "--device", device, "x"], 2);
        assert!(refused.contains("not built into this binary") && refused.contains("auto, cpu"));
    }
}

#[test]
fn a_gpu_is_used_only_by_those_that_can() {
    if cfg!(feature = "wgpu") {
        return;
    }
    for options in [
        &["--device", "wgpu"][..],
        &["--adapter", "0"],
        &["--software-adapter"],
    ] {
        let output = bitnet(&["run", "x"]).args(options).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("cargo build --release --features wgpu"),
            "{said}"
        );
    }
}

#[test]
fn a_choice_of_gpu_and_what_only_processors_promise_exclude_each_other() {
    let line = failure(&["run", "--device", "cpu", "--adapter", "0", "x"], 2);
    assert!(line.contains("--device wgpu"), "{line}");
    let line = failure(
        &["logits", "--tokens", "1", "--digest", "--adapter", "0"],
        2,
    );
    assert!(line.contains("processors alone"), "{line}");
}

/// `bitnet devices …` with `cache` as the user's cache folder.
fn devices(cache: &Path, arguments: &[&str]) -> (String, String) {
    let output = bitnet(&["devices"])
        .args(arguments)
        .env("XDG_CACHE_HOME", cache)
        .env("HOME", cache)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_calibration_is_kept_used_and_explained() {
    let folder = TempDir::new().unwrap();
    let (explained, _) = devices(folder.path(), &["--explain"]);
    assert!(
        explained.contains("built in (there is no file"),
        "{explained}"
    );

    let (shown, _) = devices(folder.path(), &["--calibrate"]);
    assert!(
        shown.contains("ternary_matmul") && shown.contains("I2_S"),
        "{shown}"
    );
    let path = shown.trim_end().rsplit("kept in ").next().unwrap();
    let kept = fs::read_to_string(path).unwrap();
    assert!(Path::new(path).starts_with(folder.path()), "{path}");

    let (explained, warnings) = devices(folder.path(), &["--explain"]);
    assert!(warnings.is_empty(), "{warnings}");
    assert!(explained.contains(path), "{explained}");
    for expected in [
        "ternary_matmul",
        "attention",
        "measured at",
        "µs",
        "multiply-adds",
        "the built-in demo model",
        "a model of 2 billion parameters",
    ] {
        assert!(explained.contains(expected), "{expected}: {explained}");
    }
    let (report, _) = devices(folder.path(), &["--explain", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["routing"]["source"], "measured");
    assert_eq!(report["routing"]["file"], path);
    for route in report["routes"].as_array().unwrap() {
        assert_eq!(route["route"]["device"], "cpu");
        assert!(
            !route["route"]["because"]["threads"]
                .as_str()
                .unwrap()
                .is_empty()
        );
    }

    // A file that is damaged is warned of and passed over, and measuring anew mends it.
    fs::write(path, &kept[..kept.len() / 2]).unwrap();
    let (explained, warnings) = devices(folder.path(), &["--explain"]);
    assert!(
        explained.contains("built in") && warnings.contains(path),
        "{warnings}"
    );
    let output = bitnet(&["run", "Once", "-n", "2"])
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let (measured, _) = devices(folder.path(), &["--calibrate", "--json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(measured, kept);
}
