//! Model files in the shapes of real ones with random ternary weights, written once by `bitnet synth`.

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// What reports call it.
    pub name: &'static str,
    /// The shape, as `bitnet synth --shape` names it.
    pub shape: &'static str,
    /// The architecture, as `bitnet synth --arch` names it.
    pub arch: &'static str,
    /// The ternary weights, as `bitnet synth --type` names them.
    pub ternary: &'static str,
    /// The token embedding, which is also the head, as `bitnet synth --embedding` names it.
    pub embedding: &'static str,
    /// Layers, where the shape's own would be too many.
    pub layers: Option<usize>,
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

    /// The shape of Ternary-Bonsai-2 2B in mainline's type, which llama.cpp reads too, its rotations left out.
    pub const BONSAI2_2B_Q2: Self = Self::bonsai2("Bonsai2-2B-Q2_0", "bonsai2-2b", "q2_0");
    /// The shape of Ternary-Bonsai-2 2B in two bits, a scale for 128.
    pub const BONSAI2_2B_PQ2: Self = Self::bonsai2("Bonsai2-2B-PQ2_0", "bonsai2-2b", "pq2_0");
    /// The shape of Ternary-Bonsai-2 2B in base 3.
    pub const BONSAI2_2B_PTQ1: Self = Self::bonsai2("Bonsai2-2B-PTQ1_0", "bonsai2-2b", "ptq1_0");
    /// The shape of Ternary-Bonsai-2 9B in mainline's type.
    pub const BONSAI2_9B_Q2: Self = Self::bonsai2("Bonsai2-9B-Q2_0", "bonsai2-9b", "q2_0");
    /// The shape of Ternary-Bonsai-2 9B in two bits, a scale for 128.
    pub const BONSAI2_9B_PQ2: Self = Self::bonsai2("Bonsai2-9B-PQ2_0", "bonsai2-9b", "pq2_0");
    /// The shape of Ternary-Bonsai-2 9B in base 3.
    pub const BONSAI2_9B_PTQ1: Self = Self::bonsai2("Bonsai2-9B-PTQ1_0", "bonsai2-9b", "ptq1_0");
    /// A third of Maple 20B-A1B.
    pub const MAPLE: Self = Self {
        layers: Some(8),
        ..Self::of("Maple-8-layers-TQ2_0", "maple", "maple", "tq2_0", "f16")
    };
    /// The shape of BitNet-embedding 0.6B without its further norms, which llama.cpp does not know.
    pub const EMBEDDING: Self = Self::of(
        "Embedding-0.6B-TQ2_0",
        "embedding-0.6b",
        "qwen3",
        "tq2_0",
        "f16",
    );
    /// In the shape of 2B-4T. The architecture is `bitnet`: sub-norms, SiLU and a tied head, which llama.cpp knows too.
    const fn new(name: &'static str, ternary: &'static str, embedding: &'static str) -> Self {
        Self::of(name, "2b4t", "bitnet", ternary, embedding)
    }

    const fn bonsai2(name: &'static str, shape: &'static str, ternary: &'static str) -> Self {
        Self::of(name, shape, "qwen35", ternary, "ternary")
    }

    const fn of(
        name: &'static str,
        shape: &'static str,
        arch: &'static str,
        ternary: &'static str,
        embedding: &'static str,
    ) -> Self {
        Self {
            name,
            shape,
            arch,
            ternary,
            embedding,
            layers: None,
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
        let layers = self.layers.map(|layers| layers.to_string());
        let cut = layers.as_ref().map_or(String::new(), |it| format!("-{it}"));
        let name = format!(
            "{}{cut}-{}-{}-{}.gguf",
            self.shape, self.arch, self.ternary, self.embedding
        );
        let path = folder.join(&name);
        if path.is_file() {
            return Ok(path);
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let unfinished = folder.join(format!("{name}.part"));
        eprintln!("writing {}", path.display());
        let mut command = Command::new(bitnet);
        command.args(["synth", "--seed", "1"]);
        command.args(["--shape", self.shape, "--arch", self.arch]);
        command.args(["--type", self.ternary, "--embedding", self.embedding]);
        if let Some(layers) = &layers {
            command.args(["--layers", layers]);
        }
        process::run(command.arg(&unfinished), "bitnet synth")?;
        std::fs::rename(&unfinished, &path)
            .with_context(|| format!("cannot rename {}", unfinished.display()))?;
        Ok(path)
    }
}
