//! What can go wrong below the model: shapes, formats, memory, devices.

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a backend refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that must agree do not.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The operand.
        what: String,
        /// The shape that fits.
        expected: String,
        /// The shape given.
        found: String,
    },
    /// A number that is NaN, infinite or out of range.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// The number's name.
        what: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The machine lacks a device or instruction set that was asked for.
    #[error("{what} is not available: {why}")]
    Unavailable {
        /// The device or instruction set.
        what: String,
        /// Why not, and what there is.
        why: String,
    },
    /// Memory that could not be had.
    #[error("out of memory: {bytes} bytes for {what}{}", account(*in_use, *limit))]
    OutOfMemory {
        /// What it was for.
        what: String,
        /// How much.
        bytes: usize,
        /// Bytes of the pool that are in use; 0 if no pool was asked.
        in_use: usize,
        /// The most that the pool may hold.
        limit: Option<usize>,
    },
    /// A GPU that is gone: its driver failed, it was taken away, or somebody destroyed it. What was made with it is of no
    /// use any more; open the backend anew.
    #[error("the GPU was lost: {why}")]
    DeviceLost {
        /// What is known about it.
        why: String,
    },
    /// A command that a GPU's driver or its checks refused.
    #[error("the GPU refused a command: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
    /// What MLX could not do.
    #[error("MLX failed: {why}")]
    Mlx {
        /// What it said.
        why: String,
    },
    /// A calibration file that cannot be read, used or written.
    #[error("calibration file {path}: {why}", path = path.display())]
    Calibration {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A packed format was refused.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::QuantError),
}

/// What a pool holds, behind a message that it has no more.
fn account(in_use: usize, limit: Option<usize>) -> String {
    match limit {
        Some(limit) => format!(" ({in_use} in use, the limit is {limit})"),
        None if in_use > 0 => format!(" ({in_use} in use)"),
        None => String::new(),
    }
}
