//! The engine: whatever runs beside a text, it is the text that a lone session gives, to the bit of its logits.
#![cfg(feature = "demo")]

use bitnet::engine::{Batcher, TokenStream};
use bitnet::{
    BackendError, Candidate, Engine, EngineOptions, Error, GenerateOptions, HookScope, KvType,
    LogitBias, LogitsHook, Model, ModelOptions, Prompt, Request, Result, SamplingOptions,
    Speculation, StopReason,
};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Words that prompts are made of, so that some begin alike.
const STORY: &str = "Once upon a time there was a little girl named Lily. She liked to play in the garden with her dog. \
    One day the dog found a big red ball under a tree, and they played with it until the sun went down. ";

fn model(threads: usize) -> Model {
    Model::demo_with(&ModelOptions {
        threads: Some(threads),
        ..ModelOptions::default()
    })
    .expect("the demo model")
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    }
}

/// Notes a hash of the bits of all logits that a text is chosen from.
#[derive(Clone, Default)]
struct Bits(Arc<Mutex<Vec<u64>>>);

impl LogitsHook for Bits {
    fn scope(&mut self, _: &[u32]) -> Result<HookScope<'_>> {
        Ok(HookScope::Vocabulary)
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        let bits = candidates.iter().map(|c| u64::from(c.logit.to_bits()));
        let seed = tokens.len() as u64;
        let hash = bits.fold(seed, |hash, bits| {
            (hash ^ bits).wrapping_mul(0x0100_0000_01b3)
        });
        self.0.lock().expect("a lock").push(hash);
        Ok(())
    }
}

/// A text, and the bits that it was chosen from.
#[derive(Debug, PartialEq)]
struct Text {
    text: String,
    reason: StopReason,
    bits: Vec<u64>,
}

/// The text of a session that has nothing else to do.
fn alone(model: &Model, prompt: &Prompt, options: &GenerateOptions) -> Text {
    let bits = Bits::default();
    let session = model.session().expect("a session");
    let hook = Some(Box::new(bits.clone()) as Box<dyn LogitsHook>);
    let mut generation = session
        .into_generation(prompt.clone(), options, hook)
        .map_err(|refused| refused.1)
        .expect("a start");
    let text = generation.by_ref().map(|piece| piece.expect("a piece"));
    let text = text.collect();
    let bits = bits.0.lock().expect("a lock").clone();
    Text {
        text,
        reason: generation.stop_reason().expect("an end"),
        bits,
    }
}

/// Everything that is there of a stream.
fn collect(stream: &mut TokenStream) -> String {
    let mut text = String::new();
    while let Some(piece) = stream.try_next() {
        text.push_str(&piece.expect("a piece").text);
    }
    text
}

#[derive(Debug, Clone)]
struct Plan {
    /// Characters of the story that the prompt begins with, and its own end.
    prompt: (usize, u8),
    max_tokens: usize,
    temperature: f32,
    seed: u64,
    priority: i32,
    ngram: bool,
    /// The step before which it is requested, and the one before which it is dropped.
    from: usize,
    until: Option<usize>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (
        (0usize..4, 0u8..6),
        1usize..14,
        prop_oneof![Just(0.0f32), Just(0.9)],
        0u64..9,
        0i32..3,
        any::<bool>(),
        0usize..12,
        proptest::option::weighted(0.2, 1usize..16),
    );
    let plan = plan.prop_map(
        |(prompt, max_tokens, temperature, seed, priority, ngram, from, until)| Plan {
            prompt,
            max_tokens,
            temperature,
            seed,
            priority,
            ngram,
            from,
            until,
        },
    );
    proptest::collection::vec(plan, 1..8)
}

impl Plan {
    fn prompt(&self) -> Prompt {
        let (parts, end) = self.prompt;
        let shared = STORY.repeat(2);
        let shared = &shared[..shared.len() * parts / 3];
        Prompt::Text(format!("{shared}The {} end", "very ".repeat(end.into())))
    }

    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: SamplingOptions {
                temperature: self.temperature,
                seed: self.seed,
                repetition_penalty: 1.1,
                ..SamplingOptions::default()
            },
            speculation: if self.ngram {
                Speculation::Ngram
            } else {
                Speculation::Off
            },
            ..GenerateOptions::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_text_depends_on_the_others(
        plans in plans(),
        blocks in 6usize..40,
        (step_tokens, mixed_step_tokens) in (1usize..200, 1usize..80),
        max_running in 1usize..6,
        threads in 1usize..3,
        prefix_cache in any::<bool>(),
    ) {
        let model = model(threads);
        let block = block_bytes(&model);
        let options = EngineOptions {
            max_running,
            step_tokens,
            mixed_step_tokens,
            kv_bytes: blocks * block,
            prefix_cache,
            ..EngineOptions::default()
        };
        let mut batcher = Batcher::new(&model, options).expect("a batcher");
        let mut streams = Vec::new();
        let mut step = 0;
        let last = plans.iter().map(|plan| plan.from).max().unwrap_or(0);
        let mut texts: Vec<_> = plans.iter().map(|_| String::new()).collect();
        let mut notes: Vec<_> = plans.iter().map(|_| Bits::default()).collect();
        streams.resize_with(plans.len(), || None);
        while step <= last || !batcher.is_idle() {
            for (index, plan) in plans.iter().enumerate() {
                if plan.from == step {
                    let mut request = Request::new(plan.prompt(), &plan.options());
                    request.hook = Some(Box::new(notes[index].clone()));
                    request.priority = plan.priority;
                    streams[index] = Some(batcher.submit(request).expect("a stream"));
                }
                if plan.until == Some(step) {
                    streams[index] = None;
                }
            }
            batcher.step();
            for (text, stream) in texts.iter_mut().zip(&mut streams) {
                if let Some(stream) = stream {
                    text.push_str(&collect(stream));
                }
            }
            let gauges = batcher.gauges();
            prop_assert!(gauges.kv_running_bytes + gauges.kv_cached_bytes <= blocks * block);
            prop_assert!(gauges.running <= max_running);
            step += 1;
            prop_assert!(step < 5000, "it hangs");
        }
        for (index, plan) in plans.iter().enumerate() {
            let expected = alone(&model, &plan.prompt(), &plan.options());
            let bits = std::mem::take(&mut notes[index]);
            let bits = bits.0.lock().expect("a lock").clone();
            match &streams[index] {
                Some(stream) => {
                    let reason = stream.finish().expect("an end").reason;
                    let text = Text { text: texts[index].clone(), reason, bits };
                    prop_assert_eq!(text, expected);
                }
                // It was dropped on its way.
                None => prop_assert!(expected.bits.starts_with(&bits)),
            }
        }
    }
}

/// Bytes of 64 positions.
fn block_bytes(model: &Model) -> usize {
    let mut session = model.session().expect("a session");
    let tokens = vec![1; 64];
    session
        .forward(&tokens, bitnet::LogitsFor::Nothing)
        .expect("a block");
    session.cache_bytes()
}

#[test]
fn a_prefix_is_computed_once() {
    let model = model(2);
    let mut batcher = Batcher::new(&model, EngineOptions::default()).expect("a batcher");
    let prefix = model
        .prompt_tokens(&STORY.repeat(3).into(), &greedy(1))
        .expect("tokens");
    let prefix = &prefix[..128];
    let mut streams: Vec<_> = (0..20u32)
        .map(|index| {
            let mut tokens = prefix.to_vec();
            tokens.push(100 + index);
            let request = Request::new(tokens, &greedy(3));
            batcher.submit(request).expect("a stream")
        })
        .collect();
    while batcher.step() {}
    let gauges = batcher.gauges();
    assert_eq!(gauges.prompt_tokens, 128 + 20, "{gauges:?}");
    assert_eq!(gauges.cached_tokens, 19 * 128, "{gauges:?}");
    assert_eq!((gauges.finished, gauges.running), (20, 0));
    assert!(gauges.kv_cached_bytes > 0 && gauges.kv_running_bytes == 0);
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut tokens = prefix.to_vec();
        tokens.push(100 + index as u32);
        let text = collect(stream);
        assert_eq!(text, alone(&model, &tokens.into(), &greedy(3)).text);
        let finish = stream.finish().expect("an end");
        assert_eq!(finish.prompt_tokens, 129);
        assert_eq!(finish.cached_tokens, if index == 0 { 0 } else { 128 });
    }
    batcher.clear_prefixes();
    assert_eq!(batcher.gauges().kv_cached_bytes, 0);
}

#[test]
fn texts_make_room_and_are_the_same() {
    let model = model(2);
    let block = block_bytes(&model);
    let options = EngineOptions {
        kv_bytes: 5 * block,
        ..EngineOptions::default()
    };
    let mut batcher = Batcher::new(&model, options).expect("a batcher");
    let prompts: Vec<_> = (0..4)
        .map(|i| format!("Story {i}: once upon a time"))
        .collect();
    let mut options = greedy(120);
    options.stop_at_end = false;
    let mut streams: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let request = Request::new(prompt.as_str(), &options);
            batcher.submit(request).expect("a stream")
        })
        .collect();
    while batcher.step() {
        let gauges = batcher.gauges();
        let held = gauges.kv_running_bytes + gauges.kv_cached_bytes;
        assert!(held <= 5 * block, "{gauges:?}");
    }
    assert!(batcher.gauges().preemptions > 0, "{:?}", batcher.gauges());
    for (prompt, stream) in prompts.iter().zip(&mut streams) {
        let expected = alone(&model, &prompt.as_str().into(), &options);
        assert_eq!(collect(stream), expected.text);
        assert_eq!(stream.finish().map(|f| f.reason), Some(expected.reason));
    }
}

/// With a limit on all memory, of which activations take their part too.
#[test]
fn texts_stay_within_the_memory_limit() {
    let open = |memory_limit| {
        Model::demo_with(&ModelOptions {
            threads: Some(2),
            memory_limit,
            kv: Some(KvType::F32),
            ..ModelOptions::default()
        })
        .expect("the demo model")
    };
    let model = open(None);
    let mut options = greedy(250);
    options.stop_at_end = false;
    let prompts: Vec<_> = (0..7).map(|i| format!("Story {i}: a dog")).collect();
    let expected: Vec<_> = prompts
        .iter()
        .map(|prompt| alone(&model, &prompt.as_str().into(), &options))
        .collect();
    for limit in [6 << 20, 9 << 20] {
        let limited = open(Some(limit));
        let mut batcher = Batcher::new(&limited, EngineOptions::default()).expect("a batcher");
        assert!(batcher.gauges().kv_budget_bytes <= limit);
        let mut streams: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                let request = Request::new(prompt.as_str(), &options);
                batcher.submit(request).expect("a stream")
            })
            .collect();
        while batcher.step() {
            assert!(limited.pool_stats().reserved <= limit);
        }
        assert!(batcher.gauges().preemptions > 0, "{:?}", batcher.gauges());
        for (expected, stream) in expected.iter().zip(&mut streams) {
            assert_eq!(collect(stream), expected.text);
            assert_eq!(stream.finish().map(|f| f.reason), Some(expected.reason));
        }
    }
}

#[test]
fn a_memory_limit_is_refused_by_name() {
    let open = |limit| {
        Model::demo_with(&ModelOptions {
            threads: Some(1),
            memory_limit: Some(limit),
            kv: Some(KvType::F32),
            ..ModelOptions::default()
        })
    };
    let refused = |outcome: Result<()>, limit: usize| match outcome {
        Err(Error::Backend(BackendError::OutOfMemory {
            limit: Some(found), ..
        })) => assert_eq!(found, limit),
        other => panic!("{limit}: {other:?}"),
    };
    let limit = 700_000;
    let tight = open(limit).expect("the weights lie where they are");
    let engine = Batcher::new(&tight, EngineOptions::default());
    refused(engine.map(|_| ()), limit);
    let mut session = tight.session().expect("an empty session");
    let long = vec![1; 900];
    refused(
        session
            .forward(&long, bitnet::LogitsFor::Nothing)
            .map(|_| ()),
        limit,
    );
    assert!(session.tokens().is_empty());
}

#[test]
fn many_threads_share_an_engine() {
    let model = model(2);
    let engine = Engine::new(&model, EngineOptions::default()).expect("an engine");
    let prompts = ["Once upon a time", "The dog", "3 + 4 =", "Lily"];
    std::thread::scope(|scope| {
        for prompt in prompts {
            let (engine, model) = (engine.clone(), &model);
            scope.spawn(move || {
                let stream = engine.submit(Request::new(prompt, &greedy(20)));
                let (text, finish) = stream.expect("a stream").text().expect("a text");
                let expected = alone(model, &prompt.into(), &greedy(20));
                assert_eq!((text, finish.reason), (expected.text, expected.reason));
                assert!(finish.timings.generated_tokens > 0);
            });
        }
    });
    engine.drain();
    let error = engine.submit(Request::new("more", &greedy(1)));
    assert!(matches!(error, Err(Error::Stopped)), "{error:?}");
}

#[test]
fn a_stream_is_awaited_and_ends_when_it_is_dropped() {
    let engine = Engine::new(&model(1), EngineOptions::default()).expect("an engine");
    let mut options = greedy(100_000);
    options.stop_at_end = false;
    let mut stream = engine
        .submit(Request::new("Once", &options))
        .expect("a stream");
    let first = pollster::block_on(std::future::poll_fn(|cx| {
        futures_core::Stream::poll_next(std::pin::Pin::new(&mut stream), cx)
    }));
    assert!(first.expect("a piece").expect("a piece").token.is_some());
    drop(stream);
    // It stops, so that the engine can drain.
    engine.drain();
    assert_eq!(engine.gauges().running, 0);
}

#[test]
fn requests_that_come_at_once_are_refused_when_they_are_made() {
    let options = EngineOptions {
        max_running: 2,
        max_waiting: 3,
        ..EngineOptions::default()
    };
    let engine = Engine::new(&model(1), options).expect("an engine");
    for round in 0..20 {
        let streams: Vec<_> = (0..12)
            .filter_map(|_| engine.submit(Request::new("Once", &greedy(2))).ok())
            .collect();
        // Those of the round before are told to have ended before their places are free.
        let least = if round == 0 { 5 } else { 1 };
        assert!(streams.len() >= least, "{} were taken", streams.len());
        for stream in streams {
            // Whatever was taken is written.
            stream.text().expect("a text");
        }
    }
}

#[test]
fn deadlines_cancels_and_full_queues_are_told() {
    let model = model(1);
    let options = EngineOptions {
        max_running: 1,
        max_waiting: 1,
        ..EngineOptions::default()
    };
    let mut batcher = Batcher::new(&model, options).expect("a batcher");
    let mut late = greedy(1000);
    late.stop_at_end = false;
    let deadline = Instant::now() + Duration::from_millis(30);
    late.deadline = Some(deadline);
    let mut late = batcher
        .submit(Request::new("Once", &late))
        .expect("a stream");
    let cancelled = greedy(5);
    let mut never = batcher
        .submit(Request::new("Once", &cancelled))
        .expect("a stream");
    let refused = batcher.submit(Request::new("Once", &greedy(5)));
    assert!(matches!(refused, Err(Error::Overloaded { waiting: 2 })));
    cancelled.cancel.cancel();
    // Far from the end of the text when its time is over, however fast the machine is.
    for _ in 0..3 {
        batcher.step();
    }
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    while batcher.step() {}
    let deadline = collect(&mut late);
    assert_eq!(late.finish().map(|f| f.reason), Some(StopReason::Deadline));
    let whole = alone(&model, &"Once".into(), &greedy(1000)).text;
    assert!(whole.starts_with(&deadline) || deadline.starts_with(&whole));
    assert_eq!(collect(&mut never), "");
    assert_eq!(
        never.finish().map(|f| f.reason),
        Some(StopReason::Cancelled)
    );
    let empty = batcher.submit(Request::new(Vec::<u32>::new(), &greedy(5)));
    assert!(
        empty
            .unwrap_err()
            .to_string()
            .contains("at least one token")
    );
    let long = vec![1; model.context() + 1];
    assert!(matches!(
        batcher.submit(Request::new(long, &greedy(5))),
        Err(Error::ContextFull { .. })
    ));
}

#[test]
fn logprobs_and_hooks_see_what_the_model_says() {
    let model = model(1);
    let mut batcher = Batcher::new(&model, EngineOptions::default()).expect("a batcher");
    let mut request = Request::new("Once upon a", &greedy(4));
    request.logprobs = Some(2);
    let mut stream = batcher.submit(request).expect("a stream");
    while batcher.step() {}
    let mut likeliest = Vec::new();
    while let Some(piece) = stream.try_next() {
        let piece = piece.expect("a piece");
        let (Some(token), Some(logprobs)) = (piece.token, piece.logprobs) else {
            continue;
        };
        assert_eq!(logprobs.top.len(), 2);
        assert_eq!(logprobs.top[0], (token, logprobs.logprob));
        assert!(logprobs.logprob <= 0.0 && logprobs.top[1].1 <= logprobs.logprob);
        likeliest.push(token);
    }
    assert_eq!(likeliest.len(), 4);
    // Without the likeliest token the second is chosen, and a token that is far ahead always is.
    let first = |bias: Vec<(u32, f32)>| {
        let mut batcher = Batcher::new(&model, EngineOptions::default()).expect("a batcher");
        let mut request = Request::new("Once upon a", &greedy(1));
        request.hook = Some(Box::new(LogitBias::new(bias).expect("a bias")));
        let mut stream = batcher.submit(request).expect("a stream");
        while batcher.step() {}
        stream.try_next().expect("a piece").expect("a piece").token
    };
    assert_eq!(first(Vec::new()), Some(likeliest[0]));
    assert_ne!(
        first(vec![(likeliest[0], f32::NEG_INFINITY)]),
        Some(likeliest[0])
    );
    assert_eq!(first(vec![(77, 1e30)]), Some(77));
    assert!(LogitBias::new([(1, f32::NAN)]).is_err());
}

#[test]
fn who_hears_of_an_end_finds_the_room() {
    let model = Model::demo().expect("the demo model");
    let options = EngineOptions {
        max_running: 1,
        max_waiting: 0,
        ..EngineOptions::default()
    };
    let engine = Engine::new(&model, options).expect("an engine");
    for seed in 0..300 {
        let mut options = greedy(1 + seed % 3);
        options.sampling.seed = seed as u64;
        let stream = engine.submit(Request::new("Once", &options));
        let stream = stream.unwrap_or_else(|error| panic!("request {seed}: {error}"));
        stream.text().expect("a text");
    }
}
