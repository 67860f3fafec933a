//! Fuzz targets for everything the library reads that a stranger may have written: model files, tokenizers, chat
//! templates, saved sessions.
//!
//! An input is a script: bytes that choose a seed and what to change in it ([`edit`]). Seeds are made by
//! `bitnet::file::synth`, and the changes know the structure of the format, so that they reach behind its checks. Whatever
//! the input, the library must return in bounded time and memory, without a panic.
//!
//! `cargo xtask test --fuzz` builds this program with libFuzzer and runs each target for a bounded number of inputs;
//! `BITNET_FUZZ` names the target. Built without libFuzzer, the program runs the inputs in the files it is given: what
//! libFuzzer kept of a crash.

#![cfg_attr(fuzzing, no_main)]

mod edit;
mod gguf;
mod look;
mod safetensors;
mod seeds;
mod session;
mod template;
mod tokenizer;

use arbitrary::Unstructured;

/// Names of the targets, and what each does with a script.
const TARGETS: [(&str, fn(&mut Unstructured<'_>)); 5] = [
    ("gguf", gguf::run),
    ("safetensors", safetensors::run),
    ("tokenizer", tokenizer::run),
    ("template", template::run),
    ("session", session::run),
];

/// The target that `BITNET_FUZZ` names.
fn target() -> fn(&mut Unstructured<'_>) {
    let name = std::env::var("BITNET_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let Some((_, run)) = found else {
        let known = TARGETS.map(|(name, _)| name).join(", ");
        panic!("BITNET_FUZZ: expected one of {known}, found {name:?}");
    };
    *run
}

/// Called by libFuzzer with every input. A panic that leaves the library ends the program; one of a dependency that the
/// library catches does not, unlike with the macro of `libfuzzer_sys`.
#[cfg(fuzzing)]
#[expect(
    improper_ctypes_definitions,
    reason = "the caller is Rust too: libfuzzer_sys declares it so"
)]
#[unsafe(no_mangle)]
extern "C" fn rust_fuzzer_test_input(input: &[u8]) -> i32 {
    use std::sync::OnceLock;
    // Links the library that calls this.
    use libfuzzer_sys as _;
    static TARGET: OnceLock<fn(&mut Unstructured<'_>)> = OnceLock::new();
    TARGET.get_or_init(target)(&mut Unstructured::new(input));
    0
}

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    let run = target();
    for path in std::env::args_os().skip(1) {
        let input = std::fs::read(&path)?;
        let begin = std::time::Instant::now();
        run(&mut Unstructured::new(&input));
        println!("{}: {:?}", path.display(), begin.elapsed());
    }
    Ok(())
}
