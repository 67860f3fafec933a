//! `bitnet devices --explain`: the device of a model and the route of each operation at a few sizes, and why.

use super::Routing;
use crate::commands::print_json;
use crate::printable;
use anstyle::Style;
use bitnet::I2sLayout;
use bitnet_core::cpu::Isa;
use bitnet_core::cpu::tuning::{Choice, Operation, Request, Tuning};
use bitnet_core::device::{Placement, adapters};
use bitnet_quant::Format;
use serde::Serialize;
use std::io::Write;
use std::thread::available_parallelism;

/// Bytes of the weights of a model of two billion parameters.
const LARGE: u64 = 1_200_000_000;

/// Sizes as they occur in small and large models, as `(name, tokens, rows, cols)`.
const PRODUCTS: [(&str, usize, usize, usize); 5] = [
    ("decode, tiny layer", 1, 64, 256),
    ("decode, small layer", 1, 768, 256),
    ("decode, layer of a 2B model", 1, 2560, 2560),
    ("prefill of 8, small layer", 8, 768, 256),
    ("prefill of 512, layer of a 2B model", 512, 2560, 2560),
];
const HEADS: [(&str, usize, usize, usize); 2] = [
    ("head of a small model", 1, 2048, 256),
    ("head of a 2B model", 1, 128_256, 2560),
];
const ATTENTION: [(&str, usize, usize, usize); 3] = [
    ("decode, 4 heads of 64, 32 positions", 1, 256, 32),
    ("decode, 20 heads of 128, 2048 positions", 1, 2560, 2048),
    ("prefill of 512, 20 heads of 128", 512, 2560, 512),
];
const ROWS: [(&str, usize, usize, usize); 3] = [
    ("decode", 1, 1, 2560),
    ("prefill of 8", 8, 1, 256),
    ("prefill of 512", 512, 1, 2560),
];

#[derive(Serialize)]
struct Report {
    models: Vec<Model>,
    routing: Routing,
    routes: Vec<Explained>,
}

/// Where a model runs if nothing is chosen.
#[derive(Serialize)]
struct Model {
    name: &'static str,
    weight_bytes: u64,
    placement: Placement,
}

#[derive(Serialize)]
struct Explained {
    operation: Operation,
    size: &'static str,
    shape: [usize; 3],
    work: usize,
    unit: &'static str,
    route: Choice,
}

pub(super) fn run(table: &Tuning, json: bool) -> anyhow::Result<()> {
    let isa = match std::env::var(bitnet_core::cpu::ISA_VARIABLE) {
        Ok(name) if !name.is_empty() => Isa::from_environment().map_err(bitnet::Error::from)?,
        _ => table.kernels(),
    };
    let threads = available_parallelism().map_or(1, usize::from);
    let explain = |operation, format, (size, tokens, rows, cols)| {
        let request = Request {
            operation,
            format,
            tokens,
            rows,
            cols,
        };
        Explained {
            operation,
            size,
            shape: [tokens, rows, cols],
            work: request.work(),
            unit: operation.unit(),
            route: table.explain(isa, threads, &request),
        }
    };
    let routes = Operation::ALL.into_iter().flat_map(|operation| {
        let (format, sizes): (_, &[_]) = match operation {
            Operation::TernaryMatmul => (Some(Format::I2s(I2sLayout::A)), &PRODUCTS),
            Operation::DenseMatmul => (Some(Format::F16), &HEADS),
            Operation::Attention => (None, &ATTENTION),
            Operation::Norm | Operation::Elementwise => (None, &ROWS),
        };
        sizes
            .iter()
            .map(move |size| explain(operation, format, *size))
    });
    let models = [
        ("the built-in demo model", bitnet_demo::GGUF.len() as u64),
        ("a model of 2 billion parameters", LARGE),
    ];
    let models = models.map(|(name, weight_bytes)| Model {
        name,
        weight_bytes,
        placement: Placement::of_model(weight_bytes, adapters),
    });
    let report = Report {
        models: models.into(),
        routing: Routing::of(table, isa),
        routes: routes.collect(),
    };
    if json {
        return print_json(&report);
    }
    print(&report)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    writeln!(out, "{bold}models (--device auto){bold:#}")?;
    for model in &report.models {
        let Placement { device, because } = &model.placement;
        writeln!(out, "  {:<40} {device}", model.name)?;
        writeln!(out, "      {dim}{}{dim:#}", printable::line(because))?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "crossover points: {}",
        printable::line(&report.routing.describe())
    )?;
    if let Some(first) = report.routes.first() {
        let because = &first.route.because;
        let because = format!("{}\n{}", because.device, because.kernels);
        writeln!(out, "{}", printable::text(&because))?;
    }
    let mut last = None;
    for explained in &report.routes {
        if last != Some(explained.operation) {
            writeln!(out, "\n{bold}{}{bold:#}", explained.operation)?;
            last = Some(explained.operation);
        }
        let route = &explained.route;
        writeln!(
            out,
            "  {:<40} {} {}, {} thread{}, {}",
            explained.size,
            route.device,
            route.kernels,
            route.threads,
            if route.threads == 1 { "" } else { "s" },
            route.kernel
        )?;
        for reason in [&route.because.threads, &route.because.kernel] {
            writeln!(out, "      {dim}{}{dim:#}", printable::line(reason))?;
        }
    }
    Ok(())
}
