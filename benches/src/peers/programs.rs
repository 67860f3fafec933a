//! The programs that run whole models: ours in its variants, and llama.cpp's llama-bench. Each is started as a process
//! of its own, once for the speeds and once for the way from opening the file to the first token.

use anyhow::Result;
use bitnet_benchmarks::figures::Test;
use bitnet_benchmarks::outputs::{parse_bitnet, parse_llama};
use bitnet_benchmarks::process::{self, Finished};
use std::path::Path;
use std::process::Command;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Turns.
    pub(crate) rounds: usize,
    /// Tokens of the prefill tests, the longest last.
    pub(crate) prompts: &'static [usize],
    /// Tokens of the decode test.
    pub(crate) decode: usize,
    /// Whether this is a look only.
    pub(crate) quick: bool,
}

/// Tokens of the prompt before the first token.
pub(crate) const FIRST: usize = 8;

impl Plan {
    pub(crate) fn new(quick: bool, rounds: Option<usize>) -> Self {
        Self {
            rounds: rounds.unwrap_or(if quick { 1 } else { 3 }).max(1),
            prompts: if quick { &[64] } else { &[128, 512] },
            decode: if quick { 8 } else { 64 },
            quick,
        }
    }

    /// The longest prompt.
    pub(crate) fn longest(&self) -> usize {
        self.prompts.last().copied().unwrap_or(0)
    }

    pub(crate) fn describe(&self) -> String {
        let rounds = self.rounds;
        format!(
            "{rounds} round{}, each program in turn on each file in a process of its own; medians, ratios of the same \
             round.{}",
            if rounds == 1 { "" } else { "s" },
            if self.quick {
                " A quick look, not a result."
            } else {
                ""
            }
        )
    }

    fn prompts(&self) -> String {
        let words: Vec<String> = self.prompts.iter().map(usize::to_string).collect();
        words.join(",")
    }
}

/// A way of running the `bitnet` command.
pub(crate) struct Variant {
    /// What reports call it.
    pub(crate) name: &'static str,
    /// More arguments of `bitnet bench`.
    arguments: &'static [&'static str],
    /// The kernel set, if it is not the best there is.
    isa: Option<&'static str>,
    /// The files it is measured on; all if empty.
    files: &'static [&'static str],
    /// Whether it is measured with one thread alone.
    one_thread: bool,
}

/// Ours with every logit computed.
pub(crate) const FULL: &str = "bitnet";
/// Ours with the head that screens the vocabulary first; measured where [`VARIANTS`] has it.
pub(crate) const SCREENED: &str = "bitnet, screened head";
/// Ours on AVX2 kernels.
pub(crate) const AVX2: &str = "bitnet, AVX2";

/// The ways in which ours is measured. A variant of the head is a line here.
pub(crate) const VARIANTS: &[Variant] = &[
    Variant::new(FULL, &["--head", "full"]),
    Variant {
        ..Variant::new(SCREENED, &["--head", "screened"])
    },
    Variant {
        isa: Some("avx2"),
        files: &["I2_S-F16", "TQ2_0-F16"],
        one_thread: true,
        ..Variant::new(AVX2, &["--head", "full"])
    },
];

impl Variant {
    const fn new(name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self {
            name,
            arguments,
            isa: None,
            files: &[],
            one_thread: false,
        }
    }

    /// Whether it is measured there.
    pub(crate) fn applies(&self, file: &str, threads: usize) -> bool {
        let available = self.isa.is_none_or(|name| {
            let mut sets = bitnet_core::cpu::Isa::ALL.into_iter();
            sets.any(|isa| isa.name() == name && isa.is_available())
        });
        available
            && (self.files.is_empty() || self.files.contains(&file))
            && (threads == 1 || !self.one_thread)
    }

    /// All figures of one turn.
    pub(crate) fn run(
        &self,
        bitnet: &Path,
        file: &Path,
        threads: usize,
        plan: &Plan,
    ) -> Result<Vec<(Test, f64)>> {
        let bench = |options: &[&str]| {
            let mut command = Command::new(bitnet);
            command.arg("bench").arg("-m").arg(file).args(options);
            command.args(["-t", &threads.to_string(), "-r", "1", "--json"]);
            command.args(self.arguments);
            if let Some(isa) = self.isa {
                command.env("BITNET_ISA", isa);
            }
            process::run(&mut command, "bitnet bench")
        };
        let speeds = bench(&["-p", &plan.prompts(), "-n", &plan.decode.to_string()])?;
        let first = bench(&["-p", &FIRST.to_string(), "-n", "0", "--no-warmup"])?;
        let mut report = parse_bitnet(&speeds.stdout)?;
        let mut tests = report.tests();
        tests.push((Test::BytesPerToken, report.bytes_per_token as f64));
        report = parse_bitnet(&first.stdout)?;
        if let Some(seconds) = report.open_to_first() {
            tests.push((Test::OpenToFirst, seconds));
        }
        Ok(together(tests, &speeds, &first))
    }
}

/// llama.cpp's own benchmark.
pub(crate) struct LlamaBench<'a> {
    program: &'a Path,
}

impl<'a> LlamaBench<'a> {
    /// What reports call it.
    pub(crate) const NAME: &'static str = "llama.cpp";

    pub(crate) fn new(program: &'a Path) -> Self {
        Self { program }
    }

    /// All figures of one turn.
    pub(crate) fn run(&self, file: &Path, threads: usize, plan: &Plan) -> Result<Vec<(Test, f64)>> {
        let bench = |options: &[&str]| {
            let mut command = Command::new(self.program);
            command.arg("-m").arg(file).args(options);
            command.args(["-t", &threads.to_string(), "-r", "1", "-o", "json"]);
            process::run(&mut command, "llama-bench")
        };
        let speeds = bench(&["-p", &plan.prompts(), "-n", &plan.decode.to_string()])?;
        let first = bench(&["-p", &FIRST.to_string(), "-n", "0", "--no-warmup"])?;
        Ok(together(parse_llama(&speeds.stdout)?, &speeds, &first))
    }
}

/// Speeds, and what was seen of the two processes from outside.
fn together(mut tests: Vec<(Test, f64)>, speeds: &Finished, first: &Finished) -> Vec<(Test, f64)> {
    tests.push((Test::FirstToken, first.time.as_secs_f64()));
    if let Some(peak) = speeds.peak {
        tests.push((Test::Peak, peak as f64));
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_run_where_they_apply() {
        let avx2 = VARIANTS.iter().find(|it| it.name == AVX2).unwrap();
        assert!(!avx2.applies("I2_S-F16", 2));
        assert!(!avx2.applies("TQ1_0-F16", 1));
        let plan = Plan::new(false, None);
        assert_eq!(
            (plan.prompts().as_str(), plan.longest(), plan.rounds),
            ("128,512", 512, 3)
        );
        assert_eq!(Plan::new(true, Some(0)).rounds, 1);
    }
}
