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

/// `program` run by root, if that can be: who is not root needs sudo without a password.
pub(crate) fn as_root(program: &str) -> Option<Command> {
    let user = Command::new("id").arg("-u").output();
    if user.is_ok_and(|user| user.stdout.trim_ascii() == b"0") {
        return Some(Command::new(program));
    }
    succeeds(Command::new("sudo").args(["-n", "true"])).then(|| {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        sudo
    })
}

/// Runs a shell script that installs Debian packages, as root; `what` says what is missing, for a machine where that
/// cannot be done.
pub(crate) fn apt_script(script: &str, what: &str) -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("{what} is missing, and there is no apt-get to install it: please install it");
    }
    let script =
        format!("set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update -qq\n{script}");
    let Some(mut command) = as_root("sh") else {
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
