//! Programs that the browser's side is built and tested with.

use super::web;
use crate::program::{carry_out, file_name, target_folder};
use crate::workspace::{cargo, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where tools are installed: with the builds, which outlive a clone where that is arranged.
fn folder() -> Result<PathBuf> {
    Ok(target_folder()?.join("tools"))
}

/// The version of wasm-bindgen in Cargo.lock: the program must be of the same.
fn wasm_bindgen_version() -> Result<String> {
    let lock = workspace().join("Cargo.lock");
    let text = std::fs::read_to_string(&lock)
        .with_context(|| format!("cannot read {}", lock.display()))?;
    let mut lines = text.lines();
    lines
        .find(|line| *line == "name = \"wasm-bindgen\"")
        .and_then(|_| lines.next())
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{}: no version of wasm-bindgen", lock.display()))
}

/// The program, if it is of the right version: ours, or else one on the path.
fn find_wasm_bindgen() -> Option<PathBuf> {
    let said = format!("wasm-bindgen {}", wasm_bindgen_version().ok()?);
    let own = folder().ok()?.join("bin").join(file_name("wasm-bindgen"));
    [own, PathBuf::from("wasm-bindgen")]
        .into_iter()
        .find(|program| {
            let output = Command::new(program).arg("--version").output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == said)
        })
}

pub(crate) fn wasm_bindgen_is_installed() -> bool {
    find_wasm_bindgen().is_some()
}

/// Compiles it. Its own lock file is not used: a registry that lags behind may not have everything in it.
pub(crate) fn install_wasm_bindgen() -> Result<()> {
    let version = wasm_bindgen_version()?;
    let root = folder()?;
    println!("setup: cargo install wasm-bindgen-cli {version}");
    let mut install = Command::new(cargo());
    install
        .args(["install", "--quiet", "wasm-bindgen-cli", "--version"])
        .arg(&version)
        .arg("--root")
        .arg(&root)
        // It runs for a second each time: what counts is how long it takes to build.
        .args(["--config", "profile.release.opt-level=1"])
        .args(["--config", "profile.release.lto=false"])
        .args(["--config", "profile.release.codegen-units=16"])
        .arg("--target-dir")
        .arg(root.join("build"));
    carry_out(install)?;
    // Only the program is wanted.
    let _ = std::fs::remove_dir_all(root.join("build"));
    Ok(())
}

/// `wasm-bindgen`.
pub(super) fn wasm_bindgen() -> Result<Command> {
    match find_wasm_bindgen() {
        Some(program) => Ok(Command::new(program)),
        None => bail!("wasm-bindgen is missing: cargo xtask setup"),
    }
}

/// The runner of Rust's tests in browsers, which comes with `wasm-bindgen`.
pub(super) fn test_runner() -> Result<PathBuf> {
    match find_wasm_bindgen() {
        Some(program) => Ok(program.with_file_name(file_name("wasm-bindgen-test-runner"))),
        None => bail!("wasm-bindgen is missing: cargo xtask setup"),
    }
}

/// The program by which that runner drives Chromium.
pub(crate) const CHROMEDRIVER: &str = "/usr/bin/chromedriver";

/// `npm`, which is a script on Windows.
pub(crate) fn npm() -> Command {
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// A program that an npm package brings.
pub(super) fn npx(program: &str) -> Command {
    let script = if cfg!(windows) {
        format!("{program}.cmd")
    } else {
        program.to_owned()
    };
    Command::new(web().join("node_modules/.bin").join(script))
}

/// npm writes there what it installed; a copy of the lock file from that time says whether it is still the same.
fn installed_lock() -> PathBuf {
    web().join("node_modules/.installed-lock.json")
}

pub(crate) fn npm_packages_are_installed() -> bool {
    let read = |path: &Path| std::fs::read(path).ok();
    let wanted = read(&web().join("package-lock.json"));
    wanted.is_some() && wanted == read(&installed_lock())
}

/// Installs what web/package-lock.json names.
pub(crate) fn install_npm_packages() -> Result<()> {
    println!("setup: npm ci");
    let mut install = npm();
    install.current_dir(web());
    install.args([
        "ci",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    carry_out(install)?;
    let installed = installed_lock();
    std::fs::copy(web().join("package-lock.json"), &installed)
        .with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(())
}

/// The browser: what the variable CHROMIUM names, or one in the usual places.
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "C:/Program Files/Google/Chrome/Application/chrome.exe",
    ];
    named
        .into_iter()
        .chain(usual.map(PathBuf::from))
        .find(|path| path.exists())
}
