//! [`Backend`] for [`GpuBackend`].

use super::kernel::Kernel;
use super::lanes::Lanes;
use super::memory::GpuBuffer;
use super::recording::{Bound, Recording, Step};
use super::rows::{self, Activation, NormOf, Rows, Source};
use super::screen::Shadow;
use super::session::Session;
use super::{
    GpuActivation, GpuBackend, GpuCache, GpuMatrix, GpuRotations, GpuRows, GpuTable, attention,
    attention_weights, head, product, row_place,
};
use crate::head::HeadStats;
use crate::{
    Activations, Backend, Candidate, Error, Gate, HeadMode, Heads, HybridMemoryPool, Input, Norm,
    Pending, Result, Rope, Tag, Top, WeightMatrix,
};
use std::sync::Arc;

/// A norm's gains on the device.
pub struct Gain {
    buffer: Arc<GpuBuffer>,
    len: usize,
}

impl std::fmt::Debug for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gain")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

fn width_error(what: &str, expected: usize, found: usize) -> Error {
    Error::Shape {
        what: what.into(),
        expected: format!("width {expected}"),
        found: format!("width {found}"),
    }
}

fn norm_of(norm: Norm<'_, Gain>, width: usize) -> Result<NormOf> {
    if norm.gain.len != width {
        return Err(width_error("norm gain", width, norm.gain.len));
    }
    Ok(NormOf {
        gain: Arc::clone(&norm.gain.buffer),
        eps: norm.eps,
    })
}

/// Rows of another batch cannot be used in this one.
fn same_batch(one: &Arc<Recording>, other: &Arc<Recording>) -> Result<()> {
    if Arc::ptr_eq(one, other) {
        return Ok(());
    }
    Err(Error::Shape {
        what: "rows on the GPU".into(),
        expected: "rows of one batch".into(),
        found: "rows of two".into(),
    })
}

fn same_session(recording: &Recording, cache: &GpuCache) -> Result<()> {
    if Arc::ptr_eq(&recording.session, &cache.session) {
        return Ok(());
    }
    Err(Error::Shape {
        what: "KV cache".into(),
        expected: "the one that the batch was begun for".into(),
        found: "another".into(),
    })
}

impl Backend for GpuBackend {
    type Matrix = GpuMatrix;
    type Table = GpuTable;
    type Gain = Gain;
    type Hidden = GpuRows;
    type Activation = GpuActivation;
    type Cache = GpuCache;
    type Rotations = GpuRotations;

    fn describe(&self) -> String {
        let Lanes {
            size, subgroups, ..
        } = self.gpu.lanes;
        let lanes = if subgroups {
            format!("subgroups of {size}")
        } else {
            "no subgroups".into()
        };
        let adapter = &self.gpu.summary;
        format!(
            "{} ({}, {}, {lanes})",
            self.gpu.driver.name(),
            adapter.name,
            adapter.backend
        )
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    fn matrix(&self, weights: WeightMatrix) -> Result<GpuMatrix> {
        self.gpu.resident(&weights, &self.pool).map(GpuMatrix)
    }

    fn table(&self, weights: WeightMatrix) -> Result<GpuTable> {
        Ok(GpuTable {
            matrix: self.gpu.resident(&weights, &self.pool)?,
            shadow: None,
        })
    }

    fn head_table(&self, weights: WeightMatrix, mode: HeadMode) -> Result<GpuTable> {
        let matrix = self.gpu.resident(&weights, &self.pool)?;
        let shadow = Shadow::of(&self.gpu, &weights, &matrix, mode)?;
        Ok(GpuTable { matrix, shadow })
    }

    fn gain(&self, values: Vec<f32>) -> Result<Gain> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Value {
                what: format!("norm gain {index}"),
                expected: "a finite number".into(),
                found: values[index].to_string(),
            });
        }
        Ok(Gain {
            buffer: self
                .gpu
                .upload(bytemuck::cast_slice(&values), Tag::Weights)?,
            len: values.len(),
        })
    }

    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<GpuCache> {
        let session = Session::new(&self.gpu, layers, heads, capacity)?;
        Ok(GpuCache { session })
    }

    fn rehearsals(&self) -> &'static [usize] {
        // One token, and so many that they are multiplied in tiles.
        &[1, 64]
    }

    fn rehearsal(&self, layers: usize, heads: Heads, capacity: usize) -> Result<GpuCache> {
        let session = Session::rehearsal(&self.gpu, layers, heads, capacity)?;
        Ok(GpuCache { session })
    }

    fn rehearsed(&self) {
        self.gpu.driver.keep();
    }

    fn truncate(&self, cache: &mut GpuCache, len: usize) {
        cache.session.truncate(len);
    }

    fn cache_bytes(&self, cache: &GpuCache) -> usize {
        cache.session.bytes()
    }

    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<GpuRotations> {
        self.rotations
            .get(&self.gpu, &self.pool, rope, (first, count))
    }

    fn embed(&self, table: &GpuTable, input: Input<'_>, cache: &GpuCache) -> Result<GpuRows> {
        let (session, table) = (&cache.session, &table.matrix);
        let tokens = input.len();
        if tokens == 0 {
            return Err(Error::Shape {
                what: "tokens for the GPU".into(),
                expected: "at least one".into(),
                found: "none".into(),
            });
        }
        if let Input::Tokens(tokens) = input
            && let Some(token) = tokens.iter().find(|token| **token as usize >= table.rows)
        {
            return Err(Error::Value {
                what: "token".into(),
                expected: format!("below the vocabulary's {}", table.rows),
                found: token.to_string(),
            });
        }
        let first = session.positions();
        let mut copies = Vec::new();
        let room = session.reserve(&self.gpu, first + tokens, |from, to, bytes| {
            copies.push((
                (Arc::clone(from.0), from.1),
                (Arc::clone(to.0), to.1),
                bytes,
            ));
        })?;
        let step = Step {
            first: first as u32,
            count: tokens as u32,
            room: room as u32,
            ..Step::default()
        };
        let recording = Recording::new(&self.gpu, session, (first, tokens), step);
        if !copies.is_empty() {
            // Now, lest a batch that is given up leaves new buffers empty.
            let growth = Recording::new(&self.gpu, session, (first, tokens), step);
            for ((from, from_at), (to, to_at), bytes) in &copies {
                growth.copy((from, *from_at), (to, *to_at), *bytes)?;
            }
            growth.submit()?;
        }
        let width = table.cols;
        let bytes = tokens * width * 4;
        let slot = recording.slot(bytes)?;
        let listed = match input {
            Input::Tokens(tokens) => {
                let words = bytemuck::cast_slice(tokens).to_vec();
                Some(recording.input(words)?)
            }
            Input::Chosen if session.has_chosen() => None,
            Input::Chosen => {
                return Err(Error::Unavailable {
                    what: "the chosen token".into(),
                    why: "none was chosen in this cache yet".into(),
                });
            }
        };
        let ids = match &listed {
            Some(listed) => Bound::slot(listed, tokens * 4),
            None => Bound::whole(&session.chosen),
        };
        for shard in &table.shards {
            let kernel = Kernel::Embed {
                table: table.place(shard),
                first: shard.first as u32,
                out_stride: width as u32,
            };
            let weights = Bound::whole(&shard.buffer);
            let bound = [weights, weights, weights, ids, Bound::slot(&slot, bytes)];
            recording.dispatch(kernel, &bound, [tokens as u32, 1, 1])?;
        }
        let rows = Rows {
            slot,
            bytes,
            place: row_place(width, width),
        };
        Ok(GpuRows::here(&recording, rows))
    }

    fn norm_quantize(
        &self,
        x: &GpuRows,
        norm: Option<Norm<'_, Gain>>,
        activations: Activations,
    ) -> Result<GpuActivation> {
        let norm = norm.map(|norm| norm_of(norm, x.width)).transpose()?;
        let activation = Activation::new(&x.recording, x.source()?, None, norm, activations);
        Ok(GpuActivation(activation))
    }

    fn matmul(&self, a: &GpuActivation, weights: &[&GpuMatrix]) -> Result<Vec<GpuRows>> {
        let matrices: Vec<_> = weights
            .iter()
            .map(|weights| Arc::clone(&weights.0))
            .collect();
        if let Some(matrix) = matrices.iter().find(|matrix| matrix.cols != a.0.width) {
            return Err(width_error(&matrix.name, matrix.cols, a.0.width));
        }
        Ok(GpuRows::products(&a.0, matrices))
    }

    fn matmul_add(
        &self,
        a: &GpuActivation,
        weights: &GpuMatrix,
        residual: &mut GpuRows,
    ) -> Result<()> {
        same_batch(&a.0.recording, &residual.recording)?;
        // Into other memory: who still means the rows before gets these.
        let rows = product::added(&a.0, &weights.0, &residual.rows()?)?;
        *residual = GpuRows::here(&a.0.recording, rows);
        Ok(())
    }

    fn rope_append(
        &self,
        q: &mut GpuRows,
        k: GpuRows,
        v: GpuRows,
        head_norms: Option<[Norm<'_, Gain>; 2]>,
        rotations: &GpuRotations,
        cache: &mut GpuCache,
        layer: usize,
    ) -> Result<()> {
        let recording = Arc::clone(&q.recording);
        same_batch(&recording, &k.recording)?;
        same_batch(&recording, &v.recording)?;
        same_session(&recording, cache)?;
        let heads = cache.session.heads;
        for (rows, count) in [(&*q, heads.query), (&k, heads.kv), (&v, heads.kv)] {
            if rows.width != count * heads.dim {
                let what = "attention projection";
                return Err(width_error(what, count * heads.dim, rows.width));
            }
        }
        let head_norms = match head_norms {
            Some([q, k]) => Some([norm_of(q, heads.dim)?, norm_of(k, heads.dim)?]),
            None => None,
        };
        let rows = [q.rows()?, k.rows()?, v.rows()?];
        let queries = attention::rope_append(&recording, rows, head_norms, rotations, layer)?;
        *q = GpuRows::here(&recording, queries);
        Ok(())
    }

    fn attention(&self, q: &GpuRows, cache: &GpuCache, layer: usize) -> Result<GpuRows> {
        same_session(&q.recording, cache)?;
        let heads = cache.session.heads;
        if q.width != heads.query * heads.dim {
            return Err(width_error("queries", heads.query * heads.dim, q.width));
        }
        attention::attention(&q.recording, &q.rows()?, layer)
    }

    fn attention_weights(&self, q: &GpuRows, cache: &GpuCache, layer: usize) -> Result<Vec<f32>> {
        same_session(&q.recording, cache)?;
        let heads = cache.session.heads;
        if q.width != heads.query * heads.dim {
            return Err(width_error("queries", heads.query * heads.dim, q.width));
        }
        attention_weights::of_last(&q.recording, &q.rows()?, layer)
    }

    fn gate_norm_quantize(
        &self,
        gate: GpuRows,
        up: GpuRows,
        function: Gate,
        norm: Option<Norm<'_, Gain>>,
        activations: Activations,
    ) -> Result<GpuActivation> {
        let recording = Arc::clone(&gate.recording);
        same_batch(&recording, &up.recording)?;
        if gate.width != up.width {
            return Err(width_error("up projection", gate.width, up.width));
        }
        let norm = norm.map(|norm| norm_of(norm, gate.width)).transpose()?;
        let activation = match rows::fused(&gate, &up, function)? {
            Some(rows) => Activation::new(&recording, Source::Rows(rows), None, norm, activations),
            None => {
                let other = Some((up.rows()?, function));
                Activation::new(&recording, gate.source()?, other, norm, activations)
            }
        };
        Ok(GpuActivation(activation))
    }

    fn head(
        &self,
        x: &GpuRows,
        first: usize,
        norm: Norm<'_, Gain>,
        table: &GpuTable,
    ) -> Result<Pending<Vec<f32>>> {
        head::logits(x, first, norm_of(norm, x.width)?, &table.matrix)
    }

    fn head_top(
        &self,
        x: &GpuRows,
        first: usize,
        norm: Norm<'_, Gain>,
        table: &GpuTable,
        top: &Top<'_>,
        cache: &mut GpuCache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>> {
        same_session(&x.recording, cache)?;
        head::top(x, first, norm_of(norm, x.width)?, table, top)
    }

    fn run(&self, x: GpuRows) -> Result<()> {
        // What nobody read is computed for its effect on the cache, if it has one: appending did that already.
        x.recording.submit().map(drop)
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn matrix_bytes(&self, matrix: &GpuMatrix) -> usize {
        matrix.0.bytes()
    }

    fn head_bytes(&self, table: &GpuTable) -> usize {
        match &table.shadow {
            Some(shadow) => shadow.bytes(),
            None => table.matrix.bytes(),
        }
    }

    fn head_stats(&self, _: &GpuTable) -> Option<HeadStats> {
        None
    }
}
