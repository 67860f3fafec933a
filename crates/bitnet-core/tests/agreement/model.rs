//! A small model of two layers on the CPU.

use super::{Numbers, TERNARY, table, ternary};
use bitnet_core::cpu::{CpuBackend, CpuEmbedding, CpuFeedForward, CpuLmHead, CpuMixer, CpuState};
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Backend, Batch, FeedForwardWeights, Gate,
    GatedWeights, Input, KvType, LmHeadMode, MixerState, MixerWeights, NormWeights, Output,
    OutputRequest, Pending, Projection, Result, Rope, RopePairs, Span, VocabularyWeights,
};
use bitnet_quant::Format;

pub(crate) const VOCABULARY: usize = 90;
const HIDDEN: usize = 256;
const WIDTH: usize = 256;
const HEADS: AttentionHeads = AttentionHeads {
    query: 4,
    kv: 2,
    dim: 64,
};
pub(crate) const LAYERS: [MixerState; 2] = [MixerState::KeysValues(HEADS); 2];

/// The weights, of which every backend makes its own model.
pub(crate) struct Weights {
    vocabulary: VocabularyWeights,
    layers: Vec<(MixerWeights, FeedForwardWeights)>,
}

impl Weights {
    pub(crate) fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let layers = (0..LAYERS.len()).map(|_| layer(&mut numbers)).collect();
        let embedding = numbers.floats(VOCABULARY * HIDDEN);
        Self {
            vocabulary: VocabularyWeights {
                embedding_scale: 1.0,
                embedding_rotation: None,
                head_rotation: None,
                activations: bitnet_core::Activations::F32,
                embedding: table(&embedding, HIDDEN, Format::F16),
                norm: norm(&mut numbers, HIDDEN),
                head: None,
                mode: [LmHeadMode::Full, LmHeadMode::Screened][numbers.below(2)],
            },
            layers,
        }
    }
}

fn norm(numbers: &mut Numbers, width: usize) -> NormWeights {
    let weight = numbers.floats(width).into_iter().map(|x| 1.0 + 0.3 * x);
    NormWeights {
        name: "norm".into(),
        weight: weight.collect(),
        eps: 1e-5,
    }
}

fn layer(numbers: &mut Numbers) -> (MixerWeights, FeedForwardWeights) {
    let format = TERNARY[numbers.below(TERNARY.len())];
    let matrix = |numbers: &mut Numbers, rows, cols| {
        let (matrix, _) = ternary(numbers, format, rows, cols);
        matrix.with_output_scale(0.3).expect("a finite scale")
    };
    let mixer = AttentionWeights {
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
        norm: Some(norm(numbers, HIDDEN)),
        query: matrix(numbers, HEADS.query_width(), HIDDEN).into(),
        key: matrix(numbers, HEADS.kv_width(), HIDDEN).into(),
        value: matrix(numbers, HEADS.kv_width(), HIDDEN).into(),
        head_norms: (numbers.below(2) == 0).then(|| [(); 2].map(|()| norm(numbers, HEADS.dim))),
        output: Projection {
            rotation: None,
            norm: Some(norm(numbers, HEADS.query_width())),
            matrix: matrix(numbers, HIDDEN, HEADS.query_width()),
        },
    };
    let feed_forward = GatedWeights {
        output_norm: None,
        function: [Gate::Relu2, Gate::Silu][numbers.below(2)],
        activations: Activations::Int8,
        norm: Some(norm(numbers, HIDDEN)),
        gate: matrix(numbers, WIDTH, HIDDEN).into(),
        up: matrix(numbers, WIDTH, HIDDEN).into(),
        down: Projection {
            rotation: None,
            norm: Some(norm(numbers, WIDTH)),
            matrix: matrix(numbers, HIDDEN, WIDTH),
        },
    };
    (
        MixerWeights::Attention(mixer),
        FeedForwardWeights::Gated(feed_forward),
    )
}

/// Tokens of a sequence, and the outputs to compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) outputs: OutputRequest<'a>,
}

impl<'a> Job<'a> {
    pub(crate) fn nothing(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            outputs: OutputRequest::Nothing,
        }
    }

    pub(crate) fn logits(tokens: &'a [u32]) -> Self {
        let rows = tokens.len();
        Self {
            tokens,
            outputs: OutputRequest::Logits { rows },
        }
    }

    fn span<'s>(self, state: &'s mut CpuState) -> Span<'s, CpuState>
    where
        'a: 's,
    {
        Span {
            input: Input::Tokens(self.tokens),
            state,
            outputs: self.outputs,
        }
    }
}

pub(crate) struct Model<'a> {
    backend: &'a CpuBackend,
    kv: KvType,
    embedding: CpuEmbedding,
    layers: Vec<(CpuMixer, CpuFeedForward)>,
    head: CpuLmHead,
}

impl<'a> Model<'a> {
    pub(crate) fn new(backend: &'a CpuBackend, weights: &Weights, kv: KvType) -> Self {
        let vocabulary = weights.vocabulary.clone();
        let (embedding, head) = backend.load_vocabulary(vocabulary).expect("a vocabulary");
        let layers = weights.layers.iter().cloned().map(|(mixer, feed_forward)| {
            let feed_forward = backend.load_feed_forward(feed_forward);
            (
                backend.load_mixer(mixer).expect("a mixer"),
                feed_forward.expect("a sublayer"),
            )
        });
        Self {
            backend,
            kv,
            embedding,
            layers: layers.collect(),
            head,
        }
    }

    /// An empty sequence.
    pub(crate) fn state(&self) -> CpuState {
        let state = self.backend.state(&LAYERS, 200, Some(self.kv));
        state.expect("a state")
    }

    /// A sequence of these tokens.
    pub(crate) fn read(&self, tokens: &[u32]) -> CpuState {
        let mut state = self.state();
        if !tokens.is_empty() {
            self.run(&mut state, Job::nothing(tokens));
        }
        state
    }

    /// The first sublayers of a batch, up to the last mixer, and nothing more.
    pub(crate) fn abandon(&self, state: &mut CpuState, job: Job<'_>) {
        let mut batch = Batch::new(vec![job.span(state)]).expect("a batch");
        let mut x = self
            .backend
            .embed(&self.embedding, &mut batch)
            .expect("rows");
        for (index, (mixer, feed_forward)) in self.layers.iter().enumerate() {
            self.backend
                .mixer(&mut x, mixer, index, &mut batch)
                .expect("mixed");
            self.backend
                .feed_forward(&mut x, feed_forward)
                .expect("fed");
        }
        let (mixer, _) = &self.layers[0];
        let error = self.backend.mixer(&mut x, mixer, LAYERS.len(), &mut batch);
        assert!(error.is_err(), "a layer beyond the last");
    }

    pub(crate) fn run(&self, state: &mut CpuState, job: Job<'_>) -> Output {
        self.run_together(vec![(state, job)])
            .expect("outputs")
            .remove(0)
    }

    /// The outputs of several sequences in one batch.
    ///
    /// # Errors
    /// As the backend.
    pub(crate) fn run_together(&self, jobs: Vec<(&mut CpuState, Job<'_>)>) -> Result<Vec<Output>> {
        let spans = jobs.into_iter().map(|(state, job)| job.span(state));
        let mut batch = Batch::new(spans.collect())?;
        let mut x = self.backend.embed(&self.embedding, &mut batch)?;
        for (index, (mixer, feed_forward)) in self.layers.iter().enumerate() {
            self.backend.mixer(&mut x, mixer, index, &mut batch)?;
            self.backend.feed_forward(&mut x, feed_forward)?;
        }
        self.backend
            .outputs(x, &self.head, &mut batch)
            .and_then(Pending::now)
    }
}
