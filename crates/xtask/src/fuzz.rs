//! The part of the suite that feeds the library damaged files: every fuzz target of `crates/bitnet/fuzz`, each for a fixed number of
//! inputs from a fixed seed, so that a run takes minutes and can be repeated.
//!
//! libFuzzer chooses inputs by the code they reach. It is a crate like others, so what it needs of the compiler is a flag,
//! and no program beside cargo is installed.

use crate::program::{carry_out, target_folder};
use crate::requirement::Requirement;
use crate::sanitizer::{ADDRESS, TARGET, command};
use anyhow::{Context, Result};

/// Names of the targets, and how many inputs each gets: about 20 seconds.
const TARGETS: [(&str, u32); 5] = [
    ("gguf", 500),
    ("safetensors", 2000),
    ("tokenizer", 300),
    ("template", 5000),
    ("session", 5000),
];

/// What must be installed: libFuzzer is C++.
pub(crate) const REQUIREMENTS: &[Requirement] = match TARGET {
    Some(_) => &[Requirement::CxxCompiler],
    None => &[],
};

/// Runs every target; says so where there is no sanitizer.
pub(crate) fn run() -> Result<()> {
    let Some(target) = TARGET else {
        println!(
            "libFuzzer needs the address sanitizer, which does not know this system: nothing is run"
        );
        return Ok(());
    };
    // What libFuzzer keeps of an input that fails.
    let kept = target_folder()?.join("fuzz");
    std::fs::create_dir_all(&kept)
        .with_context(|| format!("cannot make the folder {}", kept.display()))?;
    for (name, runs) in TARGETS {
        let mut run = command("run", target, ADDRESS);
        run.args(["--quiet", "--profile=asan", "--package=bitnet-fuzz", "--"]);
        run.args(["-seed=1", "-max_len=1024", "-len_control=0"]);
        run.arg(format!("-runs={runs}"));
        // Seconds for one input, on a busy machine, and megabytes in all and at once.
        run.args(["-timeout=60", "-rss_limit_mb=2048", "-malloc_limit_mb=256"]);
        run.arg(format!("-artifact_prefix={}/{name}-", kept.display()));
        // What is made once and kept to the end is no leak.
        run.env("ASAN_OPTIONS", "detect_leaks=0");
        run.env("BITNET_FUZZ", name);
        carry_out(run)?;
    }
    Ok(())
}
