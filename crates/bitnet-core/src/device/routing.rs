//! Which backend, kernels and threads an operation of a given size gets, and why.
//!
//! A [`RoutingTable`] is either built in or derived from a [`Calibration`]. The CPU backend copies the few numbers it
//! compares with ([`Crossovers`]) when it starts; [`RoutingTable::route`] answers from the same numbers, with reasons.

use super::{Calibration, Crossovers, Curve, Device};
use crate::cpu::Isa;
use bitnet_quant::Format;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is routed. The order is that of the numbers in [`Crossovers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// int8 rows by a ternary matrix.
    TernaryMatmul,
    /// f32 rows by a matrix that is decoded to f32: the head, and layers that are not ternary.
    DenseMatmul,
    /// Causal attention over the KV cache.
    Attention,
    /// RMSNorm of rows.
    Norm,
    /// The gate's function times the up projection, and other work of a few operations for each element.
    Elementwise,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [
        Self::TernaryMatmul,
        Self::DenseMatmul,
        Self::Attention,
        Self::Norm,
        Self::Elementwise,
    ];

    /// Its name in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TernaryMatmul => "ternary_matmul",
            Self::DenseMatmul => "dense_matmul",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Elementwise => "elementwise",
        }
    }

    /// What its work is counted in.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TernaryMatmul | Self::DenseMatmul | Self::Attention => "multiply-adds",
            Self::Norm | Self::Elementwise => "elements",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

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

/// How an operation is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
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

/// Why a route is what it is, a sentence for each choice.
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

/// Where a table's numbers come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Built into the program. `why` says why nothing measured is used.
    BuiltIn {
        /// The reason, in words.
        why: String,
    },
    /// Measured on this machine.
    Measured {
        /// The file it was read from, or written to.
        path: Option<PathBuf>,
        /// The measurement.
        calibration: Calibration,
    },
}

/// Which route every operation takes.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingTable {
    origin: Origin,
}

impl RoutingTable {
    /// The table of a machine that was not measured.
    pub fn built_in(why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            origin: Origin::BuiltIn { why },
        }
    }

    /// The table that follows from a measurement that was [validated](Calibration::validate).
    pub fn measured(calibration: Calibration, path: Option<PathBuf>) -> Self {
        Self {
            origin: Origin::Measured { path, calibration },
        }
    }

    /// The table of this process: from the calibration file of this machine if there is a sound one, else built in.
    /// The file is read on the first call. A file that cannot be used is warned of and passed over.
    pub fn current() -> &'static Self {
        static CURRENT: OnceLock<RoutingTable> = OnceLock::new();
        CURRENT.get_or_init(Self::load)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn load() -> Self {
        match super::file::default_path() {
            Some(path) => Self::from_file(&path),
            None => Self::built_in("this system names no cache folder"),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn load() -> Self {
        Self::built_in("there is no file system")
    }

    /// The table of the calibration file at `path`; built in, with a warning, if the file cannot be used, and without
    /// one if there is none.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(path: &Path) -> Self {
        match super::file::load(path, &super::Identity::here()) {
            Ok(Some(calibration)) => Self::measured(calibration, Some(path.to_owned())),
            Ok(None) => Self::built_in(format!("there is no file {}", path.display())),
            Err(error) => {
                tracing::warn!(
                    "{error}; built-in crossover points are used (bitnet devices --calibrate measures anew)"
                );
                Self::built_in(error.to_string())
            }
        }
    }

    /// Where its numbers come from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The file its numbers come from.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Measured { path, .. } => path.as_deref(),
            Origin::BuiltIn { .. } => None,
        }
    }

    fn calibration(&self) -> Option<&Calibration> {
        match &self.origin {
            Origin::Measured { calibration, .. } => Some(calibration),
            Origin::BuiltIn { .. } => None,
        }
    }

    /// The kernel set to use when none is asked for.
    pub fn kernels(&self) -> Isa {
        self.calibration()
            .map_or_else(Isa::best, Calibration::preferred)
    }

    /// Where a kernel set changes its ways.
    pub fn crossovers(&self, isa: Isa) -> Crossovers {
        match self.calibration() {
            Some(calibration) => calibration.crossovers(isa),
            None => Crossovers::built_in(isa),
        }
    }

    /// How a backend with `isa` and `threads` threads runs `request`, and why.
    pub fn route(&self, isa: Isa, threads: usize, request: &Request) -> Route {
        let crossovers = self.crossovers(isa);
        let (operation, work) = (request.operation, request.work());
        let splits = threads > 1 && crossovers.splits(operation, work);
        let (kernel, kernel_reason) = self.kernel(isa, &crossovers, request);
        Route {
            device: Device::Cpu,
            kernels: isa.name(),
            threads: if splits { threads } else { 1 },
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
        let (from, unit) = (crossovers.split_from(operation), operation.unit());
        let (count, relation) = if crossovers.splits(operation, work) {
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
                if curve.cut().is_some_and(|cut| !cut.reached) {
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
        let most = crossovers.direct_up_to(format);
        if most == 0 && !format.is_ternary() && format != Format::F16 {
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
                if curve.cut().is_some_and(|cut| !cut.reached) {
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

/// A number with its thousands apart, as reports write it: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
