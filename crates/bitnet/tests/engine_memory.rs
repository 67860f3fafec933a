//! The engine's count of keys, values and states, beside what the pool has handed out for them: of plain models, of those whose
//! layers have windows, and of those with states.

use bitnet::engine::Batcher;
use bitnet::file::Bytes;
use bitnet::file::synth::{self, SynthArch, SynthOptions, TernaryType};
use bitnet::{
    EngineOptions, GenerateOptions, Model, ModelOptions, Request, SamplingOptions, Session, Tag,
};

static HYBRID: &[u8] = include_bytes!("bonsai2/tiny-bonsai2.gguf");

fn synthetic(arch: SynthArch, ternary: TernaryType) -> Model {
    let options = SynthOptions {
        arch,
        ternary,
        ..SynthOptions::default()
    };
    let bytes = Bytes::from(synth::to_vec(&options).expect("a file"));
    Model::from_bytes("tiny", bytes, &ModelOptions::default()).expect("a model")
}

fn models() -> [(&'static str, Model); 3] {
    let hybrid = Model::from_bytes("hybrid", HYBRID, &ModelOptions::default());
    [
        ("plain", synthetic(SynthArch::Llama, TernaryType::I2S)),
        ("windows", synthetic(SynthArch::Maple, TernaryType::TQ2_0)),
        ("states", hybrid.expect("a model")),
    ]
}

fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        stop_at_end: false,
        ..GenerateOptions::default()
    }
}

fn walk(first: usize, count: usize) -> Vec<u32> {
    (0..count)
        .map(|i| ((i * i * 7 + i * 31 + first * 3 + 5) % 250) as u32)
        .collect()
}

/// Bytes that the pool has handed out for keys, values and states.
fn held(model: &Model) -> usize {
    model.pool_stats().tag(Tag::KvCache).in_use
}

fn text_alone(model: &Model, prompt: &[u32], max_tokens: usize) -> String {
    let mut session: Session = model.session().expect("a session");
    let pieces = session.generate_tokens(prompt, &options(max_tokens));
    let pieces = pieces.expect("a generation");
    pieces.collect::<Result<String, _>>().expect("a text")
}

/// Runs prompts that begin alike together, in all of the budgets; after every step no more is held than is counted, and no more
/// is counted than there may be.
#[test]
fn no_more_is_held_than_is_counted_and_allowed() {
    for (name, model) in models() {
        let shared = walk(1, 200);
        let prompts: Vec<Vec<u32>> = (0..5)
            .map(|index| [&shared[..40 * index], &walk(index, 130)].concat())
            .collect();
        let alone: Vec<String> = prompts
            .iter()
            .map(|prompt| text_alone(&model, prompt, 120))
            .collect();
        let unlimited = EngineOptions::default().kv_bytes;
        let block = Batcher::new(&model, EngineOptions::default())
            .expect("a batcher")
            .gauges()
            .kv_block_bytes;
        // Room for all, for two texts or so, and for little more than one.
        let one = model
            .architecture()
            .state_bytes(420, model.kv_type())
            .expect("heads");
        for kv_bytes in [unlimited, 2 * one + 8 * block, one + block] {
            let engine = EngineOptions {
                kv_bytes,
                max_running: 3,
                step_tokens: 96,
                ..EngineOptions::default()
            };
            let mut batcher = Batcher::new(&model, engine).expect("a batcher");
            for round in 0..2 {
                let streams: Vec<_> = prompts
                    .iter()
                    .map(|prompt| {
                        let request = Request::new(prompt.clone(), &options(120));
                        batcher.submit(request).expect("a stream")
                    })
                    .collect();
                loop {
                    let more = batcher.step();
                    let gauges = batcher.gauges();
                    let counted = gauges.kv_running_bytes + gauges.kv_cached_bytes;
                    let case = format!("{name}, {kv_bytes} bytes, round {round}: {gauges:?}");
                    assert!(held(&model) <= counted, "{} held, {case}", held(&model));
                    assert!(counted <= gauges.kv_budget_bytes, "{case}");
                    if !more {
                        break;
                    }
                }
                for (stream, expected) in streams.into_iter().zip(&alone) {
                    assert_eq!(stream.text().expect("a text").0, *expected, "{name}");
                }
            }
            batcher.clear_prefixes();
            assert_eq!(batcher.gauges().kv_cached_bytes, 0);
        }
        assert_eq!(held(&model), 0, "{name}");
    }
}

/// A long text needs no more than a session of its length, however much of it the index could keep.
#[test]
fn a_long_text_runs_in_as_much_as_it_needs_alone() {
    for (name, model) in models() {
        let prompt = walk(2, 300);
        let tokens = (model.context() - 310).min(1300);
        let expected = text_alone(&model, &prompt, tokens);
        let all = prompt.len() + tokens + 1;
        let kv_bytes = model
            .architecture()
            .state_bytes(all, model.kv_type())
            .expect("heads");
        let engine = EngineOptions {
            kv_bytes,
            ..EngineOptions::default()
        };
        let mut batcher = Batcher::new(&model, engine).expect("a batcher");
        let request = Request::new(prompt, &options(tokens));
        let stream = batcher.submit(request).expect("a stream");
        while batcher.step() {
            let gauges = batcher.gauges();
            let counted = gauges.kv_running_bytes + gauges.kv_cached_bytes;
            assert!(
                held(&model) <= counted && counted <= kv_bytes,
                "{name}: {gauges:?}"
            );
        }
        assert_eq!(stream.text().expect("a text").0, expected, "{name}");
    }
}
