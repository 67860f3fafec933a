//! Models on a GPU beside the same models on the processor. Runs on software adapters, too (Mesa's lavapipe).
#![cfg(all(feature = "wgpu", feature = "demo"))]

mod beside;

use beside::{PROMPT, demo_file, distance, greedy, held_out, likeliest, on_cpu, write};
use bitnet::engine::Batcher;
use bitnet::file::ModelFile;
use bitnet::file::synth::{self, Shape, SynthOptions};
use bitnet::{
    Activations, AdapterChoice, Device, EngineOptions, Error, GenerateOptions, LogitsFor, Model,
    ModelOptions, Request, SamplingOptions, StopReason,
};
use bitnet_core::gpu::{GpuOptions, WgpuBackend};

fn any_adapter() -> GpuOptions {
    GpuOptions {
        software: true,
        ..GpuOptions::default()
    }
}

fn on_gpu(file: &ModelFile, gpu: &GpuOptions, activations: Activations) -> Model {
    let backend = WgpuBackend::new(gpu).expect("an adapter: Mesa's lavapipe will do");
    let options = ModelOptions {
        activations,
        ..ModelOptions::default()
    };
    Model::from_file_on(file, backend, &options, |_, _| ()).expect("a model on the GPU")
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
        distance.assert_near();
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
            let logits = session
                .forward(&tokens[..5], LogitsFor::All)
                .expect("logits");
            let last = session
                .forward(&tokens[5..6], LogitsFor::Last)
                .expect("logits");
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
    assert!(session.supports_lookahead());
    let text = write(&mut session, PROMPT, &greedy(60));
    let tokens = session.tokens().to_vec();
    let prompt = tokens.len() - 60;
    let mut single = model.session().expect("a session");
    let mut next = single.forward_top(&tokens[..prompt], 1).expect("a token")[0].id;
    for (position, expected) in tokens.iter().enumerate().skip(prompt) {
        assert_eq!(next, *expected, "{position} of {text:?}");
        next = single.forward_top(&[next], 1).expect("a token")[0].id;
    }
    assert!(
        single
            .forward(&[], LogitsFor::Last)
            .expect("nothing")
            .is_empty()
    );
    assert!(single.forward_top(&[], 2).expect("nothing").is_empty());
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
    let reason = generation.stop_reason();
    assert!(
        matches!(reason, Some(StopReason::StopString(_))),
        "{reason:?}: {more}"
    );
    let tokens = session.tokens().to_vec();
    let mut fresh = model.session().expect("a session");
    let expected = fresh.forward(&[&tokens[..], &[5]].concat(), LogitsFor::Last);
    let found = session.forward(&[5], LogitsFor::Last).expect("logits");
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
    let gpu = on_gpu(&demo_file(), &any_adapter(), Activations::F32);
    beside::text_is_sampled_from_the_processors_candidates(&gpu);
}

#[test]
fn two_sessions_run_at_once() {
    let gpu = on_gpu(&demo_file(), &any_adapter(), Activations::Int8);
    beside::two_sessions_run_at_once(&gpu);
}

/// A text to write, and the step before which it is requested.
struct Wanted {
    prompt: Vec<u32>,
    options: GenerateOptions,
    from: usize,
}

impl Wanted {
    /// Prompts of held-out text, short and long; greedy, and unless all are to be, sampled of a few candidates or of all, with
    /// penalties now and then.
    fn list(tokens: &[u32], seed: u64, all_greedy: bool) -> Vec<Self> {
        let mut state = seed;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 33) % end) as usize
        };
        let mut wanted: Vec<Self> = (0..9)
            .map(|index| {
                let count = [1, 2, 7, 30, 70][below(5)];
                let first = below((tokens.len() - count) as u64);
                let mut options = greedy(2 + below(14));
                if index % 3 > 0 && !all_greedy {
                    options.sampling = SamplingOptions {
                        temperature: 0.8,
                        top_k: if index % 3 == 1 { 20 } else { 0 },
                        repetition_penalty: if below(2) == 0 { 1.3 } else { 1.0 },
                        seed: index as u64,
                        ..SamplingOptions::default()
                    };
                }
                Self {
                    prompt: tokens[first..first + count].to_vec(),
                    options,
                    from: below(12),
                }
            })
            .collect();
        wanted.sort_by_key(|wanted| wanted.from);
        wanted
    }
}

#[test]
fn texts_that_run_together_are_those_of_lone_sessions() {
    let model = on_gpu(&demo_file(), &any_adapter(), Activations::Int8);
    let tokens = held_out(&model, 400);
    for seed in [1, 2, 3] {
        let wanted = Wanted::list(&tokens, seed, seed == 3);
        let alone: Vec<String> = wanted
            .iter()
            .map(|wanted| {
                let mut session = model.session().expect("a session");
                let text = session.generate_tokens(&wanted.prompt, &wanted.options);
                let text = text.expect("a start");
                text.map(|piece| piece.expect("a piece")).collect()
            })
            .collect();
        // Prompts are not divided, as they are not in a session.
        let options = EngineOptions {
            max_running: 6,
            step_tokens: 1000,
            mixed_step_tokens: 1000,
            ..EngineOptions::default()
        };
        let mut batcher = Batcher::new(&model, options).expect("a batcher");
        let mut streams = Vec::new();
        let mut step = 0;
        while streams.len() < wanted.len() || !batcher.is_idle() {
            while let Some(next) = wanted.get(streams.len())
                && next.from <= step
            {
                let request = Request::new(next.prompt.clone(), &next.options);
                streams.push(batcher.submit(request).expect("a stream"));
            }
            batcher.step();
            step += 1;
        }
        let mut most = 0;
        for (index, (stream, alone)) in streams.iter_mut().zip(&alone).enumerate() {
            let mut text = String::new();
            while let Some(piece) = stream.try_next() {
                text.push_str(&piece.expect("a piece").text);
            }
            assert_eq!(&text, alone, "text {index} of seed {seed}");
            most = most.max(text.len());
        }
        assert!(most > 0, "empty texts alone");
        let gauges = batcher.gauges();
        assert!(gauges.texts_in_steps > 2 * gauges.steps, "{gauges:?}");
    }
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
    assert!(session.forward(&[5], LogitsFor::Last).is_err());

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
