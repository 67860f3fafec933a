//! f32 times packed weights: rows decoded sixteen weights at a time, in registers, on the way into their products.
//!
//! Every format is a run of blocks, and every block a run of sixteens that become sixteen lanes by the operations of
//! [`Format::decode_row`], in its order. Product `i` of a row goes to lane `i mod 16`, multiplied and then added, and
//! the lanes end in the fixed tree: the bits are those of `decode_row` followed by [`dot`](super::dot).

use super::lanes::{LANES, padded};
use crate::math::tree_sum;
use bitnet_quant::Format;
use rten_simd::ops::{BitOps, Extend, IntOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, f16};

/// Rows that are multiplied together: they share the loads of x, and are as many streams from memory.
pub(crate) const ROWS: usize = 4;
/// Registers that sixteen lanes fill at most.
const REGISTERS: usize = 4;

/// Sixteen lanes: as many registers as they fill, and zeros.
type Sixteen<I> = [<I as Isa>::F32; REGISTERS];

/// A dense format: how a block of `BYTES` bytes becomes sixteens of lanes.
trait Packed<const BYTES: usize> {
    /// Sixteens in a block.
    const SIXTEENS: usize;

    /// What all sixteens of a block need.
    type Scale<I: Isa>: Copy;

    fn scale<I: Isa>(isa: I, block: &[u8; BYTES]) -> Self::Scale<I>;

    /// The weights `16·i .. 16·i + 16` of a block.
    fn sixteen<I: Isa>(isa: I, block: &[u8; BYTES], scale: &Self::Scale<I>, i: usize)
    -> Sixteen<I>;
}

/// Calls `$function` for the dense format and its block, or gives `$other` for any other format.
macro_rules! with_packed {
    ($format:expr, $function:ident::<$isa:ident>($($arg:expr),*), else $other:expr) => {
        match $format {
            Format::F32 => $function::<$isa, F32, 64>($($arg),*),
            Format::F16 => $function::<$isa, F16, 64>($($arg),*),
            Format::Bf16 => $function::<$isa, Bf16, 64>($($arg),*),
            Format::Q8_0 => $function::<$isa, Q8_0, 34>($($arg),*),
            Format::Q6K => $function::<$isa, Q6K, 210>($($arg),*),
            Format::Q4_0 => $function::<$isa, Q4_0, 18>($($arg),*),
            _ => $other,
        }
    };
}

/// Whether rows of `format` are decoded here.
pub(crate) fn is_dense(format: Format) -> bool {
    matches!(
        format,
        Format::F32 | Format::F16 | Format::Bf16 | Format::Q8_0 | Format::Q6K | Format::Q4_0
    )
}

/// Σ xᵢ·wᵢ of four rows of a dense format, over the shorter length; 0 for any other format.
pub(crate) struct DotPacked<'a> {
    pub(crate) format: Format,
    pub(crate) x: &'a [f32],
    pub(crate) rows: [&'a [u8]; ROWS],
}

impl SimdOp for DotPacked<'_> {
    type Output = [f32; ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [f32; ROWS] {
        let Self { format, x, rows } = self;
        with_packed!(format, dot_rows::<I>(isa, x, rows), else [0.0; ROWS])
    }
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

/// The first `len` of sixteen weights; the others 0.
#[inline(always)]
fn front<I: Isa>(isa: I, w: &Sixteen<I>, len: usize) -> Sixteen<I> {
    let mut array = [0.0; LANES];
    store(isa, w, &mut array);
    array[len..].fill(0.0);
    load(isa, &array)
}

/// The last bytes of a row as a block of their own, ended by zeros.
#[inline(always)]
fn last_block<const BYTES: usize>(rest: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// x times four rows. Lanes that the last columns do not reach add 0, which changes no lane: none is ever −0.
#[inline(always)]
fn dot_rows<I: Isa, P: Packed<BYTES>, const BYTES: usize>(
    isa: I,
    x: &[f32],
    rows: [&[u8]; ROWS],
) -> [f32; ROWS] {
    let bytes = rows.iter().fold(usize::MAX, |least, r| least.min(r.len()));
    let rows = rows.map(|row| row[..bytes].as_chunks::<BYTES>());
    // Only floats, of which a block is many, can end within one.
    let columns = bytes * (P::SIXTEENS * LANES) / BYTES;
    let x = &x[..x.len().min(columns)];
    let (sixteens, rest) = x.as_chunks::<LANES>();
    let count = sixteens.len() / P::SIXTEENS;
    let (whole, last) = sixteens.split_at(count * P::SIXTEENS);
    let blocks = rows.map(|(blocks, _)| &blocks[..count]);
    let mut lanes = [zeros(isa); ROWS];
    for (index, x) in whole.chunks_exact(P::SIXTEENS).enumerate() {
        let blocks = blocks.map(|blocks| &blocks[index]);
        let scales = blocks.map(|block| P::scale(isa, block));
        for (i, x) in x.iter().enumerate() {
            let x = load(isa, x);
            for row in 0..ROWS {
                let w = P::sixteen(isa, blocks[row], &scales[row], i);
                multiply_add(isa, &mut lanes[row], &x, &w);
            }
        }
    }
    if !last.is_empty() || !rest.is_empty() {
        for (row, lanes) in rows.into_iter().zip(&mut lanes) {
            let block = match row.0.get(count) {
                Some(block) => *block,
                None => last_block(row.1),
            };
            let scale = P::scale(isa, &block);
            for (i, x) in last.iter().enumerate() {
                let w = P::sixteen(isa, &block, &scale, i);
                multiply_add(isa, lanes, &load(isa, x), &w);
            }
            if !rest.is_empty() {
                let w = P::sixteen(isa, &block, &scale, last.len());
                let w = front(isa, &w, rest.len());
                multiply_add(isa, lanes, &load(isa, &padded(rest, 0.0)), &w);
            }
        }
    }
    lanes.map(
        #[inline(always)]
        |lanes| finish(isa, &lanes),
    )
}

#[inline(always)]
fn unpack<I: Isa, P: Packed<BYTES>, const BYTES: usize>(isa: I, row: &[u8], out: &mut [f32]) {
    let (blocks, rest) = row.as_chunks::<BYTES>();
    let width = P::SIXTEENS * LANES;
    let (whole, last) = out.split_at_mut(out.len().min(blocks.len() * width));
    for (out, block) in whole.chunks_mut(width).zip(blocks) {
        unpack_block::<I, P, BYTES>(isa, block, out);
    }
    let end = last.len().min(rest.len() * width / BYTES);
    unpack_block::<I, P, BYTES>(isa, &last_block(rest), &mut last[..end]);
}

#[inline(always)]
fn unpack_block<I: Isa, P: Packed<BYTES>, const BYTES: usize>(
    isa: I,
    block: &[u8; BYTES],
    out: &mut [f32],
) {
    let scale = P::scale(isa, block);
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    for (i, out) in whole.iter_mut().enumerate() {
        store(isa, &P::sixteen(isa, block, &scale, i), out);
    }
    if !rest.is_empty() {
        let mut last = [0.0; LANES];
        store(isa, &P::sixteen(isa, block, &scale, whole.len()), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// A whole register of bytes from the front of `bytes`.
#[inline(always)]
fn bytes_at<I: Isa>(isa: I, bytes: &[u8]) -> I::U8 {
    let ops = isa.u8();
    ops.load(&bytes[..ops.len()])
}

/// The sixteen at `i` of 64 bytes that hold 32 numbers of two bytes. Each register of them gives two of floats.
#[inline(always)]
fn halves<I: Isa>(
    isa: I,
    block: &[u8; 64],
    i: usize,
    widen: impl Fn(I::U8) -> [I::F32; 2],
) -> Sixteen<I> {
    let mut out = zeros(isa);
    let width = isa.u8().len();
    if width == block.len() {
        out[0] = widen(bytes_at(isa, block))[i];
        return out;
    }
    for (j, bytes) in block[32 * i..][..32].chunks_exact(width).enumerate() {
        let [low, high] = widen(bytes_at(isa, bytes));
        out[2 * j] = low;
        out[2 * j + 1] = high;
    }
    out
}

struct F32;

impl Packed<64> for F32 {
    const SIXTEENS: usize = 1;
    type Scale<I: Isa> = ();

    #[inline(always)]
    fn scale<I: Isa>(_: I, _: &[u8; 64]) {}

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 64], (): &(), _: usize) -> Sixteen<I> {
        let mut out = zeros(isa);
        for (out, bytes) in out.iter_mut().zip(block.chunks_exact(isa.u8().len())) {
            *out = bytes_at(isa, bytes).reinterpret_cast();
        }
        out
    }
}

struct F16;

impl Packed<64> for F16 {
    const SIXTEENS: usize = 2;
    type Scale<I: Isa> = ();

    #[inline(always)]
    fn scale<I: Isa>(_: I, _: &[u8; 64]) {}

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 64], (): &(), i: usize) -> Sixteen<I> {
        halves(
            isa,
            block,
            i,
            #[inline(always)]
            |bytes| {
                let (half, x) = (isa.f16(), bytes.reinterpret_cast());
                [half.extend_low(x), half.extend_high(x)]
            },
        )
    }
}

struct Bf16;

impl Packed<64> for Bf16 {
    const SIXTEENS: usize = 2;
    type Scale<I: Isa> = ();

    #[inline(always)]
    fn scale<I: Isa>(_: I, _: &[u8; 64]) {}

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 64], (): &(), i: usize) -> Sixteen<I> {
        halves(
            isa,
            block,
            i,
            #[inline(always)]
            |bytes| {
                let (int, half, x) = (isa.i32(), isa.i16(), bytes.reinterpret_cast());
                let low = int.shift_left::<16>(half.extend_low(x));
                let high = int.shift_left::<16>(half.extend_high(x));
                [low.reinterpret_cast(), high.reinterpret_cast()]
            },
        )
    }
}

/// A binary16 in every lane, as f32.
#[inline(always)]
fn splat_f16<I: Isa>(isa: I, bytes: [u8; 2]) -> I::F32 {
    let half = isa.f16();
    half.extend_low(half.splat(f16::from_bits(u16::from_le_bytes(bytes))))
}

/// Sixteen integers as floats, times `scale`. The compiler makes a widening of the loop.
#[inline(always)]
fn scaled<I: Isa>(isa: I, codes: [i8; LANES], scale: I::F32) -> Sixteen<I> {
    let ops = isa.f32();
    let mut floats = [0.0; LANES];
    for (float, code) in floats.iter_mut().zip(codes) {
        *float = f32::from(code);
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
    const SIXTEENS: usize = 2;
    type Scale<I: Isa> = I::F32;

    #[inline(always)]
    fn scale<I: Isa>(isa: I, block: &[u8; 34]) -> I::F32 {
        splat_f16(isa, [block[0], block[1]])
    }

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 34], scale: &I::F32, i: usize) -> Sixteen<I> {
        let codes = sixteen_bytes(block, 2 + LANES * i).map(|byte| byte as i8);
        scaled(isa, codes, *scale)
    }
}

struct Q4_0;

impl Packed<18> for Q4_0 {
    const SIXTEENS: usize = 2;
    type Scale<I: Isa> = I::F32;

    #[inline(always)]
    fn scale<I: Isa>(isa: I, block: &[u8; 18]) -> I::F32 {
        splat_f16(isa, [block[0], block[1]])
    }

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 18], scale: &I::F32, i: usize) -> Sixteen<I> {
        let codes = sixteen_bytes(block, 2).map(|byte| {
            let nibble = if i == 0 { byte & 15 } else { byte >> 4 };
            nibble as i8 - 8
        });
        scaled(isa, codes, *scale)
    }
}

struct Q6K;

impl Packed<210> for Q6K {
    const SIXTEENS: usize = 16;
    /// d times the scale of each sixteen.
    type Scale<I: Isa> = [f32; LANES];

    #[inline(always)]
    fn scale<I: Isa>(isa: I, block: &[u8; 210]) -> [f32; LANES] {
        let d = splat_f16(isa, [block[208], block[209]]);
        let scales = sixteen_bytes(block, 192).map(|byte| byte as i8);
        let mut out = [0.0; LANES];
        store(isa, &scaled(isa, scales, d), &mut out);
        out
    }

    #[inline(always)]
    fn sixteen<I: Isa>(isa: I, block: &[u8; 210], scales: &[f32; LANES], i: usize) -> Sixteen<I> {
        // Half of the block, quarter of the half, half of the quarter.
        let (half, quarter, place) = (i / 8, i % 8 / 2, LANES * (i % 2));
        let low = sixteen_bytes(block, 64 * half + 32 * (quarter % 2) + place);
        let high = sixteen_bytes(block, 128 + 32 * half + place);
        let mut codes = [0; LANES];
        for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
            let low = low >> (4 * (quarter / 2)) & 15;
            let high = high >> (2 * quarter) & 3;
            *code = (low | high << 4) as i8 - 32;
        }
        scaled(isa, codes, isa.f32().splat(scales[i]))
    }
}

/// Products of four rows of floats with four others, row of `w` by row of `x`: `out[4·w + x]`. As many columns count
/// as the shortest row has.
pub(crate) struct DotTile<'a> {
    pub(crate) x: [&'a [f32]; ROWS],
    pub(crate) w: [&'a [f32]; ROWS],
}

impl SimdOp for DotTile<'_> {
    type Output = [f32; ROWS * ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [f32; ROWS * ROWS] {
        let Self { x, w } = self;
        if registers(isa) == 1 {
            return tile::<I, ROWS, { ROWS * ROWS }>(isa, x, w);
        }
        let mut out = [0.0; ROWS * ROWS];
        // Sixteen lanes fill several registers: a quarter of the tile at a time stays in them.
        for (row, token) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
            let x = [x[token], x[token + 1]];
            let w = [w[row], w[row + 1]];
            for (i, value) in tile::<I, 2, 4>(isa, x, w).into_iter().enumerate() {
                out[ROWS * (row + i / 2) + token + i % 2] = value;
            }
        }
        out
    }
}

/// `SIDE × SIDE` products, `AREA` of them.
#[inline(always)]
fn tile<I: Isa, const SIDE: usize, const AREA: usize>(
    isa: I,
    x: [&[f32]; SIDE],
    w: [&[f32]; SIDE],
) -> [f32; AREA] {
    let columns = x
        .iter()
        .chain(&w)
        .fold(usize::MAX, |n, row| n.min(row.len()));
    let count = columns / LANES;
    let xs = x.map(|row| &row.as_chunks::<LANES>().0[..count]);
    let ws = w.map(|row| &row.as_chunks::<LANES>().0[..count]);
    let mut lanes = [zeros(isa); AREA];
    for i in 0..count {
        let x = xs.map(
            #[inline(always)]
            |x| load(isa, &x[i]),
        );
        for row in 0..SIDE {
            let w = load(isa, &ws[row][i]);
            for token in 0..SIDE {
                multiply_add(isa, &mut lanes[SIDE * row + token], &x[token], &w);
            }
        }
    }
    let rest = count * LANES..columns;
    if !rest.is_empty() {
        for row in 0..SIDE {
            let w = load(isa, &padded(&w[row][rest.clone()], 0.0));
            for token in 0..SIDE {
                let x = load(isa, &padded(&x[token][rest.clone()], 0.0));
                multiply_add(isa, &mut lanes[SIDE * row + token], &x, &w);
            }
        }
    }
    lanes.map(
        #[inline(always)]
        |lanes| finish(isa, &lanes),
    )
}
