//! Bonsai 2 (`qwen35` with Hadamard rotations): logits against those of an independent implementation in f64, and against
//! themselves however a prompt is divided, shared, rolled back or saved.

mod checkpoint;
mod keys;
mod left_out;
#[path = "../rewrite/mod.rs"]
mod rewrite;
#[path = "../steady/mod.rs"]
mod steady;

use bitnet::tokenizer::EncodeOptions;
use bitnet::{Model, ModelOptions};
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

#[test]
fn logits_are_the_golden_ones() {
    steady::has_golden_logits(&model, &golden());
}

#[test]
fn rounded_activations_stay_near() {
    let golden = golden();
    let (tokens, expected) = steady::golden(&golden);
    let model = model(&ModelOptions::default());
    let found = steady::logits(&mut model.session().expect("a session"), &tokens);
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
    steady::keeps_its_bits(&model, &steady::walk(150, 250));
}

#[test]
fn sessions_go_back_fork_and_are_saved() {
    steady::goes_back_forks_and_is_saved(&model(&ModelOptions::default()));
}

#[test]
fn drafts_and_company_do_not_change_a_text() {
    steady::writes_the_same_in_company(&model(&ModelOptions::default()), &[1 << 30, 6 << 20]);
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
