//! Drafted tokens change the time a text takes, and nothing else.
#![cfg(feature = "demo")]

use bitnet::{GenerateOptions, Model, SamplingOptions, Session, Speculation, Timings};

const PROMPT: &str = "One day, Tom found a red key. One day, Tom found a red";

fn generate(
    session: &mut Session,
    prompt: &str,
    sampling: SamplingOptions,
    speculation: Speculation,
    max_tokens: usize,
) -> (String, Timings) {
    let options = GenerateOptions {
        max_tokens,
        sampling,
        speculation,
        stop_at_end: false,
        ..Default::default()
    };
    let mut generation = session.generate(prompt, &options).expect("a start");
    let text = generation.by_ref().map(|piece| piece.expect("a piece"));
    (text.collect(), generation.timings())
}

#[test]
fn the_text_and_what_follows_it_are_those_of_plain_decoding() {
    let model = Model::demo().expect("the demo model");
    let warm = SamplingOptions {
        seed: 7,
        repetition_penalty: 1.1,
        ..SamplingOptions::default()
    };
    for sampling in [SamplingOptions::greedy(), warm] {
        let run = |speculation| {
            let mut session = model.session().expect("a session");
            let (first, timings) = generate(&mut session, PROMPT, sampling, speculation, 90);
            // Cut off in the middle of whatever was drafted, the session goes on from its text.
            let tokens = session.tokens().to_vec();
            let (second, _) = generate(&mut session, " The key", sampling, speculation, 20);
            (first, tokens, second, timings)
        };
        let plain = run(Speculation::Off);
        let drafted = run(Speculation::Ngram);
        assert_eq!(plain.0, drafted.0);
        assert_eq!(plain.1, drafted.1);
        assert_eq!(plain.2, drafted.2);
        assert_eq!(plain.3.drafted_tokens, 0);
        assert!(drafted.3.drafted_tokens >= drafted.3.accepted_tokens);
        assert!(drafted.3.drafted_tokens > 0, "{PROMPT:?} repeats itself");
    }
}

#[test]
fn drafts_end_where_the_context_does() {
    let model = Model::demo().expect("the demo model");
    let mut session = model.session().expect("a session");
    let context = model.context();
    let greedy = SamplingOptions::greedy();
    let (_, timings) = generate(
        &mut session,
        PROMPT,
        greedy,
        Speculation::Ngram,
        2 * context,
    );
    assert_eq!(session.tokens().len(), context);
    assert!(timings.generated_tokens < context);
}
