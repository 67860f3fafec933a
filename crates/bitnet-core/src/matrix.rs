//! A weight matrix as it lies in a file: packed rows, borrowed or owned, with its format and scale.

use crate::{Error, Result};
use bitnet_quant::Format;
use bytes::Bytes;
use std::ops::Range;

/// `rows × cols` weights (out × in features), row after row, in one packed format.
///
/// The bytes are shared, not copied: they may be a view of a memory-mapped file.
#[derive(Debug, Clone)]
pub struct WeightMatrix {
    name: String,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    format: Format,
    scale: f32,
    output_scale: f32,
    data: Bytes,
    reclaim: Option<fn(&[u8])>,
    fetch: Option<fn(&[u8])>,
    copy: Option<fn(&[u8], &mut [u8]) -> bool>,
    interleaved: bool,
}

impl WeightMatrix {
    /// A matrix over `data`. `name` is for error messages; `scale` is the tensor's own scale in formats
    /// that keep it outside the rows (I2_S) and 1 elsewhere. `stored_cols` is how many columns a row holds,
    /// at least `cols`: columns past `cols` must be zero weights (padding to a whole block).
    ///
    /// # Errors
    /// If a dimension is zero, a row is no whole number of blocks, `data` has another size, or the scale is
    /// not a finite number.
    pub fn new(
        name: impl Into<String>,
        format: Format,
        (rows, cols, stored_cols): (usize, usize, usize),
        scale: f32,
        data: Bytes,
    ) -> Result<Self> {
        let name = name.into();
        let row_bytes = format.row_bytes(stored_cols)?;
        if rows == 0 || cols == 0 || stored_cols < cols {
            return Err(Error::Shape {
                what: name,
                expected: "at least one row and one column".into(),
                found: format!("{rows}×{cols} in rows of {stored_cols}"),
            });
        }
        if row_bytes.checked_mul(rows) != Some(data.len()) {
            return Err(Error::Shape {
                expected: format!("{rows} rows of {row_bytes} bytes ({format})"),
                found: format!("{} bytes", data.len()),
                what: name,
            });
        }
        if !scale.is_finite() {
            return Err(Error::Value {
                what: format!("{name}: scale"),
                expected: "a finite number".into(),
                found: scale.to_string(),
            });
        }
        Ok(Self {
            name,
            rows,
            cols,
            row_bytes,
            format,
            scale,
            output_scale: 1.0,
            data,
            reclaim: None,
            fetch: None,
            copy: None,
            interleaved: false,
        })
    }

    /// The same matrix with its products multiplied by `factor` (a separate `.scale` tensor of some files).
    ///
    /// # Errors
    /// If `factor` is not finite.
    pub fn with_output_scale(mut self, factor: f32) -> Result<Self> {
        if !factor.is_finite() {
            return Err(Error::Value {
                what: format!("{}: output scale", self.name),
                expected: "a finite number".into(),
                found: factor.to_string(),
            });
        }
        self.output_scale = factor;
        Ok(self)
    }

    /// The same matrix over memory that can be given back: `reclaim` is called with bytes of it that will not be read
    /// soon, and that come again when they are.
    #[must_use]
    pub fn with_reclaim(mut self, reclaim: fn(&[u8])) -> Self {
        self.reclaim = Some(reclaim);
        self
    }

    /// The same matrix over memory that comes from afar: `fetch` is called with bytes of it that are about to be read, if they
    /// are not all read anyway.
    #[must_use]
    pub fn with_fetch(mut self, fetch: fn(&[u8])) -> Self {
        self.fetch = Some(fetch);
        self
    }

    /// The same matrix over memory that is dear to touch once it was given back: `copy` is called with bytes of it and a place of
    /// the same length for them, and says whether it copied them.
    #[must_use]
    pub fn with_copy(mut self, copy: fn(&[u8], &mut [u8]) -> bool) -> Self {
        self.copy = Some(copy);
        self
    }

    /// Whether [`row_at`](Self::row_at) leaves this memory alone.
    pub(crate) fn copies_rows(&self) -> bool {
        self.copy.is_some()
    }

    /// The packed bytes of a row: in `place`, which is as long, if they can be copied without touching this memory, or where
    /// they are.
    pub(crate) fn row_at<'a>(&'a self, row: usize, place: &'a mut [u8]) -> &'a [u8] {
        let own = self.row(row);
        match self.copy {
            Some(copy) if copy(own, place) => place,
            _ => own,
        }
    }

    /// Says that all of it is about to be read.
    pub fn fetch(&self) {
        if let Some(fetch) = self.fetch {
            fetch(&self.data);
        }
    }

    /// The same weights in another format, or in rows that lie side by side and are followed by rows of padding.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn repacked(&self, format: Format, data: Bytes, interleaved: bool) -> Result<Self> {
        let shape = (self.rows, self.cols, self.stored_cols());
        let row_bytes = format.row_bytes(shape.2)?;
        let wanted = data.slice(..(self.rows * row_bytes).min(data.len()));
        let mut repacked = Self::new(self.name.as_str(), format, shape, self.scale, wanted)?;
        repacked.output_scale = self.output_scale;
        if interleaved {
            (repacked.data, repacked.interleaved) = (data, true);
        }
        Ok(repacked)
    }

    /// `count` matrices of as many rows each, which are parts of this one: nothing is copied.
    ///
    /// # Errors
    /// [`Error::Shape`] if `count` does not divide the rows, or a part would begin amid rows that lie side by side.
    pub(crate) fn parts(&self, count: usize) -> Result<Vec<Self>> {
        let rows = self.rows / count.max(1);
        let len = rows * self.row_bytes;
        let whole = !self.interleaved || len * count == self.data.len();
        if rows * count != self.rows || !whole {
            return Err(Error::Shape {
                what: self.name.clone(),
                expected: format!("rows of {count} whole parts"),
                found: format!("{} rows", self.rows),
            });
        }
        let part = |index: usize| Self {
            rows,
            data: self.data.slice(index * len..(index + 1) * len),
            ..self.clone()
        };
        Ok((0..count).map(part).collect())
    }

    /// Whether rows lie side by side, as only the backend that put them there can read them.
    pub fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// Whether its memory can be given back: it is that of a mapped file, in pages of its own.
    pub fn is_mapped(&self) -> bool {
        self.reclaim.is_some()
    }

    /// Says that `rows` will not be read soon.
    pub fn give_back(&self, rows: Range<usize>) {
        if let Some(reclaim) = self.reclaim {
            let end = rows.end.min(self.rows);
            let start = rows.start.min(end);
            reclaim(&self.data[start * self.row_bytes..end * self.row_bytes]);
        }
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Name of the tensor it came from.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Out features.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// In features.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Columns a stored row holds; those past [`cols`](Self::cols) are zero weights.
    pub fn stored_cols(&self) -> usize {
        self.row_bytes / self.format.block_bytes() * self.format.block_len()
    }
    /// The packed format.
    pub fn format(&self) -> Format {
        self.format
    }
    /// The tensor's scale (1 where the format keeps scales in the rows).
    pub fn scale(&self) -> f32 {
        self.scale
    }
    /// Factor on every product (1 unless set).
    pub fn output_scale(&self) -> f32 {
        self.output_scale
    }
    /// All packed bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
    /// Packed bytes of row `row`; empty past the end, and if rows are interleaved.
    pub fn row(&self, row: usize) -> &[u8] {
        self.row_range(row, 1).next().unwrap_or_default()
    }
    /// Packed bytes of `count` rows from `first`; shorter past the end, and none if rows are interleaved.
    pub fn row_range(&self, first: usize, count: usize) -> std::slice::ChunksExact<'_, u8> {
        let len = if self.interleaved { 0 } else { self.data.len() };
        let start = (first * self.row_bytes).min(len);
        let end = (start + count * self.row_bytes).min(len);
        self.data[start..end].chunks_exact(self.row_bytes)
    }

    /// Checks the weights of a range of rows: every scale and float finite, every 2-bit code ternary.
    ///
    /// # Errors
    /// [`Error::Value`] naming the tensor and the first bad row.
    pub fn validate(&self, rows: Range<usize>) -> Result<()> {
        for (row, bytes) in rows.clone().zip(self.row_range(rows.start, rows.len())) {
            self.format
                .validate_row(bytes)
                .map_err(|error| Error::Value {
                    what: format!("{}: row {row}", self.name),
                    expected: "finite numbers and ternary codes".into(),
                    found: error.to_string(),
                })?;
        }
        Ok(())
    }
}
