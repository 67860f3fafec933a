//! `cargo xtask bench-python` and `cargo xtask bench-scale`: what the Python package is worth beside others, and what many nodes are.
//! The programs are in `benches/python`; here is what they need: a wheel, model files, and the peers from PyPI.

use crate::program::{build, carry_out, file_name, finish, target_folder};
use crate::python::{self, cache_folder, executable};
use crate::workspace::workspace;
use crate::{install, suite};
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages that are measured beside ours, one a line.
const PEERS: &str = include_str!("../../../benches/python/requirements.txt");

/// NumPy, which the wheel needs.
const NUMPY: &str = "numpy==2.4.6";

/// Options of the program that measures the package.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Texts that are embedded; fewer than 2000 are a sample, which the report says
    #[arg(long, value_name = "N")]
    texts: Option<usize>,

    /// Small models and few texts: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Options of the program that measures many nodes.
#[derive(Args)]
pub(crate) struct Scale {
    /// A model file; without it, one in the shape of BitNet-embedding 0.6B
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Files of the corpus that is measured
    #[arg(long, value_name = "N")]
    files: Option<usize>,

    /// The demo model and a small corpus: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// The file that is embedded with.
fn embedding_model() -> Result<PathBuf> {
    synthetic("embedding-0.6b.gguf", &["--shape", "embedding-0.6b"])
}

/// The file that writes: that of `bench-peers` and `bench-server` in the shape 2b4t.
fn language_model(shape: &str) -> Result<PathBuf> {
    let stored = ["--type", "tq2_0", "--embedding", "f16"];
    let named = ["--shape", shape, "--arch", "bitnet"];
    let name = format!("{shape}-bitnet-tq2_0-f16.gguf");
    synthetic(&name, &[named, stored].concat())
}

/// Measures the package and writes `benches/report/python.md`, unless quick. Peers that cannot be installed are left out, and the report
/// says why.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    let python = prepare()?;
    let language = if measurement.quick { "125m" } else { "2b4t" };
    let mut program = program("bench.py", &python.python, measurement.quick)?;
    program
        .arg("--bitnet")
        .arg(bitnet()?)
        .arg("--wheel")
        .arg(&python.wheel)
        .arg("--others")
        .arg(numpy()?)
        .arg("--embedding")
        .arg(embedding_model()?)
        .arg("--language")
        .arg(language_model(language)?);
    match install_peers() {
        Ok(peers) => {
            let lines = PEERS.lines().filter(|line| !line.starts_with('#'));
            let versions = lines.collect::<Vec<_>>().join(", ");
            program.arg("--peers").arg(executable(&peers));
            program.arg("--peers-note").arg(versions);
        }
        Err(error) => {
            eprintln!("bench-python: the peers are left out: {error:#}");
            let why = format!("left out, because they could not be installed: {error:#}");
            program.arg("--peers-note").arg(why);
        }
    }
    let mut command = "cargo xtask bench-python".to_owned();
    if measurement.quick {
        program.args(["--prompts=4", "--tokens=8", "--rounds=1"]);
        command += " --quick";
    }
    let texts = measurement.texts.or(measurement.quick.then_some(16));
    if let Some(texts) = texts {
        program.arg("--texts").arg(texts.to_string());
        command += &format!(" --texts {texts}");
    }
    program.arg("--command").arg(command);
    carry_out(program)
}

/// Measures nodes and writes `benches/report/scale.md`, unless quick.
pub(crate) fn scale(scale: &Scale) -> Result<()> {
    let python = prepare()?;
    let mut program = program("scale.py", &python.python, scale.quick)?;
    let mut command = "cargo xtask bench-scale".to_owned();
    if scale.quick {
        program.args(["--files=12", "--rows=16"]);
        command += " --quick";
    } else {
        program.arg("--model").arg(match &scale.model {
            Some(model) => std::path::absolute(model).context("the path of the model")?,
            None => embedding_model()?,
        });
    }
    if let Some(files) = scale.files {
        program.arg("--files").arg(files.to_string());
        command += &format!(" --files {files}");
    }
    program.arg("--command").arg(command);
    carry_out(program)
}

/// A built package.
struct Package {
    wheel: PathBuf,
    python: PathBuf,
}

/// Builds the command and the package, and installs that.
fn prepare() -> Result<Package> {
    install::install(suite::Part::Python.requirements().iter().copied())?;
    build()?;
    let (wheel, python) = python::released()?;
    Ok(Package { wheel, python })
}

/// A program of `benches/python`, told where its report goes.
fn program(name: &str, python: &Path, quick: bool) -> Result<Command> {
    let mut program = Command::new(python);
    program
        .arg(workspace().join("benches/python").join(name))
        .arg("--report")
        .arg(if quick {
            target_folder()?.join("report")
        } else {
            workspace().join("benches/report")
        })
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(program)
}

/// The command of this tree.
fn bitnet() -> Result<PathBuf> {
    Ok(target_folder()?.join("release").join(file_name("bitnet")))
}

/// A model file, which is kept where the other measuring programs keep theirs.
fn synthetic(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let folder = target_folder()?.join("release/models");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(name);
    if !path.exists() {
        let unfinished = folder.join(format!("{name}.part"));
        let mut synth = Command::new(bitnet()?);
        synth.args(["synth", "--seed", "1"]).args(arguments);
        finish(synth.arg(&unfinished), "bitnet synth")?;
        std::fs::rename(&unfinished, &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

/// A folder with the wheel of NumPy.
fn numpy() -> Result<PathBuf> {
    let folder = cache_folder("wheels")?.join(NUMPY);
    if !folder.is_dir() {
        let mut pip = Command::new(executable(&cache_folder("environment")?));
        pip.args(["-m", "pip", "--disable-pip-version-check", "download"])
            .args(["--quiet", "--no-deps", NUMPY, "--dest"])
            .arg(&folder);
        finish(&mut pip, "pip download")?;
    }
    Ok(folder)
}

/// Fetches the peers, unless that was done before, and returns their environment. llama.cpp is compiled, which takes some minutes.
fn install_peers() -> Result<PathBuf> {
    let folder = cache_folder("peers")?;
    let mark = folder.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == PEERS) {
        return Ok(folder);
    }
    python::install_environment(&folder, (PEERS, "benches/python/requirements.txt"))?;
    Ok(folder)
}
