//! The programs that run whole models: ours in its variants, and llama.cpp's benchmarks. Each is started as a process
//! of its own, once for the speeds and once for the way from opening the file to the first token. On [`LARGE`] further
//! processes measure long contexts and many texts at once.

use anyhow::Result;
use bitnet_benchmarks::figures::Test;
use bitnet_benchmarks::outputs::{BitnetReport, parse_bitnet, parse_llama, parse_llama_batched};
use bitnet_benchmarks::process::{self, Finished};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Turns.
    pub(crate) rounds: usize,
    /// Tokens of the prefill tests, the longest last.
    pub(crate) prompts: &'static [usize],
    /// Tokens of the decode test.
    pub(crate) decode: usize,
    /// Tokens of the long prompt.
    pub(crate) long: usize,
    /// Tokens before the decode test at depth.
    pub(crate) depth: usize,
    /// Numbers of texts that are written together, one first.
    pub(crate) texts: &'static [usize],
    /// Tokens of each of them, and of its prompt.
    pub(crate) each: usize,
    /// Whether this is a look only.
    pub(crate) quick: bool,
}

/// The file on which long contexts and many texts are measured: llama.cpp knows it.
pub(crate) const LARGE: &str = "TQ2_0-F16";

/// Tokens of the prompt before the first token.
pub(crate) const FIRST: usize = 8;

impl Plan {
    pub(crate) fn new(quick: bool, rounds: Option<usize>) -> Self {
        Self {
            rounds: rounds.unwrap_or(if quick { 1 } else { 3 }).max(1),
            prompts: if quick { &[64] } else { &[128, 512] },
            decode: if quick { 8 } else { 64 },
            long: if quick { 256 } else { 4096 },
            depth: if quick { 256 } else { 4000 },
            texts: if quick { &[1, 8] } else { &[1, 8, 16, 32] },
            each: if quick { 8 } else { 32 },
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
        files: &[
            "TQ2_0-F16",
            "TQ1_0-F16",
            "TQ2_0-Q6_K",
            "I2_S-F16",
            "I2_S-Q6_K",
            "Maple-8-layers-TQ2_0",
        ],
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
        let bench = |options: &[String]| self.bench(bitnet, file, threads, options);
        let (report, speeds) = bench(&tokens(listed(plan.prompts), plan.decode))?;
        let mut tests = report.tests();
        tests.push((Test::BytesPerToken, report.bytes_per_token as f64));
        let (report, first) = bench(&with(tokens(FIRST, 0), ["--no-warmup"]))?;
        if let Some(seconds) = report.open_to_first() {
            tests.push((Test::OpenToFirst, seconds));
        }
        Ok(together(tests, &speeds, &first))
    }

    /// Decode behind a long context, and the long prompt if `prompt`. No run before them warms up, which would take as
    /// long again.
    pub(crate) fn long(
        &self,
        bitnet: &Path,
        file: &Path,
        threads: usize,
        plan: &Plan,
        prompt: bool,
    ) -> Result<Vec<(Test, f64)>> {
        let prompt = if prompt { plan.long } else { 0 };
        let depth = ["-d", &plan.depth.to_string(), "--no-warmup"].map(str::to_owned);
        let options = with(tokens(prompt, plan.decode), depth);
        let (report, _) = self.bench(bitnet, file, threads, &options)?;
        let mut tests = report.tests();
        let bytes = report.bytes_per_token as f64;
        tests.push((Test::BytesAfter(plan.depth), bytes));
        Ok(tests)
    }

    /// Texts that are written together.
    pub(crate) fn parallel(
        &self,
        bitnet: &Path,
        file: &Path,
        threads: usize,
        plan: &Plan,
    ) -> Result<Vec<(Test, f64)>> {
        let each = plan.each.to_string();
        let texts = [
            "--parallel",
            &listed(plan.texts),
            "--parallel-prompt",
            &each,
        ];
        let options = with(tokens(0, plan.each), texts.map(str::to_owned));
        let (report, _) = self.bench(bitnet, file, threads, &options)?;
        let mut tests = report.tests();
        tests.retain(|(test, _)| matches!(test, Test::Parallel(_)));
        Ok(tests)
    }

    fn bench(
        &self,
        bitnet: &Path,
        file: &Path,
        threads: usize,
        options: &[String],
    ) -> Result<(BitnetReport, Finished)> {
        let mut command = Command::new(bitnet);
        command.arg("bench").arg("-m").arg(file).args(options);
        command.args(["-t", &threads.to_string(), "-r", "1", "--json"]);
        command.args(self.arguments);
        if let Some(isa) = self.isa {
            command.env("BITNET_ISA", isa);
        }
        let finished = process::run(&mut command, "bitnet bench")?;
        Ok((parse_bitnet(&finished.stdout)?, finished))
    }
}

/// llama.cpp's own benchmarks.
pub(crate) struct LlamaCpp<'a> {
    /// One sequence.
    pub(crate) bench: &'a Path,
    /// Many at once.
    pub(crate) batched_bench: &'a Path,
    /// How long a test of [`Self::run`] may take.
    pub(crate) limit: Option<Duration>,
}

/// Figures of one turn, and tests that were ended at the limit, whose figures are the most that they can have been.
pub(crate) type Turn = (Vec<(Test, f64)>, Vec<Test>);

impl LlamaCpp<'_> {
    /// What reports call it.
    pub(crate) const NAME: &'static str = "llama.cpp";

    /// All figures of one turn.
    pub(crate) fn run(&self, file: &Path, threads: usize, plan: &Plan) -> Result<Turn> {
        let first = self.bench(file, threads, &with(tokens(FIRST, 0), ["--no-warmup"]))?;
        let Some(limit) = self.limit else {
            let speeds = self.bench(file, threads, &tokens(listed(plan.prompts), plan.decode))?;
            let tests = together(parse_llama(&speeds.stdout)?, &speeds, &first);
            return Ok((tests, Vec::new()));
        };
        let (mut tests, mut ended) = (Vec::new(), Vec::new());
        let prompts = plan.prompts.iter().map(|&prompt| (prompt, 0));
        for (prompt, decode) in prompts.chain([(0, plan.decode)]) {
            let mut command = self.command(file, threads, &tokens(prompt, decode));
            match process::run_within(&mut command, "llama-bench", Some(limit))? {
                Some(finished) => {
                    tests.extend(parse_llama(&finished.stdout)?);
                    tests.extend(finished.peak.map(|peak| (Test::Peak, peak as f64)));
                }
                None => {
                    // It warms up with the prompt once more, or with a token.
                    let (test, done) = match prompt {
                        0 => (Test::Decode(decode), decode + 1),
                        _ => (Test::Prefill(prompt), 2 * prompt),
                    };
                    tests.push((test, done as f64 / limit.as_secs_f64()));
                    ended.push(test);
                }
            }
        }
        tests.push((Test::FirstToken, first.time.as_secs_f64()));
        Ok((largest_peak(tests), ended))
    }

    /// Decode behind a long context, and the long prompt if `prompt`: a process each, since one has the same depth for all
    /// tests.
    pub(crate) fn long(
        &self,
        file: &Path,
        threads: usize,
        plan: &Plan,
        prompt: bool,
    ) -> Result<Vec<(Test, f64)>> {
        let mut tests = Vec::new();
        let depth = ["-d", &plan.depth.to_string(), "--no-warmup"].map(str::to_owned);
        let decode = self.bench(file, threads, &with(tokens(0, plan.decode), depth))?;
        tests.extend(parse_llama(&decode.stdout)?);
        if prompt {
            let prompt = with(tokens(plan.long, 0), ["--no-warmup"]);
            tests.extend(parse_llama(&self.bench(file, threads, &prompt)?.stdout)?);
        }
        Ok(tests)
    }

    /// Sequences that are written together.
    pub(crate) fn parallel(
        &self,
        file: &Path,
        threads: usize,
        plan: &Plan,
    ) -> Result<Vec<(Test, f64)>> {
        let most = plan.texts.iter().copied().max().unwrap_or(1);
        let (each, threads) = (plan.each.to_string(), threads.to_string());
        let context = most * 2 * plan.each;
        let mut command = Command::new(self.batched_bench);
        command.arg("-m").arg(file);
        command.args(["-c", &context.to_string(), "-npp", &each, "-ntg", &each]);
        command.args(["-npl", &listed(plan.texts), "--output-format", "jsonl"]);
        command.args(["-t", &threads, "-tb", &threads]);
        let finished = process::run(&mut command, "llama-batched-bench")?;
        parse_llama_batched(&finished.stdout)
    }

    fn bench(&self, file: &Path, threads: usize, options: &[String]) -> Result<Finished> {
        process::run(&mut self.command(file, threads, options), "llama-bench")
    }

    fn command(&self, file: &Path, threads: usize, options: &[String]) -> Command {
        let mut command = Command::new(self.bench);
        command.arg("-m").arg(file).args(options);
        command.args(["-t", &threads.to_string(), "-r", "1", "-o", "json"]);
        command
    }
}

/// The options that both have for tokens of a prompt and of a decode test.
fn tokens(prompt: impl ToString, decode: usize) -> Vec<String> {
    vec![
        "-p".to_owned(),
        prompt.to_string(),
        "-n".to_owned(),
        decode.to_string(),
    ]
}

fn with<T: Into<String>>(
    mut options: Vec<String>,
    more: impl IntoIterator<Item = T>,
) -> Vec<String> {
    options.extend(more.into_iter().map(T::into));
    options
}

fn listed(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    words.join(",")
}

/// Speeds, and what was seen of the two processes from outside.
fn together(mut tests: Vec<(Test, f64)>, speeds: &Finished, first: &Finished) -> Vec<(Test, f64)> {
    tests.push((Test::FirstToken, first.time.as_secs_f64()));
    if let Some(peak) = speeds.peak {
        tests.push((Test::Peak, peak as f64));
    }
    tests
}

/// One peak of those that several processes had.
fn largest_peak(tests: Vec<(Test, f64)>) -> Vec<(Test, f64)> {
    let (peaks, mut rest): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|(test, _)| *test == Test::Peak);
    let largest = peaks.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    rest.extend(largest);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_peak_stays() {
        let decode = (Test::Decode(1), 5.0);
        let tests = vec![(Test::Peak, 3.0), decode, (Test::Peak, 7.0)];
        assert_eq!(largest_peak(tests), [decode, (Test::Peak, 7.0)]);
    }

    #[test]
    fn variants_run_where_they_apply() {
        let avx2 = VARIANTS.iter().find(|it| it.name == AVX2).unwrap();
        assert!(!avx2.applies("I2_S-F16", 2));
        assert!(!avx2.applies("TQ1_0-F16", 1));
        let plan = Plan::new(false, None);
        assert_eq!(
            (listed(plan.prompts).as_str(), plan.longest(), plan.rounds),
            ("128,512", 512, 3)
        );
        assert_eq!(Plan::new(true, Some(0)).rounds, 1);
    }
}
