//! The order of arranged activations, found once for all rows of a product.

use super::gemm::WIDTH;
use super::layout::RowLayout;

/// The columns of the words of an arranged row, counted from 1; 0 stands for none.
#[derive(Debug)]
pub(super) enum Order {
    /// Each word has neighbouring columns, from this one on.
    Runs(Vec<u32>),
    /// Columns lie apart.
    Columns(Vec<[u32; WIDTH]>),
}

impl Order {
    /// The order of rows that are arranged for a width of [`WIDTH`].
    pub(super) fn new(layout: &RowLayout) -> Self {
        let columns: Vec<u32> = (1..).take(layout.cols).collect();
        let mut words = vec![[0; WIDTH]; layout.arranged_len(WIDTH) / WIDTH];
        layout.arrange(WIDTH, &columns, words.as_flattened_mut());
        let is_run = |word: &[u32; WIDTH]| match word[0] {
            0 => *word == [0; WIDTH],
            first => word
                .iter()
                .zip(first..)
                .all(|(column, next)| *column == next),
        };
        if words.iter().all(is_run) {
            Self::Runs(words.iter().map(|word| word[0]).collect())
        } else {
            Self::Columns(words)
        }
    }

    /// Puts the words of some rows side by side: `[word][row]`.
    pub(super) fn arrange(&self, rows: &[&[i8]], out: &mut [i8]) {
        let words = out.chunks_exact_mut(WIDTH * rows.len().max(1));
        match self {
            Self::Runs(firsts) => {
                for (first, out) in firsts.iter().zip(words) {
                    let out = out.as_chunks_mut::<WIDTH>().0;
                    let Some(first) = first.checked_sub(1) else {
                        out.fill([0; WIDTH]);
                        continue;
                    };
                    for (out, row) in out.iter_mut().zip(rows) {
                        let word = row[first as usize..].first_chunk();
                        *out = word.copied().unwrap_or_default();
                    }
                }
            }
            Self::Columns(columns) => {
                for (columns, out) in columns.iter().zip(words) {
                    for (out, row) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(rows) {
                        *out = columns.map(|column| match column.checked_sub(1) {
                            Some(column) => row[column as usize],
                            None => 0,
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet_quant::{Format, I2sLayout};

    #[test]
    fn rows_lie_as_if_each_had_been_arranged_alone() {
        let formats = [
            (Format::I2s(I2sLayout::A), 256),
            (Format::I2s(I2sLayout::B), 192),
            (Format::Tq2_0, 512),
            (Format::Tq1_0, 512),
            (Format::Ptq1_0, 384),
            (Format::Q2_0, 192),
            (Format::Q2_0Group128, 384),
        ];
        for (format, cols) in formats {
            let row_bytes = cols / format.block_len() * format.block_bytes();
            let layout = RowLayout::new(format, cols, row_bytes).expect("a ternary format");
            let order = Order::new(&layout);
            for count in [1, 2, 3, 8] {
                let rows: Vec<Vec<i8>> = (0..count)
                    .map(|row| (0..cols).map(|i| (i * 7 + row * 31) as i8).collect())
                    .collect();
                let rows: Vec<&[i8]> = rows.iter().map(Vec::as_slice).collect();
                let len = layout.arranged_len(WIDTH);
                let mut together = vec![99; len * count];
                order.arrange(&rows, &mut together);
                for (index, row) in rows.iter().enumerate() {
                    let mut alone = vec![99; len];
                    layout.arrange(WIDTH, row, &mut alone);
                    let words = together.chunks_exact(WIDTH).skip(index).step_by(count);
                    let found: Vec<i8> = words.flatten().copied().collect();
                    assert_eq!(found, alone, "{format:?}, row {index} of {count}");
                }
            }
        }
    }
}
