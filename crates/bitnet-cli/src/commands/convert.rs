//! `bitnet convert`: safetensors and GGUF, and the ternary types among themselves.

use crate::interrupt::Interrupt;
use crate::open::{LayoutArgument, resolve};
use crate::printable;
use crate::progress::Steps;
use bitnet::file::convert::{ConvertOptions, ConvertType, convert_with};
use std::ffi::OsString;
use std::io::{Write, stdout};
use std::path::PathBuf;

/// Arguments of `bitnet convert`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet convert hf:microsoft/bitnet-b1.58-2B-4T 2b4t.gguf --type i2_s   packed safetensors to GGUF
  bitnet convert model-i2_s.gguf model-tq2_0.gguf --type tq2_0           2.0625 bits, a scale for every 256 weights
  bitnet convert model.gguf folder --type safetensors                    for this program and for transformers 5

Ternary codes are carried exactly and never quantized again; what is rounded is reported,
and what the output cannot hold is refused.")]
pub(crate) struct Arguments {
    /// The model: a path, an address, hf:owner/repo[/file] or a short name
    input: OsString,

    /// The file to write; for safetensors a folder, new or empty
    out: PathBuf,

    /// What to write: i2_s, tq1_0, tq2_0, ptq1_0 or pq2_0 (GGUF), or safetensors
    #[arg(long = "type", value_name = "TYPE")]
    to: ConvertType,

    /// Byte order of I2_S tensors in the input: a is usual, b is written on ARM by some builds of bitnet.cpp
    #[arg(long, value_enum, default_value_t)]
    i2s_layout: LayoutArgument,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let input = resolve(&self.input)?;
        let interrupt = Interrupt::watch()?;
        let options = ConvertOptions {
            i2s_layout: self.i2s_layout.into(),
            cancel: interrupt.cancel(),
        };
        let report = {
            let mut steps = Steps::new("converting");
            let mut progress = |done, all| steps.set(done, all);
            convert_with(&input, &self.out, self.to, &options, &mut progress)?
        };
        let report = format!("{}: {report}", self.out.display());
        writeln!(stdout(), "{}", printable::text(&report))?;
        Ok(())
    }
}
