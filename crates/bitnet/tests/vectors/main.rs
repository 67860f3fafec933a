//! BitNet-embedding: vectors against those of an independent implementation in f64, and against themselves however texts are
//! divided.

#[path = "../rewrite/mod.rs"]
mod rewrite;

mod keys;
mod windows;

use bitnet::tokenizer::EncodeOptions;
use bitnet::{
    Activations, EmbedOptions, Engine, EngineOptions, Isa, KvType, Model, ModelOptions, Pooling,
};
use serde_json::Value;

/// A tiny model, and what is known of it.
struct Golden {
    bytes: &'static [u8],
    known: Value,
}

impl Golden {
    fn all() -> [Self; 2] {
        let qwen3 = include_str!("tiny-qwen3.json");
        let gemma3 = include_str!("tiny-gemma3.json");
        [
            Self {
                bytes: include_bytes!("tiny-qwen3.gguf"),
                known: serde_json::from_str(qwen3).expect("JSON"),
            },
            Self {
                bytes: include_bytes!("tiny-gemma3.gguf"),
                known: serde_json::from_str(gemma3).expect("JSON"),
            },
        ]
    }

    fn model(&self, options: &ModelOptions) -> Model {
        Model::from_bytes("tiny", self.bytes, options).expect("a model")
    }

    fn cases(&self) -> &[Value] {
        self.known["cases"].as_array().expect("cases")
    }

    fn tokens(&self) -> Vec<Vec<u32>> {
        self.cases()
            .iter()
            .map(|case| tokens(&case["tokens"]))
            .collect()
    }
}

fn tokens(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).expect("token ids")
}

fn floats(list: &Value) -> Vec<f64> {
    serde_json::from_value(list.clone()).expect("numbers")
}

fn pooled(pooling: Pooling) -> EmbedOptions {
    EmbedOptions {
        pooling: Some(pooling),
        ..EmbedOptions::default()
    }
}

fn embed(model: &Model, texts: &[Vec<u32>], options: &EmbedOptions) -> Vec<Vec<f32>> {
    let embeddings = model.embed_tokens(texts, options, |_, _| ());
    embeddings.expect("vectors").rows
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

#[test]
fn vectors_are_the_golden_ones() {
    for golden in Golden::all() {
        for (activations, name) in [(Activations::F32, "f32"), (Activations::Int8, "int8")] {
            let model = golden.model(&ModelOptions {
                activations,
                kv: Some(KvType::F32),
                ..ModelOptions::default()
            });
            for pooling in [Pooling::Last, Pooling::Mean] {
                let rows = embed(&model, &golden.tokens(), &pooled(pooling));
                for (case, row) in golden.cases().iter().zip(rows) {
                    let expected = floats(&case[name][pooling.name()]);
                    assert_eq!(row.len(), expected.len());
                    if activations == Activations::Int8 {
                        let cosine = cosine(&row, &expected);
                        assert!(cosine > 0.9998, "{name} {}: {cosine}", pooling.name());
                        continue;
                    }
                    for (found, expected) in row.iter().zip(expected) {
                        let difference = (f64::from(*found) - expected).abs();
                        assert!(difference < 1e-5, "{name} {}: {difference}", pooling.name());
                    }
                }
            }
        }
    }
}

#[test]
fn texts_become_the_golden_tokens() {
    for golden in Golden::all() {
        let model = golden.model(&ModelOptions::default());
        for text in golden.known["texts"].as_array().expect("texts") {
            let mut ids = model
                .tokenizer()
                .encode(
                    text["text"].as_str().expect("a text"),
                    EncodeOptions {
                        add_bos: model.tokenizer().add_bos(),
                        // As the programs that gave these tokens do; texts that are embedded are text.
                        parse_special: true,
                    },
                )
                .expect("tokens");
            ids.extend(model.tokenizer().eos());
            assert_eq!(ids, tokens(&text["tokens"]), "{}", text["text"]);
        }
    }
}

#[test]
fn a_vector_depends_on_nothing_but_its_text() {
    for golden in Golden::all() {
        let tokens = golden.tokens();
        let model = golden.model(&ModelOptions::default());
        let long: Vec<u32> = tokens.concat().repeat(40);
        let mut texts = tokens.clone();
        texts.push(long[..600].to_vec());
        texts.extend(tokens.iter().rev().cloned());
        for pooling in [Pooling::Last, Pooling::Mean, Pooling::First] {
            let together = embed(&model, &texts, &pooled(pooling));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                for threads in [1, 2] {
                    let model = golden.model(&ModelOptions {
                        isa: Some(isa),
                        threads: Some(threads),
                        ..ModelOptions::default()
                    });
                    for (text, expected) in texts.iter().zip(&together) {
                        let alone = embed(&model, std::slice::from_ref(text), &pooled(pooling));
                        assert_eq!(alone[0], *expected, "{isa:?}, {threads} threads");
                    }
                }
            }
        }
    }
}

#[test]
fn options_cut_and_norm() {
    let [golden, _] = Golden::all();
    let model = golden.model(&ModelOptions::default());
    assert_eq!(model.pooling(), Pooling::Last);
    let whole = model
        .embed(&["the hand"], &EmbedOptions::default())
        .expect("a vector");
    assert_eq!(whole.pooling, Pooling::Last);
    let raw = EmbedOptions {
        normalize: false,
        dimensions: Some(16),
        ..EmbedOptions::default()
    };
    let short = model.embed(&["the hand"], &raw).expect("a vector");
    assert_eq!(short.rows[0].len(), 16);
    let ratio = short.rows[0][0] / whole.rows[0][0];
    assert!(ratio > 1.5, "{ratio}");
    let query = EmbedOptions {
        instruction: Some("Find a hand".into()),
        ..EmbedOptions::default()
    };
    let query = model.embed(&["the hand"], &query).expect("a vector");
    let text = "Instruct: Find a hand\nQuery: the hand";
    let spelled = model
        .embed(&[text], &EmbedOptions::default())
        .expect("a vector");
    assert_eq!(query, spelled);

    let empty = model
        .embed(&[""], &EmbedOptions::default())
        .expect("a vector");
    assert_eq!(empty.tokens, [1]);
    let none: [&str; 0] = [];
    assert!(
        model
            .embed(&none, &EmbedOptions::default())
            .expect("nothing")
            .rows
            .is_empty()
    );

    let cancelled = EmbedOptions::default();
    cancelled.cancel.cancel();
    let error = model
        .embed(&["the hand"], &cancelled)
        .expect_err("cancelled");
    assert!(matches!(error, bitnet::Error::Cancelled));
    let wide = EmbedOptions {
        dimensions: Some(129),
        ..EmbedOptions::default()
    };
    let error = model
        .embed(&["the hand"], &wide)
        .expect_err("too many")
        .to_string();
    assert_eq!(error, "dimensions: expected 1 to 128, found 129");
}

#[test]
fn long_texts_are_cut_before_their_end_token() {
    let [golden, _] = Golden::all();
    let model = golden.model(&ModelOptions {
        context: Some(8),
        ..ModelOptions::default()
    });
    let text = "the hand and a tin";
    let embeddings = model
        .embed(&[text, "a"], &EmbedOptions::default())
        .expect("vectors");
    assert_eq!((embeddings.truncated, embeddings.tokens[0]), (1, 8));
    let options = EncodeOptions {
        add_bos: false,
        parse_special: false,
    };
    let mut ids = model.tokenizer().encode(text, options).expect("tokens");
    ids.truncate(7);
    ids.extend(model.tokenizer().eos());
    let row = embed(&model, &[ids], &EmbedOptions::default());
    assert_eq!(row[0], embeddings.rows[0]);
    let long = model.embed_tokens(&[vec![1; 9]], &EmbedOptions::default(), |_, _| ());
    assert!(matches!(
        long,
        Err(bitnet::Error::ContextFull { wanted: 9, .. })
    ));
}

#[test]
fn a_model_that_embeds_does_not_generate() {
    for golden in Golden::all() {
        let model = golden.model(&ModelOptions::default());
        let error = model.session().err().expect("no text").to_string();
        assert!(error.contains("bitnet embed"), "{error}");
        assert!(Engine::new(&model, EngineOptions::default()).is_err());
    }
}

/// `bytes` with every `old` replaced by `new`, which is as long.
fn renamed(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let (old, new) = (old.as_bytes(), new.as_bytes());
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for at in 0..bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            found += 1;
        }
    }
    assert!(found > 0, "no such name");
    bytes
}

#[test]
fn files_that_lack_a_norm_are_refused_by_its_name() {
    let [qwen3, gemma3] = Golden::all();
    for (bytes, old, new, expected) in [
        (
            qwen3.bytes,
            "blk.1.ffn_up_norm_in",
            "blk.1.ffn_up_norm_xx",
            "blk.1.ffn_up_norm_in",
        ),
        (
            qwen3.bytes,
            "blk.0.attn_q_norm_in",
            "blk.0.attn_q_norm_xx",
            "blk.0.attn_k_norm_in",
        ),
        (
            gemma3.bytes,
            "blk.2.post_ffw_norm",
            "blk.2.post_ffw_xxxx",
            "blk.2.post_ffw_norm",
        ),
    ] {
        let bytes = renamed(bytes, old, new);
        let model = Model::from_bytes("tiny", bytes, &ModelOptions::default());
        let error = model.expect_err("a norm is missing").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
