//! `cargo xtask bench-web`: bitnet-web beside wllama in the same Chromium on files of the 125m and 700m shapes, beside the native
//! command on one of the shape of Ternary-Bonsai-2 2B, which wllama does not run, two threads against one, and the demo page.

use super::{build, tools, web};
use crate::install::install;
use crate::program::{self, carry_out, file_name, target_folder};
use crate::workspace::workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::process::Command;

/// What to measure.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Turns of either program on every file
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only the files whose name has this in it: 125m, 700m, bonsai2, tq1_0, tq2_0
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// A file.
struct File {
    /// Its shape, type, architecture and embedding, as `bitnet synth` names them.
    shape: &'static str,
    kind: &'static str,
    arch: &'static str,
    embedding: &'static str,
}

impl File {
    /// One that both programs run.
    const fn of_both(shape: &'static str, kind: &'static str) -> Self {
        Self {
            shape,
            kind,
            arch: "bitnet",
            embedding: "q8_0",
        }
    }

    fn name(&self) -> String {
        match self.arch {
            "bitnet" => format!("bitnet-{}-{}", self.shape, self.kind),
            _ => format!("{}-{}", self.shape, self.kind),
        }
    }
}

/// The files that are measured.
const FILES: [File; 5] = [
    File::of_both("125m", "tq2_0"),
    File::of_both("125m", "tq1_0"),
    File::of_both("700m", "tq2_0"),
    File::of_both("700m", "tq1_0"),
    File {
        shape: "bonsai2-2b",
        kind: "pq2_0",
        arch: "qwen35",
        embedding: "ternary",
    },
];

/// Builds what is measured, writes the files where they are missing, and runs the comparison, which writes
/// `benches/report/web.md` and `web.svg`.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    install(super::REQUIREMENTS)?;
    build()?;
    program::build()?;
    let folder = target_folder()?.join("bench-web");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let bitnet = target_folder()?.join("release").join(file_name("bitnet"));
    let mut files = Vec::new();
    for file in FILES {
        let name = file.name();
        let wanted = measurement.only.as_ref();
        if wanted.is_some_and(|only| !name.contains(&only.to_lowercase())) {
            continue;
        }
        let path = folder.join(name + ".gguf");
        if !path.exists() {
            let mut synth = Command::new(&bitnet);
            synth.args(["synth", "--shape", file.shape, "--type", file.kind]);
            synth
                .args(["--embedding", file.embedding, "--arch", file.arch])
                .arg(&path);
            carry_out(synth)?;
        }
        files.push(path);
    }
    if files.is_empty() {
        bail!("no file has that in its name");
    }
    let Some(chromium) = tools::chromium() else {
        bail!("there is no Chromium: cargo xtask setup");
    };
    let report = workspace().join("benches/report");
    std::fs::create_dir_all(&report)
        .with_context(|| format!("cannot create {}", report.display()))?;
    let mut compare = Command::new("node");
    compare
        .current_dir(web())
        .env("CHROMIUM", chromium)
        .env("BITNET", &bitnet)
        .arg("bench/main.mjs")
        .arg(report.canonicalize().context("the report's folder")?)
        .arg(measurement.rounds.max(1).to_string())
        .args(files);
    carry_out(compare)
}
