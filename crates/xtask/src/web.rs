//! The browser's side: the WebAssembly modules, the npm package and the demo site, built, served and tested.
//!
//! ```text
//! crates/bitnet-wasm ─ cargo ×4 ─ wasm-bindgen ─ wasm-opt ─► web/package/wasm/{simd128,relaxed,threads,webgpu}
//! crates/bitnet-wasm-constraints ─ the same ×1 ────────────► web/package/wasm/constraints
//!                                                  npm run build ─► web/package/dist, web/dist
//! ```

pub(crate) mod bench;
mod modules;
pub(crate) mod tools;

use crate::cross;
use crate::install::install;
use crate::program::{carry_out, file_name};
use crate::requirement::Requirement;
use crate::target::Target;
use crate::workspace::workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What building and testing need.
pub(crate) const REQUIREMENTS: [Requirement; 7] = [
    Requirement::Library(Target::Wasm),
    Requirement::Source,
    Requirement::Node,
    Requirement::WasmBindgen,
    Requirement::NpmPackages,
    Requirement::Chromium,
    Requirement::Chromedriver,
];

/// How to serve the site.
#[derive(Args)]
pub(crate) struct Serving {
    /// The port to listen on
    #[arg(long, default_value_t = 4173)]
    port: u16,
    /// Let other machines in, too
    #[arg(long)]
    host: bool,
    /// Serve what was built before
    #[arg(long, conflicts_with = "build_only")]
    no_build: bool,
    /// Build web/package/dist and web/dist, and serve nothing
    #[arg(long)]
    build_only: bool,
}

/// The folder of everything TypeScript.
fn web() -> PathBuf {
    workspace().join("web")
}

/// Builds everything that a browser gets.
fn build() -> Result<()> {
    modules::build(&web().join("package/wasm"))?;
    npm(&["run", "build"])
}

/// Builds the site and serves it until it is stopped.
pub(crate) fn serve(serving: &Serving) -> Result<()> {
    if !serving.no_build {
        // The last two only test.
        install(REQUIREMENTS[..REQUIREMENTS.len() - 2].iter().copied())?;
        build()?;
    }
    if serving.build_only {
        return Ok(());
    }
    let port = serving.port.to_string();
    let mut preview = tools::npm();
    preview.current_dir(web());
    preview.args(["run", "preview", "--", "--port", &port, "--strictPort"]);
    if serving.host {
        preview.arg("--host");
    }
    carry_out(preview)
}

/// Builds everything, then runs the unit tests of the TypeScript, and the package and the site in Chromium.
pub(crate) fn test() -> Result<()> {
    let host = cross::build_host()?;
    build()?;
    test_core()?;
    npm(&["run", "unit"])?;
    let Some(chromium) = tools::chromium() else {
        bail!("there is no Chromium: cargo xtask setup");
    };
    let bitnet = host.join(file_name("bitnet"));
    let hybrid = workspace().join("crates/bitnet/tests/bonsai2/tiny-bonsai2.gguf");
    let mut tests = tools::npm();
    tests
        .current_dir(web())
        .args(["run", "end-to-end"])
        .env("CHROMIUM", chromium)
        .env("BITNET_DIGEST", native_digest(&bitnet, None, TOKENS)?)
        .env(
            "BITNET_DIGEST_HYBRID",
            native_digest(&bitnet, Some(&hybrid), FEW_TOKENS)?,
        );
    carry_out(tests)
}

/// The tests of the core in a Worker of Chromium, as `wasm-pack test --headless --chrome crates/bitnet-wasm` runs them.
fn test_core() -> Result<()> {
    // The profile and flags of the cross tests: what is built for them is not built again.
    let mut test = Target::Wasm.cargo(
        "cross",
        &["test", "--package=bitnet-wasm", "--test=browser"],
    )?;
    test.env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
        "-Ctarget-feature=+simd128",
    )
    .env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
        tools::test_runner()?,
    )
    .env("CHROMEDRIVER", tools::CHROMEDRIVER)
    .env("WASM_BINDGEN_TEST_TIMEOUT", "300");
    carry_out(test)
}

/// The tokens whose logits are compared with those in the browser.
const TOKENS: &str = "1,7,42,99,512,1024,2047,3,5,8,13,21,34,55,89,144,233,377,610,987,1597,4,6,10,17,28,46,75,122,198,321,520";

/// As many below the 320 tokens of a tiny model.
const FEW_TOKENS: &str = "276,259,71,84,300,0,262,102,255,17,277,199,5,8,13,21,34,55,89,144,233,1,4,6,10,28,46,75,122,198,318,3";

/// The digest by the command of a model's logits on the scalar kernels; of the demo model's if there is no `model`.
fn native_digest(bitnet: &Path, model: Option<&Path>, tokens: &str) -> Result<String> {
    let mut logits = Command::new(bitnet);
    logits
        .args(["logits", "--tokens", tokens, "--digest", "--threads", "1"])
        .env("BITNET_ISA", "scalar");
    if let Some(model) = model {
        logits.arg("-m").arg(model);
    }
    let said = logits
        .output()
        .with_context(|| format!("cannot run {}", bitnet.display()))?;
    if !said.status.success() {
        bail!(
            "bitnet logits failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    let digest = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    Ok(format!("{tokens} {digest}"))
}

/// Runs npm in the folder of the site.
fn npm(arguments: &[&str]) -> Result<()> {
    let mut command = tools::npm();
    command.current_dir(web()).args(arguments);
    carry_out(command)
}
