//! Models.

use crate::error::{argument, exception};
use crate::log;
use crate::process::{Owned, check, interruptible};
use crate::session::Session;
use crate::tokenizer::Tokenizer;
use bitnet::hub::{self, HubOptions};
use bitnet::{Cancel, Device, EmbedOptions, KvType, LogitsFor, ModelOptions, Pooling};
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use std::path::PathBuf;

/// Tokens that run between two looks at whether to go on.
const BATCH: usize = 128;

/// A model ready to run.
#[pyclass(frozen, module = "bitnet_rust._native")]
pub(crate) struct Model(Owned<bitnet::Model>);

/// The path of a model by a path or a name, downloaded if need be.
pub(crate) fn resolve(source: PathBuf, cancel: &Cancel) -> bitnet::Result<PathBuf> {
    // Addresses and short names are text; what is not can only be a path.
    let Some(name) = source.to_str() else {
        return Ok(source);
    };
    let mut options = HubOptions::from_env();
    options.cancel = cancel.clone();
    hub::resolve(name, &options, &())
}

impl Model {
    pub(crate) fn inner(&self) -> PyResult<&bitnet::Model> {
        self.0.get()
    }
}

#[pymethods]
impl Model {
    /// Opens a model by its path or name, or without one the demo model.
    #[new]
    #[pyo3(signature = (source = None, *, device = "auto", threads = None, context = None, kv = None, memory_limit = None, copy = false))]
    #[expect(clippy::too_many_arguments, reason = "each has a name in Python")]
    fn open(
        py: Python<'_>,
        source: Option<PathBuf>,
        device: &str,
        threads: Option<usize>,
        context: Option<usize>,
        kv: Option<&str>,
        memory_limit: Option<usize>,
        copy: bool,
    ) -> PyResult<Self> {
        check()?;
        log::begin();
        let backend = |error| exception(bitnet::Error::Backend(error));
        let device = match device {
            "auto" => None,
            name => Some(name.parse::<Device>().map_err(backend)?),
        };
        if let Some(threads) = threads
            && !(1..=4096).contains(&threads)
        {
            return Err(argument("threads", "1 to 4096", threads.to_string()));
        }
        let options = ModelOptions {
            device,
            threads,
            context,
            kv: kv.map(str::parse::<KvType>).transpose().map_err(backend)?,
            memory_limit,
            copy,
            ..ModelOptions::default()
        };
        let cancel = options.cancel.clone();
        let opened = interruptible(py, &cancel, || match source {
            None => bitnet::Model::demo_with(&options),
            Some(source) => {
                let path = resolve(source, &options.cancel)?;
                bitnet::Model::open_with(path, &options, |_, _| ())
            }
        })?;
        opened
            .map(|model| Self(Owned::new(model)))
            .map_err(exception)
    }

    /// The file's name.
    #[getter]
    fn name(&self) -> PyResult<&str> {
        Ok(self.inner()?.name())
    }

    /// The backend it runs on, in one line.
    #[getter]
    fn device(&self) -> PyResult<String> {
        Ok(self.inner()?.device())
    }

    /// Positions that a text can have.
    #[getter]
    fn context(&self) -> PyResult<usize> {
        Ok(self.inner()?.context())
    }

    /// Logits of a position.
    #[getter]
    fn vocabulary(&self) -> PyResult<usize> {
        Ok(self.inner()?.vocabulary())
    }

    /// Numbers of a vector that `embed` makes.
    #[getter]
    fn dimensions(&self) -> PyResult<usize> {
        Ok(self.inner()?.architecture().hidden)
    }

    /// Weights in all its matrices.
    #[getter]
    fn parameters(&self) -> PyResult<u64> {
        Ok(self.inner()?.parameters())
    }

    /// Bytes of its matrices.
    #[getter]
    fn weight_bytes(&self) -> PyResult<u64> {
        Ok(self.inner()?.weight_bytes())
    }

    /// Whether it was made to embed texts alone.
    #[getter]
    fn embeds_only(&self) -> PyResult<bool> {
        Ok(self.inner()?.embeds_only())
    }

    /// Its tokenizer.
    #[getter]
    fn tokenizer(&self) -> PyResult<Tokenizer> {
        Ok(Tokenizer(self.inner()?.tokenizer().clone()))
    }

    /// SHA-256 of what it computes, whatever its file is called.
    fn fingerprint(&self, py: Python<'_>) -> PyResult<[u8; 32]> {
        let model = self.inner()?;
        interruptible(py, &Cancel::default(), || model.fingerprint())?.map_err(exception)
    }

    /// The vectors of some texts, `[texts, dimensions]`, and how many texts were longer than the context and cut to it.
    #[pyo3(signature = (texts, *, pooling = None, normalize = true, dimensions = None, instruction = None))]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        pooling: Option<&str>,
        normalize: bool,
        dimensions: Option<usize>,
        instruction: Option<String>,
    ) -> PyResult<(Bound<'py, PyArray2<f32>>, usize)> {
        let model = self.inner()?;
        let pooling = match pooling {
            None => None,
            Some("mean") => Some(Pooling::Mean),
            Some("first") => Some(Pooling::First),
            Some("last") => Some(Pooling::Last),
            Some(other) => {
                return Err(argument(
                    "pooling",
                    "mean, first or last",
                    format!("{other:?}"),
                ));
            }
        };
        let options = EmbedOptions {
            pooling,
            normalize,
            dimensions,
            instruction,
            ..EmbedOptions::default()
        };
        let width = dimensions.unwrap_or(model.architecture().hidden);
        let count = texts.len();
        let made = interruptible(py, &options.cancel.clone(), || {
            let embeddings = model.embed(&texts, &options)?;
            Ok((embeddings.rows.concat(), embeddings.truncated))
        })?;
        let (rows, truncated) = made.map_err(exception)?;
        let rows = PyArray1::from_vec(py, rows).reshape([count, width])?;
        Ok((rows, truncated))
    }

    /// Logits behind each of the tokens, `[tokens, vocabulary]`, or behind the last one alone.
    #[pyo3(signature = (tokens, *, last = false))]
    fn logits<'py>(
        &self,
        py: Python<'py>,
        tokens: Vec<u32>,
        last: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let model = self.inner()?;
        let cancel = Cancel::default();
        let found = interruptible(py, &cancel, || {
            let mut session = model.session()?;
            let mut all = Vec::new();
            let batches = tokens.len().div_ceil(BATCH);
            for (index, batch) in tokens.chunks(BATCH).enumerate() {
                cancel.check()?;
                let wanted = match last {
                    false => LogitsFor::All,
                    true if index + 1 == batches => LogitsFor::Last,
                    true => LogitsFor::Nothing,
                };
                all.append(&mut session.forward(batch, wanted)?);
            }
            Ok(all)
        })?;
        let logits = found.map_err(exception)?;
        let rows = logits.len() / model.vocabulary();
        PyArray1::from_vec(py, logits).reshape([rows, model.vocabulary()])
    }

    /// Logarithms of the probabilities of the tokens from place `first` on, each by those before it, and whether each was the
    /// likeliest.
    #[pyo3(signature = (tokens, first = 1))]
    fn likelihoods<'py>(
        &self,
        py: Python<'py>,
        tokens: Vec<u32>,
        first: usize,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<bool>>)> {
        let model = self.inner()?;
        let cancel = Cancel::default();
        let found = interruptible(py, &cancel, || {
            bitnet::likelihoods(model, &tokens, first, &cancel)
        })?;
        let found = found.map_err(exception)?;
        let logprobs = found.iter().map(|token| token.logprob);
        let likeliest = found.iter().map(|token| token.is_likeliest);
        Ok((
            PyArray1::from_iter(py, logprobs),
            PyArray1::from_iter(py, likeliest),
        ))
    }

    /// An empty context.
    fn session(&self) -> PyResult<Session> {
        self.inner()?.session().map(Session::new).map_err(exception)
    }

    /// A context that goes on where one was saved.
    fn restore(&self, py: Python<'_>, path: PathBuf) -> PyResult<Session> {
        let model = self.inner()?;
        let restored = interruptible(py, &Cancel::default(), || Session::read(model, &path))?;
        restored.map_err(exception)
    }
}
