//! Keys and values of a head as a state stores them: how they lie in a block, and how int8 rounds them.
//!
//! A block of [`POSITIONS`] positions holds of each head its keys, transposed, `[dim][POSITIONS]`, so that the lanes of a
//! register are positions, then its values, `[POSITIONS][dim]`; of int8 also the scales of keys and of values, f32
//! `[POSITIONS]` each. A number is what is stored, widened to f32, times the scale, which is exact for every type: attention
//! over rounded keys and values has the bits of attention over the f32 numbers that they stand for.

use super::quantize::round_by;
use super::reduce::absmax_of;
use crate::KvType;
use crate::pool::Buffer;
use bytemuck::Pod;
use half::f16;
use rten_simd::{Isa, SimdOp};
use std::sync::Arc;

/// Positions in a block.
pub(crate) const POSITIONS: usize = 64;

/// A number of a key or a value, as it is stored.
pub(crate) trait Stored: Pod + Send + Sync {
    /// Its type.
    const KV: KvType;
    /// Whether it has a scale.
    const SCALED: bool = matches!(Self::KV, KvType::Int8);

    /// The number, but for its scale.
    fn widen(self) -> f32;
}

impl Stored for f32 {
    const KV: KvType = KvType::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    const KV: KvType = KvType::F16;

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Stored for i8 {
    const KV: KvType = KvType::Int8;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }
}

/// Runs `$body` with `$stored` naming the type in which `$kv` stores numbers.
macro_rules! with_stored {
    ($kv:expr, $stored:ident => $body:expr) => {
        match $kv {
            $crate::KvType::F16 => {
                type $stored = half::f16;
                $body
            }
            $crate::KvType::F32 => {
                type $stored = f32;
                $body
            }
            $crate::KvType::Int8 => {
                type $stored = i8;
                $body
            }
        }
    };
}
pub(crate) use with_stored;

/// Bytes of a head of `dim` columns in a block. Too many for a `usize` stay too many for the pool, which says so.
pub(crate) const fn head_bytes(kv: KvType, dim: usize) -> usize {
    kv.bytes(dim).saturating_mul(2 * POSITIONS)
}

/// Keys and values of one head in a block.
#[derive(Clone, Copy)]
pub(crate) struct HeadBlock<'a, T> {
    /// `[dim][POSITIONS]`.
    pub(crate) keys: &'a [T],
    /// `[POSITIONS][dim]`.
    pub(crate) values: &'a [T],
    /// Scales of the keys and of the values, `[POSITIONS]` each; empty where there are none.
    pub(crate) scales: [&'a [f32]; 2],
}

/// [`HeadBlock`], to be written.
pub(crate) struct HeadBlockMut<'a, T> {
    pub(crate) keys: &'a mut [T],
    pub(crate) values: &'a mut [T],
    pub(crate) scales: [&'a mut [f32]; 2],
}

impl<'a, T: Stored> HeadBlock<'a, T> {
    /// The head whose [`head_bytes`] these are.
    fn new(bytes: &'a [u8], dim: usize) -> Self {
        let section = dim * POSITIONS * size_of::<T>();
        let (keys, rest) = bytes.split_at(section);
        let (values, scales) = rest.split_at(section);
        let scales: &[f32] = bytemuck::cast_slice(scales);
        let (key_scales, value_scales) = scales.split_at(scales.len() / 2);
        Self {
            keys: bytemuck::cast_slice(keys),
            values: bytemuck::cast_slice(values),
            scales: [key_scales, value_scales],
        }
    }

    /// The scale of the key (`which` = 0) or of the value (1) of a position.
    #[inline(always)]
    pub(crate) fn scale(&self, which: usize, position: usize) -> f32 {
        if T::SCALED {
            self.scales[which][position]
        } else {
            1.0
        }
    }

    /// The key of a position.
    pub(crate) fn key(&self, position: usize) -> impl Iterator<Item = f32> {
        let scale = self.scale(0, position);
        let key = self.keys[position..].iter().step_by(POSITIONS);
        key.map(move |stored| stored.widen() * scale)
    }

    /// The value of a position.
    pub(crate) fn value(&self, position: usize) -> impl Iterator<Item = f32> {
        let scale = self.scale(1, position);
        let dim = self.values.len() / POSITIONS;
        let value = self.values[position * dim..][..dim].iter();
        value.map(move |stored| stored.widen() * scale)
    }
}

impl<'a, T: Stored> HeadBlockMut<'a, T> {
    /// The head whose [`head_bytes`] these are.
    pub(crate) fn new(bytes: &'a mut [u8], dim: usize) -> Self {
        let section = dim * POSITIONS * size_of::<T>();
        let (keys, rest) = bytes.split_at_mut(section);
        let (values, scales) = rest.split_at_mut(section);
        let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
        let (key_scales, value_scales) = scales.split_at_mut(scales.len() / 2);
        Self {
            keys: bytemuck::cast_slice_mut(keys),
            values: bytemuck::cast_slice_mut(values),
            scales: [key_scales, value_scales],
        }
    }
}

/// Keys and values of a head, in blocks.
#[derive(Clone, Copy)]
pub(crate) struct KeysValues<'a> {
    /// Of all heads, and of the layers that share them.
    pub(crate) blocks: &'a [Arc<Buffer<u8>>],
    /// Blocks before the first of them, which no row sees.
    pub(crate) skipped: usize,
    /// Where in each block the head begins.
    pub(crate) first: usize,
    /// Columns of a head.
    pub(crate) dim: usize,
    /// The first positions, which take part.
    pub(crate) positions: usize,
    /// Positions that a row attends to: its own and those before it.
    pub(crate) window: usize,
    /// How they are stored.
    pub(crate) kv: KvType,
}

impl<'a> KeysValues<'a> {
    /// Those of the head that comes `head` heads after this one.
    pub(crate) fn of_head(self, head: usize) -> Self {
        Self {
            first: self.first + head * head_bytes(self.kv, self.dim),
            ..self
        }
    }

    /// Keys and values of a block, whose type `T` must be.
    ///
    /// # Panics
    /// If there is no such block, none any more, or it is too short for numbers of `T`.
    #[inline(always)]
    pub(crate) fn block<T: Stored>(&self, block: usize) -> HeadBlock<'a, T> {
        let bytes = &self.blocks[block - self.skipped][self.first..][..head_bytes(T::KV, self.dim)];
        HeadBlock::new(bytes, self.dim)
    }
}

/// The least scale, and the greatest: no product of a scale and a code is subnormal or infinite.
const SCALES: [f32; 2] = [
    f32::from_bits((127 - 110) << 23),
    f32::from_bits((127 + 120) << 23),
];

/// The scale of a head's int8 numbers of which `largest` is the greatest magnitude: a 127th of that, rounded up to 17
/// significant bits. A code has 7, so that their product is exact, and rounding the products again gives the same scale and
/// the same codes.
#[inline(always)]
fn scale_of(largest: f32) -> f32 {
    const DROPPED: u32 = (1 << 7) - 1;
    let bits = (largest / 127.0).to_bits();
    // A carry goes on into the exponent, as it should; infinity comes out as a NaN or itself, and as the greatest scale.
    let scale = f32::from_bits(bits.saturating_add(DROPPED) & !DROPPED);
    let [least, greatest] = SCALES;
    if scale < least {
        least
    } else if scale < greatest {
        scale
    } else {
        greatest
    }
}

/// Rounds the key or the value of a head to int8 and returns its scale. NaN becomes 0 and does not count as a magnitude.
pub(crate) struct RoundHead<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [i8]);

impl SimdOp for RoundHead<'_> {
    type Output = f32;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> f32 {
        let Self(x, q) = self;
        let scale = scale_of(absmax_of(isa, x));
        round_by(isa, x, 1.0 / scale, q);
        // −128 for what is beyond the greatest scale.
        for q in &mut q[..] {
            *q = (*q).max(-127);
        }
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::round_half_even;
    use proptest::prelude::*;
    use rten_simd::SimdOp;

    fn rounded(x: &[f32]) -> (Vec<i8>, f32) {
        let mut q = vec![0; x.len()];
        let scale = RoundHead(x, &mut q).dispatch();
        (q, scale)
    }

    fn check(x: &[f32]) {
        let (q, scale) = rounded(x);
        let largest = x.iter().filter(|x| !x.is_nan());
        let largest = largest.fold(0.0f32, |most, x| most.max(x.abs()));
        assert_eq!(scale, scale_of(largest), "{x:?}");
        for (x, q) in x.iter().zip(&q) {
            let expected = if x.is_nan() {
                0.0
            } else {
                round_half_even((x * (1.0 / scale)).clamp(-127.0, 127.0))
            };
            assert_eq!(f32::from(*q), expected, "{x} of {largest}");
        }
        let back: Vec<f32> = q.iter().map(|q| f32::from(*q) * scale).collect();
        for (q, back) in q.iter().zip(&back) {
            let exact = f64::from(*q) * f64::from(scale);
            assert_eq!(f64::from(*back), exact, "{q} × {scale}");
        }
        let normal = (SCALES[0] * 127.0..SCALES[1] * 126.0).contains(&largest);
        if normal {
            assert!(q.iter().any(|q| q.abs() == 127), "{largest}");
        }
        let (again, scale_again) = rounded(&back);
        assert_eq!(again, q);
        if q.iter().any(|q| *q != 0) {
            assert_eq!(scale_again, scale, "{largest}");
        }
    }

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![
            any::<u32>().prop_map(f32::from_bits),
            -8.0f32..8.0,
            prop::sample::select(vec![
                0.0,
                -0.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN_POSITIVE,
                1e-45,
                127.0 * 0.75,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn int8_of_any_numbers_is_rounded_once(x in prop::collection::vec(number(), 0..300)) {
            check(&x);
        }

        #[test]
        fn int8_of_plain_numbers_is_rounded_once(
            x in prop::collection::vec(-3.0f32..3.0, 1..130),
            exponent in -130i32..126,
        ) {
            let factor = 2.0f32.powi(exponent.max(-126)) * 2.0f32.powi((exponent + 126).min(0));
            check(&x.iter().map(|x| x * factor).collect::<Vec<_>>());
        }
    }

    #[test]
    fn extremes_have_a_scale() {
        for x in [
            0.0,
            1e-45,
            f32::MIN_POSITIVE,
            1e38,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ] {
            check(&[x]);
            check(&[x, -x, 1.0]);
        }
    }
}
