//! Why an operation of a given size gets its kernels and threads.

use super::crossovers::is_direct;
use super::{Crossovers, Curve, Operation, Tuning};
use crate::cpu::Isa;
use crate::device::{Device, grouped};
use bitnet_quant::Format;
use serde::Serialize;

/// An operation of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// Format of the matrix, for products.
    pub format: Option<Format>,
    /// Rows of activations.
    pub tokens: usize,
    /// Outputs of a row of activations: rows of the matrix, or query heads times their width; 1 for row operations.
    pub rows: usize,
    /// What each output takes: columns of the matrix, or positions; the width for row operations.
    pub cols: usize,
}

impl Request {
    /// In [`Operation::unit`]s.
    pub const fn work(&self) -> usize {
        self.tokens
            .saturating_mul(self.rows)
            .saturating_mul(self.cols)
    }
}

/// How an operation is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// Where.
    pub device: Device,
    /// With which kernel set.
    pub kernels: &'static str,
    /// On how many threads: 1 (the caller's) or all that the backend has.
    pub threads: usize,
    /// By which of its kernels.
    pub kernel: &'static str,
    /// Why.
    pub because: Reasons,
}

/// Why, a sentence for each part of a [`Choice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reasons {
    /// Why this device.
    pub device: String,
    /// Why this kernel set.
    pub kernels: String,
    /// Why so many threads: the work, the crossover point, and where that comes from.
    pub threads: String,
    /// Why this kernel.
    pub kernel: String,
}

impl Tuning {
    /// How a backend with `isa` and `threads` threads runs `request`, and why.
    pub fn explain(&self, isa: Isa, threads: usize, request: &Request) -> Choice {
        let crossovers = self.crossovers(isa);
        let (operation, work) = (request.operation, request.work());
        let parallel = threads > 1 && crossovers.is_parallel(operation, work);
        let (kernel, kernel_reason) = self.kernel(isa, &crossovers, request);
        Choice {
            device: Device::Cpu,
            kernels: isa.name(),
            threads: if parallel { threads } else { 1 },
            kernel,
            because: Reasons {
                device: device_reason(),
                kernels: self.kernels_reason(isa),
                threads: self.threads_reason(isa, threads, &crossovers, request),
                kernel: kernel_reason,
            },
        }
    }

    fn kernels_reason(&self, isa: Isa) -> String {
        let compared = Isa::ALL
            .into_iter()
            .filter(|other| *other != isa)
            .filter_map(|other| {
                let (ns, other_ns) = self.calibration()?.compare(isa, other)?;
                let ratio = other_ns / ns;
                Some(format!(
                    "measured {ratio:.1}× as fast as {other} on a ternary product"
                ))
            });
        let compared: Vec<_> = compared.collect();
        if isa != self.kernels() {
            format!(
                "kernels {isa}: asked for; {} would be chosen",
                self.kernels()
            )
        } else if compared.is_empty() {
            format!("kernels {isa}: the widest this CPU runs")
        } else {
            format!("kernels {isa}: {}", compared.join(", "))
        }
    }

    fn threads_reason(
        &self,
        isa: Isa,
        threads: usize,
        crossovers: &Crossovers,
        request: &Request,
    ) -> String {
        if threads == 1 {
            return "1 thread: the backend has no more".into();
        }
        let (operation, work) = (request.operation, request.work());
        let (from, unit) = (crossovers.parallel_above(operation), operation.unit());
        let (count, relation) = if crossovers.is_parallel(operation, work) {
            (threads, "≥")
        } else {
            (1, "<")
        };
        let curve = self
            .calibration()
            .and_then(|c| c.of(isa)?.split.get(&operation));
        let evidence = match (curve, self.calibration()) {
            (Some(curve), Some(calibration)) => {
                let all = format!("on {}", calibration.identity.threads);
                let mut text = evidence(curve, work as u64, unit, "on 1 thread", &all);
                if curve.threshold().is_some_and(|found| !found.measured) {
                    text.push_str("; more threads paid at no size, so the built-in number stays");
                }
                text
            }
            _ => "built in, not measured here".into(),
        };
        format!(
            "{count} of {threads} threads: {} {unit} {relation} {} ({evidence})",
            grouped(work as u64),
            grouped(from)
        )
    }

    fn kernel(
        &self,
        isa: Isa,
        crossovers: &Crossovers,
        request: &Request,
    ) -> (&'static str, String) {
        let (operation, tokens) = (request.operation, request.tokens);
        let Some(format) = request.format else {
            return ("rows", format!("one kernel for {operation}"));
        };
        let most = crossovers.gemv_max_tokens(format);
        if !is_direct(format) {
            return (
                "decoded",
                format!("rows of {format} are always decoded to f32"),
            );
        }
        let (kernel, relation) = if tokens <= most {
            ("direct", "≤")
        } else if operation == Operation::TernaryMatmul {
            ("tiled", ">")
        } else {
            ("decoded", ">")
        };
        let curve = self
            .calibration()
            .and_then(|c| c.of(isa)?.direct_curve(format));
        let evidence = match curve {
            Some(curve) => {
                let mut text = evidence(curve, tokens as u64, "tokens", "packed", "unpacked");
                if curve.threshold().is_some_and(|found| !found.measured) {
                    text.push_str("; unpacking paid at no size, so it is tried beyond the largest");
                }
                text
            }
            None => "built in, not measured here".into(),
        };
        (
            kernel,
            format!(
                "{kernel} kernel: {tokens} token{} {relation} {most} for {format} ({evidence})",
                if tokens == 1 { "" } else { "s" }
            ),
        )
    }
}

fn device_reason() -> String {
    let names = |built: bool| -> Vec<&str> {
        let others = Device::ALL
            .into_iter()
            .filter(|device| *device != Device::Cpu);
        let others = others.filter(|device| device.is_built() == built);
        others.map(Device::name).collect()
    };
    let (there, missing) = (names(true), names(false).join(", "));
    if there.is_empty() {
        format!("device cpu: the only one here ({missing} not built into this binary)")
    } else {
        let there = there.join(" and ");
        format!(
            "device cpu: where these kernels are; only whole models go to {there} ({missing} not built into this binary)"
        )
    }
}

/// The measurement nearest to `size`.
fn evidence(curve: &Curve, size: u64, unit: &str, small: &str, large: &str) -> String {
    let Some(point) = curve.nearest(size) else {
        return "no measurement".into();
    };
    format!(
        "measured at {} {unit}: {} {small}, {} {large}",
        grouped(point.size),
        microseconds(point.small_ns),
        microseconds(point.large_ns)
    )
}

fn microseconds(ns: f64) -> String {
    format!("{:.1} µs", ns / 1e3)
}
