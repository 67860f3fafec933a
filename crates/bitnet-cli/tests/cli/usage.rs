//! Help, wrong usage, failures, and what a pipe does: the same for every command.

use super::{bitnet, failure, stdout, tiny};
use std::fs;
use std::process::Stdio;
use tempfile::TempDir;

const COMMANDS: [&str; 13] = [
    "run",
    "chat",
    "inspect",
    "tokenize",
    "perplexity",
    "logits",
    "synth",
    "bench",
    "convert",
    "devices",
    "batch",
    "embed",
    "serve",
];

#[test]
fn help_has_examples() {
    let help = stdout(&["--help"]);
    assert!(
        help.contains("Examples:") && help.contains("Exit codes:"),
        "{help}"
    );
    for model in bitnet::hub::KNOWN_MODELS {
        assert!(
            help.contains(model.name) && help.contains(model.license),
            "{help}"
        );
    }
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in the list");
        let help = stdout(&[command, "--help"]);
        assert!(
            help.contains("Examples:") && help.contains(&format!("bitnet {command}")),
            "{help}"
        );
    }
}

#[test]
fn wrong_usage_is_2() {
    failure(&["run", "--no-such-option"], 2);
    failure(&["run", "--temp", "hot"], 2);
    failure(&["run", "--device", "toaster"], 2);
    failure(&["synth", "--shape", "huge", "x.gguf"], 2);
    failure(&["logits"], 2);
    let two = [
        "serve",
        "-m=a.gguf",
        "-m=b.gguf",
        "--chat-template=Cargo.toml",
    ];
    assert!(failure(&two, 2).contains("one model that it is for"));
    failure(&["bench", "-p", "0", "-n", "0"], 2);
    failure(&["run", "-m", tiny(), "--temp", "-1", "x"], 2);
}

#[test]
fn numbers_out_of_range_are_wrong_usage_before_any_work() {
    // Offline, `2b4t` would be a failure of another kind if it were looked for.
    let cases: [&[&str]; 16] = [
        &["run", "-m", "2b4t", "-t", "0", "x"],
        &["run", "-m", "2b4t", "-t", "100000", "x"],
        &["run", "-m", "2b4t", "-c", "0", "x"],
        &["run", "-m", "2b4t", "--temp", "NaN", "x"],
        &["run", "-m", "2b4t", "--temp", "inf", "x"],
        &["run", "-m", "2b4t", "--top-p", "1.5", "x"],
        &["run", "-m", "2b4t", "--min-p", "nan", "x"],
        &["run", "-m", "2b4t", "--repeat-penalty", "0", "x"],
        &["run", "-m", "2b4t", "--top-k", "-1", "x"],
        &["chat", "-m", "2b4t", "-n", "0"],
        &["chat", "-m", "2b4t", "--temp", "NaN"],
        &["bench", "-m", "2b4t", "-t", "1,0"],
        &["bench", "-m", "2b4t", "-r", "0"],
        &["logits", "-m", "2b4t", "--tokens", "1", "--batch", "0"],
        &["logits", "-m", "2b4t", "--tokens", "1", "-t", "0"],
        &["perplexity", "-m", "2b4t", "-f", "-", "--window", "1"],
    ];
    for case in cases {
        failure(case, 2);
    }
}

#[test]
fn what_was_typed_cannot_speak_to_the_terminal() {
    for case in [
        &["run", "--temp", "\u{9b}2J"][..],
        &["inspect", "no\x1b[2Jsuch\u{202e}file"],
        &["inspect", "http://h\x1b[2J/m.gguf"],
        &["inspect", "hf:a/\x1b[2J"],
    ] {
        let output = bitnet(case).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{text:?}"
        );
    }
}

#[test]
fn failures_are_one_line_on_stderr() {
    let line = failure(&["run", "-m", "no/such/file.gguf", "x"], 1);
    assert!(line.starts_with("error: no/such/file.gguf: "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cut.gguf");
    let whole = fs::read(tiny()).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let line = failure(&["inspect", path.to_str().unwrap()], 1);
    assert!(
        line.contains("cut.gguf") && line.contains("expected"),
        "{line}"
    );

    // Offline, a name that would be downloaded is refused and nothing is asked.
    let line = failure(&["run", "-m", "2b4t", "x"], 1);
    assert!(line.contains("not in the cache"), "{line}");

    let output = bitnet(&["devices"])
        .env("BITNET_ISA", "abacus")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("abacus"));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = bitnet(&[
        "logits",
        "-m",
        tiny(),
        "--tokens",
        "1,2,3,4,5,6,7,8",
        "--json",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}
