//! What the CPU backend asks at every operation: a few numbers to compare with.

use super::{Cut, KernelTimes, Operation};
use crate::cpu::Isa;
use bitnet_quant::Format;

/// Formats whose rows can be multiplied without unpacking them first.
pub(super) const DIRECT_FORMATS: [Format; 7] = [
    Format::I2s(bitnet_quant::I2sLayout::A),
    Format::I2s(bitnet_quant::I2sLayout::B),
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Q2_0,
    Format::Q2_0Group128,
    Format::F16,
];

/// Sizes at which the CPU backend changes its way of working. None of them changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossovers {
    /// Work from which all threads share an operation, in the order of [`Operation::ALL`].
    split_from: [u64; Operation::ALL.len()],
    /// Tokens up to which rows are multiplied as they lie, in the order of [`DIRECT_FORMATS`].
    direct_up_to: [usize; DIRECT_FORMATS.len()],
}

impl Crossovers {
    /// Built-in numbers for a kernel set, for machines that were not measured.
    pub const fn built_in(isa: Isa) -> Self {
        let (split_from, direct_up_to) = match isa {
            Isa::Scalar => (
                [65_536, 32_768, 16_384, 262_144, 65_536],
                [4, 4, 4, 4, 4, 4, 1],
            ),
            _ => (
                [131_072, 65_536, 65_536, 524_288, 65_536],
                [8, 8, 8, 8, 8, 8, 3],
            ),
        };
        Self {
            split_from,
            direct_up_to,
        }
    }

    /// What the measured curves say. The built-in number stays where there is no curve, and where all threads were not
    /// measured to pay at any size: a machine busy with something else looks like that.
    pub fn measured(isa: Isa, times: &KernelTimes) -> Self {
        let mut crossovers = Self::built_in(isa);
        for (operation, curve) in &times.split {
            if let Some(cut) = curve.cut().filter(|cut| cut.reached) {
                crossovers = crossovers.with_split(*operation, cut.from);
            }
        }
        for (place, format) in crossovers.direct_up_to.iter_mut().zip(DIRECT_FORMATS) {
            let cut = times.direct_curve(format).and_then(|curve| curve.cut());
            if let Some(Cut { from, .. }) = cut {
                *place = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
            }
        }
        crossovers
    }

    /// The same with another work from which threads share `operation`: 0 for always, `u64::MAX` for never.
    #[must_use]
    pub const fn with_split(mut self, operation: Operation, from: u64) -> Self {
        self.split_from[operation as usize] = from;
        self
    }

    /// [`with_split`](Self::with_split) for every operation.
    #[must_use]
    pub const fn with_every_split(mut self, from: u64) -> Self {
        self.split_from = [from; Operation::ALL.len()];
        self
    }

    /// The same with another number of tokens up to which packed rows of any format are multiplied as they lie.
    #[must_use]
    pub const fn with_direct(mut self, tokens: usize) -> Self {
        self.direct_up_to = [tokens; DIRECT_FORMATS.len()];
        self
    }

    /// The work (see [`Operation::unit`]) from which all threads share `operation`.
    pub const fn split_from(&self, operation: Operation) -> u64 {
        self.split_from[operation as usize]
    }

    /// Up to how many tokens rows of `format` are multiplied as they lie; 0 for formats that are always unpacked.
    pub fn direct_up_to(&self, format: Format) -> usize {
        DIRECT_FORMATS
            .iter()
            .position(|direct| *direct == format)
            .map_or(0, |index| self.direct_up_to[index])
    }

    /// Whether `work` of `operation` is worth all threads.
    #[inline]
    pub(crate) const fn splits(&self, operation: Operation, work: usize) -> bool {
        work as u64 >= self.split_from(operation)
    }
}
