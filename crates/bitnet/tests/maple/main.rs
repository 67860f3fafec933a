//! Maple (mixtures of experts, windows of attention): logits against those of an independent implementation in f64, and against
//! themselves however a prompt is divided, shared, rolled back or saved.

mod refusals;
#[path = "../steady/mod.rs"]
mod steady;

use bitnet::file::Bytes;
use bitnet::file::synth::{self, SynthArch, SynthOptions, TernaryType};
use bitnet::{EngineOptions, LogitsFor, Model, ModelOptions, Session};

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

#[test]
fn what_windows_left_is_given_back() {
    let options = SynthOptions {
        arch: SynthArch::Maple,
        ternary: TernaryType::TQ2_0,
        ..SynthOptions::default()
    };
    let bytes = Bytes::from(synth::to_vec(&options).expect("a file"));
    let model = Model::from_bytes("tiny", bytes, &ModelOptions::default()).expect("a model");
    let tokens = steady::walk(1300, 500);
    let last = |session: &mut Session, tokens: &[u32]| {
        let logits = session.forward(tokens, LogitsFor::Last).expect("logits");
        logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut session = model.session().expect("a session");
    last(&mut session, &tokens[..200]);
    let of_200 = session.cache_bytes();
    let whole = last(&mut session, &tokens[200..]);
    // One layer of four sees all; three keep their window of 24, and what may be taken back.
    assert!(
        session.cache_bytes() < 4 * of_200,
        "{of_200} became {}",
        session.cache_bytes()
    );
    let mut forks = [
        session.fork().expect("a fork"),
        session.fork().expect("a fork"),
    ];
    let mut file = Vec::new();
    session.save("file", &mut file).expect("saved");
    let [near, far] = &mut forks;
    // Within what is kept behind the windows, and far behind that: then all is read again.
    for (fork, len) in [(near, 1200), (far, 300)] {
        fork.truncate(len);
        assert!(last(fork, &tokens[len..]) == whole, "{len}");
    }
    let mut restored = Session::restore(&model, "file", &file[..]).expect("restored");
    for len in [1290, 900, 1100] {
        restored.truncate(len);
        let from = restored.tokens().len();
        assert!(last(&mut restored, &tokens[from..]) == whole, "{len}");
    }
}
