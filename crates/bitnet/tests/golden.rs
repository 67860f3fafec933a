//! The forward pass against logits that an independent implementation computed for the demo model, and against
//! itself on every instruction set, thread count and batching.
#![cfg(feature = "demo")]

use bitnet::{Activations, Isa, KvType, LogitsFor, Model, ModelOptions};
use safetensors::SafeTensors;
use std::collections::HashMap;

static BYTES: &[u8] = include_bytes!("../../bitnet-demo/data/golden.safetensors");

/// The golden file: for each text its tokens and `[tokens, vocabulary]` logits.
struct Golden {
    tensors: SafeTensors<'static>,
    metadata: HashMap<String, String>,
}

impl Golden {
    fn open() -> Self {
        let (_, metadata) = SafeTensors::read_metadata(BYTES).expect("a safetensors header");
        Self {
            tensors: SafeTensors::deserialize(BYTES).expect("a safetensors file"),
            metadata: metadata
                .metadata()
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.tensors.tensor(name).ok().map(|view| view.data())
    }

    fn tokens(&self, name: &str) -> Option<Vec<u32>> {
        let ids = self.bytes(&format!("{name}.tokens"))?.as_chunks::<4>().0;
        Some(ids.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    fn number(&self, key: &str) -> f64 {
        self.metadata[key].parse().expect("a number")
    }
}

fn model(activations: Activations, kv: KvType) -> Model {
    let options = ModelOptions {
        activations,
        kv: Some(kv),
        ..ModelOptions::default()
    };
    Model::demo_with(&options).expect("the demo model")
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut session = model.session().expect("a session");
    session.forward(tokens, LogitsFor::All).expect("logits")
}

/// ln p of every token.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits
        .iter()
        .fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    logits
        .iter()
        .map(|&x| f64::from(x) - largest - sum.ln())
        .collect()
}

/// Σ p·ln(p/q).
fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn argmax(values: &[f64]) -> usize {
    let best = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
    best.expect("a vocabulary")
}

#[test]
fn without_activation_rounding_logits_are_the_golden_ones() {
    let golden = Golden::open();
    let model = model(Activations::F32, KvType::F32);
    let mut prompts = 0;
    while let Some(tokens) = golden.tokens(&format!("prompt{prompts}")) {
        let bytes = golden
            .bytes(&format!("prompt{prompts}.logits_f32"))
            .expect("logits");
        let bytes = bytes.as_chunks::<4>().0.iter();
        let expected: Vec<f32> = bytes.map(|b| f32::from_le_bytes(*b)).collect();
        let found = logits(&model, &tokens);
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(f32::MIN, |m, x| m.max(*x));
        let range = largest - expected.iter().fold(f32::MAX, |m, x| m.min(*x));
        let worst = found
            .iter()
            .zip(&expected)
            .map(|(f, e)| (f - e).abs())
            .fold(0.0, f32::max);
        println!(
            "prompt {prompts}: {} tokens, {:.2e} of the range",
            tokens.len(),
            worst / range
        );
        assert!(
            worst <= 1e-4 * range,
            "prompt {prompts}: {worst} of a range of {range}"
        );
        prompts += 1;
    }
    assert_eq!(prompts, 5);
}

#[test]
fn with_int8_activations_the_difference_is_below_quantization_noise() {
    let golden = Golden::open();
    let model = model(Activations::Int8, KvType::F32);
    let (mut texts, mut positions, mut divergence, mut same) = (0, 0usize, 0.0, 0usize);
    while let Some(tokens) = golden.tokens(&format!("heldout{texts}")) {
        let bytes = golden
            .bytes(&format!("heldout{texts}.logits_int8"))
            .expect("logits");
        let bytes = bytes.as_chunks::<2>().0.iter();
        let expected: Vec<f32> = bytes
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect();
        let found = logits(&model, &tokens);
        assert_eq!(found.len(), expected.len());
        let rows = expected.chunks_exact(model.vocabulary());
        for (expected, found) in rows.zip(found.chunks_exact(model.vocabulary())) {
            let (p, q) = (log_probabilities(expected), log_probabilities(found));
            divergence += kl(&p, &q);
            same += usize::from(argmax(&p) == argmax(&q));
            positions += 1;
        }
        texts += 1;
    }
    let mean = divergence / positions as f64;
    let noise = golden.number("kl_int8_vs_f32");
    let top1 = same as f64 / positions as f64;
    println!("{positions} positions: mean KL {mean:.3e} (noise {noise:.3e}), top-1 {top1:.4}");
    assert!(positions >= 500);
    assert!(mean <= noise, "mean KL {mean} > {noise}");
    assert!(top1 >= 0.98, "top-1 agreement {top1}");
}

/// How far a type of keys and values takes the likelihoods of held-out text from those of f32: with activations as they are,
/// and without their rounding, whose noise hides it.
#[test]
fn rounded_keys_and_values_make_little_difference() {
    let golden = Golden::open();
    let noise = golden.number("kl_int8_vs_f32");
    for (activations, name, most) in [
        (Activations::Int8, "int8", [noise, noise]),
        (Activations::F32, "f32", [1e-8, 1e-5]),
    ] {
        let exact = model(activations, KvType::F32);
        for (kv, most) in [KvType::F16, KvType::Int8].into_iter().zip(most) {
            let rounded = model(activations, kv);
            let (mut texts, mut positions, mut divergence, mut same) = (0, 0usize, 0.0, 0usize);
            while let Some(tokens) = golden.tokens(&format!("heldout{texts}")) {
                let [expected, found] = [&exact, &rounded].map(|model| logits(model, &tokens));
                let rows = expected.chunks_exact(exact.vocabulary());
                for (expected, found) in rows.zip(found.chunks_exact(exact.vocabulary())) {
                    let (p, q) = (log_probabilities(expected), log_probabilities(found));
                    divergence += kl(&p, &q);
                    same += usize::from(argmax(&p) == argmax(&q));
                    positions += 1;
                }
                texts += 1;
            }
            let mean = divergence / positions as f64;
            let top1 = same as f64 / positions as f64;
            println!(
                "{kv} keys and values, {name} activations: {positions} positions, mean KL {mean:.2e}, top-1 {top1:.4}"
            );
            assert!(positions >= 500);
            assert!(mean > 0.0 && mean <= most, "{kv}, {name}: mean KL {mean}");
            assert!(top1 >= 0.98, "{kv}, {name}: top-1 agreement {top1}");
        }
    }
}

#[test]
fn the_same_bits_for_every_isa_thread_count_and_batching() {
    let mut tokens = Golden::open().tokens("heldout0").expect("tokens");
    tokens.truncate(70);
    for activations in [Activations::Int8, Activations::F32] {
        let run = |isa: Isa, threads: usize, batch: usize| -> Vec<u32> {
            let options = ModelOptions {
                isa: Some(isa),
                threads: Some(threads),
                activations,
                ..ModelOptions::default()
            };
            let model = Model::demo_with(&options).expect("the demo model");
            let mut session = model.session().expect("a session");
            let pieces = tokens.chunks(batch);
            let logits = pieces.flat_map(|t| session.forward(t, LogitsFor::All).expect("logits"));
            logits.map(f32::to_bits).collect()
        };
        let expected = run(Isa::best(), 1, tokens.len());
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (threads, batch) in [(1, 1), (2, tokens.len()), (2, 3), (3, 64), (7, 17)] {
                let found = run(isa, threads, batch);
                assert!(
                    found == expected,
                    "{isa}, {threads} threads, batches of {batch}"
                );
            }
        }
    }
}
