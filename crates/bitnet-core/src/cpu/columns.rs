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

// SAFETY: what is behind the pointer may be sent, and `tiles` gives each of it to one thread.
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
        // SAFETY: the range lies within the matrix, as `tiles` cut it out of that and the token was checked; no other
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

/// Calls `work(rows, piece)` for pieces of `chunk` of the `width` rows of `product`, of all tokens, on all threads.
pub(super) fn split<T: Send>(
    threads: &Threads,
    product: &mut [T],
    width: usize,
    chunk: usize,
    work: impl Fn(Range<usize>, &mut Piece<'_, T>) -> Result<()> + Sync,
) -> Result<()> {
    let tokens = product.len() / width.max(1);
    tiles(
        threads,
        product,
        width,
        (chunk, tokens),
        |rows, _, piece| work(rows, piece),
    )
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
    let columns = Columns {
        tokens: product.len() / width.max(1),
        start: product.as_mut_ptr(),
        width,
        borrow: PhantomData,
    };
    let part = |index: usize, size: usize, len: usize| index * size..((index + 1) * size).min(len);
    let (rows, tokens) = (rows.max(1), tokens.max(1));
    let across = columns.tokens.div_ceil(tokens);
    // Parts of rows do not overlap, nor do parts of tokens.
    threads.ranges(width.div_ceil(rows) * across, 1, |pieces| {
        for index in pieces {
            let rows = part(index / across, rows, width);
            let tokens = part(index % across, tokens, columns.tokens);
            let mut piece = Piece {
                columns: &columns,
                rows: rows.clone(),
                tokens: tokens.clone(),
            };
            work(rows, tokens, &mut piece)?;
        }
        Ok(())
    })
}
