//! The part of the suite that talks to `bitnet serve` as its users do: with the official clients, from PyPI and npm.

use crate::image;
use crate::program::{cache, carry_out, file_name, finish, remove_folder, succeeds, target_folder};
use crate::requirement::Requirement;
use crate::target::Target;
use crate::workspace::{cargo_with, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The part's needs beyond a Rust compiler.
pub(crate) const REQUIREMENTS: &[Requirement] = if cfg!(target_os = "linux") {
    &[
        Requirement::Pip,
        Requirement::Node,
        Requirement::Clients,
        Requirement::Nginx,
        Requirement::Library(Target::Musl),
        Requirement::MuslCompiler,
    ]
} else {
    &[Requirement::Pip, Requirement::Node, Requirement::Clients]
};

/// Packages from PyPI. Versions are fixed: what a new one does is found out when it is wanted.
const PYTHON: [&str; 5] = [
    "openai==3.57.0",
    "anthropic==2.14.0",
    "ollama==0.6.3",
    "prometheus-client==0.26.0",
    "locust==2.47.0",
];
/// Packages from npm.
const NODE: [&str; 3] = [
    "openai@7.59.0",
    "ai@6.0.326",
    "@ai-sdk/openai-compatible@2.0.92",
];
/// The key that the clients have.
const KEY: &str = "a key for tests";

/// Runs the clients.
pub(crate) fn run() -> Result<()> {
    let folder = folder()?;
    // The unit tests build it, too, and so.
    let build = [
        "test",
        "--workspace",
        "--all-features",
        "--no-run",
        "--quiet",
    ];
    carry_out(cargo_with(&build))?;
    let server = Server::start()?;
    let tests = tests();
    for client in ["openai", "anthropic", "ollama"] {
        let mut python = Command::new("python3");
        python
            .arg(tests.join(format!("{client}_client.py")))
            .arg(&server.address)
            .env("PYTHONPATH", folder.join("python"))
            // Nothing is written beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        carry_out(python)?;
    }
    for client in ["openai.mjs", "ai.mjs"] {
        // A module is looked for from where the file is.
        let script = folder.join(client);
        std::fs::copy(tests.join(client), &script)
            .with_context(|| format!("cannot write {}", script.display()))?;
        let mut node = Command::new("node");
        node.arg(script).arg(&server.address);
        carry_out(node)?;
    }
    load(&server, &tests, &folder)?;
    server.stop()?;
    if cfg!(target_os = "linux") {
        replicas(&tests, &folder)?;
        image::run(&tests, &folder)?;
    }
    soak(&Soaking::default())
}

/// Many users at once, by a load generator that is not ours; it fails if an answer does, or is another one in company.
fn load(server: &Server, tests: &Path, folder: &Path) -> Result<()> {
    let mut locust = Command::new("python3");
    locust
        // Without the packages of the system: what is there for trio fails where gevent has taken epoll away.
        .args([
            "-S",
            "-m",
            "locust",
            "--headless",
            "--only-summary",
            "--loglevel=WARNING",
        ])
        .args(["--users=16", "--spawn-rate=16", "--run-time=10s"])
        .arg("--host")
        .arg(&server.address)
        .arg("--locustfile")
        .arg(tests.join("load.py"))
        .env("PYTHONPATH", folder.join("python"))
        .env("OPENAI_API_KEY", KEY);
    carry_out(locust)
}

/// Three servers behind nginx, one of which is killed under load.
fn replicas(tests: &Path, folder: &Path) -> Result<()> {
    let mut clients = Command::new("python3");
    clients
        .arg(tests.join("replicas.py"))
        .arg(program()?)
        .args(["nginx", nginx()])
        .arg(workspace().join("deploy/nginx/bitnet.conf"))
        .env("PYTHONPATH", folder.join("python"));
    carry_out(clients)
}

/// The program: Debian has it where only root looks.
fn nginx() -> &'static str {
    let debian = "/usr/sbin/nginx";
    if Path::new(debian).exists() {
        debian
    } else {
        "nginx"
    }
}

/// Whether there is nginx.
pub(crate) fn nginx_is_installed() -> bool {
    succeeds(Command::new(nginx()).arg("-v"))
}

/// The command that is tested.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(target_folder()?.join("debug").join(file_name("bitnet")))
}

/// How long users behave badly.
#[derive(Args)]
pub(crate) struct Soaking {
    /// Seconds, after a kill and a new start
    #[arg(long, default_value_t = Self::default().seconds)]
    seconds: u64,
}

impl Default for Soaking {
    fn default() -> Self {
        Self { seconds: 60 }
    }
}

/// Lets many users behave badly towards a server for a while, and checks that nothing comes of it.
pub(crate) fn soak(soaking: &Soaking) -> Result<()> {
    let mut test = cargo_with(&["test", "--workspace", "--all-features", "--test=soak"]);
    test.args(["--", "--ignored", "--nocapture"])
        .env("BITNET_SOAK_SECONDS", soaking.seconds.to_string());
    carry_out(test)
}

/// Where the clients' programs are.
fn tests() -> PathBuf {
    workspace().join("crates/bitnet-server/tests/clients")
}

/// The folder of the clients.
fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("clients"))
}

/// The packages, one a line.
fn wanted() -> String {
    [&PYTHON[..], &NODE].concat().join("\n")
}

/// Whether the clients are there, of these versions.
pub(crate) fn clients_are_installed() -> bool {
    let mark = folder().map(|folder| folder.join("installed"));
    mark.is_ok_and(|mark| std::fs::read_to_string(mark).is_ok_and(|found| found == wanted()))
}

/// Fetches the clients.
///
/// # Errors
/// If a registry cannot be reached, or does not have one of them.
pub(crate) fn install_clients() -> Result<()> {
    let folder = folder()?;
    // Nothing of an earlier set, or of one that was interrupted, stays.
    remove_folder(&folder)?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    println!("setup: {}", wanted().replace('\n', ", "));
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .arg("--target")
    .arg(folder.join("python"))
    .args(PYTHON);
    finish(&mut pip, "pip install")?;
    let mut npm = Command::new("npm");
    npm.current_dir(&folder)
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            ".",
        ])
        .args(NODE);
    finish(&mut npm, "npm install")?;
    let mark = folder.join("installed");
    std::fs::write(&mark, wanted()).with_context(|| format!("cannot write {}", mark.display()))
}

/// A server of the demo model.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Result<Self> {
        let program = program()?;
        let mut process = Command::new(&program)
            .args(["serve", "--port=0", "--device=cpu", "--parallel=8"])
            // The demo model's own template knows nothing of tools.
            .arg("--chat-template")
            .arg(tests().join("chat.jinja"))
            .env("BITNET_API_KEY", KEY)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        loop {
            let Some(line) = lines.next() else {
                bail!("bitnet serve ended before it served");
            };
            let line = line.context("what bitnet serve says")?;
            if let Some(rest) = line.strip_prefix("serving at ") {
                let address = rest.split(' ').next().unwrap_or(rest).to_owned();
                // What it says later must not fill a pipe that nobody reads.
                std::thread::spawn(move || {
                    lines
                        .map_while(Result::ok)
                        .for_each(|line| eprintln!("{line}"))
                });
                return Ok(Self { process, address });
            }
        }
    }

    /// Tells it to stop, as a system does, and waits until it has.
    fn stop(mut self) -> Result<()> {
        if cfg!(unix) {
            let mut kill = Command::new("kill");
            kill.arg(self.process.id().to_string());
            finish(&mut kill, "kill")?;
            let status = self.process.wait().context("bitnet serve")?;
            if !status.success() {
                bail!("bitnet serve ended with {status} after SIGTERM");
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
