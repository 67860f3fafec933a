//! A small model of three layers on any backend.

use super::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Backend, Batch, Candidate, FeedForwardWeights,
    Gate, GatedWeights, Input, LmHeadMode, MixerState, MixerWeights, Output, OutputRequest,
    Pending, Projection, Result, Rope, RopePairs, Top, VocabularyWeights,
};
use bitnet_quant::Format;

const HEADS: AttentionHeads = AttentionHeads {
    query: 4,
    kv: 2,
    dim: 16,
};
const HIDDEN: usize = 64;
const FEED_FORWARD: usize = 160;
pub(crate) const VOCABULARY: usize = 300;
const LAYERS: usize = 3;

pub(crate) struct Model<'a, B: Backend> {
    pub(crate) backend: &'a B,
    embedding: B::Embedding,
    layers: Vec<(B::Mixer, B::FeedForward)>,
    head: B::LmHead,
}

impl<'a, B: Backend> Model<'a, B> {
    /// The model with random weights, the same on every backend.
    pub(crate) fn new(backend: &'a B) -> Self {
        let mut numbers = Numbers(41);
        let mut norm_of = |width| {
            let weight = numbers.floats(width);
            norm(&weight.iter().map(|x| 1.0 + 0.3 * x).collect::<Vec<f32>>())
        };
        let (one, two, three) = (norm_of(HIDDEN), norm_of(HIDDEN), norm_of(FEED_FORWARD));
        let embedding = numbers.floats(VOCABULARY * HIDDEN);
        let vocabulary = VocabularyWeights {
            embedding_scale: 1.0,
            embedding_rotation: None,
            head_rotation: None,
            activations: bitnet_core::Activations::F32,
            embedding: table(&embedding, HIDDEN, Format::F16),
            norm: one.clone(),
            head: None,
            mode: LmHeadMode::Full,
        };
        let layers = (0..LAYERS).map(|layer| {
            let mut matrix = |rows, cols| {
                let matrix = ternary(&mut numbers, TERNARY[2 * layer], rows, cols);
                matrix.with_output_scale(0.3).expect("a finite scale")
            };
            let mixer = MixerWeights::Attention(AttentionWeights {
                output_norm: None,
                gated: false,
                heads: HEADS,
                rope: Some(Rope {
                    pairs: RopePairs::HalfSplit,
                    dims: HEADS.dim,
                    base: 10_000.0,
                    divisors: Vec::new(),
                    magnitude: 1.0,
                }),
                window: None,
                activations: Activations::Int8,
                norm: Some(one.clone()),
                query: matrix(HEADS.query_width(), HIDDEN).into(),
                key: matrix(HEADS.kv_width(), HIDDEN).into(),
                value: matrix(HEADS.kv_width(), HIDDEN).into(),
                head_norms: None,
                output: Projection {
                    rotation: None,
                    norm: Some(two.clone()),
                    matrix: matrix(HIDDEN, HEADS.query_width()),
                },
            });
            let feed_forward = FeedForwardWeights::Gated(GatedWeights {
                output_norm: None,
                function: Gate::Relu2,
                activations: Activations::Int8,
                norm: Some(one.clone()),
                gate: matrix(FEED_FORWARD, HIDDEN).into(),
                up: matrix(FEED_FORWARD, HIDDEN).into(),
                down: Projection {
                    rotation: None,
                    norm: Some(three.clone()),
                    matrix: matrix(HIDDEN, FEED_FORWARD),
                },
            });
            (
                backend.load_mixer(mixer).expect("a mixer"),
                backend.load_feed_forward(feed_forward).expect("a sublayer"),
            )
        });
        let layers = layers.collect();
        let (embedding, head) = backend.load_vocabulary(vocabulary).expect("a vocabulary");
        Self {
            backend,
            embedding,
            layers,
            head,
        }
    }

    /// An empty sequence.
    pub(crate) fn state(&self, capacity: usize) -> B::State {
        let layers = [MixerState::KeysValues(HEADS); LAYERS];
        self.backend
            .state(&layers, capacity, compared(self.backend))
            .expect("a state")
    }

    /// Begins a batch.
    ///
    /// # Errors
    /// As the backend.
    pub(crate) fn forward(&self, batch: &mut Batch<'_, B::State>) -> Result<Pending<Vec<Output>>> {
        let mut x = self.backend.embed(&self.embedding, batch)?;
        for (index, (mixer, feed_forward)) in self.layers.iter().enumerate() {
            self.backend.mixer(&mut x, mixer, index, batch)?;
            self.backend.feed_forward(&mut x, feed_forward)?;
        }
        self.backend.outputs(x, &self.head, batch)
    }

    /// Logits after each token of `input`.
    pub(crate) fn logits(&self, state: &mut B::State, tokens: &[u32]) -> Vec<f32> {
        let rows = tokens.len();
        let request = OutputRequest::Logits { rows };
        let mut batch = batch(Input::Tokens(tokens), state, request);
        let outputs = self.forward(&mut batch).and_then(Pending::now);
        outputs.expect("outputs").remove(0).into_logits()
    }

    /// Reads tokens.
    pub(crate) fn read(&self, state: &mut B::State, tokens: &[u32]) {
        let mut batch = batch(Input::Tokens(tokens), state, OutputRequest::Nothing);
        let outputs = self.forward(&mut batch).and_then(Pending::now);
        assert_eq!(outputs.expect("outputs"), [Output::Nothing]);
    }

    /// Begins a batch whose output is the likeliest token after `input`.
    pub(crate) fn next(&self, state: &mut B::State, input: Input<'_>) -> Pending<Candidate> {
        let top = Top {
            count: 1,
            also: &[],
        };
        let mut batch = batch(input, state, OutputRequest::Top { rows: 1, top });
        let outputs = self.forward(&mut batch).expect("under way");
        outputs.map(|mut outputs| outputs.remove(0).into_top().remove(0)[0])
    }

    /// Token by token after `prompt`: each batch begins once the token before it is known.
    pub(crate) fn greedy(&self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut state = self.state(prompt.len() + count);
        let mut tokens = Vec::new();
        let mut input = prompt.to_vec();
        while tokens.len() < count {
            let next = self.next(&mut state, Input::Tokens(&input));
            input = vec![next.now().expect("a token").id];
            tokens.extend_from_slice(&input);
        }
        tokens
    }
}
