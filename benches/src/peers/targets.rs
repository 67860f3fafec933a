//! What is asked of decode, prefill, memory and loading, and whether this run reached it.
//!
//! A ratio is formed of figures of this run alone. What is asked against bitnet.cpp cannot be measured here: its row says
//! what this run measured and quotes the other machine's figure beside it.

use crate::facts::Facts;
use crate::programs::{AVX2, FIRST, FULL, LARGE, LlamaCpp, Plan, SCREENED};
use crate::reference::{BITNET_CPP, OF, Reference, pair};
use crate::tables::{bytes, of_bandwidth, of_peak};
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::machine::with;
use bitnet_benchmarks::report::{Report, Verdict};

/// Bytes that a program may hold beside weights, keys and values.
const PROGRAM: f64 = 64e6;

/// Writes the targets into the report.
pub(crate) fn tell(
    figures: &Figures,
    facts: &[Facts],
    plan: &Plan,
    threads: &[usize],
    report: &mut Report,
) {
    let mut targets = Targets {
        figures,
        facts,
        plan,
        threads,
        report,
    };
    let decode = Test::Decode(plan.decode);
    let prefill = Test::Prefill(plan.longest());
    for &threads in targets.threads {
        targets.against_llama("TQ2_0-F16", FULL, threads, decode, 2.0);
        targets.against_reference("I2_S-F16", FULL, threads, decode, 2.0);
        targets.against_llama("TQ2_0-F16", SCREENED, threads, decode, 2.8);
        targets.against_reference("I2_S-F16", SCREENED, threads, decode, 2.8);
        targets.against_llama("TQ2_0-Q6_K", SCREENED, threads, decode, 2.1);
        targets.against_reference("I2_S-Q6_K", SCREENED, threads, decode, 2.1);
        let share = if threads == 1 { 0.85 } else { 0.80 };
        for variant in [FULL, SCREENED] {
            targets.bandwidth("I2_S-F16", variant, threads, share);
            targets.bandwidth("TQ2_0-F16", variant, threads, share);
        }
        targets.against_llama("TQ1_0-F16", FULL, threads, decode, 2.5);
        targets.against_two_bits(threads, 0.9);
        let deep = Test::DecodeAfter(plan.decode, plan.depth);
        for variant in [FULL, SCREENED] {
            targets.against_own(LARGE, variant, threads, (deep, decode), 0.65);
            targets.against_llama(LARGE, variant, threads, deep, 2.5);
        }
    }
    targets.against_llama("TQ2_0-Q6_K", FULL, 1, decode, 1.2);
    targets.families(decode, prefill);
    // As asked: with two threads, that is, all cores.
    if let Some(&all) = targets.threads.last() {
        targets.against_llama("TQ2_0-F16", FULL, all, prefill, 4.5);
        targets.against_reference("I2_S-F16", FULL, all, prefill, 3.2);
        targets.against_llama(LARGE, FULL, all, Test::Prefill(plan.long), 4.0);
        for variant in [FULL, SCREENED] {
            for (texts, least) in [(8, 3.0), (16, 4.0), (32, 4.5)] {
                if plan.texts.contains(&texts) {
                    let together = Test::Parallel(texts);
                    let alone = Test::Parallel(1);
                    targets.against_own(LARGE, variant, all, (together, alone), least);
                    targets.against_llama(LARGE, variant, all, together, 4.0);
                }
            }
        }
        targets.int8_peak("I2_S-F16", all, 0.6);
        targets.int8_peak("TQ2_0-F16", all, 0.6);
        for fact in targets.facts {
            targets.memory(fact, all, 1.10);
        }
        for fact in targets.facts {
            targets.first_token(fact.name, all);
        }
    }
    targets.against_reference("I2_S-F16", AVX2, 1, decode, 1.5);
    targets.against_reference("I2_S-F16", AVX2, 1, prefill, 1.3);
}

struct Targets<'a> {
    figures: &'a Figures,
    facts: &'a [Facts],
    plan: &'a Plan,
    threads: &'a [usize],
    report: &'a mut Report,
}

/// A test in words.
pub(crate) fn what(test: Test) -> String {
    match test {
        Test::Prefill(tokens) => format!("prefill {tokens}"),
        Test::Decode(tokens) => format!("decode {tokens}"),
        Test::DecodeAfter(tokens, depth) => format!("decode {tokens} behind {depth}"),
        Test::Parallel(texts) => format!("decode of {texts} together"),
        _ => String::new(),
    }
}

/// Ternary-Bonsai-2: the file of mainline's type that llama.cpp runs, and those of its own types in two bits and base 3.
const BONSAI2: [[&str; 3]; 2] = [
    ["Bonsai2-2B-Q2_0", "Bonsai2-2B-PQ2_0", "Bonsai2-2B-PTQ1_0"],
    ["Bonsai2-9B-Q2_0", "Bonsai2-9B-PQ2_0", "Bonsai2-9B-PTQ1_0"],
];

/// A share of Maple's layers.
const MAPLE: &str = "Maple-8-layers-TQ2_0";
/// BitNet-embedding without its further norms, which llama.cpp knows.
const EMBEDDING: &str = "Embedding-0.6B-TQ2_0";

impl Targets<'_> {
    /// Models that are no BitNet b1.58: Bonsai 2, Maple, BitNet-embedding.
    fn families(&mut self, decode: Test, prefill: Test) {
        let Some(&all) = self.threads.last() else {
            return;
        };
        for [mainline, two_bits, base_3] in BONSAI2 {
            for &threads in self.threads {
                for file in [mainline, two_bits, base_3] {
                    self.against_theirs((file, mainline), FULL, threads, decode, 2.0);
                }
            }
            for file in [mainline, two_bits, base_3] {
                self.against_theirs((file, mainline), FULL, all, prefill, 4.0);
            }
            for file in [two_bits, base_3] {
                self.bandwidth(file, FULL, all, 0.75);
            }
            let key = |file| Key::new(file, FULL, all, decode);
            let name = format!(
                "{}, {base_3} against our own {two_bits}, {}",
                what(decode),
                with(all)
            );
            self.against(name, &key(base_3), &key(two_bits), 1.0);
        }
        for variant in [FULL, SCREENED] {
            self.against_llama(MAPLE, variant, all, decode, 2.0);
        }
        for tokens in self.plan.prompts {
            self.against_llama(EMBEDDING, FULL, 1, Test::Prefill(*tokens), 4.0);
        }
    }

    fn fact(&self, file: &str) -> Option<&Facts> {
        self.facts.iter().find(|fact| fact.name == file)
    }

    /// Why there is no figure of ours.
    fn missing(&self, file: &str, who: &str) -> String {
        if self.fact(file).is_none() {
            format!("{file} was left out of this run")
        } else {
            format!("{who}: not measured by this build or machine")
        }
    }

    fn against_llama(
        &mut self,
        file: &'static str,
        who: &'static str,
        threads: usize,
        test: Test,
        least: f64,
    ) {
        self.against_theirs((file, file), who, threads, test, least);
    }

    /// A row about llama.cpp, which runs a file of its own.
    fn against_theirs(
        &mut self,
        (file, its): (&'static str, &'static str),
        who: &'static str,
        threads: usize,
        test: Test,
        least: f64,
    ) {
        let on = if file == its {
            String::new()
        } else {
            format!(" on {its}")
        };
        let name = format!(
            "{}, {who}, {file}, {}, against llama.cpp{on}",
            what(test),
            with(threads)
        );
        let target = format!("≥ {least}×");
        let ours = Key::new(file, who, threads, test);
        let theirs = Key::new(its, LlamaCpp::NAME, threads, test);
        let Some(speed) = self.figures.median(&ours) else {
            let note = self.missing(file, who);
            self.report
                .target(name, target, "", Verdict::Unmeasured, note);
            return;
        };
        let (Some(other), Some(ratio)) = (
            self.figures.median(&theirs),
            self.figures.ratio(&ours, &theirs),
        ) else {
            let measured = format!("{speed:.2} tokens/s");
            let note = "llama.cpp did not run: see the notes";
            self.report
                .target(name, target, measured, Verdict::Unmeasured, note);
            return;
        };
        let measured = format!("{ratio:.2}× ({speed:.2} / {other:.2} tokens/s)");
        let note = if ratio >= least {
            String::new()
        } else {
            self.roof(&ours)
        };
        self.report
            .target(name, target, measured, Verdict::of(ratio >= least), note);
    }

    /// A row about bitnet.cpp, which is not run.
    fn against_reference(
        &mut self,
        file: &'static str,
        who: &'static str,
        threads: usize,
        test: Test,
        least: f64,
    ) {
        let name = format!(
            "{}, {who}, {file}, {}, against bitnet.cpp",
            what(test),
            with(threads)
        );
        let target = format!("≥ {least}×");
        let Some(speed) = self.figures.median(&Key::new(file, who, threads, test)) else {
            let note = self.missing(file, who);
            self.report
                .target(name, target, "", Verdict::Unmeasured, note);
            return;
        };
        // The tests of that run, whatever the lengths of this one are.
        let measure = match test {
            Test::Decode(_) => "decode 64",
            _ => "prefill 512",
        };
        let quoted = BITNET_CPP
            .iter()
            .find(|it| it.file == file)
            .and_then(|it: &Reference| match test {
                Test::Decode(_) => Some(it.decode),
                _ => it.prefill,
            });
        let quoted = quoted.map_or(String::new(), |both| {
            format!(": {measure} {} tokens/s with 1 / 2 threads", pair(both))
        });
        let note = format!("bitnet.cpp is in no registry and was not run; {OF}{quoted}");
        let measured = format!("{speed:.2} tokens/s");
        self.report
            .target(name, target, measured, Verdict::Unmeasured, note);
    }

    /// TQ1_0 beside our own decode of two bits.
    fn against_two_bits(&mut self, threads: usize, least: f64) {
        let test = Test::Decode(self.plan.decode);
        let ours = Key::new("TQ1_0-F16", FULL, threads, test);
        let two = Key::new("TQ2_0-F16", FULL, threads, test);
        let name = format!(
            "{}, TQ1_0-F16 against our own TQ2_0-F16, {}",
            what(test),
            with(threads)
        );
        self.against(name, &ours, &two, least);
    }

    /// A test beside another of the same program on the same file.
    fn against_own(
        &mut self,
        file: &'static str,
        who: &'static str,
        threads: usize,
        (test, other): (Test, Test),
        least: f64,
    ) {
        let key = |test| Key::new(file, who, threads, test);
        let name = format!(
            "{}, {who}, {file}, {}, against its own {}",
            what(test),
            with(threads),
            what(other)
        );
        self.against(name, &key(test), &key(other), least);
    }

    /// A figure of ours over another of ours.
    fn against(&mut self, name: String, ours: &Key, other: &Key, least: f64) {
        let target = format!("≥ {least}×");
        let Some(ratio) = self.figures.ratio(ours, other) else {
            let note = "one of the two was left out of this run";
            self.report
                .target(name, target, "", Verdict::Unmeasured, note);
            return;
        };
        let note = if ratio >= least {
            String::new()
        } else {
            self.roof(ours)
        };
        let measured = format!("{ratio:.2}×");
        self.report
            .target(name, target, measured, Verdict::of(ratio >= least), note);
    }

    fn bandwidth(&mut self, file: &'static str, variant: &'static str, threads: usize, least: f64) {
        let name = format!(
            "decode as share of read bandwidth, {variant}, {file}, {}",
            with(threads)
        );
        let target = format!("≥ {:.0} %", 100.0 * least);
        let key = Key::new(file, variant, threads, Test::Decode(self.plan.decode));
        let share = self
            .fact(file)
            .and_then(|fact| of_bandwidth(self.figures, &key, fact, self.plan));
        match share {
            Some(share) => {
                let note = if share >= least {
                    String::new()
                } else {
                    self.roof(&key)
                };
                self.report.target(
                    name,
                    target,
                    format!("{:.0} %", 100.0 * share),
                    Verdict::of(share >= least),
                    note,
                );
            }
            None => {
                let note = self.missing(file, variant);
                self.report
                    .target(name, target, "", Verdict::Unmeasured, note);
            }
        }
    }

    fn int8_peak(&mut self, file: &'static str, threads: usize, least: f64) {
        let test = Test::Prefill(self.plan.longest());
        let name = format!(
            "{} as share of the int8 peak, {FULL}, {file}, {}",
            what(test),
            with(threads)
        );
        let target = format!("≥ {:.0} %", 100.0 * least);
        let key = Key::new(file, FULL, threads, test);
        let share = self
            .fact(file)
            .and_then(|fact| of_peak(self.figures, &key, fact));
        match share {
            Some(share) => {
                let note = if share >= least {
                    String::new()
                } else {
                    self.roof(&key)
                };
                self.report.target(
                    name,
                    target,
                    format!("{:.0} %", 100.0 * share),
                    Verdict::of(share >= least),
                    note,
                );
            }
            None => {
                let note = if self.figures.median(&key).is_some() {
                    "the int8 peak is measured on x86-64 with AVX2 alone".to_owned()
                } else {
                    self.missing(file, FULL)
                };
                self.report
                    .target(name, target, "", Verdict::Unmeasured, note);
            }
        }
    }

    fn memory(&mut self, fact: &Facts, threads: usize, most: f64) {
        let name = format!(
            "peak resident memory, {FULL}, {}, over weights + keys and values + 64 MB",
            fact.name
        );
        let target = format!("≤ {most:.2}");
        let peak = self
            .figures
            .median(&Key::new(fact.name, FULL, threads, Test::Peak));
        let Some(peak) = peak else {
            let note = "only Linux tells the peak of another process";
            self.report
                .target(name, target, "", Verdict::Unmeasured, note);
            return;
        };
        let positions = self.plan.longest().max(self.plan.decode);
        let cache = fact.cache_bytes as f64 * positions as f64;
        // What a token reads of keys and values is counted with the others.
        let decode = Key::new(fact.name, FULL, threads, Test::Decode(self.plan.decode));
        let read = fact.bytes_per_token(self.plan.decode) - fact.weight_bytes as f64;
        let weights = bytes(self.figures, &decode, fact, self.plan) - read;
        let least = weights + cache + PROGRAM;
        let measured = format!(
            "{:.3} ({:.0} of {:.0} MB)",
            peak / least,
            peak / 1e6,
            least / 1e6
        );
        self.report.target(
            name,
            target,
            measured,
            Verdict::of(peak <= most * least),
            "",
        );
    }

    fn first_token(&mut self, file: &'static str, threads: usize) {
        // Base 3 may be repacked when it is loaded.
        let most = if file.starts_with("TQ1_0") { 2.0 } else { 0.5 };
        let name = format!(
            "open to first token, {FIRST} tokens of prompt, {FULL}, {file}, {}",
            with(threads)
        );
        let target = format!("≤ {most} s");
        match self
            .figures
            .median(&Key::new(file, FULL, threads, Test::OpenToFirst))
        {
            Some(seconds) => {
                let note = "as the program itself saw it; the table has the whole process";
                self.report.target(
                    name,
                    target,
                    format!("{seconds:.2} s"),
                    Verdict::of(seconds <= most),
                    note,
                );
            }
            None => {
                let note = self.missing(file, FULL);
                self.report
                    .target(name, target, "", Verdict::Unmeasured, note);
            }
        }
    }

    /// The rate that the machine would allow texts that share each reading of the weights.
    fn roof_together(&self, ours: &Key, fact: &Facts, texts: usize) -> String {
        let machine = |test| self.figures.median(&Key::machine(ours.threads, test));
        let (Some(peak), Some(bandwidth)) = (machine(Test::Int8Peak), machine(Test::Bandwidth))
        else {
            return String::new();
        };
        let products = texts as f64 * fact.ternary as f64;
        let alone = Key {
            test: Test::Decode(self.plan.decode),
            ..ours.clone()
        };
        let read = bytes(self.figures, &alone, fact, self.plan);
        let least = (products / peak).max(read / bandwidth);
        let most = texts as f64 / least;
        let speed = self.figures.median(ours).unwrap_or(f64::NAN);
        format!(
            "roofline: {:.1} G ternary products for a token of each at {:.0} GMAC/s, and {:.3} GB at {:.1} GB/s, allow \
             {most:.0} tokens/s; {:.0} % of that is reached, attention and the head's products included",
            products / 1e9,
            peak / 1e9,
            read / 1e9,
            bandwidth / 1e9,
            100.0 * speed / most
        )
    }

    /// What the machine would allow at most.
    fn roof(&self, ours: &Key) -> String {
        let Some(fact) = self.fact(ours.file) else {
            return String::new();
        };
        let speed = self.figures.median(ours).unwrap_or(f64::NAN);
        match ours.test {
            Test::Parallel(texts) => self.roof_together(ours, fact, texts),
            Test::Decode(_) | Test::DecodeAfter(..) => {
                let read = bytes(self.figures, ours, fact, self.plan);
                let bandwidth = self
                    .figures
                    .median(&Key::machine(ours.threads, Test::Bandwidth));
                bandwidth.map_or(String::new(), |bandwidth| {
                    let most = bandwidth / read;
                    format!(
                        "roofline: {:.3} GB a token ({:.3} of them the head) at {:.1} GB/s allow {most:.2} tokens/s; {:.0} % \
                         of that is reached",
                        read / 1e9,
                        fact.head_bytes as f64 / 1e9,
                        bandwidth / 1e9,
                        100.0 * speed / most
                    )
                })
            }
            _ => {
                let peak = self
                    .figures
                    .median(&Key::machine(ours.threads, Test::Int8Peak));
                peak.map_or(String::new(), |peak| {
                    let most = peak / fact.ternary as f64;
                    format!(
                        "roofline: {:.2} G ternary products a token at {:.0} GMAC/s allow {most:.0} tokens/s; {:.0} % of \
                         that is reached, attention and quantization included",
                        fact.ternary as f64 / 1e9,
                        peak / 1e9,
                        100.0 * speed / most
                    )
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_measured_and_quoted_figures_are_not_in_them() {
        let plan = Plan::new(false, None);
        let fact = |name| Facts {
            name,
            weight_bytes: 1_000_000_000,
            head_bytes: 600_000_000,
            ternary: 2_000_000_000,
            cache_bytes: 1000,
        };
        let mut figures = Figures::default();
        for file in ["TQ2_0-F16", "I2_S-F16"] {
            figures.add(Key::new(file, FULL, 1, Test::Decode(64)), 12.0);
            figures.add(Key::new(file, FULL, 1, Test::Prefill(512)), 60.0);
            figures.add(Key::new(file, FULL, 1, Test::Peak), 1.2e9);
            figures.add(Key::new(file, FULL, 1, Test::OpenToFirst), 0.4);
        }
        figures.add(
            Key::new("TQ2_0-F16", LlamaCpp::NAME, 1, Test::Decode(64)),
            5.0,
        );
        for (test, speed) in [
            (Test::DecodeAfter(64, 4000), 9.0),
            (Test::Parallel(1), 10.0),
            (Test::Parallel(8), 25.0),
        ] {
            figures.add(Key::new(LARGE, FULL, 1, test), speed);
        }
        figures.add(Key::machine(1, Test::Int8Peak), 400e9);
        figures.add(Key::machine(1, Test::Bandwidth), 20e9);
        let mut report = Report::new("peers", "t", "c".into());
        let facts = [fact("TQ2_0-F16"), fact("I2_S-F16")];
        tell(&figures, &facts, &plan, &[1], &mut report);
        let find = |words: &[&str]| {
            let mut rows = report.targets.iter();
            let row = rows.find(|row| words.iter().all(|word| row.what.contains(word)));
            row.unwrap_or_else(|| panic!("{words:?}"))
        };
        let row = find(&["decode 64", "bitnet, TQ2_0-F16", "llama.cpp"]);
        assert_eq!(row.met, Verdict::Met);
        assert!(row.measured.starts_with("2.40×"), "{}", row.measured);
        let row = find(&["share of read bandwidth", "I2_S-F16"]);
        assert_eq!((row.met, row.measured.as_str()), (Verdict::Unmet, "60 %"));
        assert!(row.note.contains("allow 20.00 tokens/s"), "{}", row.note);
        for row in report
            .targets
            .iter()
            .filter(|row| row.what.contains("bitnet.cpp"))
        {
            assert_eq!(row.met, Verdict::Unmeasured);
            assert!(!row.measured.contains('×'), "{}", row.measured);
        }
        assert!(
            find(&["I2_S-F16", "1 thread, against bitnet.cpp"])
                .note
                .contains(OF)
        );
        assert_eq!(find(&["peak resident", "I2_S-F16"]).met, Verdict::Unmet);
        assert_eq!(find(&["open to first token", "TQ2_0"]).met, Verdict::Met);
        let row = find(&[
            "decode 64 behind 4000",
            "bitnet, TQ2_0",
            "its own decode 64",
        ]);
        assert_eq!((row.met, row.measured.as_str()), (Verdict::Met, "0.75×"));
        let row = find(&["decode of 8 together, bitnet, TQ2_0", "its own decode of 1"]);
        assert_eq!((row.met, row.measured.as_str()), (Verdict::Unmet, "2.50×"));
        // 16 G products take 40 ms, and 1 GB takes 50.
        assert!(row.note.contains("allow 160 tokens/s"), "{}", row.note);
    }
}
