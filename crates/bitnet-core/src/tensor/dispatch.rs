//! From a type known at run time to one known to the compiler.

/// Evaluates the body with `$T` as the Rust type of a [`BitNetDType`](super::BitNetDType).
macro_rules! with_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::BitNetDType::F32 => {
                type $T = f32;
                $body
            }
            $crate::tensor::BitNetDType::F16 => {
                type $T = half::f16;
                $body
            }
            $crate::tensor::BitNetDType::BF16 => {
                type $T = half::bf16;
                $body
            }
            $crate::tensor::BitNetDType::I8 => {
                type $T = i8;
                $body
            }
            $crate::tensor::BitNetDType::U8 | $crate::tensor::BitNetDType::Bool => {
                type $T = u8;
                $body
            }
            $crate::tensor::BitNetDType::I32 => {
                type $T = i32;
                $body
            }
            $crate::tensor::BitNetDType::I64 => {
                type $T = i64;
                $body
            }
        }
    };
}

pub(super) use with_type;
