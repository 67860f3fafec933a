//! From a type known at run time to one known to the compiler.

/// Evaluates the body with `$T` as the Rust type of a [`BitNetDType`](crate::BitNetDType).
macro_rules! with_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::BitNetDType::F32 => {
                type $T = f32;
                $body
            }
            $crate::BitNetDType::F16 => {
                type $T = half::f16;
                $body
            }
            $crate::BitNetDType::BF16 => {
                type $T = half::bf16;
                $body
            }
            $crate::BitNetDType::I8 => {
                type $T = i8;
                $body
            }
            $crate::BitNetDType::U8 | $crate::BitNetDType::Bool => {
                type $T = u8;
                $body
            }
            $crate::BitNetDType::I32 => {
                type $T = i32;
                $body
            }
            $crate::BitNetDType::I64 => {
                type $T = i64;
                $body
            }
        }
    };
}

pub(crate) use with_type;
