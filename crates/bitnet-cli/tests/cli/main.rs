//! The command as a user meets it: what it prints, on which stream, and with which exit code. A file for each command.
#![allow(clippy::unwrap_used)]

mod batch;
mod bench;
mod chat;
mod convert;
mod devices;
mod download;
mod embed;
mod inspect;
mod logits;
mod perplexity;
mod run;
mod tokenize;
mod usage;

use serde_json::Value;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The command with a cache of its own and without what the environment may say.
fn bitnet(arguments: &[&str]) -> Command {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| TempDir::new().unwrap()).path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command
        .args(arguments)
        .env("HOME", cache)
        .env("XDG_CACHE_HOME", cache)
        .env("HF_HUB_OFFLINE", "1")
        // A layer of Mesa's looks for a screen when adapters are listed, and complains where there is none.
        .env("NODEVICE_SELECT", "1")
        .env_remove("BITNET_ISA")
        .env_remove("BITNET_LOG")
        .env_remove("HF_HOME")
        .env_remove("HF_ENDPOINT")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    bitnet(arguments).output().unwrap()
}

/// Starts `command` and writes `input` to its stdin. A command that ends without reading it all is not an error here: what
/// it then printed is what the test looks at.
fn piped(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = child.stdin.take().unwrap().write_all(input);
    if let Err(error) = written {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
    child.wait_with_output().unwrap()
}

/// Stdout of a run that must succeed.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "bitnet {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).unwrap()
}

/// The one line on stderr of a run that must fail with `code`.
fn failure(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "bitnet {}: {stderr}",
        arguments.join(" ")
    );
    stderr
}

/// A model file that is removed with this.
struct ModelFile {
    path: PathBuf,
    _folder: TempDir,
}

impl ModelFile {
    fn new(bytes: &[u8]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, bytes).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// `bytes` with the only `old` replaced by as many bytes that begin with `new`.
fn patched(mut bytes: Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    let found: Vec<usize> = (0..=bytes.len() - old.len())
        .filter(|at| bytes[*at..].starts_with(old))
        .collect();
    assert_eq!(found.len(), 1, "{}", old.escape_ascii());
    let place = &mut bytes[found[0]..][..old.len()];
    place.fill(b' ');
    place[..new.len()].copy_from_slice(new);
    bytes
}

/// The demo model with another chat template, at most as long as its own.
fn demo_with_template(template: &str) -> ModelFile {
    let bytes = bitnet_demo::GGUF.to_vec();
    let key = b"tokenizer.chat_template";
    let at = bytes
        .windows(key.len())
        .position(|window| window == key)
        .unwrap()
        + key.len();
    // A type of four bytes, a length of eight, the text.
    let length = u64::from_le_bytes(bytes[at + 4..at + 12].try_into().unwrap()) as usize;
    let old = bytes[at + 12..at + 12 + length].to_vec();
    ModelFile::new(&patched(bytes, &old, template.as_bytes()))
}

/// A tiny synthetic model, made by the command once.
fn tiny() -> &'static str {
    static MODEL: OnceLock<(TempDir, String)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tiny.gguf").to_str().unwrap().to_owned();
        stdout(&[
            "synth", "--shape", "tiny", "--type", "i2_s", "--seed", "7", &path,
        ]);
        (folder, path)
    });
    path
}
