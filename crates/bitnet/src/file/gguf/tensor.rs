//! Tensor types of GGUF and the view of one tensor.

use bitnet_quant::{Format, I2sLayout};

use super::super::Bytes;
use crate::{Error, Result};

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// How a tensor's elements are stored, by the numbers that GGUF files use.
        ///
        /// Many of these can be listed and sized but not run; [`GgufTensor::format`] knows which.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[non_exhaustive]
        pub enum GgmlType { $($variant = $id,)* }

        impl GgmlType {
            /// Every type known here.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that files and tools use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements that share a block, and the bytes of one block.
            ///
            /// I2_S counts whole tensors, see [`GgmlType::data_bytes`]; for Q2_0 this is the group of 64.
            pub const fn block(self) -> (u64, u64) {
                match self { $(Self::$variant => ($block, $bytes),)* }
            }
        }
    };
}

ggml_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2_K = 10, "Q2_K", 256, 84;
    Q3_K = 11, "Q3_K", 256, 110;
    Q4_K = 12, "Q4_K", 256, 144;
    Q5_K = 13, "Q5_K", 256, 176;
    Q6_K = 14, "Q6_K", 256, 210;
    Q8_K = 15, "Q8_K", 256, 292;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    IQ1_S = 19, "IQ1_S", 256, 50;
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    IQ3_S = 21, "IQ3_S", 256, 110;
    IQ2_S = 22, "IQ2_S", 256, 82;
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1_M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    I2_S = 36, "I2_S", 4, 1;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
    PQ2_0 = 142, "PQ2_0", 128, 34;
    PTQ1_0 = 143, "PTQ1_0", 128, 28;
}

/// Bytes after the codes of an I2_S tensor: its f32 scale and 28 of padding.
const I2S_TAIL: u64 = 32;

impl GgmlType {
    /// The type with number `id`.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.id() == id)
    }

    /// The number of this type in files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a tensor of `rows` rows of `cols` elements: `None` if a row is no whole number of blocks or
    /// the size overflows.
    pub fn data_bytes(self, rows: u64, cols: u64) -> Option<u64> {
        let (block, bytes) = self.block();
        if self == Self::I2_S {
            let elements = rows.checked_mul(cols)?;
            let codes = elements.is_multiple_of(block).then_some(elements / block)?;
            return codes.checked_add(I2S_TAIL);
        }
        grouped(rows, cols, block, bytes)
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl From<Format> for GgmlType {
    /// The type that stores `format`. The two layouts of I2_S share a number. Q2_0 in groups of 128 gets that of PQ2_0, which
    /// leaves no doubt about the group.
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::F16 => Self::F16,
            Format::Bf16 => Self::BF16,
            Format::Q4_0 => Self::Q4_0,
            Format::Q8_0 => Self::Q8_0,
            Format::Q4K => Self::Q4_K,
            Format::Q6K => Self::Q6_K,
            Format::Tq1_0 => Self::TQ1_0,
            Format::Ptq1_0 => Self::PTQ1_0,
            Format::Tq2_0 => Self::TQ2_0,
            Format::I2s(_) => Self::I2_S,
            Format::Q2_0 => Self::Q2_0,
            Format::Q2_0Group128 => Self::PQ2_0,
        }
    }
}

/// Bytes of `rows × cols` elements in blocks along the row.
fn grouped(rows: u64, cols: u64, block: u64, bytes: u64) -> Option<u64> {
    let blocks = cols.is_multiple_of(block).then_some(cols / block)?;
    blocks.checked_mul(bytes)?.checked_mul(rows)
}

/// Bytes of a Q2_0 tensor in groups of 64 and of 128: both were published under one number.
pub(super) fn q2_0_sizes(rows: u64, cols: u64) -> [Option<u64>; 2] {
    [grouped(rows, cols, 64, 18), grouped(rows, cols, 128, 34)]
}

/// One tensor: its description and its bytes, which stay in the file.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Elements along each dimension, fastest first: `ne[0]` is the row length, the K of a product. One to four,
    /// none of them 0, their product a `usize`.
    pub ne: Vec<u64>,
    /// How the elements are stored.
    pub kind: GgmlType,
    /// Where the data begins, in bytes from the start of the data section.
    pub offset: u64,
    /// Exactly the tensor's bytes.
    pub data: Bytes,
}

impl GgufTensor {
    /// The row length: elements along the fastest dimension.
    pub fn cols(&self) -> usize {
        self.ne.first().copied().unwrap_or(1) as usize
    }

    /// The number of rows: the product of all other dimensions.
    pub fn rows(&self) -> usize {
        self.ne.iter().skip(1).product::<u64>() as usize
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.ne.iter().product::<u64>() as usize
    }

    /// The codec that reads the rows. The file does not say which byte order I2_S has, so `layout` does; the
    /// group size of Q2_0 follows from the size of the data. `file` is named in errors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for types without a codec, [`Error::Tensor`] if the row length does not fit.
    pub fn format(&self, layout: I2sLayout, file: &str) -> Result<Format> {
        let format = match self.kind {
            GgmlType::F32 => Format::F32,
            GgmlType::F16 => Format::F16,
            GgmlType::BF16 => Format::Bf16,
            GgmlType::Q4_0 => Format::Q4_0,
            GgmlType::Q8_0 => Format::Q8_0,
            GgmlType::Q4_K => Format::Q4K,
            GgmlType::Q6_K => Format::Q6K,
            GgmlType::TQ1_0 => Format::Tq1_0,
            GgmlType::TQ2_0 => Format::Tq2_0,
            GgmlType::PTQ1_0 => Format::Ptq1_0,
            GgmlType::I2_S => Format::I2s(layout),
            GgmlType::PQ2_0 => Format::Q2_0Group128,
            GgmlType::Q2_0 => {
                let sizes = q2_0_sizes(self.rows() as u64, self.cols() as u64);
                match sizes.map(|size| size == Some(self.data.len() as u64)) {
                    [true, _] => Format::Q2_0,
                    [_, true] => Format::Q2_0Group128,
                    _ => {
                        return Err(Error::tensor(
                            file,
                            &self.name,
                            "the size of a Q2_0 tensor in groups of 64 or 128",
                            format_args!("{} bytes for {:?}", self.data.len(), self.ne),
                        ));
                    }
                }
            }
            other => {
                return Err(Error::Unsupported {
                    file: file.to_owned(),
                    what: format!("the type {other} of tensor {}", self.name),
                    advice: "use a file whose matrices are I2_S, TQ1_0, TQ2_0, Q2_0, PQ2_0 or PTQ1_0 and whose other tensors \
                             are F32, F16, BF16, Q8_0, Q6_K, Q4_K or Q4_0"
                        .to_owned(),
                });
            }
        };
        if self.cols().is_multiple_of(format.block_len()) {
            Ok(format)
        } else if self.kind == GgmlType::I2_S {
            Err(Error::Unsupported {
                file: file.to_owned(),
                what: format!(
                    "I2_S tensor {} with rows of {}, no multiple of {} elements",
                    self.name,
                    self.cols(),
                    format.block_len()
                ),
                advice: "use the model's safetensors, whose rows may have any length".to_owned(),
            })
        } else {
            Err(Error::tensor(
                file,
                &self.name,
                format_args!(
                    "rows of a multiple of {} elements for {format}",
                    format.block_len()
                ),
                format_args!("rows of {}", self.cols()),
            ))
        }
    }

    /// The bytes of the rows alone: all of the data, without the scale that follows the codes of I2_S.
    pub fn row_data(&self) -> Bytes {
        match self.kind {
            GgmlType::I2_S => self.data.slice(..self.elements() / 4),
            _ => self.data.clone(),
        }
    }

    /// The scale of an I2_S tensor, by which every code −1, 0, +1 is multiplied.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor is of another type or the scale is not finite.
    pub fn i2s_scale(&self, file: &str) -> Result<f32> {
        let field = (self.kind == GgmlType::I2_S)
            .then(|| self.data.get(self.elements() / 4..)?.first_chunk::<4>())
            .flatten();
        let Some(field) = field else {
            return Err(Error::tensor(file, &self.name, "type I2_S", self.kind));
        };
        let scale = f32::from_le_bytes(*field);
        if scale.is_finite() {
            Ok(scale)
        } else {
            Err(Error::tensor(file, &self.name, "a finite scale", scale))
        }
    }
}
