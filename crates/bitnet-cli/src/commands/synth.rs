//! `bitnet synth`: a model with random ternary weights in the shape of a real one.

use crate::interrupt::Interrupt;
use crate::progress::Steps;
use crate::{printable, units};
use bitnet::file::synth::{self, EmbeddingType, Shape, SynthArch, SynthOptions, TernaryType};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `bitnet synth`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet synth --shape tiny --type i2_s tiny.gguf
  bitnet synth --shape 2b4t --type tq2_0 --embedding q6_k big.gguf   the size and speed of the real model
  bitnet synth --shape 125m --type tq1_0 --seed 7 m.gguf             the same bytes every time
  bitnet synth --shape bonsai-8b --arch qwen3 --type pq2_0 b.gguf    the shape of Ternary-Bonsai 8B

The file has the keys and tensor names of real models and a working byte-level tokenizer,
so that other runtimes that know its architecture and type load it too. Its text says nothing.")]
pub(crate) struct Arguments {
    /// How large: tiny, 125m, 700m, 2b4t (microsoft/bitnet-b1.58-2B-4T), or bonsai-1.7b, bonsai-4b or bonsai-8b (with
    /// --arch qwen3 Ternary-Bonsai, positions scaled by YaRN)
    #[arg(long, default_value = "tiny")]
    shape: Shape,

    /// How the ternary weights are stored: i2_s, tq1_0, tq2_0, q2_0, pq2_0 or ptq1_0
    #[arg(long = "type", value_name = "TYPE", default_value = "i2_s")]
    ternary: TernaryType,

    /// How the token embedding is stored: f16, q8_0 or q6_k
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    embedding: EmbeddingType,

    /// Which architecture's keys and tensors: bitnet-b1.58, bitnet, llama or qwen3
    #[arg(long, default_value = "bitnet-b1.58")]
    arch: SynthArch,

    /// Where the random numbers begin
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// The file to write
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = SynthOptions {
            shape: self.shape,
            ternary: self.ternary,
            embedding: self.embedding,
            seed: self.seed,
            arch: self.arch,
        };
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
