//! Several sessions, and several batches of one under way at a time.

use crate::beside::sessions::{self, HEADS, LAYERS, Model, two_threads_do_not_meet};
use crate::harness::*;
use bitnet_core::gpu::GpuBackend;
use bitnet_core::{Backend, Input};

/// The same, with all tokens under way before the first is known.
fn ahead(model: &Model<GpuBackend>, gpu: &GpuBackend, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut cache = gpu
        .cache(LAYERS, HEADS, prompt.len() + count)
        .expect("a cache");
    let mut waiting = Vec::new();
    let mut first = 0;
    for index in 0..count {
        let input = if index == 0 {
            Input::Tokens(prompt)
        } else {
            Input::Chosen
        };
        let x = model.forward(gpu, input, first, &mut cache);
        first += input.len();
        waiting.push(model.top(gpu, &x, &mut cache));
    }
    let answers = waiting
        .into_iter()
        .map(|answer| answer.now().expect("a token"));
    answers
        .map(|rows| rows.last().expect("a row")[0].id)
        .collect()
}

#[test]
fn a_batch_begins_with_a_token_that_nobody_knows_yet() {
    for (name, gpu) in gpus() {
        assert!(gpu.runs_ahead());
        let model = Model::new(gpu);
        let prompt = [5, 17, 299, 0, 8, 8, 120];
        let known = model.greedy(gpu, &prompt, 24);
        assert_eq!(ahead(&model, gpu, &prompt, 24), known, "{name}");
        // Beyond the first buffers of the cache.
        assert_eq!(
            ahead(&model, gpu, &prompt[..1], 280),
            model.greedy(gpu, &prompt[..1], 280),
            "{name}"
        );
    }
}

#[test]
fn sessions_do_not_meet() {
    for (name, gpu) in gpus() {
        let model = Model::new(gpu);
        let prompts = [&[1, 2, 3][..], &[250, 7, 7, 9, 11, 40]];
        let alone = two_threads_do_not_meet(gpu, &model, prompts);
        // In turns, both under way.
        let mut caches = prompts.map(|_| gpu.cache(LAYERS, HEADS, 40).expect("a cache"));
        let mut found = [Vec::new(), Vec::new()];
        let mut firsts = [0, 0];
        for index in 0..12 {
            let mut waiting = Vec::new();
            for session in 0..2 {
                let input = if index == 0 {
                    Input::Tokens(prompts[session])
                } else {
                    Input::Chosen
                };
                let cache = &mut caches[session];
                let x = model.forward(gpu, input, firsts[session], cache);
                firsts[session] += input.len();
                waiting.push(model.top(gpu, &x, cache));
            }
            for (found, answer) in found.iter_mut().zip(waiting) {
                found.push(answer.now().expect("a token").last().expect("a row")[0].id);
            }
        }
        assert_eq!(found, alone, "{name}");
    }
}

#[test]
fn what_was_forgotten_does_not_count() {
    sessions::what_was_forgotten_does_not_count(gpus()[0].1);
}

#[test]
fn a_small_model_is_close_to_the_cpus() {
    sessions::a_small_model_is_close_to_the_cpus(&others());
}
