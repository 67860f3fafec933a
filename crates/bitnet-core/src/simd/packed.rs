//! f32 times packed weights: rows decoded sixteen weights at a time, in registers, on the way into their products.
//!
//! Every format is a run of blocks, and every block a run of sixteens that become sixteen lanes by the operations of
//! [`Format::decode_row`], in its order. Product `i` of a row goes to lane `i mod 16`, multiplied and then added, and
//! the lanes end in the fixed tree: the bits are those of `decode_row` followed by [`dot`](super::dot).

use super::convert::{has_f16, widen_f16, widen_halves};
use super::lanes::LANES;
use crate::math::tree_sum;
use bitnet_quant::{Encoding, Format};
use rten_simd::ops::{BitOps, Extend, IntOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, f16};

/// Rows that are multiplied together: they share the loads of x, and are as many streams from memory.
pub(crate) const ROWS: usize = 4;
/// Bytes that are under way from memory while rows are decoded, as many as it delivers in the time that it takes to
/// answer: what hardware foresees begins anew at every page.
const UNDER_WAY: usize = 4 * 2048;
/// Bytes that come from memory together.
const LINE: usize = 64;
/// Registers that sixteen lanes fill at most.
const REGISTERS: usize = 4;

/// Sixteen lanes: as many registers as they fill, and zeros.
type Sixteen<I> = [<I as Isa>::F32; REGISTERS];

/// A dense format: how a block of `BYTES` bytes becomes sixteens of lanes, `STEPS` of them in each of `TURNS` turns.
trait Packed<const BYTES: usize> {
    /// Parts of a block that are decoded alike.
    const TURNS: usize = 1;
    /// Sixteens in a turn, at most eight.
    const STEPS: usize;
    /// Whether rows come from memory, not from the caches.
    const FAR: bool = true;

    /// What all sixteens of a block need.
    type Open<I: Isa>: Copy;

    /// Room for it.
    fn closed<I: Isa>(isa: I) -> Self::Open<I>;

    fn open<I: Isa>(isa: I, block: &[u8; BYTES], open: &mut Self::Open<I>);

    /// The sixteen `STEPS · turn + STEP` of a block. What depends on the step alone is known to the compiler.
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; BYTES],
        open: &Self::Open<I>,
        turn: usize,
    ) -> Sixteen<I>;
}

/// Runs `$body` for each step of a turn of `$packed`, `$step` being a constant in it.
macro_rules! for_each_step {
    ($packed:ident, $step:ident => $body:block) => {
        for_each_step!(@ $packed, $step => $body, 0 1 2 3 4 5 6 7)
    };
    (@ $packed:ident, $step:ident => $body:block, $($n:literal)*) => {
        $(
            if $packed::STEPS > $n {
                const $step: usize = $n;
                $body
            }
        )*
    };
}

/// Calls `$function` for the dense format and its block, or gives `$other` for any other format.
macro_rules! with_packed {
    ($format:expr, $function:ident::<$isa:ident>($($arg:expr),*), else $other:expr) => {
        match $format.encoding() {
            Encoding::F32 => $function::<$isa, F32, 64>($($arg),*),
            Encoding::F16 => $function::<$isa, F16, 64>($($arg),*),
            Encoding::Bf16 => $function::<$isa, Bf16, 64>($($arg),*),
            Encoding::Q8_0 => $function::<$isa, Q8_0, 34>($($arg),*),
            // No model of a browser has it.
            #[cfg(not(target_arch = "wasm32"))]
            Encoding::Q4K => $function::<$isa, Q4K, 144>($($arg),*),
            #[cfg(target_arch = "wasm32")]
            Encoding::Q4K => $other,
            Encoding::Q6K => $function::<$isa, Q6K, 210>($($arg),*),
            Encoding::Q4_0 => $function::<$isa, Q4_0, 18>($($arg),*),
            Encoding::Ternary(_) => $other,
        }
    };
}

mod dot;

pub(crate) use dot::{DotPacked, DotTile};

/// Whether rows of `format` are decoded here.
pub(crate) fn is_dense(format: Format) -> bool {
    let known_elsewhere = cfg!(target_arch = "wasm32") && matches!(format, Format::Q4K);
    !format.is_ternary() && !known_elsewhere
}

/// The weights of a row of a dense format, as many as `out` takes; any other format leaves it alone.
pub(crate) struct Unpack<'a> {
    pub(crate) format: Format,
    pub(crate) row: &'a [u8],
    pub(crate) out: &'a mut [f32],
}

impl SimdOp for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { format, row, out } = self;
        with_packed!(format, unpack::<I>(isa, row, out), else ());
    }
}

/// Registers that sixteen lanes fill.
#[inline(always)]
fn registers<I: Isa>(isa: I) -> usize {
    (LANES / isa.f32().len()).min(REGISTERS)
}

#[inline(always)]
fn zeros<I: Isa>(isa: I) -> Sixteen<I> {
    [isa.f32().zero(); REGISTERS]
}

#[inline(always)]
fn load<I: Isa>(isa: I, x: &[f32; LANES]) -> Sixteen<I> {
    let ops = isa.f32();
    let mut out = zeros(isa);
    for (out, x) in out.iter_mut().zip(x.chunks_exact(ops.len())) {
        *out = ops.load(x);
    }
    out
}

#[inline(always)]
fn store<I: Isa>(isa: I, x: &Sixteen<I>, out: &mut [f32; LANES]) {
    let ops = isa.f32();
    for (x, out) in x.iter().zip(out.chunks_exact_mut(ops.len())) {
        ops.store(*x, out);
    }
}

/// laneᵢ + xᵢ·wᵢ.
#[inline(always)]
fn multiply_add<I: Isa>(isa: I, lanes: &mut Sixteen<I>, x: &Sixteen<I>, w: &Sixteen<I>) {
    let ops = isa.f32();
    for i in 0..registers(isa) {
        lanes[i] = ops.add(lanes[i], ops.mul(x[i], w[i]));
    }
}

/// The sum of sixteen lanes.
#[inline(always)]
fn finish<I: Isa>(isa: I, lanes: &Sixteen<I>) -> f32 {
    let mut array = [0.0; LANES];
    store(isa, lanes, &mut array);
    tree_sum(array)
}

/// Prefetches what lies behind a block of one of `STREAMS` rows that are decoded together. Other rows lie behind them.
#[inline(always)]
pub(crate) fn prefetch_ahead<const STREAMS: usize, I: Isa>(isa: I, block: &[u8]) {
    for at in (0..block.len()).step_by(LINE) {
        let place = UNDER_WAY / STREAMS + at;
        isa.u8().prefetch(block.as_ptr().wrapping_add(place));
    }
}

#[inline(always)]
fn unpack<I: Isa, P: Packed<BYTES>, const BYTES: usize>(isa: I, row: &[u8], out: &mut [f32]) {
    let width = P::TURNS * P::STEPS * LANES;
    let (blocks, rest) = row.as_chunks::<BYTES>();
    let count = blocks.len().min(out.len() / width);
    let (whole, out) = out.split_at_mut(count * width);
    for (out, block) in whole.chunks_exact_mut(width).zip(blocks) {
        prefetch_ahead::<1, I>(isa, block);
        unpack_block::<I, P, BYTES>(isa, block, out);
    }
    // What is left of the row, or of the block that only in part is wanted.
    let mut last = [0; BYTES];
    let bytes = match blocks.get(count) {
        Some(block) => block,
        None => rest,
    };
    last[..bytes.len()].copy_from_slice(bytes);
    let wanted = out.len().min(bytes.len() * width / BYTES);
    if wanted > 0 {
        let mut values = [0.0; 256];
        unpack_block::<I, P, BYTES>(isa, &last, &mut values[..width]);
        out[..wanted].copy_from_slice(&values[..wanted]);
    }
}

#[inline(always)]
fn unpack_block<I: Isa, P: Packed<BYTES>, const BYTES: usize>(
    isa: I,
    block: &[u8; BYTES],
    out: &mut [f32],
) {
    let mut open = P::closed(isa);
    P::open(isa, block, &mut open);
    for (turn, out) in out.chunks_exact_mut(P::STEPS * LANES).enumerate() {
        let out = out.as_chunks_mut::<LANES>().0;
        for_each_step!(P, STEP => {
            let w = P::sixteen::<I, STEP>(isa, block, &open, turn);
            store(isa, &w, &mut out[STEP]);
        });
    }
}

/// A whole register of bytes from the front of `bytes`.
#[inline(always)]
fn bytes_at<I: Isa>(isa: I, bytes: &[u8]) -> I::U8 {
    let ops = isa.u8();
    ops.load(&bytes[..ops.len()])
}

/// The sixteen `STEP` of 64 bytes that hold 32 numbers of two bytes. Each register of them gives two of floats.
macro_rules! halves {
    ($isa:ident, $block:ident, $step:ident, $x:ident => $pair:expr) => {{
        let mut out = zeros($isa);
        let width = $isa.u8().len();
        if width == $block.len() {
            let $x = bytes_at($isa, $block).reinterpret_cast();
            out[0] = $pair[$step];
        } else {
            for j in 0..(32 / width).min(REGISTERS / 2) {
                let $x = bytes_at($isa, &$block[32 * $step + width * j..]).reinterpret_cast();
                [out[2 * j], out[2 * j + 1]] = $pair;
            }
        }
        out
    }};
}

struct F32;

impl Packed<64> for F32 {
    const STEPS: usize = 1;
    /// Rows of other formats are unpacked to these just before.
    const FAR: bool = false;
    type Open<I: Isa> = ();

    #[inline(always)]
    fn closed<I: Isa>(_: I) {}

    #[inline(always)]
    fn open<I: Isa>(_: I, _: &[u8; 64], (): &mut ()) {}

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 64],
        (): &(),
        _: usize,
    ) -> Sixteen<I> {
        let mut out = zeros(isa);
        for (out, bytes) in out.iter_mut().zip(block.chunks_exact(isa.u8().len())) {
            *out = bytes_at(isa, bytes).reinterpret_cast();
        }
        out
    }
}

struct F16;

impl Packed<64> for F16 {
    const STEPS: usize = 2;
    type Open<I: Isa> = ();

    #[inline(always)]
    fn closed<I: Isa>(_: I) {}

    #[inline(always)]
    fn open<I: Isa>(_: I, _: &[u8; 64], (): &mut ()) {}

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 64],
        (): &(),
        _: usize,
    ) -> Sixteen<I> {
        halves!(isa, block, STEP, x => widen_halves(isa, x))
    }
}

struct Bf16;

impl Packed<64> for Bf16 {
    const STEPS: usize = 2;
    type Open<I: Isa> = ();

    #[inline(always)]
    fn closed<I: Isa>(_: I) {}

    #[inline(always)]
    fn open<I: Isa>(_: I, _: &[u8; 64], (): &mut ()) {}

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 64],
        (): &(),
        _: usize,
    ) -> Sixteen<I> {
        let (int, half) = (isa.i32(), isa.i16());
        halves!(isa, block, STEP, x => [
            int.shift_left::<16>(half.extend_low(x)).reinterpret_cast(),
            int.shift_left::<16>(half.extend_high(x)).reinterpret_cast()
        ])
    }
}

/// A binary16 in every lane, as f32.
#[inline(always)]
fn splat_f16<I: Isa>(isa: I, bytes: [u8; 2]) -> I::F32 {
    let bits = u16::from_le_bytes(bytes);
    if has_f16(isa) {
        let half = isa.f16();
        return half.extend_low(half.splat(f16::from_bits(bits)));
    }
    widen_f16(isa, isa.i32().splat(i32::from(bits)))
}

/// Sixteen bytes as signed integers, `less` subtracted, as floats, times `scale`. The compiler makes a widening of the loop.
#[inline(always)]
fn scaled<I: Isa>(isa: I, codes: [u8; LANES], less: i8, scale: I::F32) -> Sixteen<I> {
    let ops = isa.f32();
    let mut floats = [0.0; LANES];
    for i in 0..LANES {
        floats[i] = f32::from(codes[i] as i8 - less);
    }
    let mut out = load(isa, &floats);
    for out in &mut out[..registers(isa)] {
        *out = ops.mul(*out, scale);
    }
    out
}

/// Sixteen bytes from `at` on.
#[inline(always)]
fn sixteen_bytes(bytes: &[u8], at: usize) -> [u8; LANES] {
    let mut out = [0; LANES];
    out.copy_from_slice(&bytes[at..at + LANES]);
    out
}

struct Q8_0;

impl Packed<34> for Q8_0 {
    const STEPS: usize = 2;
    /// The block's scale.
    type Open<I: Isa> = I::F32;

    #[inline(always)]
    fn closed<I: Isa>(isa: I) -> I::F32 {
        isa.f32().zero()
    }

    #[inline(always)]
    fn open<I: Isa>(isa: I, block: &[u8; 34], scale: &mut I::F32) {
        *scale = splat_f16(isa, [block[0], block[1]]);
    }

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 34],
        scale: &I::F32,
        _: usize,
    ) -> Sixteen<I> {
        let codes = sixteen_bytes(block, 2 + LANES * STEP);
        scaled(isa, codes, 0, *scale)
    }
}

struct Q4_0;

impl Packed<18> for Q4_0 {
    const STEPS: usize = 2;
    /// The block's scale.
    type Open<I: Isa> = I::F32;

    #[inline(always)]
    fn closed<I: Isa>(isa: I) -> I::F32 {
        isa.f32().zero()
    }

    #[inline(always)]
    fn open<I: Isa>(isa: I, block: &[u8; 18], scale: &mut I::F32) {
        *scale = splat_f16(isa, [block[0], block[1]]);
    }

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 18],
        scale: &I::F32,
        _: usize,
    ) -> Sixteen<I> {
        let mut codes = sixteen_bytes(block, 2);
        for code in &mut codes {
            *code = *code >> (4 * STEP) & 15;
        }
        scaled(isa, codes, 8, *scale)
    }
}

#[cfg(not(target_arch = "wasm32"))]
struct Q4K;

/// d times the scale of each of eight groups, and dmin times its minimum.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy)]
struct OpenQ4K {
    scales: [f32; 8],
    minimums: [f32; 8],
}

#[cfg(not(target_arch = "wasm32"))]
impl Packed<144> for Q4K {
    const TURNS: usize = 2;
    const STEPS: usize = 8;
    type Open<I: Isa> = OpenQ4K;

    #[inline(always)]
    fn closed<I: Isa>(_: I) -> OpenQ4K {
        OpenQ4K {
            scales: [0.0; 8],
            minimums: [0.0; 8],
        }
    }

    #[inline(always)]
    fn open<I: Isa>(isa: I, block: &[u8; 144], open: &mut OpenQ4K) {
        // The scales of all groups, then the minimums.
        let mut codes = [0; LANES];
        for j in 0..4 {
            let (low, middle, high) = (block[4 + j], block[8 + j], block[12 + j]);
            codes[j] = low & 63;
            codes[4 + j] = (high & 15) | (low >> 6) << 4;
            codes[8 + j] = middle & 63;
            codes[12 + j] = (high >> 4) | (middle >> 6) << 4;
        }
        let factors = |at: usize| splat_f16(isa, [block[at], block[at + 1]]);
        let mut products = [0.0; LANES];
        store(isa, &scaled(isa, codes, 0, factors(0)), &mut products);
        open.scales.copy_from_slice(&products[..8]);
        store(isa, &scaled(isa, codes, 0, factors(2)), &mut products);
        open.minimums.copy_from_slice(&products[8..]);
    }

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        block: &[u8; 144],
        open: &OpenQ4K,
        turn: usize,
    ) -> Sixteen<I> {
        let ops = isa.f32();
        let group = 4 * turn + STEP / 2;
        let at = 16 + 32 * (group / 2) + LANES * (STEP % 2);
        let mut codes = sixteen_bytes(block, at);
        for code in &mut codes {
            *code = *code >> (4 * (STEP / 2 % 2)) & 15;
        }
        let mut out = scaled(isa, codes, 0, ops.splat(open.scales[group]));
        let minimum = ops.splat(open.minimums[group]);
        for out in &mut out[..registers(isa)] {
            *out = ops.sub(*out, minimum);
        }
        out
    }
}

struct Q6K;

/// An opened block of Q6_K.
#[derive(Clone, Copy)]
struct OpenQ6K {
    /// d times the scale of each sixteen.
    scales: [f32; LANES],
    /// −32 to 31.
    codes: [u8; 256],
}

impl Packed<210> for Q6K {
    const TURNS: usize = 2;
    const STEPS: usize = 8;
    type Open<I: Isa> = OpenQ6K;

    #[inline(always)]
    fn closed<I: Isa>(_: I) -> OpenQ6K {
        OpenQ6K {
            scales: [0.0; LANES],
            codes: [0; 256],
        }
    }

    #[inline(always)]
    fn open<I: Isa>(isa: I, block: &[u8; 210], open: &mut OpenQ6K) {
        let d = splat_f16(isa, [block[208], block[209]]);
        let scales = scaled(isa, sixteen_bytes(block, 192), 0, d);
        store(isa, &scales, &mut open.scales);
        for half in 0..2 {
            let low = &block[64 * half..][..64];
            let high = &block[128 + 32 * half..][..32];
            let codes = &mut open.codes[128 * half..][..128];
            // Loops of 32 bytes, of which the compiler makes registers.
            for i in 0..32 {
                codes[i] = (low[i] & 15 | (high[i] & 3) << 4).wrapping_sub(32);
            }
            for i in 0..32 {
                codes[32 + i] = (low[32 + i] & 15 | (high[i] & 12) << 2).wrapping_sub(32);
            }
            for i in 0..32 {
                codes[64 + i] = (low[i] >> 4 | high[i] & 48).wrapping_sub(32);
            }
            for i in 0..32 {
                codes[96 + i] = (low[32 + i] >> 4 | (high[i] & 192) >> 2).wrapping_sub(32);
            }
        }
    }

    #[inline(always)]
    fn sixteen<I: Isa, const STEP: usize>(
        isa: I,
        _: &[u8; 210],
        open: &OpenQ6K,
        turn: usize,
    ) -> Sixteen<I> {
        let i = Self::STEPS * turn + STEP;
        let scale = isa.f32().splat(open.scales[i]);
        scaled(isa, sixteen_bytes(&open.codes, LANES * i), 0, scale)
    }
}
