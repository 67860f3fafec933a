//! Many texts at once: the server of `bitnet-server` without a network. Requests are JSON as OpenAI's clients write it, so that
//! options are read and answers are written in one place, whoever asks.

use crate::error::{exception, named};
use crate::model::Model;
use crate::process::{LOOK, Owned, interruptible};
use bitnet::{Cancel, EngineOptions};
use bitnet_server::{Local, ModelSource, Server, ServerOptions};
use pyo3::prelude::*;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::AbortHandle;

/// Texts of an answer that may wait for a slow reader.
const WAITING: usize = 16;
/// Threads that carry requests and answers; the engine computes on its own.
const CARRIERS: usize = 2;

/// The server and what it runs on.
struct Inner {
    local: Local,
    /// There until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last reply may be dropped by one of its own threads, which cannot wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs the requests of many callers together.
#[pyclass(frozen, module = "bitnet_rust._native")]
pub(crate) struct Engine(Arc<Owned<Inner>>);

#[pymethods]
impl Engine {
    /// Starts an engine.
    #[new]
    #[pyo3(signature = (model, *, max_running = 32, max_waiting = 4096, kv_bytes = 2 << 30, prefix_cache = true))]
    fn new(
        py: Python<'_>,
        model: &Model,
        max_running: usize,
        max_waiting: usize,
        kv_bytes: usize,
        prefix_cache: bool,
    ) -> PyResult<Self> {
        let model = model.inner()?.clone();
        model.session().map_err(exception)?;
        let options = ServerOptions {
            engine: EngineOptions {
                max_running,
                max_waiting,
                kv_bytes,
                prefix_cache,
                ..EngineOptions::default()
            },
            // Callers can wait, and have what they ask for in memory already.
            time_limit: None,
            max_body_bytes: usize::MAX,
            ..ServerOptions::default()
        };
        let source = ModelSource {
            name: model.name().to_owned(),
            open: Arc::new(move || Ok(model.clone())),
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(CARRIERS)
            .thread_name("bitnet-python")
            .enable_all()
            .build()?;
        let server = Server::new(vec![source], options).map_err(exception)?;
        interruptible(py, &Cancel::default(), || {
            runtime.block_on(server.warm_up())
        })?
        .map_err(|message| named("ArgumentError", message))?;
        let inner = Inner {
            local: server.local(),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        };
        Ok(Self(Arc::new(Owned::new(inner))))
    }

    /// Asks for `body`, JSON, at `path`, and does not wait for the answer. To drop the reply ends its texts.
    fn ask(&self, path: String, body: String) -> PyResult<Reply> {
        let inner = self.0.get()?;
        let local = inner.local.clone();
        let (sender, receiver) = channel(WAITING);
        let task = inner.handle.spawn(async move {
            let mut answer = local.post(&path, body).await;
            let status = answer.status();
            while let Some(text) = answer.next().await {
                if sender.send((status, text)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Reply {
            engine: Arc::clone(&self.0),
            texts: Owned::new(Arc::new(Mutex::new(receiver))),
            task: task.abort_handle(),
        })
    }

    /// Counts of the engine's work, by their names.
    fn gauges(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64)>> {
        let inner = self.0.get()?;
        let gauges = py.detach(|| inner.handle.block_on(inner.local.gauges()));
        let gauges = gauges.unwrap_or_default();
        let count = |value: usize| value as u64;
        Ok(vec![
            ("running", count(gauges.running)),
            ("waiting", count(gauges.waiting)),
            ("kv_running_bytes", count(gauges.kv_running_bytes)),
            ("kv_cached_bytes", count(gauges.kv_cached_bytes)),
            ("kv_budget_bytes", count(gauges.kv_budget_bytes)),
            ("steps", gauges.steps),
            ("finished", gauges.finished),
            ("generated_tokens", gauges.generated_tokens),
            ("prompt_tokens", gauges.prompt_tokens),
            ("cached_tokens", gauges.cached_tokens),
            ("preemptions", gauges.preemptions),
        ])
    }
}

/// An answer as it comes: texts in JSON, each with the status of HTTP.
#[pyclass(frozen, module = "bitnet_rust._native")]
pub(crate) struct Reply {
    engine: Arc<Owned<Inner>>,
    texts: Owned<Arc<Mutex<Receiver<(u16, String)>>>>,
    task: AbortHandle,
}

#[pymethods]
impl Reply {
    /// Waits for the next text; None when all have come.
    fn next(&self, py: Python<'_>) -> PyResult<Option<(u16, String)>> {
        let handle = &self.engine.get()?.handle;
        let texts = self.texts.get()?;
        loop {
            let next = py.detach(|| {
                handle.block_on(async {
                    let next = async { texts.lock().await.recv().await };
                    tokio::time::timeout(LOOK, next).await
                })
            });
            match next {
                Ok(next) => return Ok(next),
                Err(_) => py.check_signals()?,
            }
        }
    }

    /// Calls `callback` with the next text, or None when all have come, on a thread of the engine's.
    fn next_then(&self, callback: Py<PyAny>) -> PyResult<()> {
        let texts = Arc::clone(self.texts.get()?);
        self.engine.get()?.handle.spawn(async move {
            let next = texts.lock().await.recv().await;
            // An interpreter that ends waits for nothing.
            Python::try_attach(|py| {
                if let Err(error) = callback.call1(py, (next,)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        });
        Ok(())
    }

    /// Ends the texts.
    fn close(&self) -> PyResult<()> {
        self.engine.get()?;
        self.task.abort();
        Ok(())
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // In a forked child there is nothing to end.
        let _ = self.close();
    }
}
