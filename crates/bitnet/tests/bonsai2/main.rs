//! Bonsai 2 (`qwen35` with Hadamard rotations): logits against those of an independent implementation in f64, and against
//! themselves however a prompt is divided, shared, rolled back or saved.

#[path = "../rewrite/mod.rs"]
mod rewrite;

mod keys;

use bitnet::engine::Batcher;
use bitnet::tokenizer::EncodeOptions;
use bitnet::{
    Activations, EngineOptions, GenerateOptions, Isa, KvType, LogitsFor, Model, ModelOptions,
    Request, SamplingOptions, Session, Speculation,
};
use serde_json::Value;

static BYTES: &[u8] = include_bytes!("tiny-bonsai2.gguf");

fn golden() -> Value {
    serde_json::from_str(include_str!("tiny-bonsai2.json")).expect("JSON")
}

fn tokens(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).expect("token ids")
}

fn model(options: &ModelOptions) -> Model {
    Model::from_bytes("tiny", BYTES, options).expect("a model")
}

fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.forward(tokens, LogitsFor::All).expect("logits")
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Tokens that are no text, as many as it takes.
fn walk(count: usize) -> Vec<u32> {
    (0..count)
        .map(|i| (i * i * 7 + i * 31 + 5) as u32 % 250)
        .collect()
}

#[test]
fn logits_are_the_golden_ones() {
    let golden = golden();
    let tokens = tokens(&golden["tokens"]);
    let rows: Vec<Vec<f64>> = serde_json::from_value(golden["logits"].clone()).expect("logits");
    let expected = rows.concat();
    let smallest = expected.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let model = model(&ModelOptions {
            activations: Activations::F32,
            kv: Some(KvType::F32),
            isa: Some(isa),
            ..ModelOptions::default()
        });
        let found = logits(&mut model.session().expect("a session"), &tokens);
        let differences = found.iter().zip(&expected);
        let difference = differences
            .map(|(found, expected)| (f64::from(*found) - expected).abs())
            .fold(0.0, f64::max);
        let share = difference / (largest - smallest);
        assert!(share < 1e-5, "{isa:?}: {share:e} of the range");
    }
}

#[test]
fn rounded_activations_stay_near() {
    let golden = golden();
    let tokens = tokens(&golden["tokens"]);
    let rows: Vec<Vec<f64>> = serde_json::from_value(golden["logits"].clone()).expect("logits");
    let expected = rows.concat();
    let model = model(&ModelOptions::default());
    let found = logits(&mut model.session().expect("a session"), &tokens);
    let squares: f64 = (found.iter().zip(&expected))
        .map(|(found, expected)| (f64::from(*found) - expected).powi(2))
        .sum();
    let rms = (squares / expected.len() as f64).sqrt();
    let stated = golden["int8_rms"].as_f64().expect("a number");
    assert!(
        rms < 1.5 * stated,
        "{rms}, where {stated} was found elsewhere"
    );
}

#[test]
fn bits_do_not_depend_on_kernels_threads_or_cuts() {
    let tokens = walk(150);
    let reference = model(&ModelOptions::default());
    let expected = bits(&logits(
        &mut reference.session().expect("a session"),
        &tokens,
    ));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 3] {
            let model = model(&ModelOptions {
                isa: Some(isa),
                threads: Some(threads),
                ..ModelOptions::default()
            });
            let mut session = model.session().expect("a session");
            assert!(bits(&logits(&mut session, &tokens)) == expected, "{isa:?}");
        }
    }
    for step in [1, 7, 64] {
        let mut session = reference.session().expect("a session");
        let mut found = Vec::new();
        for tokens in tokens.chunks(step) {
            found.extend(logits(&mut session, tokens));
        }
        assert!(bits(&found) == expected, "{step} at a time");
    }
}

#[test]
fn sessions_go_back_fork_and_are_saved() {
    let model = model(&ModelOptions::default());
    let tokens = walk(200);
    let vocabulary = model.vocabulary();
    let whole = logits(&mut model.session().expect("a session"), &tokens);
    let row = |at: usize| bits(&whole[at * vocabulary..][..vocabulary]);
    let last = |logits: &[f32]| bits(&logits[logits.len() - vocabulary..]);
    let mut session = model.session().expect("a session");
    for tokens in tokens[..140].chunks(30) {
        logits(&mut session, tokens);
    }
    for len in [139, 130, 128, 100, 64, 3] {
        session.truncate(len);
        assert!(
            last(&logits(&mut session, &tokens[len..150])) == row(149),
            "{len}"
        );
        session.truncate(140);
    }
    let mut fork = session.fork().expect("a fork");
    assert!(last(&logits(&mut session, &tokens[140..160])) == row(159));
    assert!(last(&logits(&mut fork, &tokens[140..200])) == row(199));
    let mut file = Vec::new();
    session.save("file", &mut file).expect("saved");
    let mut restored = Session::restore(&model, "file", &file[..]).expect("restored");
    assert!(last(&logits(&mut restored, &tokens[160..200])) == row(199));
    let mut empty = Vec::new();
    model
        .session()
        .expect("a session")
        .save("file", &mut empty)
        .expect("saved");
    let mut restored = Session::restore(&model, "file", &empty[..]).expect("restored");
    assert!(last(&logits(&mut restored, &tokens[..5])) == row(4));
}

fn options(tokens: usize, seed: u64, speculation: Speculation) -> GenerateOptions {
    GenerateOptions {
        max_tokens: tokens,
        sampling: SamplingOptions {
            seed,
            ..SamplingOptions::default()
        },
        stop_at_end: false,
        speculation,
        ..GenerateOptions::default()
    }
}

#[test]
fn drafts_and_company_do_not_change_a_text() {
    let model = model(&ModelOptions::default());
    // Of a text that repeats itself there are drafts, right ones and wrong ones.
    let prompts: Vec<Vec<u32>> = (0..6)
        .map(|index| [walk(9).repeat(8), walk(20 * index + 1)].concat())
        .collect();
    let mut alone = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let run = |speculation| {
            let mut session = model.session().expect("a session");
            let options = options(40, index as u64, speculation);
            let generation = session
                .generate_tokens(prompt, &options)
                .expect("a generation");
            generation.collect::<Result<String, _>>().expect("a text")
        };
        let text = run(Speculation::Off);
        assert_eq!(run(Speculation::Ngram), text);
        alone.push(text);
    }
    for kv_bytes in [1 << 30, 6 << 20] {
        let options_of_engine = EngineOptions {
            kv_bytes,
            max_running: 4,
            step_tokens: 48,
            ..EngineOptions::default()
        };
        let mut batcher = Batcher::new(&model, options_of_engine).expect("a batcher");
        for _ in 0..2 {
            let streams: Vec<_> = (prompts.iter().enumerate())
                .map(|(index, prompt)| {
                    let options = options(40, index as u64, Speculation::Ngram);
                    let request = Request::new(prompt.clone(), &options);
                    batcher.submit(request).expect("a stream")
                })
                .collect();
            while batcher.step() {}
            for (stream, expected) in streams.into_iter().zip(&alone) {
                assert_eq!(stream.text().expect("a text").0, *expected);
            }
        }
        assert!(batcher.gauges().cached_tokens > 0);
    }
}

#[test]
fn texts_become_the_golden_tokens() {
    let model = model(&ModelOptions::default());
    let options = EncodeOptions {
        add_bos: false,
        parse_special: false,
    };
    for case in golden()["text"].as_array().expect("cases") {
        let text = case["text"].as_str().expect("a text");
        let found = model.tokenizer().encode(text, options).expect("tokens");
        assert_eq!(found, tokens(&case["ids"]), "{text:?}");
    }
}

/// The file with the `nth` of `old` replaced by as many bytes of `new`.
fn patched(old: &[u8], new: &[u8], nth: usize) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = BYTES.to_vec();
    let mut places = (0..bytes.len() - old.len()).filter(|at| BYTES[*at..].starts_with(old));
    let at = places.nth(nth).expect("such bytes");
    bytes[at..at + old.len()].copy_from_slice(new);
    bytes
}

#[test]
fn names_that_cannot_be_rotated_are_refused() {
    for (old, new, expected) in [
        (
            "blk.0.ffn_gate.weight",
            "blk.0.attn_qkv.weight",
            "each name once",
        ),
        (
            "blk.0.ffn_gate.weight",
            "blk.9.ffn_gate.weight",
            "tensors of the file",
        ),
        (
            "blk.0.ffn_gate.weight",
            "blk.0.attn_norm.wight",
            "matrices of projections",
        ),
        (
            "prism.hadamard.version",
            "prism.hadamard.xersion",
            "prism.hadamard.version: expected a version",
        ),
    ] {
        let bytes = patched(old.as_bytes(), new.as_bytes(), 0);
        let model = Model::from_bytes("tiny", bytes, &ModelOptions::default());
        let error = model.expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
