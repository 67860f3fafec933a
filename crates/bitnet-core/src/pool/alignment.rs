//! The alignment of a block: a cache line unless asked otherwise, a page at most.

use crate::{Error, Result};

/// A power of two from 1 to 4096 bytes. Blocks are always aligned to 64 bytes at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alignment(u16);

impl Alignment {
    /// 64 bytes: a cache line, and the width of the widest vector register.
    pub const LINE: Self = Self(64);
    /// 4096 bytes: a page.
    pub const PAGE: Self = Self(4096);

    /// An alignment of `bytes`.
    ///
    /// # Errors
    /// [`Error::Value`] if `bytes` is no power of two or more than 4096.
    pub fn new(bytes: usize) -> Result<Self> {
        match u16::try_from(bytes) {
            Ok(small) if bytes.is_power_of_two() && bytes <= 4096 => Ok(Self(small)),
            _ => Err(Error::Value {
                what: "alignment".into(),
                expected: "a power of two up to 4096".into(),
                found: bytes.to_string(),
            }),
        }
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for Alignment {
    fn default() -> Self {
        Self::LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_up_to_a_page() {
        assert_eq!(Alignment::new(4096).unwrap(), Alignment::PAGE);
        assert_eq!(Alignment::new(1).unwrap().bytes(), 1);
        for bad in [0, 3, 96, 8192, 65536, 65536 + 64, usize::MAX] {
            let error = Alignment::new(bad).unwrap_err().to_string();
            assert!(error.contains(&bad.to_string()), "{error}");
        }
    }
}
