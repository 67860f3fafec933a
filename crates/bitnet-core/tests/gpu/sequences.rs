//! Several sequences, and several batches of one under way at a time.

use crate::harness::*;
use crate::parity::model::Model;
use crate::parity::sequences;
use bitnet_core::{Backend, Input};

#[test]
fn look_ahead() {
    for (name, gpu) in gpus() {
        assert!(gpu.supports_lookahead());
        let model = Model::new(gpu);
        let prompt = [5, 17, 299, 0, 8, 8, 120];
        let known = model.greedy(&prompt, 24);
        let found = sequences::looked_ahead(&model, &prompt, 24);
        assert_eq!(found, known, "{name}");
        // Beyond the first buffers of the state.
        assert_eq!(
            sequences::looked_ahead(&model, &prompt[..1], 280),
            model.greedy(&prompt[..1], 280),
            "{name}"
        );
    }
}

#[test]
fn sequences_do_not_meet() {
    for (name, gpu) in gpus() {
        let model = Model::new(gpu);
        let prompts = [&[1, 2, 3][..], &[250, 7, 7, 9, 11, 40]];
        let alone = sequences::two_threads(&model, prompts);
        // In turns, both under way.
        let mut states = prompts.map(|_| model.state(40));
        let mut found = [Vec::new(), Vec::new()];
        for index in 0..12 {
            let turns = states.iter_mut().zip(prompts);
            let pending: Vec<_> = turns
                .map(|(state, prompt)| {
                    let input = match index {
                        0 => Input::Tokens(prompt),
                        _ => Input::LastArgmax,
                    };
                    model.next(state, input)
                })
                .collect();
            for (found, pending) in found.iter_mut().zip(pending) {
                found.push(pending.now().expect("a token").id);
            }
        }
        assert_eq!(found, alone, "{name}");
    }
}

#[test]
fn forks_look_ahead() {
    let (_, gpu) = gpus()[0];
    let model = Model::new(gpu);
    let prompt = [5, 17, 299];
    let known = model.greedy(&prompt, 9);
    let mut state = model.state(40);
    let first = model.next(&mut state, Input::Tokens(&prompt));
    // The likeliest token need not be known when a sequence is forked.
    let fork = gpu.fork(&state, prompt.len()).expect("a fork");
    let mut found = [vec![first.now().expect("a token").id], Vec::new()];
    found[1] = found[0].clone();
    for (found, mut state) in found.iter_mut().zip([state, fork]) {
        for _ in 1..9 {
            let next = model.next(&mut state, Input::LastArgmax);
            found.push(next.now().expect("a token").id);
        }
    }
    assert_eq!(found, [known.clone(), known]);
}

#[test]
fn forks() {
    for (_, gpu) in gpus() {
        sequences::forks(gpu);
    }
}

#[test]
fn several_spans() {
    sequences::several_spans(gpus()[0].1);
}

#[test]
fn companies() {
    for (_, gpu) in gpus() {
        sequences::companies(gpu, 12);
    }
}

#[test]
fn forks_together() {
    sequences::forks_together(gpus()[1].1);
}

#[test]
fn rollback() {
    sequences::rollback(gpus()[0].1);
}

#[test]
fn small_model() {
    sequences::small_model(&others());
}
