//! The forward pass, written once over [`Backend`].
//!
//! embed → layers × (norm·quantize → q, k, v → rotate, append → attention → norm·quantize → output projection →
//! norm·quantize → gate, up → gate·norm·quantize → down projection) → norm → head.

use super::architecture::Architecture;
use crate::{Error, Result};
use bitnet_core::{
    Activations, Backend, Candidate, HeadStats, HybridMemoryPool, Input, Norm, Pending, Top,
};
use std::sync::Arc;

/// The weights of one block, resident on a backend.
pub(crate) struct Layer<B: Backend> {
    pub(crate) attention_norm: B::Gain,
    pub(crate) query: B::Matrix,
    pub(crate) key: B::Matrix,
    pub(crate) value: B::Matrix,
    /// Gains on each head of queries and of keys (qwen3).
    pub(crate) head_norms: Option<[B::Gain; 2]>,
    /// Gain before the output projection (bitnet).
    pub(crate) attention_sub_norm: Option<B::Gain>,
    pub(crate) output: B::Matrix,
    pub(crate) feed_forward_norm: B::Gain,
    pub(crate) gate: B::Matrix,
    pub(crate) up: B::Matrix,
    /// Gain before the down projection (bitnet).
    pub(crate) feed_forward_sub_norm: Option<B::Gain>,
    pub(crate) down: B::Matrix,
}

/// A model's weights on a backend.
pub(crate) struct Transformer<B: Backend> {
    pub(crate) backend: B,
    pub(crate) architecture: Architecture,
    pub(crate) activations: Activations,
    pub(crate) embedding: B::Table,
    pub(crate) layers: Vec<Layer<B>>,
    pub(crate) output_norm: B::Gain,
    /// The head, where it is not the embedding.
    pub(crate) head: Option<B::Table>,
}

/// Which positions of a batch need logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: the batch only fills the cache.
    Nothing,
    /// The last position.
    Last,
    /// Every position.
    All,
}

/// What is asked of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// Logits.
    Logits(Want),
    /// The likeliest tokens after the last position.
    Top(Top<'a>),
    /// What the heads of this layer attend to from the last position; what comes after that layer is not run, and the
    /// positions do not become part of the state.
    Attention(usize),
}

/// What follows a batch.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// `[positions, vocabulary]`.
    Logits(Vec<f32>),
    /// Those asked for.
    Top(Vec<Candidate>),
    /// `[query heads, positions]`.
    Attention(Vec<f32>),
}

impl Answer {
    /// No logits at all, or those asked for.
    pub(crate) fn into_logits(self) -> Vec<f32> {
        match self {
            Self::Logits(logits) => logits,
            Self::Top(_) | Self::Attention(_) => Vec::new(),
        }
    }

    /// The likeliest tokens, or none if they were not asked for.
    pub(crate) fn into_top(self) -> Vec<Candidate> {
        match self {
            Self::Logits(_) | Self::Attention(_) => Vec::new(),
            Self::Top(top) => top,
        }
    }

    /// The weights of attention, or none if they were not asked for.
    pub(crate) fn into_attention(self) -> Vec<f32> {
        match self {
            Self::Logits(_) | Self::Top(_) => Vec::new(),
            Self::Attention(weights) => weights,
        }
    }
}

impl<B: Backend> Transformer<B> {
    /// The table of the head.
    pub(crate) fn head(&self) -> &B::Table {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Has the backend prepare what it will be asked for in a context of `capacity`. `progress` is told as by
    /// [`weights::load`](super::weights::load).
    ///
    /// # Errors
    /// If a kernel is not to be had, or memory is short.
    pub(crate) fn rehearse(
        &self,
        capacity: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), bitnet_core::Error> {
        let rehearsals = self.backend.rehearsals();
        let (layers, heads) = (self.layers.len(), self.architecture.heads);
        let Some(most) = rehearsals.iter().max() else {
            return Ok(());
        };
        let mut cache = self.backend.rehearsal(layers, heads, capacity.min(*most))?;
        for (tokens, done) in rehearsals.iter().zip(1..) {
            let tokens = vec![0; capacity.min(*tokens)];
            let top = Top {
                count: 1,
                also: &[],
            };
            match self.forward(Input::Tokens(&tokens), 0, &mut cache, Ask::Top(top)) {
                // What it answers never comes.
                Ok(_) => {}
                // Who really asks for so much is told.
                Err(bitnet_core::Error::Unavailable { what, why }) => {
                    tracing::debug!(
                        "{tokens} tokens together: {what}: {why}",
                        tokens = tokens.len()
                    );
                }
                Err(error) => return Err(error),
            }
            self.backend.truncate(&mut cache, 0);
            progress(layers + done, layers + rehearsals.len());
        }
        self.backend.rehearsed();
        Ok(())
    }

    /// Runs `input` after the `len` positions in `cache`.
    fn forward(
        &self,
        input: Input<'_>,
        len: usize,
        cache: &mut B::Cache,
        ask: Ask<'_>,
    ) -> Result<Pending<Answer>, bitnet_core::Error> {
        let backend = &self.backend;
        let norm = |gain| Norm {
            gain,
            eps: self.architecture.eps,
        };
        let rotations = backend.rotations(&self.architecture.rope, len, input.len())?;
        let mut x = backend.embed(&self.embedding, input, cache)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let attention_norm = Some(norm(&layer.attention_norm));
            let a = backend.norm_quantize(&x, attention_norm, self.activations)?;
            let [mut q, k, v] = products(backend, &a, [&layer.query, &layer.key, &layer.value])?;
            let head_norms = layer.head_norms.as_ref().map(|[q, k]| [norm(q), norm(k)]);
            backend.rope_append(&mut q, k, v, head_norms, &rotations, cache, index)?;
            if matches!(ask, Ask::Attention(wanted) if wanted == index) {
                let weights = backend.attention_weights(&q, cache, index)?;
                return Ok(Pending::ready(Answer::Attention(weights)));
            }
            let attention = backend.attention(&q, cache, index)?;
            let sub_norm = layer.attention_sub_norm.as_ref().map(norm);
            let a = backend.norm_quantize(&attention, sub_norm, self.activations)?;
            backend.matmul_add(&a, &layer.output, &mut x)?;

            let feed_forward_norm = Some(norm(&layer.feed_forward_norm));
            let a = backend.norm_quantize(&x, feed_forward_norm, self.activations)?;
            let [gate, up] = products(backend, &a, [&layer.gate, &layer.up])?;
            let sub_norm = layer.feed_forward_sub_norm.as_ref().map(norm);
            let function = self.architecture.gate;
            let a = backend.gate_norm_quantize(gate, up, function, sub_norm, self.activations)?;
            backend.matmul_add(&a, &layer.down, &mut x)?;
        }
        let last = input.len().saturating_sub(1);
        let (norm, head) = (norm(&self.output_norm), self.head());
        let first = match ask {
            // A layer that is not there.
            Ask::Attention(_) => return Ok(Pending::ready(Answer::Attention(Vec::new()))),
            Ask::Logits(Want::Nothing) => {
                backend.run(x)?;
                return Ok(Pending::ready(Answer::Logits(Vec::new())));
            }
            Ask::Logits(Want::Last) => last,
            Ask::Logits(Want::All) => 0,
            Ask::Top(top) => {
                let answers = backend.head_top(&x, last, norm, head, &top, cache)?;
                return Ok(answers.map(|mut rows| Answer::Top(rows.pop().unwrap_or_default())));
            }
        };
        Ok(backend.head(&x, first, norm, head)?.map(Answer::Logits))
    }
}

/// One product for each matrix.
fn products<B: Backend, const N: usize>(
    backend: &B,
    a: &B::Activation,
    weights: [&B::Matrix; N],
) -> Result<[B::Hidden; N], bitnet_core::Error> {
    let products = backend.matmul(a, &weights)?;
    let found = products.len();
    products.try_into().map_err(|_| bitnet_core::Error::Shape {
        what: "products of one activation".into(),
        expected: N.to_string(),
        found: found.to_string(),
    })
}

/// A model on some backend.
pub(crate) trait Run: Send + Sync {
    /// An empty state for up to `capacity` positions.
    fn start(self: Arc<Self>, capacity: usize) -> Result<Box<dyn State>>;
    /// One line about the backend.
    fn describe(&self) -> String;
    /// The backend's memory.
    fn pool(&self) -> &HybridMemoryPool;
    /// What screening the head saved, if it is screened.
    fn head_stats(&self) -> Option<HeadStats>;
}

/// The positions that one session has run.
pub(crate) trait State: Send {
    /// Runs `input` after the positions so far, which grow at once. On an error the state is as before; where the answer
    /// turns out to be an error, the caller forgets what was run for it.
    fn forward(&mut self, input: Input<'_>, ask: Ask<'_>) -> Result<Pending<Answer>>;
    /// Whether the input can be [`Input::Chosen`].
    fn runs_ahead(&self) -> bool;
    /// Positions so far.
    fn len(&self) -> usize;
    /// Forgets the positions from `len` on.
    fn truncate(&mut self, len: usize);
    /// Bytes of keys and values.
    fn bytes(&self) -> usize;
    /// Keys and values of `layer`, `[position][kv head][dim]` each; positions run ahead may be among them.
    fn read_layer(&self, layer: usize) -> Result<[Vec<f32>; 2]>;
    /// Begins with `positions` that were run elsewhere: `next` hands over keys and values, layer after layer. On an error the
    /// state is empty.
    fn restore(
        &mut self,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()>;
}

struct BackendState<B: Backend> {
    transformer: Arc<Transformer<B>>,
    cache: B::Cache,
    len: usize,
    capacity: usize,
}

impl<B: Backend> Run for Transformer<B> {
    fn start(self: Arc<Self>, capacity: usize) -> Result<Box<dyn State>> {
        let cache = self
            .backend
            .cache(self.layers.len(), self.architecture.heads, capacity)?;
        Ok(Box::new(BackendState {
            transformer: self,
            cache,
            len: 0,
            capacity,
        }))
    }

    fn describe(&self) -> String {
        self.backend.describe()
    }

    fn pool(&self) -> &HybridMemoryPool {
        self.backend.pool()
    }

    fn head_stats(&self) -> Option<HeadStats> {
        self.backend.head_stats(self.head())
    }
}

impl<B: Backend> State for BackendState<B> {
    fn forward(&mut self, input: Input<'_>, ask: Ask<'_>) -> Result<Pending<Answer>> {
        if input.len() > self.capacity - self.len {
            return Err(Error::ContextFull {
                capacity: self.capacity,
                used: self.len,
                wanted: input.len(),
            });
        }
        let Self {
            transformer,
            cache,
            len,
            ..
        } = self;
        let result = transformer
            .backend
            .scope(|| transformer.forward(input, *len, cache, ask));
        match result {
            Ok(answer) => {
                if let Ask::Attention(_) = ask {
                    self.truncate(self.len);
                } else {
                    self.len += input.len();
                }
                Ok(answer)
            }
            Err(error) => {
                self.truncate(self.len);
                Err(error.into())
            }
        }
    }

    fn runs_ahead(&self) -> bool {
        self.transformer.backend.runs_ahead()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.transformer.backend.truncate(&mut self.cache, self.len);
    }

    fn bytes(&self) -> usize {
        self.transformer.backend.cache_bytes(&self.cache)
    }

    fn read_layer(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        Ok(self.transformer.backend.read_layer(&self.cache, layer)?)
    }

    fn restore(
        &mut self,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()> {
        self.truncate(0);
        for layer in 0..self.transformer.layers.len() {
            let backend = &self.transformer.backend;
            let outcome = next().and_then(|[keys, values]| {
                Ok(backend.restore_layer(&mut self.cache, layer, &keys, &values)?)
            });
            if let Err(error) = outcome {
                self.truncate(0);
                return Err(error);
            }
        }
        self.len = positions;
        Ok(())
    }
}
