//! What an element of a tensor is.

use half::{bf16, f16};

/// The type of a tensor's elements. Packed ternary weights are no element type: they live in
/// [`BitLinear`](crate::BitLinear).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitNetDType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl BitNetDType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I8,
        Self::U8,
        Self::I32,
        Self::I64,
        Self::Bool,
    ];

    /// Bytes of one element; also its alignment.
    pub const fn size(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it holds fractions.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Its name, as in "f32".
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        }
    }
}

impl std::fmt::Display for BitNetDType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A Rust type that elements can be read and written as. `u8` also reads [`BitNetDType::Bool`].
pub trait Element: bytemuck::Pod + PartialOrd + Send + Sync + std::fmt::Debug {
    /// The tensor type it is.
    const DTYPE: BitNetDType;

    /// Whether elements of `dtype` can be read as this type.
    fn reads(dtype: BitNetDType) -> bool {
        dtype == Self::DTYPE
    }

    /// The nearest f64 (exact but for large i64).
    fn to_f64(self) -> f64;

    /// The nearest value of this type; floats to integers truncate and saturate, NaN gives 0.
    fn from_f64(value: f64) -> Self;

    /// As i64; floats truncate and saturate, NaN gives 0.
    fn to_i64(self) -> i64;

    /// From i64; smaller integers wrap, floats round to nearest even.
    fn from_i64(value: i64) -> Self;
}

macro_rules! integer {
    ($type:ty, $dtype:ident $(, $reads:pat)?) => {
        impl Element for $type {
            const DTYPE: BitNetDType = BitNetDType::$dtype;
            $(fn reads(dtype: BitNetDType) -> bool {
                matches!(dtype, $reads)
            })?
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(value: f64) -> Self {
                value as Self
            }
            fn to_i64(self) -> i64 {
                i64::from(self)
            }
            fn from_i64(value: i64) -> Self {
                value as Self
            }
        }
    };
}

macro_rules! float {
    ($type:ty, $dtype:ident, $from:expr, $from_i64:expr) => {
        impl Element for $type {
            const DTYPE: BitNetDType = BitNetDType::$dtype;
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
            fn to_i64(self) -> i64 {
                f64::from(self) as i64
            }
            fn from_i64(value: i64) -> Self {
                $from_i64(value)
            }
        }
    };
}

integer!(i8, I8);
integer!(u8, U8, BitNetDType::U8 | BitNetDType::Bool);
integer!(i32, I32);
integer!(i64, I64);
float!(f32, F32, |v| v as f32, |v| v as f32);
float!(f16, F16, f16::from_f64, |v| f16::from_f64(v as f64));
float!(bf16, BF16, bf16::from_f64, |v| bf16::from_f64(v as f64));
