//! What a model file itself says about the work: bytes that decode must read, products that prefill must compute.

use anyhow::{Context, Result};
use bitnet::file::{GgmlType, Gguf};
use bitnet::{Architecture, KvType};
use std::path::Path;

/// The work of one file.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The name of the file's recipe.
    pub(crate) name: &'static str,
    /// Bytes that a decoded token reads: every tensor but an embedding that is not the head, and of experts those it meets.
    pub(crate) weight_bytes: u64,
    /// Bytes of the head among them.
    pub(crate) head_bytes: u64,
    /// Ternary weights: multiply-accumulates of one token, attention and head not counted.
    pub(crate) ternary: u64,
    /// Bytes of keys and values for one token.
    pub(crate) cache_bytes: u64,
}

fn is_ternary(kind: GgmlType) -> bool {
    matches!(
        kind,
        GgmlType::I2_S
            | GgmlType::TQ1_0
            | GgmlType::TQ2_0
            | GgmlType::Q2_0
            | GgmlType::PQ2_0
            | GgmlType::PTQ1_0
    )
}

impl Facts {
    pub(crate) fn read(name: &'static str, path: &Path) -> Result<Self> {
        let file = Gguf::open(path)?;
        let architecture = Architecture::from_gguf(&file)?;
        let untied = file.tensor("output.weight");
        let head = untied
            .or_else(|| file.tensor("token_embd.weight"))
            .with_context(|| format!("{} has neither output nor token_embd", path.display()))?;
        let read = file
            .tensors()
            .iter()
            .filter(|tensor| untied.is_none() || tensor.name != "token_embd.weight");
        let ternary = file.tensors().iter().filter(|tensor| {
            let head = ["token_embd.weight", "output.weight"].contains(&&*tensor.name);
            !head && is_ternary(tensor.kind)
        });
        // A token meets some of the experts.
        let met = |name: &str, of_all: u64| match &architecture.mixture {
            Some(mixture) if name.ends_with("_exps.weight") => {
                of_all / mixture.experts as u64 * mixture.used as u64
            }
            _ => of_all,
        };
        Ok(Self {
            name,
            weight_bytes: read
                .map(|tensor| met(&tensor.name, tensor.data.len() as u64))
                .sum(),
            head_bytes: head.data.len() as u64,
            ternary: ternary
                .map(|tensor| met(&tensor.name, tensor.elements() as u64))
                .sum(),
            cache_bytes: architecture.kv_bytes_per_position(KvType::F16),
        })
    }

    /// Bytes that one token of a decode test of `tokens` reads on average.
    pub(crate) fn bytes_per_token(&self, tokens: usize) -> f64 {
        self.weight_bytes as f64 + self.cache_bytes as f64 * tokens as f64 / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet::file::synth::{self, SynthArch, SynthOptions};

    #[test]
    fn an_embedding_is_read_where_it_is_the_head() {
        let folder = std::env::temp_dir().join(format!("bitnet-facts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let facts = |arch| {
            let path = folder.join(format!("{arch}.gguf"));
            let options = SynthOptions {
                arch,
                ..SynthOptions::default()
            };
            let summary = synth::write(&options, &path, &mut |_, _| ()).unwrap();
            (Facts::read("tiny", &path).unwrap(), summary)
        };
        let (tied, summary) = facts(SynthArch::Bitnet);
        let (untied, _) = facts(SynthArch::Llama);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(tied.head_bytes, 512 * 256 * 2);
        assert_eq!(untied.head_bytes, tied.head_bytes);
        assert_eq!(tied.ternary, summary.ternary_parameters);
        // The sum of the tensors, each at most 31 bytes from the next.
        assert!(summary.data_bytes - tied.weight_bytes < 32 * summary.tensors as u64);
        assert!(tied.bytes_per_token(2) == (tied.weight_bytes + tied.cache_bytes) as f64);
    }
}
