//! `bitnet serve`: models for many users, over HTTP.

use super::sampling::SamplingArguments;
use crate::failure::Usage;
use crate::open::{HeadArgument, PlaceArguments, ThreadsArgument, resolve};
use crate::template::ChoiceArguments;
use crate::{number, printable};
use anyhow::Context;
use bitnet::{EngineOptions, Model};
use bitnet_server::{ModelLimits, ModelSource, Server, ServerOptions};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Threads that read requests and write answers. The models have threads of their own.
const HTTP_THREADS: usize = 2;

/// How long a server may take to say whether it is ready.
const CHECK: Duration = Duration::from_secs(5);

/// Arguments of `bitnet serve`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet serve                                the demo model at http://127.0.0.1:8080
  bitnet serve -m 2b4t --port 9000
  bitnet serve -m small=bitnet-125m.gguf -m large=2b4t --models-memory 4GiB --unload-after 600

  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'

  GET /health, /ready, /metrics (Prometheus)   POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings
  GET /v1/models, and / for a page to talk     POST /v1/messages (Anthropic), /api/chat, /api/generate, … (Ollama)
                                               POST /tokenize, /detokenize, /apply-template")]
pub(crate) struct Arguments {
    /// A path, an address, hf:owner/repo[/file] or a short name, after NAME= if clients are to call it so; may be given more than
    /// once; without it, the built-in demo model
    #[arg(short, long = "model", value_name = "[NAME=]MODEL")]
    models: Vec<OsString>,

    /// The address to listen at; any but this machine's own lets others in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The port to listen at; 0 for any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// A key that requests must have; may be given more than once. Others on this machine can see it: better a file
    #[arg(
        long,
        value_name = "KEY",
        env = "BITNET_API_KEY",
        hide_env_values = true
    )]
    api_key: Vec<String>,

    /// A file of keys, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Texts that run together
    #[arg(long, value_name = "TEXTS", default_value_t = 32, value_parser = number::within(1..=4096))]
    parallel: usize,

    /// Requests that wait; more are told to come again
    #[arg(long, value_name = "REQUESTS", default_value_t = 512, value_parser = number::within(1..=1 << 20))]
    queue: usize,

    /// Memory for keys and values of each model
    #[arg(long, value_name = "BYTES", default_value = "2GiB", value_parser = number::bytes)]
    kv_cache_bytes: usize,

    /// Memory for weights of all models together: the one that was used longest ago is closed when another needs it
    #[arg(long, value_name = "BYTES", value_parser = number::bytes)]
    models_memory: Option<usize>,

    /// Close models that nobody asked for so long
    #[arg(long, value_name = "SECONDS")]
    unload_after: Option<u64>,

    /// The longest time for a text, from its request on; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,

    /// How long texts may go on after the server was told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,

    /// The longest body of a request
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = number::bytes)]
    max_body: usize,

    /// Let pages of any origin ask (CORS)
    #[arg(long)]
    cors: bool,

    /// Serve nothing: ask the server at that host and port whether it is ready. Containers look after themselves so
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    place: PlaceArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    #[command(flatten)]
    head: HeadArgument,

    #[command(flatten)]
    sampling: SamplingArguments,

    #[command(flatten)]
    template: ChoiceArguments,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.check {
            return check(SocketAddr::new(self.host, self.port));
        }
        let (sampling, _) = self.sampling.options_from(0)?;
        let options = ServerOptions {
            keys: self.keys()?,
            engine: EngineOptions {
                max_running: self.parallel,
                max_waiting: self.queue,
                kv_bytes: self.kv_cache_bytes,
                ..EngineOptions::default()
            },
            sampling,
            seed: self.sampling.seed(),
            speculation: self.sampling.speculation(),
            models: ModelLimits {
                weight_bytes: self.models_memory.map(|bytes| bytes as u64),
                idle: self.unload_after.map(Duration::from_secs),
            },
            max_body_bytes: self.max_body,
            time_limit: (self.time_limit > 0).then(|| Duration::from_secs(self.time_limit)),
            drain: Duration::from_secs(self.drain),
            any_origin: self.cors,
        };
        if !self.host.is_loopback() && options.keys.is_empty() {
            tracing::warn!(
                "{} lets other machines in, and no key is asked of them: --api-key-file asks for one",
                self.host
            );
        }
        let server = Server::new(self.sources()?, options)?;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(HTTP_THREADS)
            .enable_all()
            .build()
            .context("threads for the server")?
            .block_on(serve(server, SocketAddr::new(self.host, self.port)))
    }

    fn keys(&self) -> anyhow::Result<Vec<String>> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text =
                std::fs::read_to_string(path).map_err(|error| bitnet::Error::io(path, error))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let before = keys.len();
            keys.extend(lines.map(str::to_owned));
            if keys.len() == before {
                anyhow::bail!("{}: expected a key, found an empty file", path.display());
            }
        }
        Ok(keys)
    }

    /// The models, downloaded where need be, and opened when they are asked for.
    fn sources(&self) -> anyhow::Result<Vec<ModelSource>> {
        let template = self.template.choice()?;
        if template.is_some() && self.models.len() > 1 {
            let why = "--chat-template: expected one model that it is for, found several";
            return Err(Usage(why.into()).into());
        }
        let options = self
            .place
            .options(self.threads.threads, self.head.mode(), template)?;
        if self.models.is_empty() {
            let open = move || Model::demo_with(&options);
            return Ok(vec![ModelSource {
                name: "demo".into(),
                open: Arc::new(open),
            }]);
        }
        let mut sources = Vec::new();
        for model in &self.models {
            let (name, model) = named(model)?;
            let path = resolve(&model)?;
            // Clients that send it see a mistake now, and not with the first request.
            bitnet::file::ModelFile::open(&path)?;
            let options = options.clone();
            sources.push(ModelSource {
                name,
                open: Arc::new(move || Model::open_with(&path, &options, |_, _| {})),
            });
        }
        Ok(sources)
    }
}

/// Whether the server at that address is ready: an error says why it is not.
fn check(mut address: SocketAddr) -> anyhow::Result<()> {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, CHECK)?;
        stream.set_read_timeout(Some(CHECK))?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut line = String::new();
        BufReader::new(stream.take(256)).read_line(&mut line)?;
        Ok(line)
    };
    let line = ask().with_context(|| format!("no server answers at {address}"))?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => anyhow::bail!(
            "the server at {address} is not ready: expected status 200 of /ready, found {:?}",
            printable::line(line.trim())
        ),
    }
}

/// The name of a model for clients, and what it is: `NAME=MODEL`, or the end of what it is called.
fn named(model: &OsStr) -> anyhow::Result<(String, OsString)> {
    if let Some((name, rest)) = model.to_str().and_then(|text| text.split_once('='))
        // An address or a path may have one, too.
        && !name.contains(['/', '\\', ':'])
        && !Path::new(model).exists()
    {
        if name.is_empty() || rest.is_empty() {
            let why = format!(
                "--model: expected NAME=MODEL, found {:?}",
                printable::line(&model.to_string_lossy())
            );
            return Err(Usage(why).into());
        }
        return Ok((name.to_owned(), rest.into()));
    }
    let path = Path::new(model);
    let is_file = path
        .extension()
        .is_some_and(|end| end == "gguf" || end == "safetensors");
    let name = if is_file {
        path.file_stem()
    } else {
        path.file_name()
    };
    let name = name.unwrap_or(model).to_string_lossy().into_owned();
    Ok((name, model.to_owned()))
}

async fn serve(server: Server, address: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address}: choose another --port"))?;
    let address = listener.local_addr().context("the server's address")?;
    anstream::eprintln!("opening the model");
    if let Err(error) = server.warm_up().await {
        anyhow::bail!("{error}");
    }
    anstream::eprintln!("serving at http://{address} (Ctrl-C ends it)");
    server
        .run(listener, told_to_stop())
        .await
        .context("the server")
}

/// Waits for Ctrl-C, or for SIGTERM.
async fn told_to_stop() {
    let interrupted = async {
        // Without a handler, the signal ends the program.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
    anstream::eprintln!("finishing the texts that are being written");
}
