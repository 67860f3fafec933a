//! Rows on the device: where they lie, or how they come about once somebody reads them.
//!
//! Products and activations wait to be asked for. So whoever asks can do their work along with its own: the product with
//! one matrix norms and rounds its activations itself, and gate and up become one kernel.

use super::kernel::{Epilogue, GatePlace, HeadsPlace, Kernel, RowPlace};
use super::memory::{GpuBuffer, Slot};
use super::product;
use super::recording::{Bound, Recording};
use super::weights::Matrix;
use crate::{Activations, Error, Gate, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// f32 rows of a batch on the device.
pub struct GpuRows {
    pub(super) recording: Arc<Recording>,
    pub(super) width: usize,
    value: Value,
}

enum Value {
    Here(Rows),
    Product(Arc<Mutex<Product>>, usize),
    Pieces(Arc<Pieces>),
}

/// Rows in a slot.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) slot: Arc<Slot>,
    pub(super) bytes: usize,
    pub(super) place: RowPlace,
}

impl Rows {
    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::slot(&self.slot, self.bytes)
    }
}

/// Attention of a context in pieces: `pieces.wgsl`.
pub(super) struct Pieces {
    slot: Arc<Slot>,
    bytes: usize,
    pub(super) heads: HeadsPlace,
    together: Mutex<Option<Rows>>,
}

impl Pieces {
    pub(super) fn new((slot, bytes): (Arc<Slot>, usize), heads: HeadsPlace) -> Self {
        Self {
            slot,
            bytes,
            heads,
            together: Mutex::default(),
        }
    }

    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::slot(&self.slot, self.bytes)
    }

    /// Where the rows lie once they are put together.
    pub(super) fn place(&self) -> RowPlace {
        let width = (self.heads.query * self.heads.dim) as usize;
        super::row_place(width, width)
    }

    /// The rows, put together now if they were not.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    fn rows(&self, recording: &Recording) -> Result<Rows> {
        let mut together = lock(&self.together);
        if let Some(rows) = &*together {
            return Ok(rows.clone());
        }
        let place = self.place();
        let bytes = recording.tokens * place.cols as usize * 4;
        let rows = Rows {
            slot: recording.slot(bytes)?,
            bytes,
            place,
        };
        let kernel = Kernel::Combine { heads: self.heads };
        let groups = [self.heads.query, recording.tokens as u32, 1];
        recording.dispatch(kernel, &[self.bound(), rows.bound()], groups)?;
        Ok(together.insert(rows).clone())
    }
}

/// What an activation is made of.
pub(super) enum Source {
    Rows(Rows),
    Pieces(Arc<Pieces>),
}

/// Products of one activation with some matrices.
pub(super) enum Product {
    Waiting {
        a: Arc<Activation>,
        matrices: Vec<Arc<Matrix>>,
    },
    Here(Vec<Rows>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for GpuRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuRows")
            .field("tokens", &self.recording.tokens)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl GpuRows {
    pub(super) fn here(recording: &Arc<Recording>, rows: Rows) -> Self {
        Self {
            recording: Arc::clone(recording),
            width: rows.place.cols as usize,
            value: Value::Here(rows),
        }
    }

    /// The products of `a` with `matrices`.
    pub(super) fn products(a: &Arc<Activation>, matrices: Vec<Arc<Matrix>>) -> Vec<Self> {
        let widths: Vec<usize> = matrices.iter().map(|matrix| matrix.rows).collect();
        let product = Product::Waiting {
            a: Arc::clone(a),
            matrices,
        };
        let product = Arc::new(Mutex::new(product));
        widths
            .into_iter()
            .enumerate()
            .map(|(index, width)| Self {
                recording: Arc::clone(&a.recording),
                width,
                value: Value::Product(Arc::clone(&product), index),
            })
            .collect()
    }

    pub(super) fn pieces(recording: &Arc<Recording>, pieces: Pieces) -> Self {
        Self {
            recording: Arc::clone(recording),
            width: pieces.place().cols as usize,
            value: Value::Pieces(Arc::new(pieces)),
        }
    }

    /// What an activation of these rows is made of.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub(super) fn source(&self) -> Result<Source> {
        match &self.value {
            Value::Pieces(pieces) => Ok(Source::Pieces(Arc::clone(pieces))),
            _ => self.rows().map(Source::Rows),
        }
    }

    /// The rows, which are computed now if they were not.
    ///
    /// # Errors
    /// As [`product::all`].
    pub(super) fn rows(&self) -> Result<Rows> {
        match &self.value {
            Value::Here(rows) => Ok(rows.clone()),
            Value::Pieces(pieces) => pieces.rows(&self.recording),
            Value::Product(product, index) => {
                let mut product = lock(product);
                if let Product::Waiting { a, matrices } = &*product {
                    let rows = product::all(a, matrices)?;
                    *product = Product::Here(rows);
                }
                match &*product {
                    Product::Here(rows) => rows.get(*index).cloned(),
                    Product::Waiting { .. } => None,
                }
                .ok_or_else(|| Error::Shape {
                    what: "products".into(),
                    expected: format!("more than {index}"),
                    found: "fewer".into(),
                })
            }
        }
    }
}

/// What the function of a gate is to kernels.
fn is_silu(function: Gate) -> bool {
    function == Gate::Silu
}

/// gate(g)·u as one kernel with the products themselves, if both are the products of one activation with two matrices
/// and nobody else has asked for them.
///
/// # Errors
/// As [`product::gated`].
pub(super) fn fused(gate: &GpuRows, up: &GpuRows, function: Gate) -> Result<Option<Rows>> {
    let (Value::Product(one, 0), Value::Product(other, 1)) = (&gate.value, &up.value) else {
        return Ok(None);
    };
    if !Arc::ptr_eq(one, other) {
        return Ok(None);
    }
    match &*lock(one) {
        Product::Waiting { a, matrices } => match matrices.as_slice() {
            [gate, up] => product::gated(a, gate, up, is_silu(function)),
            _ => Ok(None),
        },
        Product::Here(_) => Ok(None),
    }
}

/// A norm's gains and what is added to the mean square.
#[derive(Clone)]
pub(super) struct NormOf {
    pub(super) gain: Arc<GpuBuffer>,
    pub(super) eps: f32,
}

/// Rows ready to be multiplied: what they are made of, and what was made of it.
pub(super) struct Activation {
    pub(super) recording: Arc<Recording>,
    pub(super) width: usize,
    pub(super) activations: Activations,
    source: Source,
    /// The other factor, and the function on the first.
    gate: Option<(Rows, Gate)>,
    norm: Option<NormOf>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    rounded: Option<Rounded>,
    normed: Option<Rows>,
    gated: Option<Rows>,
}

/// Rows in int8.
#[derive(Clone)]
pub(super) struct Rounded {
    /// `[tokens, words]` vectors of four words of four int8.
    pub(super) q: Arc<Slot>,
    pub(super) q_bytes: usize,
    /// s of each token.
    pub(super) scales: Arc<Slot>,
    pub(super) scales_bytes: usize,
}

/// A row for a screened head.
pub(super) struct ForScreen {
    pub(super) normed: Rows,
    /// The row rounded, and how its estimates are off: `screen_row.wgsl`.
    pub(super) rounded: Arc<Slot>,
    pub(super) bytes: usize,
}

/// Rows of activations ready for a matrix.
pub struct GpuActivation(pub(super) Arc<Activation>);

impl std::fmt::Debug for GpuActivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuActivation")
            .field("tokens", &self.0.recording.tokens)
            .field("width", &self.0.width)
            .finish_non_exhaustive()
    }
}

impl Activation {
    /// Rows that will be multiplied (if asked by gate of the first), normed (if asked) and rounded.
    pub(super) fn new(
        recording: &Arc<Recording>,
        source: Source,
        gate: Option<(Rows, Gate)>,
        norm: Option<NormOf>,
        activations: Activations,
    ) -> Arc<Self> {
        let place = match &source {
            Source::Rows(rows) => rows.place,
            Source::Pieces(pieces) => pieces.place(),
        };
        Arc::new(Self {
            recording: Arc::clone(recording),
            width: place.cols as usize,
            activations,
            source,
            gate,
            norm,
            made: Mutex::default(),
        })
    }

    pub(super) fn eps(&self) -> Option<u32> {
        self.norm.as_ref().map(|norm| norm.eps.to_bits())
    }

    /// The gains, or what stands in where there are none.
    pub(super) fn gain_or<'a>(&'a self, other: Bound<'a>) -> Bound<'a> {
        match &self.norm {
            Some(norm) => Bound::whole(&norm.gain),
            None => other,
        }
    }

    fn rows(&self) -> Result<Rows> {
        match &self.source {
            Source::Rows(rows) => Ok(rows.clone()),
            Source::Pieces(pieces) => pieces.rows(&self.recording),
        }
    }

    /// The pieces that the rows come in, if they do, and can be read in vectors of four.
    pub(super) fn pieces(&self) -> Option<&Pieces> {
        match &self.source {
            Source::Pieces(pieces) if pieces.heads.dim.is_multiple_of(4) => Some(pieces),
            _ => None,
        }
    }

    fn gate_place(&self) -> Option<GatePlace> {
        self.gate.as_ref().map(|(up, function)| GatePlace {
            silu: is_silu(*function),
            up: up.place,
        })
    }

    /// x, gains, what is written, and the other factor.
    fn bound<'a>(&'a self, rows: &'a Rows, written: &[Bound<'a>]) -> Vec<Bound<'a>> {
        let mut bound = vec![rows.bound(), self.gain_or(rows.bound())];
        bound.extend_from_slice(written);
        bound.extend(self.gate.iter().map(|(up, _)| up.bound()));
        bound
    }

    /// The rows before the norm.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn plain(&self) -> Result<Rows> {
        if self.gate.is_none() {
            return self.rows();
        }
        let mut made = lock(&self.made);
        if let Some(rows) = &made.gated {
            return Ok(rows.clone());
        }
        let rows = self.floats(None, (self.recording.tokens, false))?;
        Ok(made.gated.insert(rows).clone())
    }

    /// The rows normed, as floats, with zeros up to a multiple of 64 columns.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn normed(&self) -> Result<Rows> {
        let mut made = lock(&self.made);
        if let Some(rows) = &made.normed {
            return Ok(rows.clone());
        }
        let rows = self.floats(self.eps(), (self.recording.tokens, false))?;
        Ok(made.normed.insert(rows).clone())
    }

    /// The last `count` rows normed, as floats, if these are asked about.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn asked(&self, count: usize) -> Result<Rows> {
        self.floats(self.eps(), (count, true))
    }

    /// The first row that is asked about, normed, as floats and rounded for [`Kernel::Screen`], which looks at `padded`
    /// vectors of sixteen columns.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn for_screen(&self, padded: u32) -> Result<ForScreen> {
        let rows = self.rows()?;
        let stride = self.width.next_multiple_of(64);
        let normed = Rows {
            slot: self.recording.slot(4 * stride)?,
            bytes: 4 * stride,
            place: RowPlace {
                cols: self.width as u32,
                offset: 0,
                stride: stride as u32,
            },
        };
        let bytes = 32 * padded as usize + 16;
        let rounded = self.recording.slot(bytes)?;
        let kernel = Kernel::ScreenRow {
            x: rows.place,
            eps: self.eps(),
            out_stride: stride as u32,
        };
        let bound = [
            rows.bound(),
            self.gain_or(rows.bound()),
            normed.bound(),
            Bound::slot(&rounded, bytes),
        ];
        self.recording.dispatch(kernel, &bound, [1, 1, 1])?;
        Ok(ForScreen {
            normed,
            rounded,
            bytes,
        })
    }

    fn floats(&self, eps: Option<u32>, (count, asked): (usize, bool)) -> Result<Rows> {
        // Every row begins where a binding may.
        let stride = self.width.next_multiple_of(64);
        let bytes = count * stride * 4;
        let slot = self.recording.slot(bytes)?;
        let rows = self.rows()?;
        let kernel = Kernel::Norm {
            x: rows.place,
            eps,
            gate: self.gate_place(),
            out_stride: stride as u32,
            asked,
        };
        let bound = self.bound(&rows, &[Bound::slot(&slot, bytes)]);
        self.recording
            .dispatch(kernel, &bound, [count as u32, 1, 1])?;
        drop(bound);
        Ok(Rows {
            slot,
            bytes,
            place: RowPlace {
                cols: self.width as u32,
                offset: 0,
                stride: stride as u32,
            },
        })
    }

    /// The rows normed and rounded to int8, with zeros up to `words` words of sixteen columns.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn rounded(&self, words: u32) -> Result<Rounded> {
        let mut made = lock(&self.made);
        let tokens = self.recording.tokens;
        let q_bytes = tokens * words as usize * 16;
        if let Some(rounded) = &made.rounded
            && rounded.q_bytes == q_bytes
        {
            return Ok(rounded.clone());
        }
        let scales_bytes = tokens * 4;
        let rounded = Rounded {
            q: self.recording.slot(q_bytes)?,
            q_bytes,
            scales: self.recording.slot(scales_bytes)?,
            scales_bytes,
        };
        let rows = self.rows()?;
        let kernel = Kernel::Quantize {
            x: rows.place,
            eps: self.eps(),
            gate: self.gate_place(),
            words,
        };
        let written = [
            Bound::slot(&rounded.q, q_bytes),
            Bound::slot(&rounded.scales, scales_bytes),
        ];
        let bound = self.bound(&rows, &written);
        self.recording
            .dispatch(kernel, &bound, [tokens as u32, 1, 1])?;
        drop(bound);
        Ok(made.rounded.insert(rounded).clone())
    }
}

/// What a product is stored as.
pub(super) fn add_to(residual: &Rows) -> Epilogue {
    Epilogue::Add {
        offset: residual.place.offset,
        stride: residual.place.stride,
    }
}
