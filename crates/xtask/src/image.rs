//! The program of the container image: static over musl, as the Dockerfile builds it, and run where there is nothing else.

use crate::debian::as_root;
use crate::program::{carry_out, file_name};
use crate::server::program;
use crate::target::Target;
use anyhow::{Context, Result};
use std::path::Path;

/// As everything for other targets is built: the image has the release profile.
const PROFILE: &str = "cross";

/// Builds the program and runs it in an empty folder, which is the root of all that it sees. `tests` has the client, `folder` what
/// that needs.
pub(crate) fn run(tests: &Path, folder: &Path) -> Result<()> {
    carry_out(Target::Musl.cargo(PROFILE, &["build", "--locked", "--package=bitnet-cli"])?)?;
    let mut client = as_root("env")
        .context("to run a program in an empty folder needs root (or sudo without a password)")?;
    client
        .arg(format!("PYTHONPATH={}", folder.join("python").display()))
        .arg("PYTHONDONTWRITEBYTECODE=1")
        .arg("python3")
        .arg(tests.join("image.py"))
        .arg(Target::Musl.built(PROFILE)?.join(file_name("bitnet")))
        .arg(program()?);
    carry_out(client)
}
