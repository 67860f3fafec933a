//! The part of the suite that builds the Python package as its users get it, a wheel, and tests that: with pytest, with type
//! checkers, and in clusters of Ray. All it needs is from PyPI, in fixed versions, and stays in the cache.

use crate::program::{cache, carry_out, finish, remove_folder, succeeds, target_folder};
use crate::requirement::Requirement;
use crate::workspace::workspace;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The part's needs beyond a Rust compiler.
pub(crate) const REQUIREMENTS: &[Requirement] = &[Requirement::Venv, Requirement::PythonPackages];

/// Packages from PyPI, one a line.
const PACKAGES: &str = include_str!("../../bitnet-python/tests/requirements.txt");

/// Builds the wheel, installs it in a clean environment, and runs the tests there.
pub(crate) fn run() -> Result<()> {
    let wheel = wheel()?;
    let python = environment(&wheel)?;
    let package = workspace().join("crates/bitnet-python");
    let installed = |module: &str, arguments: &[&str]| {
        let mut command = Command::new(&python);
        command
            .current_dir(&package)
            .args(["-m", module])
            .args(arguments)
            // Nothing is written beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MYPY_CACHE_DIR", cache_folder("mypy")?);
        carry_out(command)
    };
    installed(
        "mypy",
        &[
            "python/bitnet_rust",
            "tests",
            "../../examples/ray",
            "../../benches/python",
        ],
    )?;
    installed("mypy.stubtest", &["bitnet_rust._native"])?;
    installed(
        "pytest",
        &[
            "-q",
            "-p",
            "no:cacheprovider",
            "--durations=5",
            "--reruns=1",
            "-rR",
        ],
    )
}

/// Builds the wheel. maturin chooses features for this package alone, so all that it needs is compiled once more: only what
/// computes is optimized, as for other instruction sets.
fn wheel() -> Result<PathBuf> {
    let wheels = empty_wheels()?;
    maturin(&["--profile", "cross"], &wheels)?;
    only_wheel(&wheels)
}

/// Builds the wheel as it is measured, and installs it in a clean environment. Returns both, the environment by its Python.
pub(crate) fn released() -> Result<(PathBuf, PathBuf)> {
    let wheels = empty_wheels()?;
    maturin(&["--release"], &wheels)?;
    let wheel = only_wheel(&wheels)?;
    let python = environment(&wheel)?;
    Ok((wheel, python))
}

fn empty_wheels() -> Result<PathBuf> {
    let wheels = target_folder()?.join("wheels");
    remove_folder(&wheels)?;
    Ok(wheels)
}

/// Lets maturin build the wheel into `wheels`.
fn maturin(profile: &[&str], wheels: &Path) -> Result<()> {
    let mut maturin = Command::new(executable(&cached_environment()?));
    maturin
        .current_dir(workspace())
        .args(["-m", "maturin", "build", "--locked"])
        .args(profile)
        .args(["--manifest-path", "crates/bitnet-python/Cargo.toml"])
        .arg("--out")
        .arg(wheels)
        .env("CARGO_TARGET_DIR", target_folder()?);
    carry_out(maturin)
}

/// The wheel in a folder.
fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    match files.find(|file| file.extension() == Some(OsStr::new("whl"))) {
        Some(wheel) => Ok(wheel),
        None => bail!("maturin built no wheel in {}", folder.display()),
    }
}

/// A clean environment with the wheel, which finds the packages of the cache beside it. Returns its Python.
fn environment(wheel: &Path) -> Result<PathBuf> {
    let folder = target_folder()?.join("python");
    remove_folder(&folder)?;
    let cached = executable(&cached_environment()?);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--without-pip"]).arg(&folder);
    carry_out(venv)?;
    let python = executable(&folder);
    let packages = site_packages(&python)?;
    // A line in a file of this kind is a further folder of modules.
    let further = site_packages(&cached)?;
    let list = packages.join("cached.pth");
    std::fs::write(&list, further.display().to_string())
        .with_context(|| format!("cannot write {}", list.display()))?;
    let mut pip = Command::new(cached);
    pip.args(["-m", "pip", "--disable-pip-version-check", "--python"])
        .arg(&python)
        .args(["install", "--quiet", "--no-index", "--no-deps"])
        .arg(wheel);
    carry_out(pip)?;
    Ok(python)
}

/// Whether environments can be made: Debian has that in a package of its own.
pub(crate) fn venv_is_installed() -> bool {
    succeeds(Command::new("python3").args(["-m", "ensurepip", "--version"]))
}

/// Whether the packages are there, of these versions.
pub(crate) fn packages_are_installed() -> bool {
    let mark = cached_environment().map(|folder| folder.join("installed"));
    mark.is_ok_and(|mark| std::fs::read_to_string(mark).is_ok_and(|found| found == PACKAGES))
}

/// Fetches the packages.
///
/// # Errors
/// If PyPI cannot be reached, or does not have one of them.
pub(crate) fn install_packages() -> Result<()> {
    let lines = PACKAGES.lines().filter(|line| !line.starts_with('#'));
    println!("setup: {}", lines.collect::<Vec<_>>().join(", "));
    let packages = (PACKAGES, "crates/bitnet-python/tests/requirements.txt");
    install_environment(&cached_environment()?, packages)
}

/// Makes an environment with the packages of a list, which is also the file of that name.
pub(crate) fn install_environment(folder: &Path, (packages, list): (&str, &str)) -> Result<()> {
    // Nothing of an earlier set, or of one that was interrupted, stays.
    remove_folder(folder)?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(folder);
    finish(&mut venv, "python3 -m venv")?;
    let mut pip = Command::new(executable(folder));
    pip.args(["-m", "pip", "--disable-pip-version-check", "install"])
        .args(["--quiet", "--requirement"])
        .arg(workspace().join(list))
        // llama.cpp is compiled for this machine.
        .env("CMAKE_ARGS", "-DGGML_NATIVE=ON");
    finish(&mut pip, "pip install")?;
    let mark = folder.join("installed");
    std::fs::write(&mark, packages).with_context(|| format!("cannot write {}", mark.display()))
}

/// The environment of the packages.
fn cached_environment() -> Result<PathBuf> {
    cache_folder("environment")
}

pub(crate) fn cache_folder(name: &str) -> Result<PathBuf> {
    Ok(cache()?.join("python").join(name))
}

/// The Python of an environment.
pub(crate) fn executable(environment: &Path) -> PathBuf {
    if cfg!(windows) {
        environment.join("Scripts/python.exe")
    } else {
        environment.join("bin/python")
    }
}

/// Where `python` has its modules.
fn site_packages(python: &Path) -> Result<PathBuf> {
    let program = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
    let said = Command::new(python).args(["-c", program]).output();
    let said = said.with_context(|| format!("cannot run {}", python.display()))?;
    if !said.status.success() {
        bail!("{} does not say where its modules are", python.display());
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned().into())
}
