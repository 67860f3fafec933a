//! Batches of several sequences, forks, and batches that fail.

use super::model::{Job, Model, VOCABULARY, Weights};
use super::{Numbers, at_most, backends};
use bitnet_core::cpu::{CpuBackend, CpuState};
use bitnet_core::{
    Alignment, Backend, Error, HybridMemoryPool, KvType, Output, OutputRequest, PoolOptions,
    SequenceState, Tag, Top,
};
use proptest::prelude::*;

fn tokens(numbers: &mut Numbers, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| numbers.below(VOCABULARY) as u32)
        .collect()
}

/// Outputs in bits.
fn bits(output: &Output) -> Vec<(u32, u32)> {
    match output {
        Output::Nothing => Vec::new(),
        Output::Logits(logits) | Output::Hidden(logits) => {
            logits.iter().map(|logit| (0, logit.to_bits())).collect()
        }
        Output::Top(rows) => {
            let candidates = rows.iter().flatten();
            candidates
                .map(|top| (top.id, top.logit.to_bits()))
                .collect()
        }
    }
}

/// A sequence of a batch: tokens that it has read, new ones, and the request.
struct Case {
    before: Vec<u32>,
    new: Vec<u32>,
    /// 0: nothing, 1: logits, else the likeliest.
    request: usize,
    rows: usize,
    count: usize,
}

impl Case {
    fn new(numbers: &mut Numbers) -> Self {
        // Around the edges of blocks, and within.
        let before = [0, 1, 7, 62, 63, 64, 65, 100][numbers.below(8)];
        let new = [1, 1, 2, 5, 20][numbers.below(5)];
        Self {
            before: tokens(numbers, before),
            new: tokens(numbers, new),
            request: numbers.below(4),
            rows: numbers.below(new + 1),
            count: [1, 1, 3][numbers.below(3)],
        }
    }

    fn job(&self) -> Job<'_> {
        let rows = self.rows;
        Job {
            tokens: &self.new,
            outputs: match self.request {
                0 => OutputRequest::Nothing,
                1 => OutputRequest::Logits { rows },
                _ => OutputRequest::Top {
                    rows,
                    top: Top {
                        count: self.count,
                        also: &[3, 8],
                    },
                },
            },
        }
    }
}

/// The outputs of each case, and logits after one more token, which tell whether the states are the same.
fn outputs(model: &Model<'_>, cases: &[Case], together: bool) -> Vec<Vec<(u32, u32)>> {
    let read = |case: &Case| model.read(&case.before);
    let mut states: Vec<CpuState> = cases.iter().map(read).collect();
    let mut found = Vec::new();
    for jobs in [
        cases.iter().map(Case::job).collect::<Vec<_>>(),
        cases.iter().map(|_| Job::logits(&[17])).collect(),
    ] {
        let spans = states.iter_mut().zip(jobs);
        let outputs = if together {
            model.run_together(spans.collect()).expect("outputs")
        } else {
            spans.map(|(state, job)| model.run(state, job)).collect()
        };
        found.extend(outputs.iter().map(bits));
    }
    for (state, case) in states.iter().zip(cases) {
        assert_eq!(state.len(), case.before.len() + case.new.len() + 1);
    }
    found
}

proptest! {
    #![proptest_config(at_most(12))]

    #[test]
    fn spans_of_a_batch_have_the_bits_they_have_alone(
        seed in any::<u64>(),
        spans in 1usize..6,
        kv in prop::sample::select(&KvType::ALL),
    ) {
        let mut numbers = Numbers(seed);
        let cases: Vec<Case> = (0..spans).map(|_| Case::new(&mut numbers)).collect();
        let weights = Weights::new(seed);
        let backends = backends();
        let expected = outputs(&Model::new(&backends[0], &weights, kv), &cases, false);
        for backend in &backends {
            let model = Model::new(backend, &weights, kv);
            prop_assert_eq!(&outputs(&model, &cases, true), &expected, "{}", backend.describe());
        }
    }

    #[test]
    fn forks_do_not_meet(
        seed in any::<u64>(),
        at in 0usize..8,
        kv in prop::sample::select(&KvType::ALL),
    ) {
        let mut numbers = Numbers(seed);
        let read = tokens(&mut numbers, 90);
        let at = [0, 1, 30, 63, 64, 65, 89, 90][at];
        let [ours, theirs] = [(); 2].map(|()| {
            let count = 1 + numbers.below(45);
            tokens(&mut numbers, count)
        });
        let weights = Weights::new(seed);
        let backends = backends();
        // One kernel set says what each sequence gives alone: all others have the same bits.
        let reference = Model::new(&backends[0], &weights, kv);
        let alone = |before: &[u32], tokens: &[u32]| {
            let mut state = reference.read(before);
            let first = bits(&reference.run(&mut state, Job::logits(tokens)));
            [first, bits(&reference.run(&mut state, Job::logits(&[5])))]
        };
        let expected = [alone(&read, &ours), alone(&read[..at], &theirs)];
        let expected = expected.each_ref().map(|both| both.to_vec());
        for backend in &backends {
            let model = Model::new(backend, &weights, kv);
            for together in [false, true] {
                let mut state = model.read(&read);
                let mut fork = backend.fork(&state, at).expect("a fork");
                prop_assert_eq!(fork.len(), at);
                let mut found = [Vec::new(), Vec::new()];
                for [ours, theirs] in [[&ours[..], &theirs], [&[5], &[5]]] {
                    let jobs = [Job::logits(ours), Job::logits(theirs)];
                    let outputs = if together {
                        let [ours, theirs] = jobs;
                        model.run_together(vec![(&mut state, ours), (&mut fork, theirs)]).expect("outputs")
                    } else {
                        let [ours, theirs] = jobs;
                        vec![model.run(&mut state, ours), model.run(&mut fork, theirs)]
                    };
                    found.iter_mut().zip(&outputs).for_each(|(found, output)| found.push(bits(output)));
                }
                prop_assert_eq!(&found, &expected, "{} at {}", backend.describe(), at);
                // A fork outlives the sequence that it comes from, whose blocks others then write.
                drop(state);
                let mut other = model.read(&ours);
                model.run(&mut other, Job::nothing(&theirs));
                fork.truncate(at);
                prop_assert_eq!(bits(&model.run(&mut fork, Job::logits(&theirs))), expected[1][0].clone());
            }
        }
    }
}

#[test]
fn a_fork_is_as_long_as_its_sequence_at_most() {
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let model = Model::new(&backend, &Weights::new(3), KvType::F16);
    let state = model.read(&[1, 2, 3]);
    let fork = backend.fork(&state, 10).expect("a fork");
    assert_eq!((fork.len(), fork.capacity()), (3, state.capacity()));
}

#[test]
fn a_batch_that_fails_leaves_states_as_they_were() {
    let weights = Weights::new(11);
    let mut numbers = Numbers(12);
    let (one, two) = (tokens(&mut numbers, 70), tokens(&mut numbers, 199));
    for backend in backends() {
        let model = Model::new(&backend, &weights, KvType::F16);
        let mut states = [model.read(&one), model.read(&two)];
        let forks = states
            .each_ref()
            .map(|state| backend.fork(state, 300).expect("a fork"));
        let failing: [(&str, [&[u32]; 2]); 3] = [
            ("at most 200 positions", [&[1, 2], &[3, 4]]),
            ("below the vocabulary's 90", [&[1, 2], &[90]]),
            ("below the vocabulary's 90", [&[1, 91, 2], &[3]]),
        ];
        for (message, [ours, theirs]) in failing {
            let [one, two] = &mut states;
            let error =
                model.run_together(vec![(one, Job::logits(ours)), (two, Job::logits(theirs))]);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(message), "{error}");
        }
        for state in &mut states {
            let more = Job::nothing(&[8]);
            model.abandon(state, more);
        }
        for (mut state, mut fork) in states.into_iter().zip(forks) {
            assert_eq!(state.len(), fork.len());
            let expected = model.run(&mut fork, Job::logits(&[6]));
            let found = model.run(&mut state, Job::logits(&[6]));
            assert_eq!(bits(&found), bits(&expected), "{}", backend.describe());
        }
    }
}

#[test]
fn a_batch_without_memory_leaves_states_as_they_were() {
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(12 << 20),
        ..PoolOptions::default()
    });
    let backend = CpuBackend::with_pool(Some(2), None, pool.clone()).expect("a backend");
    let model = Model::new(&backend, &Weights::new(13), KvType::Int8);
    let read: Vec<u32> = (0..64).collect();
    let mut states = [model.read(&read), model.read(&read)];
    let expected = {
        let mut fork = backend.fork(&states[0], 64).expect("a fork");
        bits(&model.run(&mut fork, Job::logits(&[9, 4])))
    };
    // Others take what there is, and give it back little by little: the batch fails at one place after the other.
    let mut held = Vec::new();
    for bytes in [64 << 10, 4 << 10, 64] {
        while let Ok(block) = pool.allocate_uninit(bytes, Alignment::LINE, Tag::Scratch) {
            held.push(block);
            assert!(held.len() < 1 << 18, "no limit");
        }
    }
    let mut failures = 0;
    let outputs = loop {
        let jobs = states.iter_mut().map(|state| (state, Job::logits(&[9, 4])));
        match model.run_together(jobs.collect()) {
            Ok(outputs) => break outputs,
            Err(error) => assert!(matches!(error, Error::OutOfMemory { .. }), "{error}"),
        }
        failures += 1;
        assert!(states.iter().all(|state| state.len() == read.len()));
        assert!(held.pop().is_some(), "memory is short without others");
    };
    assert!(failures > 0);
    for output in outputs {
        assert_eq!(bits(&output), expected);
    }
}
