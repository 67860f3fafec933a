//! A model ready to run: weights on a backend, tokenizer, chat template.

mod architecture;
mod config;
mod config_class;
mod gguf;
mod hadamard;
mod huggingface;
mod hybrid;
mod mixture;
mod open;
mod pack;
mod scaling;
mod transformer;
mod value_heads;
mod weights;
mod windows;

pub use architecture::Architecture;
pub(crate) use hadamard::{Contract, ContractKeys, widest_block};
pub use hybrid::Hybrid;
pub use mixture::Mixture;
pub use scaling::{RopeScaling, ScalingKind};
pub use transformer::LogitsFor;
pub(crate) use transformer::{DynModel, DynSequence, Part};
pub use windows::{WindowRotation, Windows};

use crate::chat::{ChatTemplate, ChatTemplates, TemplateChoice};
use crate::file::{Bytes, Gguf, ModelFile, ModelFiles, read_into};
use crate::session::Session;
use crate::tokenizer::{Nfc, Tokenizer};
use crate::{Cancel, Error, Result};
use bitnet_core::cpu::Isa;
use bitnet_core::device::AdapterChoice;
use bitnet_core::pool::PoolStats;
use bitnet_core::pool::ZeroCopyStats;
use bitnet_core::{
    Activations, Backend, Device, HybridMemoryPool, Input, KvType, LmHeadMode, LmHeadStats,
    PoolOptions,
};
use bitnet_quant::I2sLayout;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use transformer::Transformer;
use weights::{Source, Summary};

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct ModelOptions {
    /// Where it runs; if `None`, where it is expected to be fastest ([`Placement`](bitnet_core::device::Placement) says why).
    pub device: Option<Device>,
    /// Which GPU; to choose one is to choose [`Device::Wgpu`].
    pub adapter: AdapterChoice,
    /// Threads of the processor; all cores if `None`.
    pub threads: Option<usize>,
    /// Kernel set; if `None`, what `BITNET_ISA` says, else the best there is.
    pub isa: Option<Isa>,
    /// How activations are rounded before ternary matrices multiply them. Unless it says otherwise to int8 per token: as most ternary
    /// models are trained, and what integer kernels multiply. It was compared with the others on held-out text, with and without
    /// rotated weights: mean divergences of the next token are 2·10⁻⁴ nats from f32, and half of that with a scale for each group of 128
    /// (`cargo xtask activations`, `benches/report/activations.md`).
    pub activations: Activations,
    /// The type in which sessions keep keys and values; if `None`, the device's own choice: f16 on processors, with Metal and
    /// through wgpu, f32 with MLX. Each type gives logits of its own, on processors the same bits on all of them.
    pub kv: Option<KvType>,
    /// How the likeliest tokens are found where no others are needed: greedy and top-k sampling. Tokens and logits do not
    /// depend on it.
    pub head: LmHeadMode,
    /// Whether [`Model::open_with`] copies the files into memory instead of mapping them. A mapping needs no memory of its own and
    /// its pages come from disk as they are touched, but a program ends (by `SIGBUS` on Unix) if another process truncates
    /// the file while the model is in use; a copy does not depend on the file any more.
    pub copy: bool,
    /// The most bytes of memory that weights which are not used where they lie (copied, repacked or screened ones),
    /// activations, keys and values may take together; what is over it is refused with
    /// [`BackendError::OutOfMemory`](crate::BackendError::OutOfMemory). On a GPU it is the limit of the host's memory and of
    /// the device's, each by itself. Mapped files, and bytes that are the caller's, are not counted.
    pub memory_limit: Option<usize>,
    /// Byte order of I2_S tensors, which a file does not tell.
    pub i2s_layout: I2sLayout,
    /// Positions a session can hold; if `None`, the model's own context, at most 4096.
    pub context: Option<usize>,
    /// A chat template in place of the model's own.
    pub chat_template: Option<TemplateChoice>,
    /// The time in seconds since 1970 (UTC), for chat templates that put a date into the prompt. Without it they put
    /// in one of their own, and the prompt depends on nothing but the messages.
    pub unix_time: Option<i64>,
    /// How many seconds the local time is ahead of UTC: a date in a prompt is the local one.
    pub utc_offset: i32,
    /// Unicode's normal form C, which some vocabularies are made for, by the host: of use where this library is built without
    /// tables of its own (without the feature `nfc`). For GGUF files.
    pub nfc: Option<Nfc>,
    /// Ends the loading of a model with [`Error::Cancelled`]: it is looked at between tensors, and while a file is copied. An open
    /// model does not look at it.
    pub cancel: Cancel,
}

impl ModelOptions {
    /// Memory for a model, with the limit that they set.
    fn pool(&self) -> HybridMemoryPool {
        let usual = PoolOptions::default();
        let most = self.memory_limit.unwrap_or(usize::MAX);
        HybridMemoryPool::new(PoolOptions {
            hard_limit: self.memory_limit,
            // What threads keep for themselves counts, and no other thread can have it.
            thread_cache: usual.thread_cache.min(most / 64),
            ..usual
        })
    }
}

/// A model ready to run. Cheap to clone; clones share the weights.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    run: Arc<dyn DynModel>,
    name: String,
    architecture: Architecture,
    summary: Summary,
    tokenizer: Tokenizer,
    templates: ChatTemplates,
    capacity: usize,
    /// The most tokens of a text that is embedded.
    embed_capacity: usize,
    kv: KvType,
    fingerprint: OnceLock<Fingerprint>,
}

/// SHA-256 of what a model computes: see [`Model::fingerprint`].
pub type Fingerprint = [u8; 32];

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens a GGUF file, or a directory or file of safetensors, with default options.
    ///
    /// Files of weights are memory-mapped: they must not be truncated while the model, a clone or a session of it is in use,
    /// which would end the program ([`map`](crate::file::map()#truncation)). [`ModelOptions::copy`] avoids that.
    ///
    /// # Errors
    /// If the file cannot be read, breaks its format, or is no model this runtime runs.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ModelOptions::default(), |_, _| ())
    }

    /// Opens a model with options. `progress` is told the steps done and their number: a layer is one, and so is whatever a device
    /// compiles before it can begin.
    ///
    /// # Errors
    /// As [`open`](Self::open); also if the machine lacks what the options ask for, among it memory for a copy of the files,
    /// or more memory is needed than [`ModelOptions::memory_limit`] allows; [`Error::Cancelled`].
    pub fn open_with(
        path: impl AsRef<Path>,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let path = path.as_ref();
        let pool = options.pool();
        let file = if options.copy {
            ModelFile::load(path, &|path: &Path| read_into(path, &pool, &options.cancel))?
        } else {
            ModelFile::open(path)?
        };
        Self::place(&file, pool, options, progress)
    }

    /// Opens a GGUF file that is in memory. `name` is what errors call it.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_bytes(
        name: impl Into<String>,
        bytes: impl Into<Bytes>,
        options: &ModelOptions,
    ) -> Result<Self> {
        Self::from_file(&ModelFile::parse(name, bytes.into())?, options, |_, _| ())
    }

    /// Opens a model whose files are in memory, with its tokenizer and chat template: for programs that carry a model with them or
    /// have it from elsewhere, also where there is no file system.
    ///
    /// ```no_run
    /// use bitnet::file::ModelFiles;
    /// use bitnet::{Model, ModelOptions};
    ///
    /// # fn fetch(name: &str) -> Vec<u8> { Vec::new() }
    /// # fn main() -> bitnet::Result<()> {
    /// let files = ModelFiles::new("my model")
    ///     .with("model.safetensors", fetch("model.safetensors"))
    ///     .with("config.json", fetch("config.json"))
    ///     .with("tokenizer.json", fetch("tokenizer.json"))
    ///     .with("chat_template.jinja", "{{ messages[0].content }}");
    /// let model = Model::from_files(files, &ModelOptions::default(), |_, _| ())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_files(
        files: ModelFiles,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        Self::from_file(&ModelFile::from_files(files)?, options, progress)
    }

    /// The small model that ships with this library: it tells stories, answers questions about them and adds
    /// two-digit numbers.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    #[cfg(feature = "demo")]
    pub fn demo() -> Result<Self> {
        Self::demo_with(&ModelOptions::default())
    }

    /// The demo model, with options.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    #[cfg(feature = "demo")]
    pub fn demo_with(options: &ModelOptions) -> Result<Self> {
        Self::from_bytes("demo model", Bytes::from_static(bitnet_demo::GGUF), options)
    }

    /// Loads an opened file on a backend of the caller's own: the options that choose one are not looked at, nor is
    /// [`ModelOptions::memory_limit`], as the backend has brought its memory along.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_file_on<B: Backend>(
        file: &ModelFile,
        backend: B,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let checkpoint = match file {
            ModelFile::Gguf(file) => return Self::from_gguf_on(file, backend, options, progress),
            ModelFile::SafeTensors(checkpoint) => checkpoint,
        };
        let architecture = Architecture::from_config(checkpoint)?;
        let mut source = huggingface::CheckpointSource::new(checkpoint, &architecture)?;
        let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
        let templates = ChatTemplates::from_file(file, &tokenizer);
        Self::assemble(
            &mut source,
            architecture,
            backend,
            (tokenizer, templates),
            options,
            progress,
        )
    }

    /// As [`from_file_on`](Self::from_file_on), from a GGUF file.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_gguf_on<B: Backend>(
        file: &Gguf,
        backend: B,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let architecture = Architecture::from_gguf(file)?;
        let tokenizer = Tokenizer::from_gguf(file, options.nfc)?;
        let templates = ChatTemplates::from_gguf(file, &tokenizer);
        Self::assemble(
            &mut gguf::GgufSource::new(file, options.i2s_layout),
            architecture,
            backend,
            (tokenizer, templates),
            options,
            progress,
        )
    }

    fn assemble<B: Backend>(
        source: &mut dyn Source,
        architecture: Architecture,
        backend: B,
        (tokenizer, mut templates): (Tokenizer, ChatTemplates),
        options: &ModelOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        if let Some(choice) = &options.chat_template {
            templates = templates.with_choice(choice, &tokenizer)?;
        }
        if let Some(seconds) = options.unix_time {
            templates = templates.with_time(seconds, options.utc_offset);
        }
        let capacity = options
            .context
            .unwrap_or_else(|| architecture.default_context());
        if capacity == 0 || capacity > u32::MAX as usize {
            return Err(Error::Argument {
                what: "context",
                expected: format!("1 to {} positions", u32::MAX),
                found: capacity.to_string(),
            });
        }
        if let Some(longest) = architecture.longest_session()
            && capacity > longest
        {
            return Err(Error::Unsupported {
                file: source.file().into(),
                what: format!("a context of {capacity} with dynamic rotary scaling"),
                advice: format!("ask for at most {longest}, up to which nothing is scaled"),
            });
        }
        if capacity > architecture.context {
            let trained = architecture.context;
            tracing::warn!(
                "a context of {capacity} is more than the {trained} the model was trained for"
            );
        }
        // Before anything is loaded.
        let kv = KvType::choose(options.kv, backend.kv_types(), &backend.describe())?;
        let name = source.file().to_owned();
        let (transformer, summary): (Transformer<B>, _) = weights::load(
            source,
            architecture,
            backend,
            (options.activations, options.head),
            &options.cancel,
            &mut progress,
        )?;
        if tokenizer.vocab_size() > summary.vocabulary {
            // Harmless for texts without these tokens: no answer can hold one, and a prompt that does is refused.
            tracing::warn!(
                "{name}: the tokenizer has {} tokens and {} only {} rows; the tokens beyond them cannot be used",
                tokenizer.vocab_size(),
                source.tensor_name("token_embd"),
                summary.vocabulary,
            );
        }
        transformer.warm_up(capacity, &options.cancel, &mut progress)?;
        Ok(Self(Arc::new(Inner {
            embed_capacity: options.context.unwrap_or(transformer.architecture.context),
            architecture: transformer.architecture.clone(),
            run: Arc::new(transformer),
            name,
            summary,
            tokenizer,
            templates,
            capacity,
            kv,
            fingerprint: OnceLock::new(),
        })))
    }

    /// Starts a session: an empty context of its own over the shared weights.
    ///
    /// # Errors
    /// If memory is short, or the model embeds texts and does not generate any.
    pub fn session(&self) -> Result<Session> {
        self.check_generates()?;
        let state = self.start(self.0.capacity)?;
        Ok(Session::new(self.clone(), state))
    }

    /// Whether the model was made to [embed](Self::embed) texts alone: its projections norm their inputs, and its head was
    /// never trained.
    pub fn embeds_only(&self) -> bool {
        self.0.summary.input_norms
    }

    /// The most tokens of a text that is embedded.
    pub(crate) fn embed_capacity(&self) -> usize {
        self.0.embed_capacity
    }

    /// Refuses a model that [embeds only](Self::embeds_only).
    pub(crate) fn check_generates(&self) -> Result<()> {
        if !self.embeds_only() {
            return Ok(());
        }
        Err(Error::Unsupported {
            file: self.name().into(),
            what: "text from a model that embeds texts".into(),
            advice: "embed texts with it (`bitnet embed`, `Model::embed`), or use a model that generates".into(),
        })
    }

    /// An empty sequence of up to `capacity` positions.
    pub(crate) fn start(&self, capacity: usize) -> Result<Box<dyn DynSequence>> {
        Arc::clone(&self.0.run).start(capacity, self.0.kv)
    }

    /// The weights on their backend.
    pub(crate) fn run(&self) -> &dyn DynModel {
        &*self.0.run
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its shape.
    pub fn architecture(&self) -> &Architecture {
        &self.0.architecture
    }

    /// Refuses tokens for which the embedding has no row.
    ///
    /// # Errors
    /// [`Error::Argument`] for the first of them.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.vocabulary();
        let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) else {
            return Ok(());
        };
        let text = self.tokenizer().token_text(*token);
        Err(Error::Argument {
            what: "token",
            expected: format!("below {vocabulary}, the rows of the model's embedding"),
            found: match text {
                Some(text) => {
                    format!("{token} ({text:?}, which the tokenizer has and the model does not)")
                }
                None => token.to_string(),
            },
        })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// How conversations are written: [`ModelOptions::chat_template`] if given, else as the model's file says, if it does.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.templates.default_template()
    }

    /// All templates that it carries, by name.
    pub fn chat_templates(&self) -> &ChatTemplates {
        &self.0.templates
    }

    /// SHA-256 of the bits of the logits after a few tokens spread over the vocabulary, and of how positions are scaled, if
    /// they are: the same on every CPU whatever [`ModelOptions::kv`] says, and another one
    /// for other weights, shapes or [`Activations`]. Computed when it is first asked for, which runs these tokens.
    ///
    /// # Errors
    /// If memory is short.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        /// Tokens that are run.
        const PROBE: usize = 8;
        if let Some(known) = self.0.fingerprint.get() {
            return Ok(*known);
        }
        let vocabulary = self.vocabulary();
        let tokens: Vec<u32> = (0..PROBE)
            .map(|i| (vocabulary * i / PROBE) as u32)
            .collect();
        // Sessions are exchanged between models that keep keys and values in different types.
        let types = self.0.run.kv_types();
        let kv = if types.contains(&KvType::F32) {
            KvType::F32
        } else {
            self.0.kv
        };
        let mut state = Arc::clone(&self.0.run).start(PROBE, kv)?;
        let logits = state
            .forward(Input::Tokens(&tokens), LogitsFor::Last.of(tokens.len()))?
            .now()?
            .into_logits();
        let mut hash = Sha256::new();
        for logit in logits {
            hash.update(logit.to_le_bytes());
        }
        // The first positions may not show how later ones are scaled.
        let rope = &self.0.architecture.rope;
        if rope.magnitude != 1.0 || !rope.divisors.is_empty() {
            for number in std::iter::once(&rope.magnitude).chain(&rope.divisors) {
                hash.update(number.to_le_bytes());
            }
        }
        Ok(*self.0.fingerprint.get_or_init(|| hash.finalize().into()))
    }

    /// The type in which its sessions keep keys and values.
    pub fn kv_type(&self) -> KvType {
        self.0.kv
    }

    /// Tokens of a prompt that run together, and that it is cancelled between. Results do not depend on them; memory and speed do.
    pub(crate) fn prompt_batch(&self) -> usize {
        self.0.run.prompt_batch()
    }

    /// Positions a session can hold.
    pub fn context(&self) -> usize {
        self.0.capacity
    }

    /// Logits of one position: rows of the embedding.
    pub fn vocabulary(&self) -> usize {
        self.0.summary.vocabulary
    }

    /// Weights in all its matrices.
    pub fn parameters(&self) -> u64 {
        self.0.summary.parameters
    }

    /// Bytes of its matrices, in the file or in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.0.summary.bytes
    }

    /// Bytes of them that decoding a token reads, or of what is read in their place (a screened head's copy). Keys and
    /// values are not counted, nor the few rows of a screened head that are read in full.
    pub fn decode_bytes(&self) -> u64 {
        self.0.summary.decode_bytes
    }

    /// What screening the head saved in all its sessions; `None` if it is not screened.
    pub fn head_stats(&self) -> Option<LmHeadStats> {
        self.0.run.head_stats()
    }

    /// The host memory of its sessions: what their activations, scratch, keys and values come from.
    pub fn pool_stats(&self) -> PoolStats {
        self.0.run.pool().stats()
    }

    /// How much of its data was used where it lies since the model was opened, and how much was converted or copied.
    pub fn zero_copy_stats(&self) -> ZeroCopyStats {
        self.0.run.pool().zero_copy().stats()
    }

    /// The backend it really runs on, in one line.
    pub fn device(&self) -> String {
        self.0.run.describe()
    }
}
