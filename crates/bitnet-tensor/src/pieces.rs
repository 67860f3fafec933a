//! Large results on several threads: each element is computed as it would be on one, so the bits are the same.
//!
//! The threads are those of the rayon pool that the caller is in, as for matrix products; in a browser there is one.

use crate::Dims;
use crate::layout::Layout;
use rayon::prelude::*;

/// Elements of a result from which threads share it. One core adds so many in some 25 µs and takes as many exponentials in
/// 70; sharing costs 2 µs where the other threads have no time, and gains where they wake within the rest.
const SHARED_FROM: usize = 1 << 17;
/// The fewest elements of a piece that is worth handing over.
const PIECE: usize = 1 << 14;

/// Calls `work` with the pieces of `out`, row-major, and for each what it takes of `layouts`, which are of the shape of
/// `out`. Each `row` neighbouring elements stay together; they are the last axes.
#[inline]
pub(crate) fn in_pieces<const N: usize, T: Send>(
    layouts: [&Layout; N],
    row: usize,
    out: &mut [T],
    work: impl Fn([&Layout; N], &mut [T]) + Sync,
) {
    if out.len() >= SHARED_FROM
        && !cfg!(target_arch = "wasm32")
        && let Some(division) = Division::new(layouts, row, rayon::current_num_threads())
    {
        return division.share(out, work);
    }
    work(layouts, out);
}

/// Layouts cut across one axis, outside of which all sizes are 1.
struct Division<const N: usize> {
    layouts: [Layout; N],
    axis: usize,
    /// Elements for each index of the axis.
    inner: usize,
    /// Indices in a piece.
    indices: usize,
}

impl<const N: usize> Division<N> {
    /// `None` if one thread should have it all.
    fn new(layouts: [&Layout; N], row: usize, threads: usize) -> Option<Self> {
        let len = layouts.first()?.len();
        let mut layouts = layouts.map(|layout| *layout);
        if layouts.iter().all(Layout::is_contiguous) {
            // As one long axis, which can be cut anywhere.
            let shape = Dims::new(&[len]).ok()?;
            layouts = layouts.map(|layout| Layout {
                offset: layout.offset,
                ..Layout::contiguous(shape)
            });
        }
        let shape = layouts.first()?.shape;
        let axis = shape.iter().position(|size| *size != 1)?;
        let inner = len.checked_div(shape[axis])?;
        let together = match inner {
            1 => row,
            _ if inner % row.max(1) == 0 => 1,
            // A row spans the axis, so there is only one.
            _ => return None,
        };
        let fewest = PIECE.div_ceil(inner.max(1));
        let indices = shape[axis]
            .div_ceil(4 * threads)
            .max(fewest)
            .checked_next_multiple_of(together)?;
        (threads > 1 && indices < shape[axis]).then_some(Self {
            layouts,
            axis,
            inner,
            indices,
        })
    }

    fn share<T: Send>(&self, out: &mut [T], work: impl Fn([&Layout; N], &mut [T]) + Sync) {
        out.par_chunks_mut(self.indices * self.inner)
            .enumerate()
            .for_each(|(piece, out)| {
                let (first, count) = (piece * self.indices, out.len() / self.inner);
                let layouts = self
                    .layouts
                    .map(|layout| layout.slice(self.axis, first, count, 1));
                work(layouts.each_ref(), out);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contiguous(shape: &[usize]) -> Layout {
        Layout::contiguous(Dims::new(shape).unwrap())
    }

    #[test]
    fn small_results_and_single_rows_stay_whole() {
        let layout = contiguous(&[1, PIECE]);
        assert!(Division::new([&layout], 1, 4).is_none());
        let row = contiguous(&[1, 1 << 20]);
        assert!(Division::new([&row], 1 << 20, 4).is_none());
        assert!(Division::new([&row], 1, 1).is_none());
        assert!(Division::new([&row], 1, 4).is_some());
        // Turned: a row spans both axes.
        let turned = contiguous(&[1 << 10, 1 << 10]).permute(&[1, 0]);
        assert!(Division::new([&turned], 1 << 20, 4).is_none());
        assert!(Division::new([&turned], 1 << 10, 4).is_some());
    }

    #[test]
    fn pieces_cover_everything_once_and_keep_rows() {
        let plain = contiguous(&[3, 1, 70_001, 2]);
        let turned = contiguous(&[2, 70_001, 1, 3]).permute(&[3, 2, 1, 0]);
        for (layout, row) in [(plain, 1), (plain, 2), (turned, 1), (turned, 2)] {
            let mut visited = vec![0u8; layout.len()];
            let division = Division::new([&layout], row, 3).unwrap();
            division.share(&mut visited, |[layout], out| {
                assert_eq!(layout.len(), out.len());
                assert_eq!(out.len() % row, 0);
                out.iter_mut().for_each(|seen| *seen += 1);
            });
            assert!(visited.iter().all(|seen| *seen == 1));
        }
    }
}
