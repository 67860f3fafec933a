//! Sequences of a small model.

use super::harness::*;
use super::model::{Model, VOCABULARY};
use bitnet_core::{Batch, Error, Input, Output, OutputRequest, Pending, SequenceState, Span, Top};

/// The tokens of two sequences, each alone and the same on two threads.
pub(crate) fn two_threads<B: Rows>(model: &Model<'_, B>, prompts: [&[u32]; 2]) -> [Vec<u32>; 2] {
    let alone = prompts.map(|prompt| model.greedy(prompt, 12));
    let together = std::thread::scope(|scope| {
        let handles = prompts.map(|prompt| scope.spawn(|| model.greedy(prompt, 12)));
        handles.map(|handle| handle.join().expect("tokens"))
    });
    assert_eq!(together, alone);
    alone
}

/// Positions that were rolled back do not count.
pub(crate) fn rollback<B: Rows>(backend: &B) {
    let model = Model::new(backend);
    let mut state = model.state(40);
    let last = |logits: Vec<f32>| logits[logits.len() - VOCABULARY..].to_vec();
    let expected = last(model.logits(&mut state, &[3, 1, 4, 1, 5]));
    state.truncate(2);
    model.logits(&mut state, &[9, 9, 9]);
    state.truncate(3);
    state.truncate(2);
    model.read(&mut state, &[4, 1]);
    let found = last(model.logits(&mut state, &[5]));
    assert_close(&found, &expected, 1e-3, "after a detour");
}

pub(crate) fn small_model<B: Rows>(others: &[Other<'_, B>]) {
    let (mut agreed, mut all) = (0, 0);
    let tokens: Vec<u32> = (0..80).map(|i| i * 37 % VOCABULARY as u32).collect();
    let likeliest = |logits: Vec<f32>| -> Vec<usize> {
        let best = |row: &[f32]| {
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
            best.expect("a vocabulary")
        };
        logits.chunks(VOCABULARY).map(best).collect()
    };
    let cpu = cpu();
    let model = Model::new(&cpu);
    let expected = likeliest(model.logits(&mut model.state(80), &tokens));
    for other in others {
        let model = Model::new(other.backend);
        let found = likeliest(model.logits(&mut model.state(80), &tokens));
        agreed += found.iter().zip(&expected).filter(|(a, b)| a == b).count();
        all += expected.len();
    }
    assert!(agreed * 10 >= all * 9, "{agreed} of {all} agree");
}

/// A fork goes on as the sequence that it comes from would, and neither sees what the other reads later.
pub(crate) fn forks<B: Rows>(backend: &B) {
    let model = Model::new(backend);
    let tokens: Vec<u32> = (0..90).map(|i| i * 41 % VOCABULARY as u32).collect();
    // None, few, all; and within the room there is, and beyond.
    for at in [0, 1, 63, 64, 65, 90] {
        let alone = |read: &[u32], more: &[u32]| {
            let mut state = model.state(200);
            if !read.is_empty() {
                model.read(&mut state, read);
            }
            more.iter()
                .flat_map(|token| model.logits(&mut state, &[*token]))
                .collect::<Vec<f32>>()
        };
        let (ours, theirs) = ([7, 8, 9], [100, 8, 250]);
        let expected = [alone(&tokens, &ours), alone(&tokens[..at], &theirs)];
        let mut state = model.state(200);
        model.read(&mut state, &tokens);
        let mut fork = backend.fork(&state, at).expect("a fork");
        assert_eq!((fork.len(), fork.capacity()), (at, 200));
        let mut found = [Vec::new(), Vec::new()];
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            found[0].extend(model.logits(&mut state, &[ours]));
            found[1].extend(model.logits(&mut fork, &[theirs]));
        }
        for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_same(found, expected, &format!("{which} of a fork at {at}"));
        }
        drop(state);
        fork.truncate(at);
        let again = model.logits(&mut fork, &[theirs[0]]);
        assert_same(
            &again,
            &expected[1][..VOCABULARY],
            &format!("again, at {at}"),
        );
    }
    let mut state = model.state(20);
    model.read(&mut state, &[1, 2, 3]);
    let fork = backend.fork(&state, 10).expect("a fork");
    assert_eq!(fork.len(), 3, "no more than there are");
}

/// Spans of a batch have the outputs that they have alone, or the batch is refused and says what to do.
pub(crate) fn several_spans<B: Rows>(backend: &B) {
    let model = Model::new(backend);
    let read = |tokens: &[u32]| {
        let mut state = model.state(50);
        model.read(&mut state, tokens);
        state
    };
    let mut states = [read(&[1, 2, 3]), read(&[9])];
    let inputs = [&[5, 6][..], &[7]];
    let mut spans = Vec::new();
    for (state, tokens) in states.iter_mut().zip(inputs) {
        spans.push(Span {
            input: Input::Tokens(tokens),
            state,
            outputs: OutputRequest::Logits { rows: 1 },
        });
    }
    let outputs = Batch::new(spans).and_then(|mut batch| model.forward(&mut batch));
    let outputs = match outputs.and_then(Pending::now) {
        Ok(outputs) => outputs,
        Err(error) => {
            let refused = matches!(error, Error::Unavailable { .. });
            assert!(
                refused && error.to_string().contains("one sequence"),
                "{error}"
            );
            // The sequences are as they were.
            let outputs = states.iter_mut().zip(inputs);
            let outputs = outputs.map(|(state, tokens)| {
                let logits = model.logits(state, tokens);
                Output::Logits(logits[(tokens.len() - 1) * VOCABULARY..].to_vec())
            });
            outputs.collect()
        }
    };
    for (output, (before, tokens)) in outputs
        .into_iter()
        .zip([[1, 2, 3].as_slice(), &[9]].into_iter().zip(inputs))
    {
        let logits = model.logits(&mut read(before), tokens);
        let expected = &logits[(tokens.len() - 1) * VOCABULARY..];
        assert_same(&output.into_logits(), expected, "a span");
    }
}

/// The next batch of a sequence in company.
struct Turn {
    tokens: Vec<u32>,
    /// Whether its input is the token found likeliest before, and not these.
    ahead: bool,
    also: Vec<u32>,
    /// Nothing, logits, the likeliest, or several of these.
    kind: usize,
    rows: usize,
}

impl Turn {
    fn new(numbers: &mut Numbers, sequence: usize, count: usize, ahead: bool) -> Self {
        let mut token = || numbers.below(VOCABULARY) as u32;
        Self {
            tokens: (0..count).map(|_| token()).collect(),
            ahead: ahead && count == 1,
            also: (0..sequence % 3).map(|_| token()).collect(),
            kind: numbers.below(4),
            rows: 1 + numbers.below(count.min(3)),
        }
    }

    fn span<'a, S: SequenceState>(&'a self, state: &'a mut S) -> Span<'a, S> {
        let rows = self.rows;
        let top = |count, also| OutputRequest::Top {
            rows,
            top: Top { count, also },
        };
        Span {
            input: match self.ahead {
                true => Input::LastArgmax,
                false => Input::Tokens(&self.tokens),
            },
            state,
            outputs: match self.kind {
                0 => OutputRequest::Nothing,
                1 => OutputRequest::Logits { rows },
                2 => top(1, &[]),
                _ => top(5, &self.also),
            },
        }
    }
}

/// A sequence has the bits that it has alone, whatever runs beside it.
pub(crate) fn companies<B: Rows>(backend: &B, rounds: usize) {
    let model = Model::new(backend);
    let mut numbers = Numbers(77);
    let mut known = 0;
    // Pairs of a sequence in company and the same alone, and whether its last turn found a likeliest token.
    let mut pairs: Vec<(B::State, B::State, bool)> = Vec::new();
    for round in 0..rounds {
        if round % 2 == 0 {
            pairs.extend((0..5).map(|_| (model.state(900), model.state(900), false)));
        }
        // Single tokens, or some and many beside them; those of the first contexts are taken in larger pieces.
        let mut turns = Vec::new();
        for (index, (state, _, found)) in pairs.iter().enumerate() {
            let count = match numbers.below(8) {
                0 => continue,
                _ if index == 0 && state.len() < 520 => 260,
                1 if round % 3 > 0 => 2 + numbers.below(7),
                2 if round % 3 > 1 => 9 + numbers.below(70),
                _ => 1,
            };
            let turn = Turn::new(&mut numbers, index, count, *found && index % 2 == 0);
            turns.push((index, turn));
        }
        let mut expected = Vec::new();
        for (index, turn) in &turns {
            let batch = Batch::new(vec![turn.span(&mut pairs[*index].1)]);
            let outputs = batch.and_then(|mut batch| model.forward(&mut batch));
            expected.extend(outputs.and_then(Pending::now).expect("outputs alone"));
        }
        let mut wanted = turns.iter().peekable();
        let spans = pairs.iter_mut().enumerate();
        let spans = spans.filter_map(|(index, (state, ..))| {
            let (_, turn) = wanted.next_if(|(next, _)| *next == index)?;
            Some(turn.span(state))
        });
        let batch = Batch::new(spans.collect());
        let outputs = batch.and_then(|mut batch| model.forward(&mut batch));
        let outputs = outputs.and_then(Pending::now).expect("outputs in company");
        for (((index, turn), found), expected) in turns.iter().zip(&outputs).zip(&expected) {
            assert_eq!(
                found,
                expected,
                "round {round}: sequence {index}, {} tokens among {} sequences",
                turn.tokens.len(),
                turns.len()
            );
            known += usize::from(*found != Output::Nothing);
            pairs[*index].2 = turn.kind >= 2;
        }
        // Some go, and some go back.
        if round % 3 == 2 {
            pairs.remove(1);
            for (state, alone, found) in pairs.iter_mut().step_by(3) {
                let len = state.len() - state.len() / 3;
                state.truncate(len);
                alone.truncate(len);
                *found = false;
            }
        }
    }
    assert!(known > rounds, "few outputs were compared");
}

/// Forks of several sequences in one batch go on as the sequences that they come from would.
pub(crate) fn forks_together<B: Rows>(backend: &B) {
    let model = Model::new(backend);
    let tokens: Vec<u32> = (0..150).map(|i| i * 41 % VOCABULARY as u32).collect();
    let mut state = model.state(200);
    model.read(&mut state, &tokens);
    let ends = [150usize, 140, 128, 64, 10];
    let mut forks: Vec<B::State> = ends
        .iter()
        .map(|end| backend.fork(&state, *end).expect("a fork"))
        .collect();
    for step in 0..3u32 {
        let inputs: Vec<u32> = (0..5).map(|index| 7 * index + step).collect();
        let spans = forks.iter_mut().zip(&inputs).map(|(state, token)| Span {
            input: Input::Tokens(std::slice::from_ref(token)),
            state,
            outputs: OutputRequest::Logits { rows: 1 },
        });
        let batch = Batch::new(spans.collect());
        let outputs = batch.and_then(|mut batch| model.forward(&mut batch));
        let outputs = outputs.and_then(Pending::now).expect("outputs");
        for (index, output) in outputs.into_iter().enumerate() {
            let mut alone = backend.fork(&state, ends[index]).expect("a fork");
            let more: Vec<u32> = (0..=step).map(|step| 7 * index as u32 + step).collect();
            let mut logits = Vec::new();
            for token in more {
                logits = model.logits(&mut alone, &[token]);
            }
            let what = format!("step {step} of a fork at {}", ends[index]);
            assert_same(&output.into_logits(), &logits, &what);
        }
    }
}

/// Tokens after `prompt`, with all batches under way before the first token is known.
pub(crate) fn looked_ahead<B: Rows>(
    model: &Model<'_, B>,
    prompt: &[u32],
    count: usize,
) -> Vec<u32> {
    let mut state = model.state(prompt.len() + count);
    let pending = (0..count).map(|index| {
        let input = match index {
            0 => Input::Tokens(prompt),
            _ => Input::LastArgmax,
        };
        model.next(&mut state, input)
    });
    let pending: Vec<_> = pending.collect();
    let tokens = pending.into_iter().map(Pending::now);
    tokens.map(|token| token.expect("a token").id).collect()
}
