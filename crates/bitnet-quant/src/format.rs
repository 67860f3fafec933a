//! The packed weight formats: how many elements share a block, and how many bytes it takes.
//!
//! A matrix of `rows × cols` is stored row after row; a row is a whole number of blocks. Layouts are
//! described in the module of each codec.

use crate::QuantError;

/// Byte order of the 2-bit fields inside an I2_S block. Files carry no marker for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum I2sLayout {
    /// 128 elements in 32 bytes, elements 0–31 in bits 7:6. Published files use it.
    #[default]
    A,
    /// 64 elements in 16 bytes, elements 0–15 in bits 7:6. Written by some NEON builds of bitnet.cpp.
    B,
}

/// How the elements of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE binary32, little-endian.
    F32,
    /// IEEE binary16, little-endian.
    F16,
    /// The upper half of binary32, little-endian.
    Bf16,
    /// 32 elements: f16 scale, 16 bytes of nibbles.
    Q4_0,
    /// 32 elements: f16 scale, 32 signed bytes.
    Q8_0,
    /// 256 elements: f16 factors of scales and minimums, eight 6-bit ones of each, 4-bit codes.
    Q4K,
    /// 256 elements: 6-bit codes, sixteen i8 scales, f16 super-scale.
    Q6K,
    /// 256 ternary elements in base 3: 52 bytes, then the f16 scale.
    Tq1_0,
    /// 128 ternary elements in base 3: 26 bytes, then the f16 scale.
    Ptq1_0,
    /// 256 ternary elements of 2 bits: 64 bytes, then the f16 scale.
    Tq2_0,
    /// Ternary elements of 2 bits; one f32 scale for the whole tensor, kept outside the rows.
    I2s(I2sLayout),
    /// 64 elements: f16 scale, then 16 bytes of 2-bit codes, lowest bits first.
    Q2_0,
    /// 128 elements: f16 scale, then 32 bytes of 2-bit codes, lowest bits first. Files call it PQ2_0, and before June 2026
    /// they gave it the name and number of Q2_0.
    Q2_0Group128,
}

/// The kind of a format's numbers. Code that treats all ternary formats alike matches on this instead of the format, so that
/// another ternary format leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Those of [`Format::F32`].
    F32,
    /// Those of [`Format::F16`].
    F16,
    /// Those of [`Format::Bf16`].
    Bf16,
    /// Those of [`Format::Q4_0`].
    Q4_0,
    /// Those of [`Format::Q8_0`].
    Q8_0,
    /// Those of [`Format::Q4K`].
    Q4K,
    /// Those of [`Format::Q6K`].
    Q6K,
    /// −1, 0 or +1 times a scale (a 2-bit code 3 counts as +2).
    Ternary(ScaleOwner),
}

/// Owner of a scale of ternary elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleOwner {
    /// A block, which keeps it.
    Block,
    /// The whole tensor: the scale is kept outside the rows.
    Tensor,
}

/// The table of all formats: name, elements and bytes of a block, and kind of the numbers.
macro_rules! formats {
    ($($variant:ident $(($layout:path))? = $name:literal, $elements:literal, $bytes:literal, $encoding:expr;)*) => {
        impl Format {
            /// Every format.
            pub const ALL: &'static [Self] = &[$(Self::$variant $(($layout))?),*];

            /// The name that people know it by.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant $(($layout))? => $name,)* }
            }

            /// Elements that share one block; a row length is a multiple of it.
            pub const fn block_len(self) -> usize {
                match self { $(Self::$variant $(($layout))? => $elements,)* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant $(($layout))? => $bytes,)* }
            }

            /// The kind of its numbers.
            pub const fn encoding(self) -> Encoding {
                match self { $(Self::$variant $(($layout))? => $encoding,)* }
            }
        }
    };
}

formats! {
    F32 = "F32", 1, 4, Encoding::F32;
    F16 = "F16", 1, 2, Encoding::F16;
    Bf16 = "BF16", 1, 2, Encoding::Bf16;
    Q4_0 = "Q4_0", 32, 18, Encoding::Q4_0;
    Q8_0 = "Q8_0", 32, 34, Encoding::Q8_0;
    Q4K = "Q4_K", 256, 144, Encoding::Q4K;
    Q6K = "Q6_K", 256, 210, Encoding::Q6K;
    Tq1_0 = "TQ1_0", 256, 54, Encoding::Ternary(ScaleOwner::Block);
    Ptq1_0 = "PTQ1_0", 128, 28, Encoding::Ternary(ScaleOwner::Block);
    Tq2_0 = "TQ2_0", 256, 66, Encoding::Ternary(ScaleOwner::Block);
    I2s(I2sLayout::A) = "I2_S", 128, 32, Encoding::Ternary(ScaleOwner::Tensor);
    I2s(I2sLayout::B) = "I2_S (layout B)", 64, 16, Encoding::Ternary(ScaleOwner::Tensor);
    Q2_0 = "Q2_0", 64, 18, Encoding::Ternary(ScaleOwner::Block);
    Q2_0Group128 = "Q2_0 (group 128)", 128, 34, Encoding::Ternary(ScaleOwner::Block);
}

impl Format {
    /// Whether every element is −1, 0 or +1 times a scale (a 2-bit code 3 counts as +2).
    pub const fn is_ternary(self) -> bool {
        matches!(self.encoding(), Encoding::Ternary(_))
    }

    /// Bytes of a row of `cols` elements.
    ///
    /// # Errors
    /// [`QuantError::Length`] if `cols` is not a whole number of blocks, or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Result<usize, QuantError> {
        let blocks = cols / self.block_len();
        match blocks.checked_mul(self.block_bytes()) {
            Some(bytes) if cols.is_multiple_of(self.block_len()) => Ok(bytes),
            _ => Err(QuantError::Length {
                what: "row",
                format: self,
                expected: self.block_len(),
                found: cols,
            }),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
