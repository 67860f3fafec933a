//! `bitnet devices`: processor, memory, kernel sets, backends and GPUs; why each is or is not available; and which of them a
//! model or an operation gets.

mod calibrate;
mod explain;

use super::print_json;
use crate::{printable, units};
use anstyle::{AnsiColor, Style};
use bitnet_core::cpu::tuning::{Operation, Origin, Tuning};
use bitnet_core::cpu::{ISA_VARIABLE, Isa};
use bitnet_core::device::{self, Adapter, BackendStatus, Device, Machine};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Arguments of `bitnet devices`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bitnet devices\n  bitnet devices --json\n  bitnet devices --calibrate\n  bitnet devices --explain\n  BITNET_ISA=scalar bitnet devices"
)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Measure when threads and unpacking pay on this machine, and keep the result for every later run
    #[arg(long)]
    calibrate: bool,

    /// Say on which device a model runs and which route each operation takes, at which size, and why
    #[arg(long)]
    explain: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    kernels: Vec<Kernels>,
    kernels_in_use: &'static str,
    backends: Vec<BackendStatus>,
    /// What a large model runs on if nothing is chosen.
    backend_in_use: &'static str,
    /// GPUs, in the order in which `--adapter` numbers them.
    adapters: &'static [Adapter],
    routing: Routing,
}

#[derive(Serialize)]
struct Kernels {
    name: &'static str,
    available: bool,
    in_use: bool,
    note: &'static str,
}

/// Where the crossover points come from, and those of the kernels in use.
#[derive(Serialize)]
struct Routing {
    /// `measured` or `built in`.
    source: &'static str,
    /// The calibration file in use.
    file: Option<String>,
    /// Why nothing measured is used.
    why: Option<String>,
    /// Work from which all threads share an operation.
    threads_from: BTreeMap<Operation, u64>,
}

impl Routing {
    fn of(table: &Tuning, isa: Isa) -> Self {
        let crossovers = table.crossovers(isa);
        let (source, why) = match table.origin() {
            Origin::BuiltIn { why } => ("built in", Some(why.clone())),
            Origin::Measured { .. } => ("measured", None),
        };
        Self {
            source,
            file: table.path().map(|path| path.display().to_string()),
            why,
            threads_from: Operation::ALL
                .into_iter()
                .map(|operation| (operation, crossovers.parallel_above(operation)))
                .collect(),
        }
    }

    /// One line.
    fn describe(&self) -> String {
        match (&self.file, &self.why) {
            (Some(file), _) => format!("measured ({file})"),
            (None, Some(why)) => format!("{} ({why})", self.source),
            (None, None) => self.source.to_owned(),
        }
    }
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.calibrate {
            let table = calibrate::run(self.json && !self.explain)?;
            if self.explain {
                explain::run(&table, self.json)?;
            }
            return Ok(());
        }
        let table = Tuning::current();
        if self.explain {
            return explain::run(table, self.json);
        }
        let chosen = Isa::from_environment().map_err(bitnet::Error::from)?;
        let report = Report {
            machine: Machine::detect(),
            kernels: Isa::ALL
                .into_iter()
                .map(|isa| Kernels {
                    name: isa.name(),
                    available: isa.is_available(),
                    in_use: isa == chosen,
                    note: isa.description(),
                })
                .collect(),
            kernels_in_use: chosen.name(),
            backends: device::backends(),
            backend_in_use: Device::auto().name(),
            adapters: device::adapters(),
            routing: Routing::of(table, chosen),
        };
        if self.json {
            print_json(&report)
        } else {
            print(&report)
        }
    }
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
    let used = |in_use: bool| if in_use { "  <- in use" } else { "" };
    for (name, value) in machine_lines(&report.machine) {
        writeln!(out, "{name:<10} {}", printable::line(&value))?;
    }
    writeln!(
        out,
        "\nkernels ({ISA_VARIABLE} chooses; all compute the same bits)"
    )?;
    for kernels in &report.kernels {
        writeln!(
            out,
            "  {:<8} {}  {}{}",
            kernels.name,
            mark(kernels.available),
            kernels.note,
            used(kernels.in_use)
        )?;
    }
    writeln!(out, "\nbackends (--device chooses)")?;
    for backend in &report.backends {
        writeln!(
            out,
            "  {:<8} {}  {}{}",
            backend.name,
            mark(backend.found),
            backend.note,
            used(backend.name == report.backend_in_use)
        )?;
    }
    if !report.adapters.is_empty() {
        writeln!(
            out,
            "\nadapters of wgpu (--adapter chooses, by number or a part of the name)"
        )?;
        for (index, adapter) in report.adapters.iter().enumerate() {
            let only = if adapter.is_hardware() {
                ""
            } else {
                "  (with --software-adapter)"
            };
            // A driver's words.
            let adapter = adapter.to_string();
            writeln!(out, "  {index:<8} {}{only}", printable::line(&adapter))?;
        }
    }
    writeln!(
        out,
        "\nrouting (--explain says more, --calibrate measures)\n  crossover points: {}",
        printable::line(&report.routing.describe())
    )?;
    Ok(())
}

/// What the machine is, as lines of name and value; a line for each thing that is known.
fn machine_lines(machine: &Machine) -> Vec<(&'static str, String)> {
    let processor = &machine.processor;
    let mut lines = vec![("system", format!("{} {}", machine.os, machine.arch))];
    let name = match (&processor.brand, &processor.vendor) {
        (Some(brand), Some(vendor)) => Some(format!("{brand} ({vendor})")),
        (brand, vendor) => brand.clone().or_else(|| vendor.clone()),
    };
    lines.extend(name.map(|name| ("processor", name)));
    let threads = processor.threads;
    lines.push((
        "cores",
        match processor.physical_cores {
            Some(cores) => format!("{cores}, {threads} threads for this process"),
            None => format!("{threads} threads for this process"),
        },
    ));
    let caches = [
        ("L1d", processor.caches.l1d),
        ("L2", processor.caches.l2),
        ("L3", processor.caches.l3),
    ];
    let caches = caches.into_iter().filter_map(|(name, bytes)| {
        // Caches come in powers of two.
        let bytes = bytes?;
        Some(if bytes >= 1 << 20 {
            format!("{name} {} MiB", bytes >> 20)
        } else {
            format!("{name} {} KiB", bytes >> 10)
        })
    });
    let caches: Vec<_> = caches.collect();
    if !caches.is_empty() {
        lines.push(("caches", caches.join(", ")));
    }
    lines.extend(machine.memory.map(|memory| {
        let limit = match memory.limit {
            Some(limit) => format!(", limited to {}", units::bytes(limit)),
            None => String::new(),
        };
        let (total, available) = (units::bytes(memory.total), units::bytes(memory.available));
        ("memory", format!("{total}, {available} available{limit}"))
    }));
    for (name, available) in [("features", true), ("without", false)] {
        let features = processor.features.iter();
        let names: Vec<_> = features
            .filter(|feature| feature.available == available)
            .map(|feature| feature.name)
            .collect();
        if !names.is_empty() {
            lines.push((name, names.join(" ")));
        }
    }
    lines
}
