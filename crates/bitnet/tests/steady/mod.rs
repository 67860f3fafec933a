//! Checks of a whole model that hold for every architecture: its logits are those of another implementation, and their bits do not
//! depend on kernels, threads, cuts, roll-backs, drafts or company.

use bitnet::engine::Batcher;
use bitnet::{
    Activations, EngineOptions, GenerateOptions, Isa, KvType, LogitsFor, Model, ModelOptions,
    Request, SamplingOptions, Session, Speculation,
};
use serde_json::Value;

/// Opens the model that is checked.
pub(crate) type Open<'a> = &'a dyn Fn(&ModelOptions) -> Model;

pub(crate) fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.forward(tokens, LogitsFor::All).expect("logits")
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// `count` tokens below `vocabulary` that are no text.
pub(crate) fn walk(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|i| ((i * i * 7 + i * 31 + 5) % vocabulary) as u32)
        .collect()
}

fn kernel_sets() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// The tokens of a golden file and their logits, row after row.
pub(crate) fn golden(file: &Value) -> (Vec<u32>, Vec<f64>) {
    let tokens = serde_json::from_value(file["tokens"].clone()).expect("token ids");
    let rows: Vec<Vec<f64>> = serde_json::from_value(file["logits"].clone()).expect("logits");
    (tokens, rows.concat())
}

/// With f32 activations, keys and values the logits differ from golden ones by less than 1e-5 of their range.
pub(crate) fn has_golden_logits(open: Open<'_>, file: &Value) {
    let (tokens, expected) = golden(file);
    let smallest = expected.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for isa in kernel_sets() {
        let model = open(&ModelOptions {
            activations: Activations::F32,
            kv: Some(KvType::F32),
            isa: Some(isa),
            ..ModelOptions::default()
        });
        let found = logits(&mut model.session().expect("a session"), &tokens);
        assert_eq!(found.len(), expected.len());
        let differences = found.iter().zip(&expected);
        let difference = differences
            .map(|(found, expected)| (f64::from(*found) - expected).abs())
            .fold(0.0, f64::max);
        let share = difference / (largest - smallest);
        assert!(share < 1e-5, "{isa:?}: {share:e} of the range");
    }
}

/// Every kernel set, one thread and three, and prompts in parts of any length give the same bits.
pub(crate) fn keeps_its_bits(open: Open<'_>, tokens: &[u32]) {
    let reference = open(&ModelOptions::default());
    let mut session = reference.session().expect("a session");
    let expected = bits(&logits(&mut session, tokens));
    for isa in kernel_sets() {
        for threads in [1, 3] {
            let model = open(&ModelOptions {
                isa: Some(isa),
                threads: Some(threads),
                ..ModelOptions::default()
            });
            let mut session = model.session().expect("a session");
            assert!(bits(&logits(&mut session, tokens)) == expected, "{isa:?}");
        }
    }
    for step in [1, 7, 64] {
        let mut session = reference.session().expect("a session");
        let mut found = Vec::new();
        for tokens in tokens.chunks(step) {
            found.extend(logits(&mut session, tokens));
        }
        assert!(bits(&found) == expected, "{step} at a time");
    }
}

/// Sessions that were rolled back, forked, or saved and restored give the logits of one that was not, also empty ones.
pub(crate) fn goes_back_forks_and_is_saved(model: &Model) {
    let vocabulary = model.vocabulary();
    let tokens = walk(200, vocabulary.min(250));
    let whole = logits(&mut model.session().expect("a session"), &tokens);
    let row = |at: usize| bits(&whole[at * vocabulary..][..vocabulary]);
    let last = |logits: &[f32]| bits(&logits[logits.len() - vocabulary..]);
    let mut session = model.session().expect("a session");
    for tokens in tokens[..140].chunks(30) {
        logits(&mut session, tokens);
    }
    for len in [139, 130, 128, 100, 64, 3] {
        session.truncate(len);
        let found = logits(&mut session, &tokens[len..150]);
        assert!(last(&found) == row(149), "{len}");
        session.truncate(140);
    }
    let mut fork = session.fork().expect("a fork");
    assert!(last(&logits(&mut session, &tokens[140..160])) == row(159));
    assert!(last(&logits(&mut fork, &tokens[140..200])) == row(199));
    let again = |session: &Session| {
        let mut file = Vec::new();
        session.save("file", &mut file).expect("saved");
        Session::restore(model, "file", &file[..]).expect("restored")
    };
    assert!(last(&logits(&mut again(&session), &tokens[160..200])) == row(199));
    let empty = model.session().expect("a session");
    assert!(last(&logits(&mut again(&empty), &tokens[..5])) == row(4));
}

fn options(seed: u64, speculation: Speculation) -> GenerateOptions {
    GenerateOptions {
        max_tokens: 40,
        sampling: SamplingOptions {
            seed,
            ..SamplingOptions::default()
        },
        stop_at_end: false,
        speculation,
        ..GenerateOptions::default()
    }
}

/// A text is the same with drafts and without, alone and in an engine, with each of some budgets for keys and values.
pub(crate) fn writes_the_same_in_company(model: &Model, budgets: &[usize]) {
    let walk = |count| walk(count, model.vocabulary().min(250));
    // Of a text that repeats itself there are drafts, right ones and wrong ones.
    let prompts: Vec<Vec<u32>> = (0..6)
        .map(|index| [walk(9).repeat(8), walk(20 * index + 1)].concat())
        .collect();
    let mut alone = Vec::new();
    for (seed, prompt) in (0..).zip(&prompts) {
        let run = |speculation| {
            let mut session = model.session().expect("a session");
            let generation = session.generate_tokens(prompt, &options(seed, speculation));
            let generation = generation.expect("a generation");
            generation.collect::<Result<String, _>>().expect("a text")
        };
        let text = run(Speculation::Off);
        assert_eq!(run(Speculation::Ngram), text);
        alone.push(text);
    }
    for &kv_bytes in budgets {
        let options_of_engine = EngineOptions {
            kv_bytes,
            max_running: 4,
            step_tokens: 48,
            ..EngineOptions::default()
        };
        let mut batcher = Batcher::new(model, options_of_engine).expect("a batcher");
        for _ in 0..2 {
            let streams: Vec<_> = (0..)
                .zip(&prompts)
                .map(|(seed, prompt)| {
                    let options = options(seed, Speculation::Ngram);
                    let request = Request::new(prompt.clone(), &options);
                    batcher.submit(request).expect("a stream")
                })
                .collect();
            while batcher.step() {}
            for (stream, expected) in streams.into_iter().zip(&alone) {
                assert_eq!(stream.text().expect("a text").0, *expected);
            }
        }
        assert!(batcher.gauges().cached_tokens > 0);
    }
}
