//! When threads and unpacking pay on this machine: numbers that are built in, or measured by [`calibrate`] and kept in a file.
//!
//! A [`Tuning`] is either built in or derived from a [`Calibration`]. The CPU backend copies the few numbers it compares
//! with ([`Crossovers`]) when it starts; [`Tuning::explain`] answers from the same numbers, with reasons. No choice changes
//! a bit of any result.

mod calibration;
mod crossovers;
mod curve;
mod explain;
#[cfg(not(target_arch = "wasm32"))]
pub mod file;
#[cfg(not(target_arch = "wasm32"))]
mod measure;
mod operation;

pub use calibration::{Calibration, Identity, KernelTimes};
pub use crossovers::Crossovers;
pub use curve::{Curve, Point, Threshold};
pub use explain::{Choice, Reasons, Request};
#[cfg(not(target_arch = "wasm32"))]
pub use measure::{calibrate, foreign_load};
pub use operation::Operation;

use super::Isa;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the numbers come from.
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

/// How every operation is computed, and where that is known from.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    origin: Origin,
}

impl Tuning {
    /// The tuning of a machine that was not measured.
    pub fn built_in(why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            origin: Origin::BuiltIn { why },
        }
    }

    /// The tuning that follows from a measurement, which was [validated](Calibration::validate).
    pub fn measured(calibration: Calibration, path: Option<PathBuf>) -> Self {
        Self {
            origin: Origin::Measured { path, calibration },
        }
    }

    /// The tuning of this process: from the calibration file of this machine if there is a sound one, else built in.
    /// The file is read on the first call. A file that cannot be used is warned of and passed over.
    pub fn current() -> &'static Self {
        static CURRENT: OnceLock<Tuning> = OnceLock::new();
        CURRENT.get_or_init(Self::load)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn load() -> Self {
        match file::default_path() {
            Some(path) => Self::from_file(&path),
            None => Self::built_in("this system names no cache folder"),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn load() -> Self {
        Self::built_in("there is no file system")
    }

    /// The tuning of the calibration file at `path`; the built-in one, with a warning, if the file cannot be used, and
    /// without a warning if there is none.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(path: &Path) -> Self {
        match file::load(path, &Identity::here()) {
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

    /// The sizes at which a kernel set changes its way of working.
    pub fn crossovers(&self, isa: Isa) -> Crossovers {
        match self.calibration() {
            Some(calibration) => calibration.crossovers(isa),
            None => Crossovers::built_in(isa),
        }
    }
}
