//! A model ready to run: weights on a backend, tokenizer, chat template.

mod architecture;
pub(crate) mod gguf;
pub(crate) mod huggingface;
mod transformer;
mod weights;

pub use architecture::Architecture;
pub(crate) use transformer::State;
pub use transformer::Want;

use crate::chat::ChatTemplate;
use crate::file::{Bytes, Gguf, ModelFile, SafeTensorsModel};
use crate::session::Session;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use bitnet_core::cpu::{CpuBackend, Isa};
use bitnet_core::{Activations, Device};
use bitnet_quant::I2sLayout;
use std::path::Path;
use std::sync::Arc;
use transformer::{Run, Transformer};
use weights::{Source, Summary};

/// Positions a session holds unless asked otherwise: what the model was trained for, but at most this many.
const DEFAULT_CONTEXT: usize = 4096;

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct ModelOptions {
    /// Where it runs.
    pub device: Device,
    /// Threads; all cores if `None`.
    pub threads: Option<usize>,
    /// Kernel set; if `None`, what `BITNET_ISA` says, else the best there is.
    pub isa: Option<Isa>,
    /// Whether activations are rounded to int8 (as ternary models are trained) or stay f32.
    pub activations: Activations,
    /// Byte order of I2_S tensors, which a file does not tell.
    pub i2s_layout: I2sLayout,
    /// Positions a session can hold; if `None`, the model's own context, at most 4096.
    pub context: Option<usize>,
}

/// A model ready to run. Cheap to clone; clones share the weights.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    run: Arc<dyn Run>,
    name: String,
    architecture: Architecture,
    summary: Summary,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    capacity: usize,
}

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
    /// # Errors
    /// If the file cannot be read, breaks its format, or is no model this runtime runs.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ModelOptions::default(), |_, _| ())
    }

    /// Opens a model with options. `progress` is told the layers loaded and their number.
    ///
    /// # Errors
    /// As [`open`](Self::open); also if the machine lacks what the options ask for.
    pub fn open_with(
        path: impl AsRef<Path>,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        Self::from_file(&ModelFile::open(path.as_ref())?, options, progress)
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

    /// Loads an opened file.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_file(
        file: &ModelFile,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        match file {
            ModelFile::Gguf(file) => Self::from_gguf(file, options, progress),
            ModelFile::SafeTensors(file) => Self::from_checkpoint(file, options, progress),
        }
    }

    fn from_gguf(
        file: &Gguf,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let architecture = Architecture::from_gguf(file)?;
        let tokenizer = gguf::tokenizer(file)?;
        let embedded = file.string("tokenizer.chat_template")?;
        let template = ChatTemplate::for_model(embedded, &architecture.name, &tokenizer)?;
        let mut source = gguf::GgufSource::new(file, options.i2s_layout);
        Self::assemble(
            &mut source,
            architecture,
            tokenizer,
            template,
            options,
            progress,
        )
    }

    fn from_checkpoint(
        file: &SafeTensorsModel,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let architecture = Architecture::from_config(file)?;
        let (tokenizer, embedded) = huggingface::tokenizer(file)?;
        let template =
            ChatTemplate::for_model(embedded.as_deref(), &architecture.name, &tokenizer)?;
        let mut source = huggingface::CheckpointSource::new(file)?;
        Self::assemble(
            &mut source,
            architecture,
            tokenizer,
            template,
            options,
            progress,
        )
    }

    fn assemble(
        source: &mut dyn Source,
        architecture: Architecture,
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        options: &ModelOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let capacity = options
            .context
            .unwrap_or(architecture.context.min(DEFAULT_CONTEXT));
        if capacity == 0 || capacity > u32::MAX as usize {
            return Err(Error::Argument {
                what: "context",
                expected: format!("1 to {} positions", u32::MAX),
                found: capacity.to_string(),
            });
        }
        if capacity > architecture.context {
            let trained = architecture.context;
            tracing::warn!(
                "a context of {capacity} is more than the {trained} the model was trained for"
            );
        }
        let name = source.file().to_owned();
        let Device::Cpu = options.device;
        let backend = CpuBackend::new(options.threads, options.isa)?;
        let (transformer, summary): (Transformer<CpuBackend>, _) = weights::load(
            source,
            architecture,
            backend,
            options.activations,
            &mut progress,
        )?;
        if tokenizer.vocab_size() > summary.vocabulary {
            return Err(Error::tensor(
                name,
                source.tensor_name("token_embd"),
                format_args!("a row for each of the {} tokens", tokenizer.vocab_size()),
                format_args!("{} rows", summary.vocabulary),
            ));
        }
        Ok(Self(Arc::new(Inner {
            architecture: transformer.architecture.clone(),
            run: Arc::new(transformer),
            name,
            summary,
            tokenizer,
            template,
            capacity,
        })))
    }

    /// Starts a session: an empty context of its own over the shared weights.
    ///
    /// # Errors
    /// If memory is short.
    pub fn session(&self) -> Result<Session> {
        let state = Arc::clone(&self.0.run).start(self.0.capacity)?;
        Ok(Session::new(self.clone(), state))
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its shape.
    pub fn architecture(&self) -> &Architecture {
        &self.0.architecture
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// How it wants conversations written, if it was made for any.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.template.as_ref()
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

    /// The backend it really runs on, in one line.
    pub fn device(&self) -> String {
        self.0.run.describe()
    }
}
