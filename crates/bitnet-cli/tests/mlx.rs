//! The command on MLX.
#![cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]

use std::process::Command;

fn stdout(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bitnet"))
        .args(arguments)
        .output()
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_demo_model_speaks() {
    let say = |device| {
        stdout(&[
            "run",
            "--device",
            device,
            "--temp",
            "0",
            "-n",
            "24",
            "One day, Tom",
        ])
    };
    let (mlx, cpu) = (say("mlx"), say("cpu"));
    println!("{mlx}");
    // Texts may part where two tokens are about as likely, and not before some are not.
    let shared = mlx.chars().zip(cpu.chars()).take_while(|(a, b)| a == b);
    assert!(shared.count() >= 20, "{mlx:?} and {cpu:?}");
}

#[test]
fn devices_and_speed_name_it() {
    let devices: serde_json::Value =
        serde_json::from_str(&stdout(&["devices", "--json"])).expect("JSON");
    let backends = devices["backends"].as_array().expect("a list");
    let mlx = backends.iter().find(|backend| backend["name"] == "mlx");
    let mlx = mlx.expect("it is listed");
    assert!(mlx["built"] == true && mlx["found"] == true, "{mlx}");
    let bench = [
        "bench",
        "--device",
        "mlx",
        "-p",
        "16",
        "-n",
        "4",
        "-r",
        "1",
        "--no-warmup",
        "--json",
    ];
    let report: serde_json::Value = serde_json::from_str(&stdout(&bench)).expect("JSON");
    let results = report["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2);
    for result in results {
        let device = result["device"].as_str().expect("a name");
        assert!(device.starts_with("mlx"), "{device}");
        assert!(
            result["tokens_per_second"]
                .as_f64()
                .is_some_and(|speed| speed > 0.0)
        );
    }
}

#[test]
fn what_only_others_have_is_refused() {
    for (arguments, message) in [
        (
            &["run", "--device", "mlx", "--adapter", "0", "x"][..],
            "--device wgpu",
        ),
        (
            &["logits", "--tokens", "1", "--digest", "--device", "mlx"],
            "processors alone",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bitnet"))
            .args(arguments)
            .output()
            .expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(message), "{said}");
    }
}
