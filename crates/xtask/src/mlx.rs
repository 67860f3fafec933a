//! The part of the suite that runs the MLX backend: on a Mac MLX as `mlx-sys` builds it, on Linux MLX's build for CPUs.
//!
//! On Linux no crate is changed: `mlx-sys` names the library that it links (`links = "mlx"`), and a configuration that is given
//! to cargo on its command line says where there is one, so that its build script, which is for Macs, is not run.

mod install;

pub(crate) use install::{
    bindings_are_made, for_apple, install_bindings, install_library, library_is_built,
};

use crate::program::carry_out;
use crate::requirement::Requirement;
use crate::workspace::cargo_with;
use anyhow::Result;

/// Whether MLX's build for the CPUs of Linux runs here: there is one for x86-64.
const ON_LINUX: bool = cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
));
/// Whether this is a machine that MLX is made for.
const ON_A_MAC: bool = cfg!(all(target_os = "macos", target_arch = "aarch64"));

/// What must be installed.
pub(crate) const REQUIREMENTS: &[Requirement] = if ON_LINUX {
    &[
        Requirement::Pip,
        Requirement::CxxCompiler,
        Requirement::MlxBindings,
        Requirement::MlxLibrary,
    ]
} else if ON_A_MAC {
    &[Requirement::Cmake]
} else {
    &[]
};

/// Runs the tests of the backend; says so where there is no MLX.
pub(crate) fn run() -> Result<()> {
    if !ON_LINUX && !ON_A_MAC {
        println!("MLX runs on Apple Silicon and on x86-64 with Linux: nothing is run");
        return Ok(());
    }
    // Like what is built for other targets: in a way of its own, to run once.
    let mut tests = cargo_with(&[
        "test",
        "--profile=cross",
        "--package=bitnet-core",
        "--package=bitnet",
        "--features=bitnet-core/mlx,bitnet/mlx",
        "--test=mlx",
        "--no-fail-fast",
    ]);
    if ON_A_MAC {
        // Elsewhere the command would be compiled once more, server and all, for three tests.
        tests.args(["--package=bitnet-cli", "--features=bitnet-cli/mlx"]);
    }
    if ON_LINUX {
        tests.arg("--config").arg(install::for_linux()?);
        // These would stand in for the configuration's own.
        tests
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
    }
    carry_out(tests)
}
