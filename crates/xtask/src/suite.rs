//! The parts of the test suite, in the order in which they run: the quick and strict ones first.

use crate::apple;
use crate::cross;
use crate::fuzz;
use crate::metal;
use crate::miri;
use crate::mlx;
use crate::program::{carry_out, target_folder};
use crate::python;
use crate::requirement::Requirement;
use crate::sanitizer::{self, Sanitizer};
use crate::server;
use crate::target::Target;
use crate::web;
use crate::workspace::{cargo_with, run_tests};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which parts to run; none named means all.
#[derive(Args)]
pub(crate) struct Selection {
    /// Formatting (cargo fmt --check)
    #[arg(long)]
    fmt: bool,
    /// Lints, warnings as errors
    #[arg(long)]
    clippy: bool,
    /// API documentation, warnings as errors
    #[arg(long)]
    docs: bool,
    /// Unit and integration tests
    #[arg(long)]
    unit: bool,
    /// Examples in documentation and README
    #[arg(long)]
    doctest: bool,
    /// The server, asked by the official clients
    #[arg(long)]
    server: bool,
    /// The Python package: its wheel in a clean environment, types, and clusters of Ray
    #[arg(long)]
    python: bool,
    /// The memory pool, the thread team and the owners of tensors under ThreadSanitizer
    #[arg(long)]
    race: bool,
    /// Kernels and readers of files under AddressSanitizer
    #[arg(long)]
    asan: bool,
    /// The packed formats and the memory pool, interpreted by Miri
    #[arg(long)]
    miri: bool,
    /// Readers of files on damaged ones, chosen by libFuzzer
    #[arg(long)]
    fuzz: bool,
    /// The same bits everywhere: aarch64 under qemu, WebAssembly in node, every kernel set here
    #[arg(long)]
    cross: bool,
    /// The kernels of shaders-metal: by Metal on a Mac, on Linux compiled as C++ and run on the processor
    #[arg(long)]
    metal: bool,
    /// The MLX backend beside the CPU's: on a Mac, or by MLX's build for the CPUs of Linux
    #[arg(long)]
    mlx: bool,
    /// Types and lints of what is for Macs
    #[arg(long)]
    apple: bool,
    /// The npm package and the demo site in Chromium
    #[arg(long)]
    web: bool,
}

impl Selection {
    /// The parts asked for, in running order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let chosen: Vec<Part> = Part::ALL
            .into_iter()
            .filter(|part| match part {
                Part::Fmt => self.fmt,
                Part::Clippy => self.clippy,
                Part::Docs => self.docs,
                Part::Unit => self.unit,
                Part::Doctest => self.doctest,
                Part::Server => self.server,
                Part::Python => self.python,
                Part::Race => self.race,
                Part::Asan => self.asan,
                Part::Miri => self.miri,
                Part::Fuzz => self.fuzz,
                Part::Cross => self.cross,
                Part::Metal => self.metal,
                Part::Mlx => self.mlx,
                Part::Apple => self.apple,
                Part::Web => self.web,
            })
            .collect();
        if chosen.is_empty() {
            Part::ALL.to_vec()
        } else {
            chosen
        }
    }
}

/// One part of the suite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Formatting.
    Fmt,
    /// Lints.
    Clippy,
    /// API documentation.
    Docs,
    /// Unit and integration tests.
    Unit,
    /// Examples in documentation.
    Doctest,
    /// The server, asked by clients from PyPI and npm.
    Server,
    /// The Python package, built, installed and used.
    Python,
    /// Threads against each other, every unordered access reported.
    Race,
    /// Accesses outside of allocations.
    Asan,
    /// Faults that no processor reports, found by an interpreter.
    Miri,
    /// Damaged files.
    Fuzz,
    /// The same bits on every target and kernel set.
    Cross,
    /// The kernels of `shaders-metal/`.
    Metal,
    /// The MLX backend.
    Mlx,
    /// What is for Macs, compiled as far as that goes elsewhere.
    Apple,
    /// The npm package and the site, in a browser.
    Web,
}

impl Part {
    /// Every part, in running order.
    pub(crate) const ALL: [Self; 16] = [
        Self::Fmt,
        Self::Clippy,
        Self::Docs,
        Self::Unit,
        Self::Doctest,
        Self::Server,
        Self::Python,
        Self::Race,
        Self::Asan,
        Self::Miri,
        Self::Fuzz,
        Self::Cross,
        Self::Metal,
        Self::Mlx,
        Self::Apple,
        Self::Web,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Unit => "unit",
            Self::Doctest => "doctest",
            Self::Server => "server",
            Self::Python => "python",
            Self::Race => "race",
            Self::Asan => "asan",
            Self::Miri => "miri",
            Self::Fuzz => "fuzz",
            Self::Cross => "cross",
            Self::Metal => "metal",
            Self::Mlx => "mlx",
            Self::Apple => "apple",
            Self::Web => "web",
        }
    }

    /// What must be installed for this part.
    pub(crate) fn requirements(self) -> &'static [Requirement] {
        match self {
            Self::Fmt => &[Requirement::RUSTFMT],
            Self::Clippy => &[Requirement::CLIPPY],
            Self::Docs | Self::Doctest | Self::Asan => &[],
            // The GPU backend is tested on whatever adapter there is.
            Self::Unit => &[Requirement::Vulkan],
            Self::Server => server::REQUIREMENTS,
            Self::Python => python::REQUIREMENTS,
            Self::Race => sanitizer::THREAD_REQUIREMENTS,
            Self::Miri => miri::requirements(),
            Self::Fuzz => fuzz::REQUIREMENTS,
            Self::Cross if cfg!(target_os = "linux") => &[
                Requirement::Library(Target::Wasm),
                Requirement::Node,
                Requirement::Library(Target::Aarch64),
                Requirement::Aarch64Linker,
                Requirement::Qemu,
            ],
            Self::Metal => metal::REQUIREMENTS,
            Self::Mlx => mlx::REQUIREMENTS,
            Self::Apple => apple::REQUIREMENTS,
            Self::Web => &web::REQUIREMENTS,
            // qemu emulates single programs on Linux only.
            Self::Cross => &[Requirement::Library(Target::Wasm), Requirement::Node],
        }
    }

    /// The commands of this part, run one after the other; those from the race detector on are more than commands.
    fn commands(self) -> Vec<Command> {
        match self {
            Self::Fmt => vec![cargo_with(&["fmt", "--all", "--check"])],
            Self::Clippy => [&["--all-targets"][..], metal::TESTS]
                .into_iter()
                .map(|targets| {
                    let mut command = cargo_with(&["clippy", "--workspace", "--all-features"]);
                    command.args(targets).args(["--", "-Dwarnings"]);
                    command
                })
                .collect(),
            Self::Docs => {
                let mut command =
                    cargo_with(&["doc", "--workspace", "--no-deps", "--all-features"]);
                command.env("RUSTDOCFLAGS", "-Dwarnings");
                vec![command]
            }
            Self::Unit => vec![run_tests(&[])],
            Self::Doctest => vec![cargo_with(&[
                "test",
                "--workspace",
                "--all-features",
                "--doc",
            ])],
            Self::Metal => metal::commands(),
            Self::Server
            | Self::Python
            | Self::Race
            | Self::Asan
            | Self::Miri
            | Self::Fuzz
            | Self::Cross
            | Self::Mlx
            | Self::Apple
            | Self::Web => Vec::new(),
        }
    }

    fn run(self) -> Result<()> {
        self.commands().into_iter().try_for_each(carry_out)?;
        match self {
            Self::Server => server::run(),
            Self::Python => python::run(),
            Self::Race => Sanitizer::Thread.run(),
            Self::Asan => Sanitizer::Address.run(),
            Self::Miri => miri::run(),
            Self::Fuzz => fuzz::run(),
            Self::Cross => cross::run(),
            Self::Mlx => mlx::run(),
            Self::Apple => apple::run(),
            Self::Web => web::test(),
            _ => Ok(()),
        }
    }
}

/// Parts that build in folders of their own and use one core for much of their time: where all parts are run, these run beside the
/// others.
const BESIDE: [Part; 4] = [Part::Race, Part::Asan, Part::Miri, Part::Fuzz];

/// The line before how each part went.
const SUMMARY: &str = "== summary ==";

/// Runs `parts`, then says for each how it went and how long it took.
pub(crate) fn run(parts: &[Part]) -> Result<()> {
    if parts.len() < Part::ALL.len() {
        let (times, outcome) = one_after_the_other(parts);
        return tell(parts, &times, outcome);
    }
    let beside = Beside::start()?;
    let rest: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|part| !BESIDE.contains(part))
        .collect();
    let (times, outcome) = one_after_the_other(&rest);
    // Both are heard to the end: what the other found is worth having, too.
    let other = beside.finish();
    tell(&rest, &times, outcome)?;
    other
}

/// Runs parts until one fails. Returns how long each took.
fn one_after_the_other(parts: &[Part]) -> (Vec<Duration>, Result<()>) {
    let mut times = Vec::new();
    let start = Instant::now();
    for part in parts {
        // A log that ends early says how long that took.
        let seconds = start.elapsed().as_secs();
        println!("\n== {} == (after {seconds} s)", part.name());
        let begin = Instant::now();
        let outcome = part.run();
        times.push(begin.elapsed());
        if outcome.is_err() {
            return (times, outcome);
        }
    }
    (times, Ok(()))
}

/// Says of each part how it went; those behind a failure were not run.
fn tell(parts: &[Part], times: &[Duration], outcome: Result<()>) -> Result<()> {
    println!("\n{SUMMARY}");
    for (index, part) in parts.iter().enumerate() {
        match times.get(index) {
            Some(time) => {
                let failed = outcome.is_err() && index + 1 == times.len();
                let word = if failed { "FAILED" } else { "ok" };
                println!("{:<8} {word:<8} {:>7.1} s", part.name(), time.as_secs_f64());
            }
            None => println!("{:<8} not run", part.name()),
        }
    }
    outcome
}

/// A run of [`BESIDE`], whose output is kept until the others have ended.
struct Beside {
    process: Child,
    log: PathBuf,
}

impl Beside {
    fn start() -> Result<Self> {
        let log = target_folder()?.join("beside.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let names = BESIDE.map(Part::name);
        println!("beside the others: {}", names.join(", "));
        let mut command = Command::new(std::env::current_exe().context("this program")?);
        command
            .arg("test")
            .args(names.map(|name| format!("--{name}")))
            .stdin(Stdio::null())
            .stderr(file.try_clone().context("a second handle of a log")?)
            .stdout(file);
        let process = command.spawn().context("cannot run this program again")?;
        Ok(Self { process, log })
    }

    /// Waits for its end and shows what it said: all of it if something failed, else how each part went. So the end of a log is
    /// about what failed.
    fn finish(mut self) -> Result<()> {
        let status = self.process.wait().context("the parts beside the others")?;
        let said = std::fs::read(&self.log)
            .with_context(|| format!("cannot read {}", self.log.display()))?;
        let said = String::from_utf8_lossy(&said);
        let shown = match said.rfind(SUMMARY) {
            Some(begin) if status.success() => &said[begin..],
            _ => &said,
        };
        println!("\n== beside the others ==\n{shown}");
        ensure!(
            status.success(),
            "a part beside the others failed ({status})"
        );
        Ok(())
    }
}
