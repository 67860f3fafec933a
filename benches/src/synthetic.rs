//! Model files in the shape of microsoft/bitnet-b1.58-2B-4T with random ternary weights, written once by `bitnet synth`.

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a file is made. The architecture is `bitnet`: sub-norms, SiLU and a tied head, which llama.cpp knows too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// What reports call it.
    pub name: &'static str,
    /// The ternary weights, as `bitnet synth --type` names them.
    pub ternary: &'static str,
    /// The token embedding, which is also the head, as `bitnet synth --embedding` names it.
    pub embedding: &'static str,
}

impl Recipe {
    /// I2_S with an f16 embedding: the form of the published file.
    pub const I2S_F16: Self = Self::new("I2_S-F16", "i2_s", "f16");
    /// I2_S with a Q6_K embedding.
    pub const I2S_Q6K: Self = Self::new("I2_S-Q6_K", "i2_s", "q6_k");
    /// TQ2_0 with an f16 embedding.
    pub const TQ2_F16: Self = Self::new("TQ2_0-F16", "tq2_0", "f16");
    /// TQ2_0 with a Q6_K embedding.
    pub const TQ2_Q6K: Self = Self::new("TQ2_0-Q6_K", "tq2_0", "q6_k");
    /// TQ1_0 with an f16 embedding.
    pub const TQ1_F16: Self = Self::new("TQ1_0-F16", "tq1_0", "f16");

    const fn new(name: &'static str, ternary: &'static str, embedding: &'static str) -> Self {
        Self {
            name,
            ternary,
            embedding,
        }
    }

    /// The file in `folder`, written by the command `bitnet` if it is not there yet.
    ///
    /// # Errors
    /// If there is no such command, it fails, or the file cannot be put into place.
    pub fn file(self, bitnet: &Path, folder: &Path) -> Result<PathBuf> {
        if !bitnet.is_file() {
            bail!(
                "no bitnet command at {}: build it, or name it with --bitnet",
                bitnet.display()
            );
        }
        let name = format!("2b4t-bitnet-{}-{}.gguf", self.ternary, self.embedding);
        let path = folder.join(&name);
        if path.is_file() {
            return Ok(path);
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let unfinished = folder.join(format!("{name}.part"));
        eprintln!("writing {}", path.display());
        let mut command = Command::new(bitnet);
        command.args([
            "synth", "--shape", "2b4t", "--seed", "1", "--arch", "bitnet",
        ]);
        command.args(["--type", self.ternary, "--embedding", self.embedding]);
        process::run(command.arg(&unfinished), "bitnet synth")?;
        std::fs::rename(&unfinished, &path)
            .with_context(|| format!("cannot rename {}", unfinished.display()))?;
        Ok(path)
    }
}
