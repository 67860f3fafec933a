//! `bitnet convert`.

use super::{bitnet, failure, stdout, tiny};
use tempfile::TempDir;

#[test]
fn convert_says_what_it_kept() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = stdout(&["convert", tiny(), &path("packed"), "--type", "safetensors"]);
    assert!(said.contains("Lossless"), "{said}");
    let said = stdout(&[
        "convert",
        &path("packed"),
        &path("back.gguf"),
        "--type",
        "i2_s",
    ]);
    assert!(said.contains("Lossless"), "{said}");
    let digest = |model: &str| stdout(&["logits", "-m", model, "--tokens", "1,2,3", "--digest"]);
    assert_eq!(digest(&path("back.gguf")), digest(tiny()));
    assert_eq!(digest(&path("packed")), digest(tiny()));
    let said = stdout(&["convert", tiny(), &path("tq2.gguf"), "--type", "tq2_0"]);
    assert!(said.contains("Lossless"), "{said}");
    failure(&["convert", tiny(), &path("x.gguf"), "--type", "q4_k"], 2);
}

#[test]
fn floats_become_ternary_and_the_loss_is_shown() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (floats, out) = (path("floats"), path("out.gguf"));
    let synth = [
        "synth",
        "--arch",
        "qwen3",
        "--checkpoint",
        "floats",
        &floats,
    ];
    assert!(stdout(&synth).contains("floats weights"));
    std::fs::write(path("text.txt"), "Once upon a time there was a text.").unwrap();
    let convert = ["convert", &floats, &out, "--type", "pq2_0"];
    fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [command, more].concat()
    }
    let (svg, json, text) = (path("errors.svg"), path("errors.json"), path("text.txt"));
    let rotated = [
        "--quantize",
        "least-squares",
        "--rotate",
        "--errors",
        &json,
        "--text",
        &text,
    ];
    let said = stdout(&with(&convert, &rotated));
    for part in [
        "14 matrices of floating-point",
        "dB",
        "perplexity before",
        "perplexity after",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let errors = std::fs::read_to_string(&json).unwrap();
    let errors: serde_json::Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(errors["matrices"].as_array().unwrap().len(), 14);
    assert!(
        errors["matrices"][0]["sqnr_db"].as_f64().unwrap() > 3.0,
        "{errors}"
    );
    assert!(errors["perplexity"]["after"]["value"].as_f64().unwrap() > 1.0);
    stdout(&with(
        &convert,
        &["--quantize", "absmean", "--errors", &svg],
    ));
    assert!(std::fs::read_to_string(&svg).unwrap().contains("ffn_down"));
    let said = failure(&with(&convert, &[]), 1);
    assert!(said.contains("--quantize"), "{said}");
    let said = failure(
        &with(
            &convert,
            &["--quantize", "absmean", "--errors", "errors.png"],
        ),
        1,
    );
    assert!(said.contains(".svg or .json"), "{said}");
    failure(&with(&convert, &["--rotate", "64"]), 2);
    failure(&with(&convert, &["--quantize", "best"]), 2);
}

#[test]
fn what_cannot_be_written_is_said_in_a_line() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = failure(&["convert", tiny(), tiny(), "--type", "tq1_0"], 2);
    assert!(
        said.contains("another file than those of the input"),
        "{said}"
    );
    let said = failure(
        &["convert", tiny(), &path("no/x.gguf"), "--type", "tq1_0"],
        1,
    );
    assert!(said.contains("x.gguf: there is no directory"), "{said}");
    std::fs::write(path("taken"), "").unwrap();
    let said = failure(&["convert", tiny(), &path(""), "--type", "safetensors"], 1);
    assert!(said.contains("not empty; name a new one"), "{said}");
    let said = failure(
        &["convert", tiny(), &path("taken"), "--type", "safetensors"],
        1,
    );
    assert!(said.contains("a file has this name"), "{said}");
    #[cfg(target_os = "linux")]
    {
        let said = failure(&["convert", tiny(), "/dev/full", "--type", "tq1_0"], 1);
        assert!(said.contains("/dev/full: No space left"), "{said}");
    }
}

/// Unfinished files and folders in `folder`.
#[cfg(unix)]
fn unfinished(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).count()
}

/// Runs the command until it writes, and ends it by `signal`; false if it was done before.
#[cfg(unix)]
fn interrupted(arguments: &[&str], folder: &std::path::Path, signal: &str) -> bool {
    let before = unfinished(folder);
    let mut child = bitnet(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while unfinished(folder) == before && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args([signal, &id])
        .status();
    let ended = child.wait().unwrap();
    if sent.unwrap().success() && !ended.success() {
        // Ctrl-C has an exit code of its own.
        assert!(signal != "-INT" || ended.code() == Some(130), "{ended}");
        return true;
    }
    false
}

#[cfg(unix)]
#[test]
fn what_was_killed_does_not_stand_in_the_way() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let model = path("125m.gguf");
    let synth = ["synth", "--shape", "125m", &model];
    let outputs =
        [("out.gguf", "tq1_0"), ("out", "safetensors")].map(|(out, kind)| (path(out), kind));
    let mut commands = vec![synth.to_vec()];
    for (out, kind) in &outputs {
        commands.push(vec!["convert", &model, out, "--type", kind]);
    }
    for command in commands {
        let left = unfinished(folder.path());
        if interrupted(&command, folder.path(), "-INT") {
            assert_eq!(
                unfinished(folder.path()),
                left,
                "Ctrl-C leaves nothing: {command:?}"
            );
        }
        interrupted(&command, folder.path(), "-KILL");
        stdout(&command);
    }
    let digest = |model: &str| stdout(&["logits", "-m", model, "--tokens", "1,2", "--digest"]);
    assert_eq!(digest(&outputs[1].0), digest(&model));
}

/// Arguments are bytes on Linux.
#[cfg(target_os = "linux")]
#[test]
fn paths_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = TempDir::new().unwrap();
    let path = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
    let (model, packed) = (path(b"caf\xe9.gguf"), path(b"packed\xff"));
    std::fs::copy(tiny(), &model).unwrap();
    let run = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut convert = bitnet(&["convert", "--type", "safetensors"]);
    assert!(run(convert.arg(&model).arg(&packed)).contains("Lossless"));
    let expected = stdout(&["logits", "-m", tiny(), "--tokens", "1,2", "--digest"]);
    for path in [&model, &packed] {
        let logits = &mut bitnet(&["logits", "--tokens", "1,2", "--digest", "-m"]);
        assert_eq!(run(logits.arg(path)), expected);
        run(bitnet(&["inspect"]).arg(path));
        run(bitnet(&["inspect", "--json", "-m"]).arg(path));
        run(bitnet(&["tokenize", "text", "-m"]).arg(path));
    }
    let missing = bitnet(&["inspect"]).arg(path(b"no\xff")).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("no\u{fffd}: No such file"), "{said}");
}
