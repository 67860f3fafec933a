//! The cross tests: everything this machine can run or emulate must compute the same bits.
//!
//! The reference is `bitnet logits --digest` on the scalar kernels, for the demo model and a synthetic file of each
//! ternary type. Compared with it are the command on every kernel set, and `bitnet-digest`, which runs every kernel set of
//! where it runs × threads × batches: here, on emulated aarch64 CPUs with and without the newer dot products, and as
//! WebAssembly with and without relaxed SIMD. The emulated CPUs also run the tests of the kernels themselves.

mod sweep;
mod table;

use crate::program::{carry_out, file_name, target_folder};
use crate::target::Target;
use crate::workspace::cargo_with;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use sweep::{Models, Sweep, Work};

/// CPUs that qemu emulates: all extensions, dot products without matrix products, neither.
const CPUS: [&str; 3] = ["max", "neoverse-n1", "cortex-a72"];

/// The profile that everything for other targets is built in.
const PROFILE: &str = "cross";

/// Where Debian keeps the C library of the other architecture.
const AARCH64_ROOT: &str = "/usr/aarch64-linux-gnu";

/// Builds for every target, runs everything, prints the table.
pub(crate) fn run() -> Result<()> {
    let host = build_host()?;
    let models = Models::make(
        &host.join(file_name("bitnet")),
        &target_folder()?.join("cross-models"),
    )?;
    let mut sweeps = vec![Sweep {
        target: format!("{} (here)", std::env::consts::ARCH),
        command: vec![host.join(file_name("bitnet-digest")).into()],
        work: Work::Full,
    }];
    sweeps.extend(build_wasm()?);
    let emulated = cfg!(target_os = "linux");
    if emulated {
        sweeps.extend(build_aarch64()?);
    } else {
        println!("aarch64: not run, since qemu emulates single programs on Linux only");
    }
    // The table is to be the last to be read, whatever these say.
    let kernels = if emulated { test_kernels() } else { Ok(()) };
    let rows = sweep::run(&models, &sweeps)?;
    let agreed = table::print(&rows);
    kernels?;
    if !agreed {
        bail!("digests differ");
    }
    Ok(())
}

/// The command and `bitnet-digest` for this machine; returns their folder. They come with all that the unit tests build:
/// after those nothing is left to do, while any other choice of packages would compile half of it with other features.
pub(crate) fn build_host() -> Result<PathBuf> {
    carry_out(cargo_with(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-run",
        "--quiet",
    ]))?;
    Ok(target_folder()?.join("debug"))
}

/// WebAssembly twice: what a module uses is fixed when it is compiled. Neither module contains the tensor crate, so that is
/// checked by itself.
fn build_wasm() -> Result<Vec<Sweep>> {
    carry_out(Target::Wasm.cargo(PROFILE, &["check", "--package=bitnet-tensor"])?)?;
    let mut sweeps = Vec::new();
    for (name, features, flags) in [
        ("simd128", "+simd128", &[][..]),
        ("relaxed", "+simd128,+relaxed-simd", relaxed_flags()),
    ] {
        let mut build =
            Target::Wasm.cargo(PROFILE, &["rustc", "--package=bitnet-digest", "--lib"])?;
        build.args(["--crate-type", "cdylib"]).env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            format!("-Ctarget-feature={features}"),
        );
        carry_out(build)?;
        let built = Target::Wasm.built(PROFILE)?.join("bitnet_digest.wasm");
        // The other build would overwrite it.
        let module = built.with_file_name(format!("bitnet_digest_{name}.wasm"));
        std::fs::copy(&built, &module)
            .with_context(|| format!("cannot copy {} to {}", built.display(), module.display()))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cross/digest.mjs");
        let mut command = vec!["node".into()];
        command.extend(flags.iter().map(Into::into));
        command.extend([script.into(), module.into()]);
        sweeps.push(Sweep {
            target: format!("wasm32 {name}"),
            command,
            work: Work::SingleThread,
        });
    }
    Ok(sweeps)
}

/// What node must be told to run relaxed SIMD. In node 20 it is an experiment, with a fault: the quick compiler of its
/// first calls (Liftoff) doubles the sum of `i32x4.relaxed_dot_i8x16_i7x16_add_s`. Later ones have it by default.
fn relaxed_flags() -> &'static [&'static str] {
    const EXPERIMENT: &str = "--experimental-wasm-relaxed-simd";
    let options = Command::new("node").arg("--v8-options").output();
    let is_experiment =
        options.is_ok_and(|options| String::from_utf8_lossy(&options.stdout).contains(EXPERIMENT));
    if is_experiment {
        &[EXPERIMENT, "--no-liftoff"]
    } else {
        &[]
    }
}

/// `bitnet-digest` for aarch64, on every emulated CPU.
fn build_aarch64() -> Result<Vec<Sweep>> {
    carry_out(Target::Aarch64.cargo(
        PROFILE,
        &["build", "--package=bitnet-digest", "--bin=bitnet-digest"],
    )?)?;
    let digest = Target::Aarch64.built(PROFILE)?.join("bitnet-digest");
    let sweep = |cpu: &&str| {
        let mut command: Vec<_> = emulator(cpu).into_iter().map(Into::into).collect();
        command.push(digest.clone().into());
        Sweep {
            target: format!("aarch64 {cpu}"),
            command,
            work: Work::Emulated,
        }
    };
    Ok(CPUS.iter().map(sweep).collect())
}

/// How qemu is called for `cpu`.
fn emulator(cpu: &str) -> Vec<&str> {
    let mut words = vec!["qemu-aarch64", "-cpu", cpu];
    // On an aarch64 machine the C library is where programs expect it.
    if Path::new(AARCH64_ROOT).exists() {
        words.extend(["-L", AARCH64_ROOT]);
    }
    words
}

/// The tests that compare kernels and codecs with their references, on the emulated CPU that has every extension: they
/// run all kernel sets there are. On the other CPUs it is the choice among them that differs, which the digests show.
fn test_kernels() -> Result<()> {
    let mut test = Target::Aarch64.cargo(
        PROFILE,
        &[
            "test",
            "--quiet",
            "--package=bitnet-quant",
            "--package=bitnet-core",
            "--lib",
            "--test=agreement",
        ],
    )?;
    test.env(
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        emulator(CPUS[0]).join(" "),
    );
    test.env("PROPTEST_CASES", CASES);
    test.arg("--");
    test.args(ELSEWHERE.map(|module| format!("--skip={module}::")));
    carry_out(test)
}

/// Random cases of a property on an emulated CPU, where each takes some thirty times as long.
const CASES: &str = "12";

/// Modules whose tests touch no kernel, or only put together what others test by itself: the digests show that for whole models.
const ELSEWHERE: [&str; 4] = ["device", "tuning", "pool", "batches"];
