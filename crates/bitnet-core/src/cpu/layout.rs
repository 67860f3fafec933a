//! Where the elements of a packed ternary row lie, and activations put into the same order.
//!
//! Kernels take the bytes of a row as they are: a register of code bytes yields one register of codes for each *plane*
//! (a pair of bits, or a base-3 digit). Whatever order that gives, sums do not mind, as long as the activations come
//! in it too; so they are rearranged, once for a whole matrix. Weights are rearranged at load alone, where that makes up for
//! the copy ([`interleave`](super::interleave)).
//!
//! Arranged activations are runs of `width` bytes: for each run of `width` code bytes, one for every plane. Code bytes
//! are counted over the row, scales left out. Positions without an element hold 0.

use super::integer::BASE3_PLANES;
use bitnet_quant::Format;
use bitnet_quant::I2sLayout;

/// Pairs of bits in a byte.
pub(super) const PAIRS: usize = 4;

/// Bytes that are read together, at least, where registers have as many or more.
pub(super) const PART: usize = 16;

/// A run of code bytes with a base-3 digit of each element: digit `n` of byte `m` is element `n·bytes + m` of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DigitRun {
    bytes: usize,
    digits: usize,
}

const fn digits(bytes: usize, digits: usize) -> DigitRun {
    DigitRun { bytes, digits }
}

static TQ1_0: [DigitRun; 3] = [digits(32, 5), digits(16, 5), digits(4, 4)];
static PTQ1_0: [DigitRun; 3] = [digits(16, 5), digits(8, 5), digits(2, 4)];

/// How elements are counted through code bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planes {
    /// Runs of code bytes; each pair of bits holds as many consecutive elements as a run has bytes, from the lowest
    /// bits up or from the highest down.
    Runs { bytes: usize, descending: bool },
    /// Four consecutive elements in a byte, the lowest bits first.
    Interleaved,
    /// Runs of bytes of base-3 digits.
    Base3(&'static [DigitRun]),
}

/// The layout of the rows of one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowLayout {
    pub(super) planes: Planes,
    /// Columns in a row.
    pub(super) cols: usize,
    /// Groups of columns with a scale, and a sum, of their own.
    pub(super) groups: usize,
    /// Bytes from one group to the next.
    pub(super) stride: usize,
    /// Where a group's codes begin.
    pub(super) codes_at: usize,
    /// Bytes of codes in a group.
    pub(super) code_bytes: usize,
    /// Where a group's binary16 scale lies, if it has one.
    pub(super) scale_at: Option<usize>,
}

impl RowLayout {
    /// The layout of rows of `row_bytes` bytes and `cols` columns; nothing if `format` is not ternary.
    pub(super) fn new(format: Format, cols: usize, row_bytes: usize) -> Option<Self> {
        let blocks = |planes, codes_at, code_bytes, scale_at| Self {
            planes,
            cols,
            groups: cols / format.block_len(),
            stride: format.block_bytes(),
            codes_at,
            code_bytes,
            scale_at: Some(scale_at),
        };
        let whole_row = |bytes| Self {
            planes: Planes::Runs {
                bytes,
                descending: true,
            },
            cols,
            groups: 1,
            stride: row_bytes,
            codes_at: 0,
            code_bytes: row_bytes,
            scale_at: None,
        };
        let ascending = Planes::Runs {
            bytes: 32,
            descending: false,
        };
        Some(match format {
            Format::I2s(I2sLayout::A) => whole_row(32),
            Format::I2s(I2sLayout::B) => whole_row(16),
            Format::Tq2_0 => blocks(ascending, 0, 64, 64),
            Format::Tq1_0 => blocks(Planes::Base3(&TQ1_0), 0, 52, 52),
            // Whole words: the scale is read as code bytes without elements.
            Format::Ptq1_0 => blocks(Planes::Base3(&PTQ1_0), 0, 28, 26),
            Format::Q2_0 => blocks(Planes::Interleaved, 2, 16, 0),
            Format::Q2_0Group128 => blocks(Planes::Interleaved, 2, 32, 0),
            Format::F32
            | Format::F16
            | Format::Bf16
            | Format::Q4_0
            | Format::Q8_0
            | Format::Q4K
            | Format::Q6K => return None,
        })
    }

    pub(super) fn planes_per_byte(&self) -> usize {
        match self.planes {
            Planes::Base3(_) => BASE3_PLANES,
            _ => PAIRS,
        }
    }

    /// Bytes of an arranged row.
    pub(super) fn arranged_len(&self, width: usize) -> usize {
        let code_bytes = self.groups * self.span(width);
        code_bytes.next_multiple_of(width) * self.planes_per_byte()
    }

    /// Code bytes from one group to the next in the order of arranged rows. The digits of a base-3 block end in the middle of
    /// a register, or of one of a register's parts.
    pub(super) fn span(&self, width: usize) -> usize {
        match self.planes {
            Planes::Base3(_) => {
                let parts = self.code_bytes.next_multiple_of(PART.min(width));
                if parts < width {
                    parts
                } else {
                    parts.next_multiple_of(width)
                }
            }
            _ => self.code_bytes,
        }
    }

    /// Puts the activations of one row (or whatever belongs to its columns) into the order of registers of `width` bytes (a multiple of 4).
    pub(super) fn arrange<T: Copy + Default>(&self, width: usize, q: &[T], out: &mut [T]) {
        match self.planes {
            Planes::Runs { bytes, descending } => {
                self.arrange_runs(width, bytes, descending, q, out)
            }
            Planes::Interleaved => self.arrange_interleaved(width, q, out),
            Planes::Base3(runs) => self.arrange_base3(width, runs, q, out),
        }
    }

    fn arrange_runs<T: Copy + Default>(
        &self,
        width: usize,
        run: usize,
        down: bool,
        q: &[T],
        out: &mut [T],
    ) {
        let piece = width.min(run);
        for (vector, out) in out.chunks_exact_mut(PAIRS * width).enumerate() {
            for (plane, out) in out.chunks_exact_mut(width).enumerate() {
                let k = if down { PAIRS - 1 - plane } else { plane };
                for (i, out) in out.chunks_exact_mut(piece).enumerate() {
                    let byte = vector * width + i * piece;
                    let first = byte / run * run * PAIRS + k * run + byte % run;
                    match q.get(first..first + piece) {
                        Some(q) if first < self.cols => out.copy_from_slice(q),
                        _ => out.fill(T::default()),
                    }
                }
            }
        }
    }

    fn arrange_interleaved<T: Copy + Default>(&self, width: usize, q: &[T], out: &mut [T]) {
        let vectors = out.chunks_exact_mut(PAIRS * width);
        for (vector, out) in vectors.enumerate() {
            let first = (PAIRS * width * vector).min(self.cols);
            let q = &q[first..(first + PAIRS * width).min(self.cols)];
            let q = q.as_chunks::<PAIRS>().0;
            for (plane, out) in out.chunks_exact_mut(width).enumerate() {
                let (filled, empty) = out.split_at_mut(q.len());
                for (out, q) in filled.iter_mut().zip(q) {
                    *out = q[plane];
                }
                empty.fill(T::default());
            }
        }
    }

    fn arrange_base3<T: Copy + Default>(
        &self,
        width: usize,
        runs: &[DigitRun],
        q: &[T],
        out: &mut [T],
    ) {
        out.fill(T::default());
        for (group, mut q) in q.chunks_exact(self.cols / self.groups).enumerate() {
            let mut byte = group * self.span(width);
            for run in runs {
                let elements;
                (elements, q) = q.split_at(run.digits * run.bytes);
                for (plane, q) in elements.chunks_exact(run.bytes).enumerate() {
                    let place =
                        |byte: usize| (byte / width * BASE3_PLANES + plane) * width + byte % width;
                    let (fours, rest) = q.as_chunks::<4>();
                    for (i, four) in fours.iter().enumerate() {
                        out[place(byte + 4 * i)..][..4].copy_from_slice(four);
                    }
                    if !rest.is_empty() {
                        out[place(byte + 4 * fours.len())..][..rest.len()].copy_from_slice(rest);
                    }
                }
                byte += run.bytes;
            }
        }
    }
}
