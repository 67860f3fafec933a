//! What the CPU backend asks at every operation: a few numbers to compare with.

use super::{KernelTimes, Operation, Threshold};
use crate::cpu::Isa;
use bitnet_quant::Format;

/// Whether rows of `format` can be multiplied without unpacking them first.
pub(super) const fn is_direct(format: Format) -> bool {
    format.is_ternary() || matches!(format, Format::F16 | Format::Q6K)
}

/// The formats of which that is so.
pub(super) fn direct_formats() -> impl Iterator<Item = Format> {
    Format::ALL
        .iter()
        .copied()
        .filter(|format| is_direct(*format))
}

/// Sizes at which the CPU backend changes its way of working. None of them changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossovers {
    /// Work from which all threads share an operation, in the order of [`Operation::ALL`].
    parallel_above: [u64; Operation::ALL.len()],
    /// Tokens up to which rows are multiplied as they lie, in the order of [`Format::ALL`].
    gemv_max_tokens: [usize; Format::ALL.len()],
}

impl Crossovers {
    /// Built-in numbers for a kernel set, for machines that were not measured.
    pub const fn built_in(isa: Isa) -> Self {
        let (parallel_above, ternary, halves, blocks) = match isa {
            Isa::Scalar => ([65_536, 32_768, 16_384, 262_144, 65_536], 4, 1, 1),
            Isa::Ssse3 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512 | Isa::Avx512Vnni => {
                ([131_072, 65_536, 65_536, 524_288, 65_536], 4, 16, 4)
            }
            _ => ([131_072, 65_536, 65_536, 524_288, 65_536], 8, 16, 4),
        };
        Self {
            parallel_above,
            gemv_max_tokens: by_format(ternary, halves, blocks),
        }
    }

    /// What the measured curves say. The built-in number stays where there is no curve, and where all threads were not
    /// measured to pay at any size: a machine busy with something else looks like that.
    pub fn measured(isa: Isa, times: &KernelTimes) -> Self {
        let mut crossovers = Self::built_in(isa);
        for (operation, curve) in &times.split {
            if let Some(found) = curve.threshold().filter(|found| found.measured) {
                crossovers = crossovers.with_parallel_above(*operation, found.from);
            }
        }
        for (place, format) in crossovers.gemv_max_tokens.iter_mut().zip(Format::ALL) {
            let found = times
                .direct_curve(*format)
                .and_then(|curve| curve.threshold());
            if let Some(Threshold { from, .. }) = found {
                *place = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
            }
        }
        crossovers
    }

    /// The same with another work from which threads share `operation`: 0 for always, `u64::MAX` for never.
    #[must_use]
    pub const fn with_parallel_above(mut self, operation: Operation, from: u64) -> Self {
        self.parallel_above[operation as usize] = from;
        self
    }

    /// [`with_parallel_above`](Self::with_parallel_above) for every operation.
    #[must_use]
    pub const fn with_all_parallel_above(mut self, from: u64) -> Self {
        self.parallel_above = [from; Operation::ALL.len()];
        self
    }

    /// The same with another number of tokens up to which packed rows of any format are multiplied as they lie.
    #[must_use]
    pub const fn with_gemv_max_tokens(mut self, tokens: usize) -> Self {
        self.gemv_max_tokens = by_format(tokens, tokens, tokens);
        self
    }

    /// The work (see [`Operation::unit`]) from which all threads share `operation`.
    pub const fn parallel_above(&self, operation: Operation) -> u64 {
        self.parallel_above[operation as usize]
    }

    /// Up to how many tokens rows of `format` are multiplied as they lie; 0 for formats that are always unpacked.
    pub fn gemv_max_tokens(&self, format: Format) -> usize {
        Format::ALL
            .iter()
            .position(|known| *known == format)
            .map_or(0, |index| self.gemv_max_tokens[index])
    }

    /// Whether `work` of `operation` is worth all threads.
    #[inline]
    pub(crate) const fn is_parallel(&self, operation: Operation, work: usize) -> bool {
        work as u64 >= self.parallel_above(operation)
    }
}

/// Tokens for each format: `ternary`, `halves` or `blocks` where rows can be multiplied as they lie, else 0.
const fn by_format(ternary: usize, halves: usize, blocks: usize) -> [usize; Format::ALL.len()] {
    let mut tokens = [0; Format::ALL.len()];
    let mut index = 0;
    while index < tokens.len() {
        let format = Format::ALL[index];
        if is_direct(format) {
            tokens[index] = match format {
                Format::F16 => halves,
                Format::Q6K => blocks,
                _ => ternary,
            };
        }
        index += 1;
    }
    tokens
}
