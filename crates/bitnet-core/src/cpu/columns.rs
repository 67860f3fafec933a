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

// SAFETY: what is behind the pointer may be sent, and `split` gives each of it to one thread.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

/// Neighbouring rows of every token.
pub(super) struct Piece<'a, T = f32> {
    columns: &'a Columns<'a, T>,
    rows: Range<usize>,
}

impl<T> Piece<'_, T> {
    /// The piece's rows of one token.
    ///
    /// # Panics
    /// If there is no such token.
    pub(super) fn token(&mut self, token: usize) -> &mut [T] {
        assert!(token < self.columns.tokens, "a token of the product");
        // SAFETY: the range lies within the matrix, as `split` made it of that width and the token was checked; no other
        // piece has these rows, and `&mut self` keeps this one from lending them twice.
        unsafe {
            let start = self
                .columns
                .start
                .add(token * self.columns.width + self.rows.start);
            std::slice::from_raw_parts_mut(start, self.rows.len())
        }
    }
}

/// Calls `work(first row, piece)` for pieces of `chunk` of the `width` rows of `product`, on all threads.
pub(super) fn split<T: Send>(
    threads: &Threads,
    product: &mut [T],
    width: usize,
    chunk: usize,
    work: impl Fn(Range<usize>, &mut Piece<'_, T>) -> Result<()> + Sync,
) -> Result<()> {
    let columns = Columns {
        tokens: product.len() / width.max(1),
        start: product.as_mut_ptr(),
        width,
        borrow: PhantomData,
    };
    // Ranges do not overlap.
    threads.ranges(width, chunk, |rows| {
        let mut piece = Piece {
            columns: &columns,
            rows: rows.clone(),
        };
        work(rows, &mut piece)
    })
}
