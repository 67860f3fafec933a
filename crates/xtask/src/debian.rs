//! Debian packages.

use crate::program::succeeds;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Installs Debian packages; `what` says what is missing, for a machine that has none.
pub(crate) fn apt_install(packages: &[&str], what: &str) -> Result<()> {
    let names = packages.join(" ");
    println!("setup: apt-get install {names}");
    apt_script(
        &format!("apt-get install -y -qq --no-install-recommends {names}"),
        what,
    )
}

/// Runs a shell script that installs Debian packages, as root; `what` says what is missing, for a machine where that
/// cannot be done.
pub(crate) fn apt_script(script: &str, what: &str) -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("{what} is missing, and there is no apt-get to install it: please install it");
    }
    let script =
        format!("set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update -qq\n{script}");
    let user = Command::new("id").arg("-u").output();
    let is_root = user.is_ok_and(|user| user.stdout.trim_ascii() == b"0");
    let mut command = if is_root {
        Command::new("sh")
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    } else {
        bail!(
            "{what} is missing, and installing it needs root (or sudo without a password): please install it"
        );
    };
    let status = command
        .args(["-c", &script])
        .stdin(Stdio::null())
        .status()
        .context("cannot run sh")?;
    if !status.success() {
        bail!("apt-get could not install {what}");
    }
    Ok(())
}
