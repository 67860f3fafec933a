//! `bitnet devices`: CPU features, kernel sets and backends, and why each is or is not available.

use super::print_json;
use anstyle::{AnsiColor, Style};
use bitnet_core::cpu::{ISA_VARIABLE, Isa};
use serde::Serialize;
use std::io::Write;
use std::thread::available_parallelism;

/// Arguments of `bitnet devices`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bitnet devices\n  bitnet devices --json\n  BITNET_ISA=scalar bitnet devices"
)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    arch: &'static str,
    os: &'static str,
    threads: usize,
    features: Vec<Feature>,
    kernels: Vec<Kernels>,
    kernels_in_use: &'static str,
    backends: Vec<Backend>,
    backend_in_use: &'static str,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    available: bool,
}

#[derive(Serialize)]
struct Kernels {
    name: &'static str,
    available: bool,
    in_use: bool,
    note: &'static str,
}

#[derive(Serialize)]
struct Backend {
    name: &'static str,
    available: bool,
    note: String,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let chosen = Isa::from_environment().map_err(bitnet::Error::from)?;
        let report = Report {
            arch: std::env::consts::ARCH,
            os: std::env::consts::OS,
            threads: available_parallelism().map_or(1, usize::from),
            features: features(),
            kernels: Isa::ALL
                .into_iter()
                .map(|isa| Kernels {
                    name: isa.name(),
                    available: isa.is_available(),
                    in_use: isa == chosen,
                    note: needs(isa),
                })
                .collect(),
            kernels_in_use: chosen.name(),
            backends: backends(chosen),
            backend_in_use: "cpu",
        };
        if self.json {
            print_json(&report)
        } else {
            print(&report)
        }
    }
}

/// What a kernel set needs of the CPU.
fn needs(isa: Isa) -> &'static str {
    match isa {
        Isa::Scalar => "portable; the reference for all others",
        Isa::Avx2 => "x86-64 with AVX2 and F16C",
        Isa::Avx512Vnni => "x86-64 with AVX-512 F, BW, VL and VNNI",
    }
}

fn backends(isa: Isa) -> Vec<Backend> {
    let absent = |name, what: &str| Backend {
        name,
        available: false,
        note: format!("not part of this build: {what}"),
    };
    vec![
        Backend {
            name: "cpu",
            available: true,
            note: format!("kernels {isa}"),
        },
        absent("wgpu", "GPUs through Vulkan, Metal or Direct3D 12"),
        absent("metal", "Apple GPUs"),
        absent("mlx", "Apple silicon through MLX"),
    ]
}

/// The CPU features that kernels here use or may come to use.
fn features() -> Vec<Feature> {
    #[allow(unused_mut, reason = "on other architectures none is listed")]
    let mut features = Vec::new();
    macro_rules! list {
        ($detect:ident: $($name:tt),*) => {
            $(features.push(Feature { name: $name, available: std::arch::$detect!($name) });)*
        };
    }
    #[cfg(target_arch = "x86_64")]
    list!(is_x86_feature_detected: "sse4.1", "avx", "f16c", "fma", "avx2", "avxvnni", "avx512f", "avx512bw", "avx512vnni");
    #[cfg(target_arch = "aarch64")]
    list!(is_aarch64_feature_detected: "neon", "dotprod", "i8mm", "fp16", "sve");
    features
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let (green, dim) = (
        Style::new().fg_color(Some(AnsiColor::Green.into())),
        Style::new().dimmed(),
    );
    let mark = |available: bool| {
        if available {
            format!("{green}yes{green:#}")
        } else {
            format!("{dim}no {dim:#}")
        }
    };
    writeln!(
        out,
        "{} {}, {} threads",
        report.os, report.arch, report.threads
    )?;
    let (with, without): (Vec<_>, Vec<_>) = report
        .features
        .iter()
        .partition(|feature| feature.available);
    let names = |list: &[&Feature]| {
        let names: Vec<_> = list.iter().map(|feature| feature.name).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(" ")
        }
    };
    writeln!(out, "CPU features: {}", names(&with))?;
    if !without.is_empty() {
        writeln!(out, "{dim}without:      {}{dim:#}", names(&without))?;
    }
    writeln!(
        out,
        "\nkernels ({ISA_VARIABLE} chooses; all compute the same bits)"
    )?;
    for kernels in &report.kernels {
        let used = if kernels.in_use { "  <- in use" } else { "" };
        writeln!(
            out,
            "  {:<8} {}  {}{used}",
            kernels.name,
            mark(kernels.available),
            kernels.note
        )?;
    }
    writeln!(out, "\nbackends (--device chooses)")?;
    for backend in &report.backends {
        let used = if backend.name == report.backend_in_use {
            "  <- in use"
        } else {
            ""
        };
        writeln!(
            out,
            "  {:<8} {}  {}{used}",
            backend.name,
            mark(backend.available),
            backend.note
        )?;
    }
    Ok(())
}
