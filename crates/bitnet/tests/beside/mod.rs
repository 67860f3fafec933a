//! The demo model on any backend beside the same on the processor: what the tests of each of them share.

use bitnet::file::{Bytes, ModelFile};
use bitnet::tokenizer::EncodeOptions;
use bitnet::{
    Activations, Device, GenerateOptions, KvType, LogitsFor, Model, ModelOptions, SamplingOptions,
    Session, Speculation,
};

static HELD_OUT: &str = include_str!("../../../bitnet-demo/data/heldout.txt");
pub(crate) const PROMPT: &str = "One day, Tom found a red key.";

pub(crate) fn demo_file() -> ModelFile {
    ModelFile::parse("demo", Bytes::from_static(bitnet_demo::GGUF)).expect("a file")
}

pub(crate) fn on_cpu(file: &ModelFile, activations: Activations) -> Model {
    let options = ModelOptions {
        device: Some(Device::Cpu),
        activations,
        kv: Some(KvType::F32),
        ..ModelOptions::default()
    };
    Model::from_file(file, &options, |_, _| ()).expect("a model on the processor")
}

/// The first `count` tokens of the texts that the demo model was not trained on.
pub(crate) fn held_out(model: &Model, count: usize) -> Vec<u32> {
    let tokens = model.tokenizer().encode(HELD_OUT, EncodeOptions::default());
    let mut tokens = tokens.expect("tokens");
    assert!(tokens.len() >= count);
    tokens.truncate(count);
    tokens
}

/// ln p of every token.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|x| f64::from(x - highest));
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|x| x - sum.ln()).collect()
}

pub(crate) fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best
}

/// How far two models' logits lie apart.
#[derive(Debug, Default)]
pub(crate) struct Distance {
    positions: usize,
    agreeing: usize,
    /// Σ KL(expected ‖ found) in nats.
    divergence: f64,
    /// The largest difference of logits, in parts of their range.
    pub(crate) worst: f32,
}

impl Distance {
    fn add(&mut self, expected: &[f32], found: &[f32], vocabulary: usize) {
        assert_eq!(expected.len(), found.len());
        let rows = expected
            .chunks_exact(vocabulary)
            .zip(found.chunks_exact(vocabulary));
        for (expected, found) in rows {
            let (p, q) = (log_probabilities(expected), log_probabilities(found));
            self.positions += 1;
            self.agreeing += usize::from(likeliest(expected) == likeliest(found));
            let pairs = p.iter().zip(&q);
            self.divergence += pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            let (low, high) = expected
                .iter()
                .fold((f32::MAX, f32::MIN), |(low, high), x| {
                    (low.min(*x), high.max(*x))
                });
            let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max) / (high - low);
            self.worst = self.worst.max(worst);
        }
    }

    /// Panics unless the likeliest token is the same at 99 of 100 positions, and the mean divergence at most 10⁻³ nats.
    pub(crate) fn assert_near(&self) {
        println!("{self:?}");
        let positions = self.positions as f64;
        assert!(self.agreeing as f64 >= 0.99 * positions, "{self:?}");
        assert!(self.divergence <= 1e-3 * positions, "{self:?}");
    }
}

/// Runs `tokens` on both models, from an empty context for every `window` of them, `batch` at once.
pub(crate) fn distance(
    cpu: &Model,
    other: &Model,
    tokens: &[u32],
    window: usize,
    batch: usize,
) -> Distance {
    let mut distance = Distance::default();
    let [mut left, mut right] = [cpu, other].map(|model| model.session().expect("a session"));
    for window in tokens.chunks(window) {
        left.reset();
        right.reset();
        for piece in window.chunks(batch) {
            let [expected, found] = [&mut left, &mut right]
                .map(|session| session.forward(piece, LogitsFor::All).expect("logits"));
            distance.add(&expected, &found, cpu.vocabulary());
        }
    }
    distance
}

pub(crate) fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        speculation: Speculation::Off,
        stop_at_end: false,
        ..GenerateOptions::default()
    }
}

pub(crate) fn write(session: &mut Session, prompt: &str, options: &GenerateOptions) -> String {
    let generation = session.generate(prompt, options).expect("a start");
    generation.map(|piece| piece.expect("a piece")).collect()
}

/// Sampled text, without rounding, is the processor's.
pub(crate) fn text_is_sampled_from_the_processors_candidates(other: &Model) {
    let cpu = on_cpu(&demo_file(), Activations::F32);
    let options = GenerateOptions {
        sampling: SamplingOptions {
            seed: 11,
            repetition_penalty: 1.1,
            ..SamplingOptions::default()
        },
        ..greedy(30)
    };
    let [expected, found] = [&cpu, other].map(|model| {
        let mut session = model.session().expect("a session");
        write(&mut session, PROMPT, &options)
    });
    assert_eq!(expected, found);
}

/// Two sessions of a model, in turns and on two threads, beside each alone.
pub(crate) fn two_sessions_run_at_once(model: &Model) {
    let prompts = [PROMPT, "Once upon a time"];
    let alone = prompts.map(|prompt| {
        write(
            &mut model.session().expect("a session"),
            prompt,
            &greedy(40),
        )
    });
    // In turns.
    let mut sessions = prompts.map(|_| model.session().expect("a session"));
    let [first, second] = &mut sessions;
    let options = greedy(40);
    let mut first = first.generate(prompts[0], &options).expect("a start");
    let mut second = second.generate(prompts[1], &options).expect("a start");
    let mut texts = [String::new(), String::new()];
    loop {
        let pieces = [first.next(), second.next()];
        if pieces.iter().all(Option::is_none) {
            break;
        }
        for (text, piece) in texts.iter_mut().zip(pieces) {
            text.extend(piece.map(|piece| piece.expect("a piece")));
        }
    }
    assert_eq!(texts, alone);
    // On two threads.
    let texts = std::thread::scope(|scope| {
        let threads = prompts.map(|prompt| {
            scope.spawn(move || {
                write(
                    &mut model.session().expect("a session"),
                    prompt,
                    &greedy(40),
                )
            })
        });
        threads.map(|thread| thread.join().expect("a text"))
    });
    assert_eq!(texts, alone);
}
