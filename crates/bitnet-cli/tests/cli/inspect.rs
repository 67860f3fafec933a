//! `bitnet inspect`.

use super::{ModelFile, json, patched, run, stdout, tiny};
use std::fs;

#[test]
fn inspect_counts() {
    let report = json(&["inspect", tiny(), "--json"]);
    assert_eq!(report["architecture"]["name"], "bitnet-b1.58");
    assert_eq!(report["architecture"]["layers"], 2);
    let share = report["ternary"]["zero_share"].as_f64().unwrap();
    assert!((0.35..0.45).contains(&share), "{share}");
    let bits = report["ternary"]["bits_per_weight"].as_f64().unwrap();
    assert!((2.0..2.01).contains(&bits), "{bits}");
    let types = report["types"].as_array().unwrap();
    let sum: u64 = types
        .iter()
        .map(|kind| kind["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, report["bytes"].as_u64().unwrap());
    let memory = |key: &str| report["memory"][key].as_u64().unwrap();
    let shape = |key: &str| report["architecture"][key].as_u64().unwrap();
    assert_eq!(
        memory("kv_bytes_per_token"),
        2 * 2 * shape("layers") * shape("kv_heads") * shape("head_dim")
    );
    assert_eq!(
        memory("kv_bytes"),
        memory("kv_bytes_per_token") * memory("context")
    );
    assert!(stdout(&["inspect", "-m", tiny()]).contains("I2_S"));
    assert!(stdout(&["inspect"]).starts_with("demo model\n"));
}

/// Escape sequences in what a file says of itself are shown and not sent; JSON has them without loss.
#[test]
fn a_hostile_file_cannot_speak_to_the_terminal() {
    let bytes = fs::read(tiny()).unwrap();
    let value = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let architecture = "\x1b[2J\u{9b}m\u{202e}x";
    assert_eq!(architecture.len(), "bitnet-b1.58".len() - 1);
    let bytes = patched(
        bytes,
        &value("bitnet-b1.58"),
        &[
            &value("bitnet-b1.58")[..8],
            b"\x07",
            architecture.as_bytes(),
        ]
        .concat(),
    );
    let bytes = patched(
        bytes,
        &value("gpt2"),
        &[&value("gpt2")[..8], b"\x1b[2J"].concat(),
    );
    let file = ModelFile::new(&bytes);
    let text = stdout(&["inspect", file.path()]);
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{text:?}"
    );
    assert!(text.contains("tokenizer       \\x1b[2J"), "{text}");

    let report = json(&["inspect", file.path(), "--json"]);
    assert_eq!(report["tokenizer"]["kind"], "\x1b[2J");
    let raw = stdout(&["inspect", file.path(), "--json"]);
    assert!(
        !raw.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{raw:?}"
    );

    // Errors too, of which there is one line.
    let output = run(&["run", "-m", file.path(), "x"]);
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.ends_with('\n') && line.lines().count() == 1);
    assert!(!line.trim_end().contains(char::is_control), "{line:?}");
}

#[test]
fn layers_of_a_hybrid_model_are_drawn() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../bitnet/tests/bonsai2/tiny-bonsai2.gguf"
    );
    let text = stdout(&["inspect", model]);
    assert!(
        text.contains("DDDA  (D: gated delta net, A: attention)"),
        "{text}"
    );
    assert!(
        text.contains("8 value heads of 32, 4 key heads of 32"),
        "{text}"
    );
    let report = json(&["inspect", model, "--json"]);
    // Three layers of 8 · 32 · 32 and 3 · 512 numbers, of the present, those before it, and the one that is written.
    assert_eq!(
        report["memory"]["state_bytes"],
        5 * 3 * (8 * 32 * 32 + 3 * 512) * 4
    );
}

#[test]
fn experts_and_windows_are_told() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../bitnet/tests/maple/tiny-maple-a.gguf"
    );
    let text = stdout(&["inspect", model]);
    for expected in [
        "WAW  (W: attention in a window, A: attention)",
        "4 of width 64 in each layer, of which a token meets 2",
        "clamped at 7",
        "2 layers attend to 8 positions, rotating 16 columns of a head",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let report = json(&["inspect", model, "--json"]);
    let memory = &report["memory"];
    let number = |name: &str| memory[name].as_u64().expect("a number");
    let (kv, context) = (number("kv_bytes"), number("context"));
    let per_layer = number("kv_bytes_per_token") / 3;
    // One layer keeps all, two of them what a window of 8 sees, and some blocks behind it.
    assert!(kv > per_layer * context, "{memory}");
    assert_eq!(
        kv,
        per_layer * (context + 2 * 64 * 17).min(3 * context),
        "{memory}"
    );
    assert_eq!(report["architecture"]["mixers"], "WAW");
    assert!(report["obstacle"].is_null(), "{text}");
}
