//! Tokens that run before they are known, and outputs that come late, change the time a text takes, and nothing else.
#![cfg(feature = "demo")]

mod backend;

use backend::{Lookahead, Watch};
use bitnet::file::{Bytes, ModelFile};
use bitnet::{
    Cancel, ChatMessage, GenerateOptions, LogitsFor, Model, ModelOptions, SamplingOptions, Session,
    Speculation, StopReason,
};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const PROMPT: &str = "One day, Tom found a red key.";

fn lookahead(context: Option<usize>) -> (Model, Watch) {
    let (backend, watch) = Lookahead::new().expect("a backend");
    let options = ModelOptions {
        context,
        ..ModelOptions::default()
    };
    let file = ModelFile::parse("demo", Bytes::from_static(bitnet_demo::GGUF)).expect("a file");
    let model = Model::from_file_on(&file, backend, &options, |_, _| ());
    (model.expect("the demo model"), watch)
}

fn plain(context: Option<usize>) -> Model {
    let options = ModelOptions {
        context,
        ..ModelOptions::default()
    };
    Model::demo_with(&options).expect("the demo model")
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        speculation: Speculation::Off,
        ..GenerateOptions::default()
    }
}

/// The pieces, why they ended, and how many tokens they took.
type Told = (Vec<String>, Option<StopReason>, usize);

fn tell(session: &mut Session, prompt: &str, options: &GenerateOptions) -> Told {
    let mut generation = session.generate(prompt, options).expect("a start");
    let pieces = generation.by_ref().map(|piece| piece.expect("a piece"));
    let pieces = pieces.collect();
    let tokens = generation.timings().generated_tokens;
    (pieces, generation.stop_reason(), tokens)
}

/// Runs `work` to its end, however often it must be polled.
fn wait<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(value) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

#[test]
fn the_text_and_what_follows_it_are_those_of_one_token_at_a_time() {
    let stop = |texts: &[&str]| GenerateOptions {
        stop: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..greedy(80)
    };
    let endless = GenerateOptions {
        stop_at_end: false,
        ..greedy(90)
    };
    let warm = GenerateOptions {
        sampling: SamplingOptions::default(),
        ..greedy(40)
    };
    let penalized = GenerateOptions {
        sampling: SamplingOptions {
            repetition_penalty: 1.2,
            ..SamplingOptions::greedy()
        },
        ..greedy(40)
    };
    let cases = [
        (greedy(1), true),
        (greedy(2), true),
        (greedy(400), true),
        (endless, true),
        (stop(&["."]), true),
        (stop(&["key", "the"]), true),
        (warm, false),
        (penalized, false),
    ];
    let (model, watch) = lookahead(None);
    let plain = plain(None);
    let more = GenerateOptions {
        stop_at_end: false,
        ..greedy(12)
    };
    for (options, looks_ahead) in cases {
        let run = |model: &Model| {
            let mut session = model.session().expect("a session");
            let first = tell(&mut session, PROMPT, &options);
            let tokens = session.tokens().to_vec();
            // The session goes on from its text, whatever had run beyond it: with a prompt, and without.
            let second = tell(&mut session, " Then", &more);
            let mut generation = session.generate_tokens(&[], &greedy(3)).expect("a start");
            let third: Vec<_> = generation
                .by_ref()
                .map(|piece| piece.expect("one"))
                .collect();
            let logits = session.forward(&[5, 6], LogitsFor::Last).expect("logits");
            (first, tokens, second, third, logits)
        };
        let before = watch.looked_ahead();
        assert_eq!(run(&model), run(&plain), "{options:?}");
        let by_first = options.max_tokens > 1 && looks_ahead;
        assert!(!by_first || watch.looked_ahead() > before + 11);
    }
    assert!(watch.most_under_way() > 1);
}

#[test]
fn a_text_ends_where_the_context_does() {
    for context in [12, 13, 14, 15, 20] {
        let (model, _) = lookahead(Some(context));
        let plain = plain(Some(context));
        let run = |model: &Model| {
            let mut session = model.session().expect("a session");
            let told = tell(&mut session, PROMPT, &greedy(100));
            (told, session.tokens().to_vec())
        };
        let (told, tokens) = run(&model);
        assert_eq!(
            (told.1, tokens.len()),
            (Some(StopReason::ContextFull), context)
        );
        assert_eq!((told, tokens), run(&plain));
    }
}

#[test]
fn a_cancelled_text_goes_on_as_if_it_had_not_run_ahead() {
    let run = |model: &Model| {
        let mut session = model.session().expect("a session");
        let cancel = Cancel::default();
        let options = GenerateOptions {
            cancel: cancel.clone(),
            ..greedy(50)
        };
        let mut generation = session.generate(PROMPT, &options).expect("a start");
        let mut text: String = (0..4)
            .map(|_| generation.next().expect("more").expect("a piece"))
            .collect();
        cancel.cancel();
        text.extend(generation.by_ref().map(|piece| piece.expect("the rest")));
        assert_eq!(generation.stop_reason(), Some(StopReason::Cancelled));
        // A generation that is dropped in the middle leaves its text, too.
        let mut generation = session.generate(" Then", &greedy(9)).expect("a start");
        text += &generation.next().expect("more").expect("a piece");
        (
            text,
            session.tokens().to_vec(),
            tell(&mut session, " So", &greedy(9)),
        )
    };
    assert_eq!(run(&lookahead(None).0), run(&plain(None)));
}

#[test]
fn late_outputs_are_awaited_and_futures_may_be_dropped() {
    let (model, watch) = lookahead(None);
    let expected = tell(
        &mut plain(None).session().expect("a session"),
        PROMPT,
        &greedy(30),
    );
    watch.set_late(2);
    let mut session = model.session().expect("a session");
    for patient in [true, false] {
        session.reset();
        let options = greedy(30);
        let mut generation = session.generate(PROMPT, &options).expect("a start");
        let mut pieces = Vec::new();
        loop {
            let next = if patient {
                wait(generation.next_piece())
            } else {
                // A future of its own for every poll.
                loop {
                    let next = pin!(generation.next_piece());
                    match next.poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(next) => break next,
                        Poll::Pending => (),
                    }
                }
            };
            match next {
                Some(piece) => pieces.push(piece.expect("a piece")),
                None => break,
            }
        }
        assert_eq!(pieces, expected.0);
    }
    let logits = wait(session.forward_async(&[3], LogitsFor::Last)).expect("logits");
    let top = wait(session.forward_top_async(&[4], 3)).expect("candidates");
    assert!(logits.len() == model.vocabulary() && top.len() == 3);
    // Those who cannot wait are told what to do, and the session goes on.
    let before = session.tokens().to_vec();
    let error = session
        .forward(&[3], LogitsFor::Last)
        .expect_err("too early");
    assert!(error.to_string().contains("asynchronous"), "{error}");
    let mut generation = session.generate(" So", &greedy(3)).expect("a start");
    assert!(generation.next().expect("an outcome").is_err());
    assert!(generation.next().is_none());
    watch.set_late(0);
    session.truncate(before.len());
    assert!(session.tokens() == before);
    assert!(session.forward(&[3], LogitsFor::Last).is_ok());
}

#[test]
fn after_a_failure_the_text_goes_on_from_what_is_known() {
    let (model, watch) = lookahead(None);
    let expected = tell(
        &mut plain(None).session().expect("a session"),
        PROMPT,
        &greedy(20),
    );
    for failing in 1..8 {
        let mut session = model.session().expect("a session");
        watch.fail(failing);
        let options = greedy(20);
        let mut generation = session.generate(PROMPT, &options).expect("a start");
        let mut pieces = Vec::new();
        let error = loop {
            match generation.next().expect("a failure before the end") {
                Ok(piece) => pieces.push(piece),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("lost"), "{error}");
        assert!(generation.next().is_none());
        watch.fail(0);
        let generated = generation.timings().generated_tokens;
        let options = greedy(20 - generated);
        assert_eq!(session.tokens().is_empty(), generated == 0);
        let generation = if generated == 0 {
            session.generate(PROMPT, &options).expect("it begins again")
        } else {
            session.generate_tokens(&[], &options).expect("it goes on")
        };
        pieces.extend(generation.map(|piece| piece.expect("a piece")));
        assert_eq!(pieces.concat(), expected.0.concat(), "{failing}");
    }
}

#[test]
fn after_any_failure_a_session_is_as_before() {
    let (model, watch) = lookahead(None);
    let plain = plain(None);
    let early: Vec<u32> = (5..45).collect();
    let late: Vec<u32> = (40..340).collect();
    let held = |model: &Model| {
        let mut session = model.session().expect("a session");
        session
            .forward(&early, LogitsFor::Nothing)
            .expect("its tokens");
        session
    };
    type Call<'a> = &'a dyn Fn(&mut Session) -> bool;
    let calls: [(&str, Call); 7] = [
        ("forward", &|session| {
            session.forward(&late, LogitsFor::Last).is_ok()
        }),
        ("forward_top", &|session| {
            session.forward_top(&late, 3).is_ok()
        }),
        ("attention", &|session| session.attention(1).is_ok()),
        ("prefill", &|session| {
            let mut generation = session.generate_tokens(&late, &greedy(4)).expect("a start");
            let outcome = generation.prefill(|_, _| ());
            assert_eq!(outcome.is_err(), generation.next().is_none());
            outcome.is_ok()
        }),
        ("generate", &|session| {
            let mut generation = session.generate_tokens(&late, &greedy(4)).expect("a start");
            generation.next().expect("an outcome").is_ok()
        }),
        ("generate, any token", &|session| {
            let options = GenerateOptions {
                sampling: SamplingOptions {
                    top_k: 0,
                    ..SamplingOptions::default()
                },
                ..greedy(4)
            };
            let mut generation = session.generate_tokens(&late, &options).expect("a start");
            generation.next().expect("an outcome").is_ok()
        }),
        ("chat", &|session| {
            let question = [ChatMessage::user("What is 47 + 38?")];
            let mut generation = session.chat(&question, &greedy(4)).expect("a start");
            generation.next().expect("an outcome").is_ok()
        }),
    ];
    let expected = held(&plain)
        .forward(&[7, 8], LogitsFor::All)
        .expect("logits");
    for (name, call) in calls {
        for refused in [true, false] {
            let mut failures = 0;
            for nth in 1..5 {
                let mut session = held(&model);
                if refused {
                    watch.refuse(nth);
                } else {
                    watch.fail(nth);
                }
                let fine = call(&mut session);
                watch.refuse(0);
                watch.fail(0);
                if fine {
                    break;
                }
                failures += 1;
                assert_eq!(session.tokens(), early, "{name}");
                let logits = session.forward(&[7, 8], LogitsFor::All).expect("logits");
                assert_eq!(logits, expected, "{name}, {nth}");
            }
            // Attention has no output that comes late.
            assert!(failures > 0 || name == "attention" && !refused, "{name}");
        }
    }
}

#[test]
fn text_that_is_held_back_comes_before_a_failure() {
    let (model, watch) = lookahead(None);
    let mut plain = plain(None).session().expect("a session");
    for drafts in [false, true] {
        for failing in 2..12 {
            let options = GenerateOptions {
                speculation: if drafts {
                    Speculation::Ngram
                } else {
                    Speculation::Off
                },
                // Nearly all that the model says could become this.
                stop: vec![" He was very happy with the key forever and ever".into()],
                ..greedy(40)
            };
            let mut session = model.session().expect("a session");
            watch.fail(failing);
            let mut generation = session.generate(PROMPT, &options).expect("a start");
            let mut text = String::new();
            let failed = loop {
                match generation.next() {
                    Some(Ok(piece)) => text += &piece,
                    Some(Err(_)) => break true,
                    None => break false,
                }
            };
            watch.fail(0);
            if !failed {
                continue;
            }
            assert!(generation.next().is_none() && generation.stop_reason().is_none());
            let generated = generation.timings().generated_tokens;
            // The text is that of the tokens, and they are those of a text that does not fail.
            plain.reset();
            let whole = tell(&mut plain, PROMPT, &greedy(generated));
            assert_eq!(text, whole.0.concat(), "{failing}");
            assert_eq!(session.tokens(), plain.tokens(), "{failing}");
        }
    }
}
