//! Models on a GPU beside the same models on the processor. Runs on software adapters, too (Mesa's lavapipe).
#![cfg(all(feature = "wgpu", feature = "demo"))]

use bitnet::file::synth::{self, Shape, SynthOptions};
use bitnet::file::{Bytes, ModelFile};
use bitnet::tokenizer::EncodeOptions;
use bitnet::{
    Activations, AdapterChoice, Device, Error, GenerateOptions, Model, ModelOptions,
    SamplingOptions, Session, Speculation, StopReason, Want,
};
use bitnet_core::gpu::{GpuOptions, WgpuBackend};

static HELD_OUT: &str = include_str!("../../bitnet-demo/data/heldout.txt");
const PROMPT: &str = "One day, Tom found a red key.";

fn any_adapter() -> GpuOptions {
    GpuOptions {
        software: true,
        ..GpuOptions::default()
    }
}

fn demo_file() -> ModelFile {
    ModelFile::parse("demo", Bytes::from_static(bitnet_demo::GGUF)).expect("a file")
}

fn on_gpu(file: &ModelFile, gpu: &GpuOptions, activations: Activations) -> Model {
    let backend = WgpuBackend::new(gpu).expect("an adapter: Mesa's lavapipe will do");
    let options = ModelOptions {
        activations,
        ..ModelOptions::default()
    };
    Model::from_file_on(file, backend, &options, |_, _| ()).expect("a model on the GPU")
}

fn on_cpu(file: &ModelFile, activations: Activations) -> Model {
    let options = ModelOptions {
        device: Some(Device::Cpu),
        activations,
        ..ModelOptions::default()
    };
    Model::from_file(file, &options, |_, _| ()).expect("a model on the processor")
}

/// The first `count` tokens of the texts that the demo model was not trained on.
fn held_out(model: &Model, count: usize) -> Vec<u32> {
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

fn likeliest(logits: &[f32]) -> usize {
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
struct Distance {
    positions: usize,
    agreeing: usize,
    /// Σ KL(expected ‖ found) in nats.
    divergence: f64,
    /// The largest difference of logits, in parts of their range.
    worst: f32,
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
}

/// Runs `tokens` on both models, from an empty context for every `window` of them, `batch` at once.
fn distance(cpu: &Model, gpu: &Model, tokens: &[u32], window: usize, batch: usize) -> Distance {
    let mut distance = Distance::default();
    let [mut left, mut right] = [cpu, gpu].map(|model| model.session().expect("a session"));
    for window in tokens.chunks(window) {
        left.reset();
        right.reset();
        for piece in window.chunks(batch) {
            let [expected, found] = [&mut left, &mut right]
                .map(|session| session.forward(piece, Want::All).expect("logits"));
            distance.add(&expected, &found, cpu.vocabulary());
        }
    }
    distance
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        speculation: Speculation::Off,
        stop_at_end: false,
        ..GenerateOptions::default()
    }
}

fn write(session: &mut Session, prompt: &str, options: &GenerateOptions) -> String {
    let generation = session.generate(prompt, options).expect("a start");
    generation.map(|piece| piece.expect("a piece")).collect()
}

#[test]
fn held_out_tokens_are_as_likely_as_on_the_processor() {
    let file = demo_file();
    let cpu = on_cpu(&file, Activations::Int8);
    let gpu = on_gpu(&file, &any_adapter(), Activations::Int8);
    let tokens = held_out(&cpu, 2000);
    // As in browsers, where sums go through workgroup memory.
    let plain = GpuOptions {
        subgroups: false,
        packed_dot: false,
        ..any_adapter()
    };
    let plain = on_gpu(&file, &plain, Activations::Int8);
    // Most of them as prompts, some one by one.
    let (read, written) = tokens.split_at(1900);
    for distance in [
        distance(&cpu, &gpu, read, 250, 125),
        distance(&cpu, &gpu, written, 100, 1),
        distance(&cpu, &plain, &read[..250], 250, 250),
        distance(&cpu, &plain, &written[..30], 30, 1),
    ] {
        println!("{distance:?}");
        let positions = distance.positions as f64;
        assert!(distance.agreeing as f64 >= 0.99 * positions, "{distance:?}");
        assert!(distance.divergence <= 1e-3 * positions, "{distance:?}");
    }
}

#[test]
fn without_rounding_logits_are_those_of_the_processor() {
    let file = demo_file();
    let cpu = on_cpu(&file, Activations::F32);
    let gpu = on_gpu(&file, &any_adapter(), Activations::F32);
    let tokens = held_out(&cpu, 200);
    for batch in [100, 1] {
        let distance = distance(&cpu, &gpu, &tokens[..100 + batch], 100, batch);
        println!("{distance:?}");
        assert!(distance.worst <= 1e-4, "{distance:?}");
    }
}

#[test]
fn tables_beyond_the_binding_limit_are_split() {
    let options = SynthOptions {
        shape: Shape::M125,
        ..SynthOptions::default()
    };
    let large = ModelFile::parse("125m", synth::to_vec(&options).expect("a model").into());
    for (file, limit) in [
        // 49 MB of embedding.
        (large.expect("a file"), 16 << 20),
        // 1 MB of embedding; 256 KB of keys and values of a layer must be bound together.
        (demo_file(), 300 << 10),
    ] {
        let split = GpuOptions {
            binding_limit: Some(limit),
            ..any_adapter()
        };
        let whole = on_gpu(&file, &any_adapter(), Activations::Int8);
        let split = on_gpu(&file, &split, Activations::Int8);
        let vocabulary = whole.vocabulary() as u32;
        // Rows of every part.
        let tokens: Vec<u32> = (0..8).map(|i| (vocabulary - 1) * i / 7).collect();
        let run = |model: &Model| {
            let mut session = model.session().expect("a session");
            let logits = session.forward(&tokens[..5], Want::All).expect("logits");
            let last = session.forward(&tokens[5..6], Want::Last).expect("logits");
            let top = session.forward_top(&tokens[6..], 5).expect("candidates");
            (logits, last, top)
        };
        let (expected, found) = (run(&whole), run(&split));
        assert!(
            expected == found,
            "{}: the same kernels on other buffers",
            file.name()
        );
        let cpu = run(&on_cpu(&file, Activations::Int8));
        assert_eq!(likeliest(&cpu.1), likeliest(&found.1), "{}", file.name());
    }
}

#[test]
fn greedy_text_in_flight_is_that_of_one_token_at_a_time() {
    let model = on_gpu(&demo_file(), &any_adapter(), Activations::Int8);
    let mut session = model.session().expect("a session");
    assert!(session.runs_ahead());
    let text = write(&mut session, PROMPT, &greedy(60));
    let tokens = session.tokens().to_vec();
    let prompt = tokens.len() - 60;
    let mut single = model.session().expect("a session");
    let mut next = single.forward_top(&tokens[..prompt], 1).expect("a token")[0].id;
    for (position, expected) in tokens.iter().enumerate().skip(prompt) {
        assert_eq!(next, *expected, "{position} of {text:?}");
        next = single.forward_top(&[next], 1).expect("a token")[0].id;
    }
    // What ran beyond the text is forgotten.
    let options = GenerateOptions {
        stop: vec!["\"".into(), ".".into()],
        ..greedy(60)
    };
    let mut generation = session.generate(" The", &options).expect("a start");
    let more: String = generation
        .by_ref()
        .map(|piece| piece.expect("a piece"))
        .collect();
    assert_eq!(
        generation.stop_reason(),
        Some(StopReason::StopString),
        "{more}"
    );
    let tokens = session.tokens().to_vec();
    let mut fresh = model.session().expect("a session");
    let expected = fresh.forward(&[&tokens[..], &[5]].concat(), Want::Last);
    let found = session.forward(&[5], Want::Last).expect("logits");
    let expected = expected.expect("logits");
    let range = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let differences = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    assert!(
        differences.fold(0.0, f32::max) < 0.1 * range,
        "other positions would be far away"
    );
    assert_eq!(likeliest(&expected), likeliest(&found));
}

#[test]
fn text_is_sampled_from_the_processors_candidates() {
    let file = demo_file();
    let (cpu, gpu) = (
        on_cpu(&file, Activations::F32),
        on_gpu(&file, &any_adapter(), Activations::F32),
    );
    let options = GenerateOptions {
        sampling: SamplingOptions {
            seed: 11,
            repetition_penalty: 1.1,
            ..SamplingOptions::default()
        },
        ..greedy(30)
    };
    let [expected, found] = [&cpu, &gpu].map(|model| {
        let mut session = model.session().expect("a session");
        write(&mut session, PROMPT, &options)
    });
    assert_eq!(expected, found);
}

#[test]
fn two_sessions_run_at_once() {
    let model = on_gpu(&demo_file(), &any_adapter(), Activations::Int8);
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
    let model = &model;
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

#[test]
fn a_lost_device_is_an_error_and_the_text_goes_on_elsewhere() {
    let file = demo_file();
    let healthy = on_gpu(&file, &any_adapter(), Activations::Int8);
    let expected = write(
        &mut healthy.session().expect("a session"),
        PROMPT,
        &greedy(30),
    );

    let backend = WgpuBackend::new(&any_adapter()).expect("an adapter");
    let handle = backend.clone();
    let model = Model::from_file_on(&file, backend, &ModelOptions::default(), |_, _| ());
    let model = model.expect("a model on the GPU");
    let mut session = model.session().expect("a session");
    let mut text = String::new();
    let options = greedy(30);
    let mut generation = session.generate(PROMPT, &options).expect("a start");
    let error = loop {
        match generation.next().expect("an error before the end") {
            Ok(piece) => text += &piece,
            Err(error) => break error,
        }
        if generation.timings().generated_tokens == 10 {
            handle.destroy();
        }
    };
    assert!(
        matches!(error, Error::Backend(bitnet_core::Error::DeviceLost { .. })),
        "{error:?}"
    );
    let left = 30 - generation.timings().generated_tokens;
    assert!(
        (10..30).contains(&left),
        "what was in flight may have arrived"
    );
    let tokens = session.tokens().to_vec();
    assert!(session.forward(&[5], Want::Last).is_err());

    let mut rebuilt = healthy.session().expect("a session");
    let options = greedy(left);
    let generation = rebuilt.generate_tokens(&tokens, &options).expect("a start");
    text.extend(generation.map(|piece| piece.expect("a piece")));
    assert_eq!(text, expected);
}

#[test]
fn options_choose_the_gpu() {
    let file = demo_file();
    let open = |device, adapter: AdapterChoice| {
        let options = ModelOptions {
            device,
            adapter,
            ..ModelOptions::default()
        };
        Model::from_file(&file, &options, |_, _| ())
    };
    let software = AdapterChoice {
        software: true,
        ..AdapterChoice::default()
    };
    for device in [None, Some(Device::Wgpu)] {
        let model = open(device, software.clone()).expect("a model on the GPU");
        assert!(model.device().contains("wgpu"), "{}", model.device());
    }
    // A model so small runs on the processor if nothing is chosen.
    let model = open(None, AdapterChoice::default()).expect("a model");
    assert!(model.device().starts_with("cpu"), "{}", model.device());
    let absent = AdapterChoice {
        name: Some("an abacus".into()),
        software: true,
    };
    let error = open(None, absent).expect_err("no such adapter").to_string();
    assert!(error.contains("an abacus"), "{error}");
}
