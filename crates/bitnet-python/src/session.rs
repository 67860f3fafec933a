//! Sessions: one context, which goes on.

use crate::error::exception;
use crate::process::{Owned, interruptible};
use bitnet::{Cancel, ChatMessage, GenerateOptions, Generation, Prompt, SamplingOptions};
use pyo3::prelude::*;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A session, but for the time in which a text is written in it.
type Place = Mutex<Option<bitnet::Session>>;

/// A context of its own over a model.
#[pyclass(frozen, module = "bitnet_rust._native")]
pub(crate) struct Session(Owned<Place>);

impl Session {
    pub(crate) fn new(session: bitnet::Session) -> Self {
        Self(Owned::new(Mutex::new(Some(session))))
    }

    /// The session that a file holds.
    pub(crate) fn read(model: &bitnet::Model, path: &Path) -> bitnet::Result<Self> {
        let file = File::open(path).map_err(|error| bitnet::Error::io(path, error))?;
        let name = path.display().to_string();
        bitnet::Session::restore(model, &name, BufReader::new(file)).map(Self::new)
    }

    /// Calls `work` with the session, without the interpreter's lock: one who has that must not wait for this one.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut bitnet::Session) -> bitnet::Result<T> + Send,
    ) -> PyResult<T> {
        let session = self.0.get()?;
        py.detach(|| locked(session, work)).map_err(exception)
    }
}

/// Calls `work` with a session in which no text is written.
fn locked<T>(
    session: &Place,
    work: impl FnOnce(&mut bitnet::Session) -> bitnet::Result<T>,
) -> bitnet::Result<T> {
    let mut session = lock(session);
    work(session.as_mut().ok_or_else(busy)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn busy() -> bitnet::Error {
    bitnet::Error::Argument {
        what: "session",
        expected: "one that writes no text: read its stream to the end, or close it".into(),
        found: "one that writes a text".into(),
    }
}

/// The beginning of a text.
#[derive(FromPyObject)]
enum Beginning {
    Text(String),
    Tokens(Vec<u32>),
    Chat(Vec<(String, String)>),
}

impl From<Beginning> for Prompt {
    fn from(beginning: Beginning) -> Self {
        match beginning {
            Beginning::Text(text) => Self::Text(text),
            Beginning::Tokens(tokens) => Self::Tokens(tokens),
            Beginning::Chat(messages) => {
                let messages = messages.into_iter();
                Self::Chat(
                    messages
                        .map(|(role, content)| ChatMessage::new(role, content))
                        .collect(),
                )
            }
        }
    }
}

#[pymethods]
impl Session {
    /// The tokens so far.
    #[getter]
    fn tokens(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        self.with(py, |session| Ok(session.tokens().to_vec()))
    }

    /// Bytes of keys and values.
    #[getter]
    fn cache_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |session| Ok(session.cache_bytes()))
    }

    /// Forgets the tokens from a place on.
    fn truncate(&self, py: Python<'_>, length: usize) -> PyResult<()> {
        self.with(py, |session| {
            session.truncate(length);
            Ok(())
        })
    }

    /// Another session that begins with the same tokens.
    fn fork(&self, py: Python<'_>) -> PyResult<Self> {
        self.with(py, |session| session.fork()).map(Self::new)
    }

    /// Writes it to a file.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let name = path.display().to_string();
        let session = self.0.get()?;
        let saved = interruptible(py, &Cancel::default(), || {
            locked(session, |session| {
                let file = File::create(&path).map_err(|error| bitnet::Error::io(&path, error))?;
                session.save(&name, BufWriter::new(file))
            })
        })?;
        saved.map_err(exception)
    }

    /// The text that follows a text, tokens, or the messages of a conversation, piece by piece.
    #[pyo3(signature = (prompt, *, max_tokens = 128, temperature = None, top_p = None, top_k = None, min_p = None, repetition_penalty = None, seed = 0, stop = Vec::new(), ignore_eos = false))]
    #[expect(clippy::too_many_arguments, reason = "each has a name in Python")]
    fn stream(
        slf: Bound<'_, Self>,
        prompt: Beginning,
        max_tokens: usize,
        temperature: Option<f32>,
        top_p: Option<f32>,
        top_k: Option<usize>,
        min_p: Option<f32>,
        repetition_penalty: Option<f32>,
        seed: u64,
        stop: Vec<String>,
        ignore_eos: bool,
    ) -> PyResult<SessionStream> {
        let usual = SamplingOptions::default();
        let options = GenerateOptions {
            max_tokens,
            sampling: SamplingOptions {
                temperature: temperature.unwrap_or(usual.temperature),
                top_p: top_p.unwrap_or(usual.top_p),
                top_k: top_k.unwrap_or(usual.top_k),
                min_p: min_p.unwrap_or(usual.min_p),
                repetition_penalty: repetition_penalty.unwrap_or(usual.repetition_penalty),
                seed,
                ..usual
            },
            stop,
            stop_at_end: !ignore_eos,
            ..GenerateOptions::default()
        };
        let py = slf.py();
        let place = slf.get().0.get()?;
        let begun = py.detach(|| {
            let mut place = lock(place);
            let session = place.take().ok_or_else(busy)?;
            let begun = session.into_generation(Prompt::from(prompt), &options, None);
            begun.map_err(|refused| {
                let (session, error) = *refused;
                *place = Some(session);
                error
            })
        });
        Ok(SessionStream {
            generation: Owned::new(Mutex::new(Some(begun.map_err(exception)?))),
            session: slf.unbind(),
            cancel: options.cancel,
        })
    }
}

/// A text that is written in a session. The session can be used again when it has ended.
#[pyclass(frozen, module = "bitnet_rust._native")]
pub(crate) struct SessionStream {
    generation: Owned<Mutex<Option<Generation>>>,
    session: Py<Session>,
    cancel: Cancel,
}

impl SessionStream {
    /// The next piece; at the end, the session can be used again.
    fn advance(
        &self,
        place: &Place,
        own: &Mutex<Option<Generation>>,
    ) -> bitnet::Result<Option<String>> {
        let mut generation = lock(own);
        match generation.as_mut().and_then(Iterator::next) {
            Some(Ok(piece)) => Ok(Some(piece)),
            end => {
                give_back(place, &mut generation);
                end.transpose()
            }
        }
    }
}

/// Gives the session back in which a text was written.
fn give_back(place: &Place, generation: &mut Option<Generation>) {
    if let Some(generation) = generation.take() {
        *lock(place) = Some(generation.into_session());
    }
}

#[pymethods]
impl SessionStream {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let (place, own) = (self.session.get().0.get()?, self.generation.get()?);
        let next = interruptible(py, &self.cancel, || self.advance(place, own));
        if next.is_err() {
            // Ctrl-C: the session has the text so far.
            self.close(py)?;
        }
        next?.map_err(exception)
    }

    /// Ends the text; the session has what there is of it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (place, own) = (self.session.get().0.get()?, self.generation.get()?);
        py.detach(|| give_back(place, &mut lock(own)));
        Ok(())
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        // In a forked child, or when the interpreter ends, nobody wants it back.
        let _ = Python::try_attach(|py| self.close(py));
    }
}
