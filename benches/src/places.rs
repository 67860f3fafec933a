//! The places that measuring programs share: themselves, the command that they measure, and the folder of its models.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// This program.
    pub own: PathBuf,
    /// The `bitnet` command.
    pub bitnet: PathBuf,
    /// The folder for model files.
    pub work: PathBuf,
}

impl Places {
    /// Those that were named; else the command and the folder that is called `models`, beside this program.
    ///
    /// # Errors
    /// If this program cannot be found.
    pub fn find(bitnet: Option<&Path>, work: Option<&Path>, models: &str) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let beside = own.parent().context("this program is in no folder")?;
        let command = format!("bitnet{}", std::env::consts::EXE_SUFFIX);
        Ok(Self {
            bitnet: bitnet.map_or_else(|| beside.join(command), Path::to_owned),
            work: work.map_or_else(|| beside.join(models), Path::to_owned),
            own,
        })
    }
}
