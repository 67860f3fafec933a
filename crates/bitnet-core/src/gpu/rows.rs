//! Rows of a batch on the device, and their preparation for a matrix.

use super::REFUSED_BY;
use super::kernel::{GatePlace, HeadsPlace, Kernel, RowPlace};
use super::memory::{GpuBuffer, Slot};
use super::recording::Recording;
use super::scratch::Bound;
use crate::{Activations, Error, Gate, Result};
use std::sync::Arc;

/// Rows in a slot.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) slot: Arc<Slot>,
    pub(super) bytes: usize,
    pub(super) place: RowPlace,
}

impl Rows {
    /// Rows to be written, of `width` columns, for the tokens of `recording`.
    ///
    /// # Errors
    /// As [`Recording::slot`].
    pub(super) fn new(recording: &Recording, width: usize) -> Result<Self> {
        let bytes = recording.tokens * width * 4;
        Ok(Self {
            slot: recording.slot(bytes)?,
            bytes,
            place: super::row_place(width, width),
        })
    }

    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::slot(&self.slot, self.bytes)
    }
}

/// Partial results of attention over parts of the context (split-KV): `pieces.wgsl`.
#[derive(Clone)]
pub(super) struct SplitKvPartials {
    pub(super) slot: Arc<Slot>,
    pub(super) bytes: usize,
    pub(super) heads: HeadsPlace,
}

impl SplitKvPartials {
    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::slot(&self.slot, self.bytes)
    }

    /// The place of the rows once they are merged.
    pub(super) fn place(&self) -> RowPlace {
        let width = (self.heads.query * self.heads.dim) as usize;
        super::row_place(width, width)
    }

    /// The rows, merged.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn merge(&self, recording: &mut Recording) -> Result<Rows> {
        let rows = Rows::new(recording, self.place().cols as usize)?;
        self.merge_into(recording, &rows, recording.tokens)?;
        Ok(rows)
    }

    /// Merges them into the first `count` rows.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn merge_into(
        &self,
        recording: &mut Recording,
        rows: &Rows,
        count: usize,
    ) -> Result<()> {
        let kernel = Kernel::Combine { heads: self.heads };
        let groups = [self.heads.query, count as u32, 1];
        recording.dispatch(kernel, &[self.bound(), rows.bound()], groups)
    }
}

/// Rows as attention leaves them.
#[derive(Clone)]
pub(super) enum Source {
    Rows(Rows),
    Partials(SplitKvPartials),
}

/// A norm's weights, and what is added to the mean square.
#[derive(Clone)]
pub(super) struct NormParams {
    pub(super) weight: Arc<GpuBuffer>,
    pub(super) eps: f32,
}

/// Refuses the function of a gate that kernels do not know.
pub(super) fn check_function(function: Gate) -> Result<()> {
    match function {
        Gate::Relu2 | Gate::Silu => Ok(()),
        Gate::Gelu => Err(Error::Unavailable {
            what: "a gate with GELU".into(),
            why: format!("on {REFUSED_BY} there are SiLU and ReLU² alone: use --device cpu"),
        }),
    }
}

/// The function of a gate as kernels know it: one that was [checked](check_function).
pub(super) fn is_silu(function: Gate) -> bool {
    function == Gate::Silu
}

/// Rows that matrices multiply: their source, and the forms that were made of it so far.
pub(super) struct Activation {
    pub(super) width: usize,
    pub(super) activations: Activations,
    /// Invocations that round a row together, if not those that the matrices at hand imply.
    pub(super) threads: Option<u32>,
    source: Source,
    /// The other factor, and the function on the first.
    gate: Option<(Rows, Gate)>,
    norm: Option<NormParams>,
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
    /// Invocations that rounded a row together.
    threads: u32,
}

/// A row for a screened head.
pub(super) struct ForScreen {
    pub(super) normed: Rows,
    /// The row rounded, and how its estimates are off: `screen_row.wgsl`.
    pub(super) rounded: Arc<Slot>,
    pub(super) bytes: usize,
}

impl Activation {
    /// Rows that will be normed (if asked) and rounded (if asked).
    pub(super) fn new(source: Source, norm: Option<NormParams>, activations: Activations) -> Self {
        let place = match &source {
            Source::Rows(rows) => rows.place,
            Source::Partials(partials) => partials.place(),
        };
        Self {
            width: place.cols as usize,
            activations,
            threads: None,
            source,
            gate: None,
            norm,
            rounded: None,
            normed: None,
            gated: None,
        }
    }

    /// function(gate) · up, before the norm and the rounding.
    pub(super) fn gated(
        gate: Rows,
        up: Rows,
        function: Gate,
        norm: Option<NormParams>,
        activations: Activations,
    ) -> Self {
        Self {
            gate: Some((up, function)),
            ..Self::new(Source::Rows(gate), norm, activations)
        }
    }

    pub(super) fn eps(&self) -> Option<u32> {
        self.norm.as_ref().map(|norm| norm.eps.to_bits())
    }

    /// The norm's weights, or a stand-in where there is no norm.
    pub(super) fn norm_weight_or<'a>(&'a self, other: Bound<'a>) -> Bound<'a> {
        match &self.norm {
            Some(norm) => Bound::whole(&norm.weight),
            None => other,
        }
    }

    /// The rows, merged if they are partial results.
    fn rows(&mut self, recording: &mut Recording) -> Result<Rows> {
        match &self.source {
            Source::Rows(rows) => Ok(rows.clone()),
            Source::Partials(partials) => {
                let rows = partials.merge(recording)?;
                self.source = Source::Rows(rows.clone());
                Ok(rows)
            }
        }
    }

    /// The partial results of the rows, if kernels can read them in vectors of four.
    pub(super) fn partials(&self) -> Option<&SplitKvPartials> {
        match &self.source {
            Source::Partials(partials) if partials.heads.dim.is_multiple_of(4) => Some(partials),
            _ => None,
        }
    }

    fn gate_place(&self) -> Option<GatePlace> {
        self.gate.as_ref().map(|(up, function)| GatePlace {
            silu: is_silu(*function),
            up: up.place,
        })
    }

    /// x, norm weights, what is written, and the other factor.
    fn bound<'a>(&'a self, rows: &'a Rows, written: &[Bound<'a>]) -> Vec<Bound<'a>> {
        let mut bound = vec![rows.bound(), self.norm_weight_or(rows.bound())];
        bound.extend_from_slice(written);
        bound.extend(self.gate.iter().map(|(up, _)| up.bound()));
        bound
    }

    /// The rows before the norm.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn plain(&mut self, recording: &mut Recording) -> Result<Rows> {
        if self.gate.is_none() {
            return self.rows(recording);
        }
        if let Some(rows) = &self.gated {
            return Ok(rows.clone());
        }
        let rows = self.floats(recording, None, recording.tokens, None)?;
        Ok(self.gated.insert(rows).clone())
    }

    /// The rows normed, as floats, with zeros up to a multiple of 64 columns.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn normed(&mut self, recording: &mut Recording) -> Result<Rows> {
        if let Some(rows) = &self.normed {
            return Ok(rows.clone());
        }
        let rows = self.floats(recording, self.eps(), recording.tokens, None)?;
        Ok(self.normed.insert(rows).clone())
    }

    /// The `count` rows that are listed in `asked` normed, as floats: those that outputs are computed of.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn asked_normed(
        &mut self,
        recording: &mut Recording,
        count: usize,
        asked: Bound<'_>,
    ) -> Result<Rows> {
        self.floats(recording, self.eps(), count, Some(asked))
    }

    /// The first row that is listed in `asked`, normed, as floats and rounded for [`Kernel::Screen`], which looks at
    /// `padded` vectors of sixteen columns.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn for_screen(
        &mut self,
        recording: &mut Recording,
        padded: u32,
        asked: Bound<'_>,
    ) -> Result<ForScreen> {
        let rows = self.rows(recording)?;
        let stride = self.width.next_multiple_of(64);
        let normed = Rows {
            slot: recording.slot(4 * stride)?,
            bytes: 4 * stride,
            place: super::row_place(self.width, stride),
        };
        let bytes = 32 * padded as usize + 16;
        let rounded = recording.slot(bytes)?;
        let kernel = Kernel::ScreenRow {
            x: rows.place,
            eps: self.eps(),
            out_stride: stride as u32,
        };
        let bound = [
            rows.bound(),
            self.norm_weight_or(rows.bound()),
            normed.bound(),
            asked,
            Bound::slot(&rounded, bytes),
        ];
        recording.dispatch(kernel, &bound, [1, 1, 1])?;
        Ok(ForScreen {
            normed,
            rounded,
            bytes,
        })
    }

    fn floats(
        &mut self,
        recording: &mut Recording,
        eps: Option<u32>,
        count: usize,
        asked: Option<Bound<'_>>,
    ) -> Result<Rows> {
        // Every row begins where a binding may.
        let stride = self.width.next_multiple_of(64);
        let bytes = count * stride * 4;
        let slot = recording.slot(bytes)?;
        let rows = self.rows(recording)?;
        let kernel = Kernel::Norm {
            x: rows.place,
            eps,
            gate: self.gate_place(),
            out_stride: stride as u32,
            asked: asked.is_some(),
        };
        let asked = asked.unwrap_or_else(|| rows.bound());
        let bound = self.bound(&rows, &[Bound::slot(&slot, bytes), asked]);
        recording.dispatch(kernel, &bound, [count as u32, 1, 1])?;
        drop(bound);
        Ok(Rows {
            slot,
            bytes,
            place: super::row_place(self.width, stride),
        })
    }

    /// The rows normed and rounded to int8, with zeros up to `words` words of sixteen columns, each by `threads` invocations
    /// together, which its squares are added up by.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn rounded(
        &mut self,
        recording: &mut Recording,
        words: u32,
        threads: u32,
    ) -> Result<Rounded> {
        let tokens = recording.tokens;
        let q_bytes = tokens * words as usize * 16;
        if let Some(rounded) = &self.rounded
            && (rounded.q_bytes, rounded.threads) == (q_bytes, threads)
        {
            return Ok(rounded.clone());
        }
        let scales_bytes = tokens * 4;
        let rounded = Rounded {
            q: recording.slot(q_bytes)?,
            q_bytes,
            scales: recording.slot(scales_bytes)?,
            scales_bytes,
            threads,
        };
        let rows = match self.partials() {
            Some(_) => None,
            None => Some(self.rows(recording)?),
        };
        let (x, place, pieces) = match (&rows, self.partials()) {
            (Some(rows), _) => (rows.bound(), rows.place, None),
            (None, Some(partials)) => (partials.bound(), partials.place(), Some(partials.heads)),
            (None, None) => return Ok(rounded),
        };
        let kernel = Kernel::Quantize {
            threads,
            x: place,
            eps: self.eps(),
            gate: self.gate_place(),
            pieces,
            words,
        };
        let mut bound = vec![
            x,
            self.norm_weight_or(x),
            Bound::slot(&rounded.q, q_bytes),
            Bound::slot(&rounded.scales, scales_bytes),
        ];
        bound.extend(self.gate.iter().map(|(up, _)| up.bound()));
        recording.dispatch(kernel, &bound, [tokens as u32, 1, 1])?;
        drop(bound);
        Ok(self.rounded.insert(rounded).clone())
    }
}
