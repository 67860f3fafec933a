//! An HTTP server for ternary language models: many users at once, in the interfaces of OpenAI, Anthropic and Ollama.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bitnet_server::{ModelSource, Server, ServerOptions};
//! use std::sync::Arc;
//!
//! let model = ModelSource {
//!     name: "2b4t".into(),
//!     open: Arc::new(|| bitnet::Model::open("ggml-model-i2_s.gguf")),
//! };
//! let server = Server::new(vec![model], ServerOptions::default())?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! server.run(listener, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! All texts of a model run in one [`Engine`](bitnet::Engine), and none depends on the others: a request with a seed gets the same
//! bytes whoever else is served. A request without a seed is told the one that it got.
//!
//! A field that the server does not know is an error that names it, never ignored.
//!
//! | module | content |
//! |---|---|
//! | `openai` | `/v1/chat/completions`, `/v1/completions`, `/v1/responses`, `/v1/embeddings`, `/v1/models` |
//! | `anthropic` | `/v1/messages`, `/v1/messages/count_tokens` |
//! | `ollama` | `/api/chat`, `/api/generate`, `/api/embed`, `/api/tags`, `/api/show`, `/api/ps`, `/api/version` |
//! | `tools` | `/tokenize`, `/detokenize`, `/apply-template` |
//! | `status`, `metrics` | `/health`, `/ready`, `/metrics` |
//! | `local` | the same for the program itself, without a network |
//! | `models` | models by name, opened when they are asked for |
//! | `answers`, `blocks`, `message`, `embed` | questions and answers as all interfaces have them |
//! | `generation`, `events` | the texts of a request, and the way of their pieces to a client |
//! | `prompt`, `sampling`, `body` | what requests say, in tokens and options |
//! | `error`, `dialect` | errors, and how each interface tells them |

mod answers;
mod anthropic;
mod blocks;
mod body;
mod dialect;
mod embed;
mod error;
mod events;
mod generation;
mod local;
mod message;
mod metrics;
mod models;
mod ollama;
mod openai;
mod options;
mod prompt;
mod router;
mod sampling;
mod state;
mod status;
mod tokens;
mod tools;

pub use local::{Answer, Local};
pub use models::{ModelLimits, ModelSource, Opener};
pub use options::ServerOptions;

use state::App;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// How often idle models are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// A server that does not listen yet.
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server of the models of `sources`, of which the first one answers requests that name none. Nothing is opened yet.
    ///
    /// # Errors
    /// If there is no model, two have one name, or a key is empty.
    pub fn new(sources: Vec<ModelSource>, options: ServerOptions) -> bitnet::Result<Self> {
        if options.keys.iter().any(|key| key.trim().is_empty()) {
            return Err(bitnet::Error::Argument {
                what: "API key",
                expected: "at least one character".into(),
                found: "none".into(),
            });
        }
        let metrics = metrics::Metrics::new().map_err(|error| bitnet::Error::Argument {
            what: "metrics",
            expected: "names that differ".into(),
            found: error.to_string(),
        })?;
        let metrics = Arc::new(metrics);
        let models = models::Models::new(
            sources,
            options.engine.clone(),
            options.models,
            Arc::clone(&metrics),
        )?;
        let app = Arc::new(App {
            models,
            metrics,
            options,
            draining: AtomicBool::new(false),
        });
        Ok(Self { app })
    }

    /// Opens the first model, so that the first request need not wait for it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn warm_up(&self) -> Result<(), String> {
        let opened = self.app.models.get(None).await;
        opened.map(|_| ()).map_err(|error| error.message().into())
    }

    /// The server for the program itself, without a network: nothing listens. Its models stay open while it is there.
    pub fn local(&self) -> Local {
        Local::new(&self.app)
    }

    /// Answers requests until `stop` is done; then takes no more, and finishes the texts that are being written, as far as the
    /// options let them.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let app = self.app;
        let sweep = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                loop {
                    tokio::time::sleep(LOOK).await;
                    app.models.close_idle().await;
                }
            }
        });
        let (told, telling) = tokio::sync::oneshot::channel();
        let stopping = {
            let app = Arc::clone(&app);
            async move {
                stop.await;
                app.draining.store(true, Ordering::Relaxed);
                // Nobody listens if the server has failed.
                let _ = told.send(());
            }
        };
        let router = router::router(&app);
        let serving = axum::serve(listener, router)
            .with_graceful_shutdown(stopping)
            .into_future();
        tokio::pin!(serving);
        let outcome = tokio::select! {
            outcome = &mut serving => outcome,
            _ = telling => {
                match tokio::time::timeout(app.options.drain, &mut serving).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        tracing::warn!("texts were cut off: they took longer than the time to drain");
                        Ok(())
                    }
                }
            }
        };
        sweep.abort();
        outcome
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models: Vec<_> = self.app.models.names().collect();
        f.debug_struct("Server").field("models", &models).finish()
    }
}
