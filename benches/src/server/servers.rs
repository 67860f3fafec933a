//! The programs that serve: ours and llama-server, each started for a scene and stopped after it.

use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it is ready.
const READY: Duration = Duration::from_secs(300);

/// A program that serves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program<'a> {
    /// The `bitnet` command.
    Ours(&'a Path),
    /// llama.cpp's llama-server.
    Llama(&'a Path),
}

/// The work that a server must have room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Texts at once.
    pub(crate) users: usize,
    /// Tokens of each, the prompt's included.
    pub(crate) each: usize,
}

/// A server that runs. Dropped, it ends.
pub(crate) struct Serving {
    process: Child,
    /// Its address, without a path.
    pub(crate) address: String,
}

impl Program<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours(_) => "bitnet",
            Self::Llama(_) => "llama-server",
        }
    }

    /// Starts it on `model` and waits until it answers.
    pub(crate) fn serve(self, model: &Path, threads: usize, room: Room) -> Result<Serving> {
        // Free when it is looked for; what takes it in between is named by the server.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.context("there is no free port")?.port().to_string();
        let (threads, users) = (threads.to_string(), room.users.to_string());
        let mut command = match self {
            Self::Ours(program) => {
                let mut command = Command::new(program);
                command.args(["serve", "--device", "cpu", "--parallel", &users]);
                command.args(["--kv-cache-bytes", "8GiB"]);
                command
            }
            Self::Llama(program) => {
                let mut command = Command::new(program);
                // The context is that of all slots together.
                let context = (room.users * room.each).to_string();
                command.args(["-np", &users, "-cb", "-c", &context, "-tb", &threads]);
                command
            }
        };
        command
            .args(["-t", &threads, "--port", &port, "-m"])
            .arg(model);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", self.name()))?;
        let mut serving = Serving {
            process,
            address: format!("http://127.0.0.1:{port}"),
        };
        let begin = Instant::now();
        loop {
            if let Some(status) = serving.process.try_wait()? {
                bail!("{} ended before it served ({status})", self.name());
            }
            let path = match self {
                Self::Ours(_) => "ready",
                Self::Llama(_) => "health",
            };
            let health = ureq::get(format!("{}/{path}", serving.address)).call();
            if health.is_ok() {
                return Ok(serving);
            }
            if begin.elapsed() > READY {
                bail!("{} was not ready after {} s", self.name(), READY.as_secs());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself, which the users of the scene have seen.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
