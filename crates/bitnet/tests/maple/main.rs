//! Maple (mixtures of experts, windows of attention): logits against those of an independent implementation in f64, and against
//! themselves however a prompt is divided, shared, rolled back or saved.

mod refusals;
#[path = "../steady/mod.rs"]
mod steady;

use bitnet::{EngineOptions, Model, ModelOptions};

/// Three layers, the middle one global; experts of TQ2_0 and Q2_0, a head of Q4_K.
static THREE_LAYERS: &[u8] = include_bytes!("tiny-maple-a.gguf");
/// One layer that slides, TQ1_0, a head of F16.
static ONE_LAYER: &[u8] = include_bytes!("tiny-maple-b.gguf");

fn model(bytes: &'static [u8], options: &ModelOptions) -> Model {
    Model::from_bytes("tiny", bytes, options).expect("a model")
}

#[test]
fn logits_are_the_golden_ones() {
    for (bytes, golden) in [
        (THREE_LAYERS, include_str!("tiny-maple-a.json")),
        (ONE_LAYER, include_str!("tiny-maple-b.json")),
    ] {
        let golden = serde_json::from_str(golden).expect("JSON");
        steady::has_golden_logits(&|options| model(bytes, options), &golden);
    }
}

#[test]
fn bits_do_not_depend_on_kernels_threads_or_cuts() {
    for bytes in [THREE_LAYERS, ONE_LAYER] {
        steady::keeps_its_bits(&|options| model(bytes, options), &steady::walk(150, 112));
    }
}

#[test]
fn sessions_go_back_fork_and_are_saved() {
    steady::goes_back_forks_and_is_saved(&model(THREE_LAYERS, &ModelOptions::default()));
}

#[test]
fn drafts_and_company_do_not_change_a_text() {
    let model = model(THREE_LAYERS, &ModelOptions::default());
    steady::writes_the_same_in_company(&model, &[EngineOptions::default().kv_bytes]);
}
