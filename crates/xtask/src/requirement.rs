//! What the parts of the test suite need beyond a Rust compiler, and how it is installed.
//!
//! A requirement can tell whether it is met and, if not, meet it. Each [`Part`] lists its own, so that running one part
//! never installs what only another needs.

use crate::suite::{Part, cargo};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Something a part of the suite needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// A rustup component that brings a cargo subcommand.
    Component {
        /// Its name for rustup.
        name: &'static str,
        /// The cargo subcommand it brings.
        subcommand: &'static str,
    },
}

impl Requirement {
    /// `cargo fmt`.
    pub(crate) const RUSTFMT: Self = Self::Component {
        name: "rustfmt",
        subcommand: "fmt",
    };
    /// `cargo clippy`.
    pub(crate) const CLIPPY: Self = Self::Component {
        name: "clippy",
        subcommand: "clippy",
    };

    fn name(self) -> &'static str {
        match self {
            Self::Component { name, .. } => name,
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Component { subcommand, .. } => {
                succeeds(Command::new(cargo()).args([subcommand, "--version"]))
            }
        }
    }

    fn meet(self) -> Result<()> {
        match self {
            Self::Component { name, .. } => {
                if !succeeds(Command::new("rustup").arg("--version")) {
                    bail!(
                        "{name} is missing and there is no rustup to install it: install your Rust distribution's {name}"
                    );
                }
                println!("setup: rustup component add {name}");
                let status = Command::new("rustup")
                    .args(["component", "add", name])
                    .status()
                    .context("cannot run rustup")?;
                if !status.success() {
                    bail!("rustup could not install {name}");
                }
                Ok(())
            }
        }
    }
}

/// Meets every requirement of `parts` and says what was found or done.
pub(crate) fn install(parts: &[Part]) -> Result<()> {
    let mut needed: Vec<Requirement> = Vec::new();
    for requirement in parts.iter().flat_map(|part| part.requirements()) {
        if !needed.contains(requirement) {
            needed.push(*requirement);
        }
    }
    let mut present = Vec::new();
    for requirement in needed {
        if requirement.is_met() {
            present.push(requirement.name());
        } else {
            requirement.meet()?;
        }
    }
    if !present.is_empty() {
        println!("setup: present: {}", present.join(", "));
    }
    Ok(())
}

/// Whether `command` can be run and exits with 0; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
