//! Products `[token, row]` that threads write side by side, each its own rows.

use super::threads::Threads;
use crate::Result;
use std::marker::PhantomData;
use std::ops::Range;

/// A matrix that is written in pieces.
struct Columns<'a, T> {
    start: *mut T,
    width: usize,
    tokens: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: what is behind the pointer may be sent, and `part` gives each of it to one thread.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

/// Neighbouring rows of neighbouring tokens.
pub(super) struct Piece<'a, T = f32> {
    columns: &'a Columns<'a, T>,
    rows: Range<usize>,
    tokens: Range<usize>,
}

impl<T> Piece<'_, T> {
    /// The piece's rows of one token.
    ///
    /// # Panics
    /// If it is none of the piece's tokens.
    pub(super) fn token(&mut self, token: usize) -> &mut [T] {
        assert!(self.tokens.contains(&token), "a token of the piece");
        // SAFETY: the range lies within the matrix, as `part` cut it out of that and the token was checked; no other
        // piece has these rows of this token, and `&mut self` keeps this one from lending them twice.
        unsafe {
            let start = self
                .columns
                .start
                .add(token * self.columns.width + self.rows.start);
            std::slice::from_raw_parts_mut(start, self.rows.len())
        }
    }
}

impl<'a, T> Columns<'a, T> {
    fn new(product: &'a mut [T], width: usize) -> Self {
        Self {
            tokens: product.len() / width.max(1),
            start: product.as_mut_ptr(),
            width,
            borrow: PhantomData,
        }
    }

    /// Part `index` of those of so many rows and tokens each, the parts of the same rows after one another. Different parts
    /// have nothing in common.
    ///
    /// # Safety
    /// Each part of one size may be taken once.
    unsafe fn part(&self, index: usize, (rows, tokens): (usize, usize)) -> Piece<'_, T> {
        let part = |index: usize, size: usize, len: usize| {
            (index * size).min(len)..((index + 1) * size).min(len)
        };
        let across = self.tokens.div_ceil(tokens).max(1);
        Piece {
            columns: self,
            rows: part(index / across, rows, self.width),
            tokens: part(index % across, tokens, self.tokens),
        }
    }

    /// How many parts there are.
    fn parts(&self, (rows, tokens): (usize, usize)) -> usize {
        self.width.div_ceil(rows) * self.tokens.div_ceil(tokens)
    }
}

/// One of several products that are written together: `[tokens, width]`, in pieces of `chunk` rows.
pub(super) struct Target<'a> {
    pub(super) product: &'a mut [f32],
    pub(super) width: usize,
    pub(super) chunk: usize,
}

/// Calls `work(index, rows, piece)` for pieces of `targets[index]`, of all its tokens: those of all targets on all threads
/// if they are `shared`, else on the caller's.
pub(super) fn split_all<'a>(
    threads: &Threads,
    targets: impl Iterator<Item = Target<'a>>,
    shared: bool,
    work: impl Fn(usize, Range<usize>, &mut Piece<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let mut pieces = 0;
    let targets: Vec<_> = targets
        .map(|target| {
            let columns = Columns::new(target.product, target.width);
            let size = (target.chunk.max(1), columns.tokens.max(1));
            let first = pieces;
            pieces += columns.parts(size);
            (columns, size, first)
        })
        .collect();
    let one = |piece: usize| {
        let index = targets.partition_point(|(_, _, first)| *first <= piece) - 1;
        let (columns, size, first) = &targets[index];
        // SAFETY: every piece comes up once, and is one part of one target.
        let mut piece = unsafe { columns.part(piece - first, *size) };
        work(index, piece.rows.clone(), &mut piece)
    };
    if !shared {
        return (0..pieces).try_for_each(one);
    }
    threads.ranges(pieces, 1, |mut pieces| pieces.try_for_each(one))
}

/// Calls `work(rows, tokens, piece)` for pieces of so many of the `width` rows and of the tokens of `product`, on all
/// threads: the pieces of the same rows after one another.
pub(super) fn tiles<T: Send>(
    threads: &Threads,
    product: &mut [T],
    width: usize,
    (rows, tokens): (usize, usize),
    work: impl Fn(Range<usize>, Range<usize>, &mut Piece<'_, T>) -> Result<()> + Sync,
) -> Result<()> {
    let columns = Columns::new(product, width);
    let size = (rows.max(1), tokens.max(1));
    threads.ranges(columns.parts(size), 1, |pieces| {
        for index in pieces {
            // SAFETY: every index comes up once.
            let mut piece = unsafe { columns.part(index, size) };
            work(piece.rows.clone(), piece.tokens.clone(), &mut piece)?;
        }
        Ok(())
    })
}

/// Calls `work(index, chunk)` for each `chunk`-long piece of `out`, on all threads.
pub(super) fn chunks<T: Send>(
    threads: &Threads,
    out: &mut [T],
    chunk: usize,
    work: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let len = out.len();
    tiles(threads, out, len, (chunk, 1), |range, _, piece| {
        work(range.start / chunk, piece.token(0))
    })
}
