//! Rotation, the cache and attention.

use super::harness::*;
use bitnet_core::{Activations, Backend, Heads, Rope, RopePairs, WeightMatrix};

struct Attended<'a> {
    heads: Heads,
    rope: Rope,
    /// `[tokens, q + k + v]`.
    x: &'a [f32],
    gains: Option<&'a [f32]>,
    /// Tokens of each batch.
    steps: &'a [usize],
    /// What the attention is rounded for and multiplied by.
    weights: Option<&'a WeightMatrix>,
}

impl Attended<'_> {
    fn run<B: Look>(&self, backend: &B) -> Vec<f32> {
        let Heads { query, kv, dim } = self.heads;
        let widths = [query * dim, kv * dim, kv * dim];
        let cols: usize = widths.iter().sum();
        let tokens = self.x.len() / cols;
        let mut cache = backend.cache(2, self.heads, tokens).expect("a cache");
        let gains = self.gains.map(|gains| {
            [0, 1].map(|i| {
                backend
                    .gain(gains[i * dim..][..dim].to_vec())
                    .expect("gains")
            })
        });
        let mut result = Vec::new();
        let mut first = 0;
        for &step in self.steps {
            let x = &self.x[first * cols..][..step * cols];
            let rows = batch(backend, x, cols, &cache);
            let rotations = backend
                .rotations(&self.rope, first, step)
                .expect("rotations");
            let mut out = None;
            // The second layer like the first.
            for layer in 0..2 {
                let mut parts = columns(backend, &rows, cols, &widths).into_iter();
                let mut next = || parts.next().expect("three");
                let (mut q, k, v) = (next(), next(), next());
                let norms = gains.as_ref().map(|[q, k]| [norm(q), norm(k)]);
                backend
                    .rope_append(&mut q, k, v, norms, &rotations, &mut cache, layer)
                    .expect("appended");
                out = Some(backend.attention(&q, &cache, layer).expect("attention"));
            }
            let out = out.expect("two layers");
            result.extend(backend.look(match self.weights {
                None => out,
                Some(weights) => {
                    let a = backend
                        .norm_quantize(&out, None, Activations::Int8)
                        .expect("activations");
                    let weights = backend.matrix(weights.clone()).expect("a matrix");
                    let mut products = backend.matmul(&a, &[&weights]).expect("a product");
                    products.remove(0)
                }
            }));
            first += step;
        }
        result
    }
}

pub(crate) fn attention_is_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(21);
    for case in 0..8 {
        let heads = Heads {
            kv: 1 + numbers.below(3),
            query: 0,
            dim: 2 * (1 + numbers.below(40)),
        };
        let heads = Heads {
            query: heads.kv * (1 + numbers.below(3)),
            ..heads
        };
        let dims = if case % 3 == 0 {
            heads.dim / 2 / 2 * 2
        } else {
            heads.dim
        };
        let rope = Rope {
            pairs: if case % 2 == 0 {
                RopePairs::HalfSplit
            } else {
                RopePairs::Interleaved
            },
            dims,
            base: 10_000.0,
            divisors: if case == 4 {
                vec![2.0; dims / 2]
            } else {
                Vec::new()
            },
            magnitude: [1.0, 1.138_629_4][case / 2 % 2],
        };
        // Few and many tokens, and contexts that are split.
        let steps: &[usize] = match case % 4 {
            0 => &[1, 1, 3, 8, 9],
            1 => &[40, 1, 7],
            2 => &[250, 5, 4, 1],
            _ => &[300, 33, 1, 200, 8],
        };
        let tokens: usize = steps.iter().sum();
        let cols = (heads.query + 2 * heads.kv) * heads.dim;
        let x: Vec<f32> = numbers
            .floats(tokens * cols)
            .iter()
            .map(|x| 2.0 * x)
            .collect();
        let gains = numbers.floats(2 * heads.dim);
        let job = Attended {
            heads,
            rope,
            x: &x,
            gains: (case % 2 == 0).then_some(&gains[..]),
            steps,
            weights: None,
        };
        let expected = job.run(&cpu());
        for other in others {
            let (name, gpu) = (other.name, other.backend);
            let found = job.run(gpu);
            let tolerance = other.attention;
            assert_close(
                &found,
                &expected,
                tolerance,
                &format!("{name}, case {case}, {heads:?}"),
            );
        }
    }
}

pub(crate) fn a_wide_head_is_close<B: Look>(other: &Other<'_, B>) {
    let mut numbers = Numbers(22);
    for (dim, steps) in [(128, &[290, 8, 1, 1][..]), (256, &[70, 2, 1, 1])] {
        let heads = Heads {
            query: 4,
            kv: 1,
            dim,
        };
        let rope = Rope {
            pairs: RopePairs::HalfSplit,
            dims: dim,
            base: 500_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        };
        let tokens: usize = steps.iter().sum();
        let x = numbers.floats(tokens * 6 * dim);
        let job = Attended {
            heads,
            rope,
            x: &x,
            gains: None,
            steps,
            weights: None,
        };
        let found = job.run(other.backend);
        let what = format!("{dim} columns");
        assert_close(&found, &job.run(&cpu()), other.attention, &what);
    }
}

/// The pieces of a context go straight into the product that follows: one piece, the most, and larger ones.
pub(crate) fn attention_that_is_multiplied_is_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(24);
    // Whole vectors of four, and not.
    for dim in [32, 26] {
        let heads = Heads {
            query: 4,
            kv: 2,
            dim,
        };
        let rope = Rope {
            pairs: RopePairs::HalfSplit,
            dims: dim,
            base: 10_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        };
        let x = numbers.floats(610 * 8 * dim);
        for format in [TERNARY[0], TERNARY[4]] {
            let weights = ternary(&mut numbers, format, 19, 4 * dim);
            let job = Attended {
                heads,
                rope: rope.clone(),
                x: &x,
                gains: None,
                steps: &[1, 1, 62, 1, 3, 443, 1, 1, 88, 8, 1],
                weights: Some(&weights),
            };
            let expected = job.run(&cpu());
            for other in others {
                // A number at a half may round to either side.
                let what = format!("{}, {format}, {dim} columns", other.name);
                assert_close(&job.run(other.backend), &expected, 2e-2, &what);
            }
        }
    }
}

/// A batch that there is no room for.
pub(crate) fn a_full_cache_says_so<B: Look>(backend: &B) {
    let cache = backend.cache(1, FEW_HEADS, 3).expect("a cache");
    let weights = backend
        .table(table(&[1.0; 64], 64, bitnet_quant::Format::F32))
        .expect("a table");
    let input = bitnet_core::Input::Tokens(&[0; 4]);
    let error = backend.embed(&weights, input, &cache).err();
    let error = error.expect("a full cache").to_string();
    assert!(error.contains("at most 3 positions"), "{error}");
}

/// For tests of caches.
pub(crate) const FEW_HEADS: Heads = Heads {
    query: 2,
    kv: 2,
    dim: 64,
};

/// The weights of the last of some tokens.
fn weights<B: Backend>(backend: &B, heads: Heads, x: &[f32]) -> Vec<f32> {
    let widths = [heads.query, heads.kv, heads.kv].map(|count| count * heads.dim);
    let cols: usize = widths.iter().sum();
    let tokens = x.len() / cols;
    let mut cache = backend.cache(1, heads, tokens).expect("a cache");
    let rope = Rope {
        pairs: RopePairs::HalfSplit,
        dims: heads.dim,
        base: 10_000.0,
        divisors: Vec::new(),
        magnitude: 1.0,
    };
    let rows = batch(backend, x, cols, &cache);
    let rotations = backend.rotations(&rope, 0, tokens).expect("rotations");
    let mut parts = columns(backend, &rows, cols, &widths).into_iter();
    let mut next = || parts.next().expect("three");
    let (mut q, k, v) = (next(), next(), next());
    backend
        .rope_append(&mut q, k, v, None, &rotations, &mut cache, 0)
        .expect("appended");
    backend.attention_weights(&q, &cache, 0).expect("weights")
}

pub(crate) fn weights_of_attention_are_close<B: Look>(others: &[Other<'_, B>]) {
    let heads = Heads {
        query: 4,
        kv: 2,
        dim: 22,
    };
    let x = Numbers(23).floats(19 * 8 * 22);
    let expected = weights(&cpu(), heads, &x);
    for other in others {
        let (name, gpu) = (other.name, other.backend);
        assert_close(&weights(gpu, heads, &x), &expected, other.attention, name);
    }
}
