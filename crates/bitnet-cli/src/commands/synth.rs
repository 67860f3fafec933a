//! `bitnet synth`: a model with random ternary weights in the shape of a real one.

use crate::interrupt::Interrupt;
use crate::progress::Steps;
use crate::{printable, units};
use bitnet::file::synth::{
    self, CheckpointWeights, EmbeddingType, Shape, SynthArch, SynthOptions, TernaryType,
};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `bitnet synth`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet synth --shape tiny --type i2_s tiny.gguf
  bitnet synth --shape 2b4t --type tq2_0 --embedding q6_k big.gguf   the size and speed of the real model
  bitnet synth --shape 125m --type tq1_0 --seed 7 m.gguf             the same bytes every time
  bitnet synth --shape bonsai-8b b.gguf                              the shape and types of Ternary-Bonsai 8B
  bitnet synth --shape maple --layers 12 m.gguf                      half of Maple 20B-A1B
  bitnet synth --shape bonsai2-27b --type ptq1_0 --layers 8 c.gguf   an eighth of Ternary-Bonsai-2 27B
  bitnet synth --shape 125m --checkpoint floats folder               a checkpoint for bitnet convert --quantize

The file has the keys and tensor names of real models and a working byte-level tokenizer,
so that other runtimes that know its architecture and type load it too. Its text says nothing.")]
pub(crate) struct Arguments {
    /// How large: tiny, 125m, 700m, 2b4t (microsoft/bitnet-b1.58-2B-4T), bonsai-1.7b, bonsai-4b or bonsai-8b
    /// (Ternary-Bonsai, positions scaled by YaRN), or bonsai2-2b, bonsai2-4b, bonsai2-9b or bonsai2-27b (Ternary-Bonsai-2, delta
    /// nets and rotated weights), or maple (Maple 20B-A1B, a mixture of experts), or embedding-0.6b (BitNet-embedding)
    #[arg(long, default_value = "tiny")]
    shape: Shape,

    /// How the ternary weights are stored: i2_s, tq1_0, tq2_0, q2_0, pq2_0 or ptq1_0 [default: as in files of that shape, i2_s
    /// for tiny]
    #[arg(long = "type", value_name = "TYPE")]
    ternary: Option<TernaryType>,

    /// How the token embedding is stored: f16, q8_0, q6_k, q4_k or ternary, as the other weights [default: as in files of that
    /// shape, f16 for tiny]
    #[arg(long, value_name = "TYPE")]
    embedding: Option<EmbeddingType>,

    /// How a head of its own is stored, in the types of the embedding [default: as in files of that shape, or as the embedding]
    #[arg(long, value_name = "TYPE")]
    head: Option<EmbeddingType>,

    /// Which architecture's keys and tensors: bitnet-b1.58, bitnet, llama, qwen3, qwen35, maple or bitnet-embedding [default: that of the shape,
    /// bitnet-b1.58 for tiny]
    #[arg(long)]
    arch: Option<SynthArch>,

    /// Layers, where there shall be fewer or more than the shape has
    #[arg(long)]
    layers: Option<usize>,

    /// Where the random numbers begin
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Write a folder of safetensors: packed, with master weights in BF16, or with floats that say nothing of ternary weights
    #[arg(long, value_name = "WEIGHTS")]
    checkpoint: Option<CheckpointWeights>,

    /// The file to write; for a checkpoint a folder, new or empty
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let usual = SynthOptions::of(self.shape);
        let options = SynthOptions {
            ternary: self.ternary.unwrap_or(usual.ternary),
            embedding: self.embedding.unwrap_or(usual.embedding),
            // A type of the embedding that is asked for is meant for both, unless the head has one of its own.
            head: self.head.or(match self.embedding {
                Some(_) => None,
                None => usual.head,
            }),
            seed: self.seed,
            arch: self.arch.unwrap_or(usual.arch),
            layers: self.layers,
            ..usual
        };
        if let Some(weights) = self.checkpoint {
            synth::write_checkpoint(&options, weights, &self.out)?;
            let out = self.out.to_string_lossy();
            writeln!(
                anstream::stdout(),
                "{}: {weights} weights",
                printable::line(&out)
            )?;
            return Ok(());
        }
        let interrupt = Interrupt::watch()?;
        let summary = {
            let mut steps = Steps::new("writing");
            let mut progress = |done, all| steps.set(done, all);
            synth::write_until(&options, &self.out, &interrupt.cancel(), &mut progress)?
        };
        writeln!(
            anstream::stdout(),
            "{}: {} in {} tensors, {} parameters of which {} are ternary",
            printable::line(&self.out.to_string_lossy()),
            units::bytes(summary.data_bytes),
            summary.tensors,
            units::count(summary.parameters),
            units::count(summary.ternary_parameters),
        )?;
        Ok(())
    }
}
