//! The demo model on MLX beside the same on the processor.
#![cfg(all(
    feature = "mlx",
    feature = "demo",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]

mod beside;

use beside::{PROMPT, demo_file, distance, greedy, held_out, likeliest, on_cpu, write};
use bitnet::{
    Activations, Device, Error, GenerateOptions, LogitsFor, Model, ModelOptions, StopReason,
};

fn on_mlx(activations: Activations) -> Model {
    let options = ModelOptions {
        device: Some(Device::Mlx),
        activations,
        ..ModelOptions::default()
    };
    Model::demo_with(&options).expect("a model on MLX")
}

#[test]
fn held_out_tokens_are_as_likely_as_on_the_processor() {
    let (cpu, mlx) = (
        on_cpu(&demo_file(), Activations::Int8),
        on_mlx(Activations::Int8),
    );
    assert!(mlx.device().starts_with("mlx"), "{}", mlx.device());
    let tokens = held_out(&cpu, 2000);
    // Most of them as prompts, some one by one.
    let (read, written) = tokens.split_at(1800);
    distance(&cpu, &mlx, read, 250, 125).assert_near();
    distance(&cpu, &mlx, written, 100, 1).assert_near();
}

#[test]
fn without_rounding_logits_are_those_of_the_processor() {
    let (cpu, mlx) = (
        on_cpu(&demo_file(), Activations::F32),
        on_mlx(Activations::F32),
    );
    let tokens = held_out(&cpu, 200);
    for batch in [100, 1] {
        let distance = distance(&cpu, &mlx, &tokens[..100 + batch], 100, batch);
        println!("{distance:?}");
        assert!(distance.worst <= 1e-4, "{distance:?}");
    }
}

#[test]
fn text_is_sampled_from_the_processors_candidates() {
    beside::text_is_sampled_from_the_processors_candidates(&on_mlx(Activations::F32));
}

#[test]
fn two_sessions_run_at_once() {
    beside::two_sessions_run_at_once(&on_mlx(Activations::Int8));
}

#[test]
fn text_that_was_stopped_goes_on() {
    let model = on_mlx(Activations::Int8);
    let mut session = model.session().expect("a session");
    assert!(!session.supports_lookahead());
    let options = GenerateOptions {
        stop: vec![".".into()],
        ..greedy(60)
    };
    let mut generation = session.generate(PROMPT, &options).expect("a start");
    let text: String = generation
        .by_ref()
        .map(|piece| piece.expect("a piece"))
        .collect();
    assert_eq!(
        generation.stop_reason(),
        Some(StopReason::StopString(0)),
        "{text}"
    );
    let tokens = session.tokens().to_vec();
    let mut fresh = model.session().expect("a session");
    let expected = fresh.forward(&[&tokens[..], &[5]].concat(), LogitsFor::Last);
    let found = session.forward(&[5], LogitsFor::Last).expect("logits");
    assert_eq!(likeliest(&expected.expect("logits")), likeliest(&found));
    // What does not fit or is no token leaves the session as it was.
    let error = session
        .forward(&[1_000_000], LogitsFor::Last)
        .expect_err("no token");
    assert!(matches!(error, Error::Argument { .. }), "{error}");
    assert_eq!(
        write(&mut fresh, " The", &greedy(8)),
        write(&mut session, " The", &greedy(8))
    );
}

#[test]
fn a_saved_session_goes_on() {
    let model = on_mlx(Activations::Int8);
    let mut session = model.session().expect("a session");
    write(&mut session, PROMPT, &greedy(20));
    let mut file = Vec::new();
    session.save("a story", &mut file).expect("saved");
    let mut restored = bitnet::Session::restore(&model, "a story", &file[..]).expect("restored");
    assert_eq!(
        write(&mut restored, " The", &greedy(20)),
        write(&mut session, " The", &greedy(20))
    );
}

#[test]
fn heads_attend_as_on_the_processor() {
    let [cpu, mlx] = [
        on_cpu(&demo_file(), Activations::F32),
        on_mlx(Activations::F32),
    ];
    let tokens = held_out(&cpu, 40);
    let [expected, found] = [&cpu, &mlx].map(|model| {
        let mut session = model.session().expect("a session");
        session.forward(&tokens, LogitsFor::Nothing).expect("run");
        session.attention(1).expect("weights")
    });
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    assert!(differences.fold(0.0, f32::max) < 1e-3);
}
