//! The head: logits, and the likeliest tokens found on the device, of which only those come to the host.

use super::kernel::{CANDIDATES, Kernel};
use super::memory::{GpuBuffer, Slot};
use super::product::{Dense, dense};
use super::recording::Recording;
use super::rows::{Activation, NormParams, Rows, Source};
use super::scratch::Bound;
use super::screen::{Screened, Shadow};
use super::weights::Matrix;
use super::{GpuBackend, GpuHidden, GpuState, REFUSED_BY};
use crate::head::LmHeadStats;
use crate::pending::Waiting;
use crate::sublayer::{unrotated, unscaled};
use crate::{
    Activations, Candidate, Error, LmHead, Output, OutputRequest, Pending, Result, Sublayer, Top,
    VocabularyWeights,
};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The most candidates that are sorted on the device; for more, all logits come to the host.
const MOST_KEPT: usize = 256;
/// The most bytes of logits computed before they are looked at.
const LOGIT_BYTES: usize = 64 << 20;
/// Stands for no token.
const NOBODY: u32 = u32::MAX;

/// The embedding on the GPU.
#[derive(Debug)]
pub struct GpuEmbedding(pub(super) Arc<Matrix>);

/// The head on the GPU.
pub struct GpuLmHead {
    table: Arc<Matrix>,
    norm: NormParams,
    /// Finds the likeliest rows of the table.
    shadow: Option<Shadow>,
}

impl std::fmt::Debug for GpuLmHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuLmHead")
            .field("table", &self.table)
            .field("screened", &self.shadow.is_some())
            .finish_non_exhaustive()
    }
}

impl Sublayer for GpuLmHead {
    fn bytes(&self) -> usize {
        match &self.shadow {
            Some(shadow) => shadow.bytes(),
            None => self.table.bytes(),
        }
    }
}

impl LmHead for GpuLmHead {
    fn stats(&self) -> Option<LmHeadStats> {
        // The device does not count the rows that its screen leaves.
        None
    }
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::load_vocabulary`](crate::Backend::load_vocabulary).
    pub(super) fn vocabulary(
        &self,
        weights: VocabularyWeights,
    ) -> Result<(GpuEmbedding, GpuLmHead)> {
        weights.check()?;
        let VocabularyWeights {
            embedding,
            embedding_scale,
            embedding_rotation,
            head_rotation,
            // Ternary heads multiply f32 rows here, as others do.
            activations: _,
            norm,
            head,
            mode,
        } = weights;
        unscaled(embedding_scale, REFUSED_BY)?;
        for rotation in [embedding_rotation, head_rotation] {
            unrotated(embedding.name(), rotation.as_deref(), REFUSED_BY)?;
        }
        let embedding_table = Arc::new(self.matrix(&embedding)?);
        let (table, weights) = match head {
            Some(head) => (Arc::new(self.matrix(&head)?), head),
            None => (Arc::clone(&embedding_table), embedding),
        };
        let shadow = Shadow::of(&self.gpu, &weights, &table, mode)?;
        let norm = self.norm(norm)?;
        let head = GpuLmHead {
            table,
            norm,
            shadow,
        };
        Ok((GpuEmbedding(embedding_table), head))
    }

    /// Ends a batch of one span.
    ///
    /// # Errors
    /// As [`Backend::outputs`](crate::Backend::outputs).
    pub(super) fn outputs_of(
        &self,
        x: GpuHidden,
        head: &GpuLmHead,
        state: &mut GpuState,
        outputs: OutputRequest<'_>,
    ) -> Result<Pending<Output>> {
        let tokens = x.recording.tokens;
        let pending = match outputs {
            OutputRequest::Logits { rows } if rows > 0 => {
                logits(x, rows, head)?.map(Output::Logits)
            }
            OutputRequest::Top { rows, top } if rows > 0 => {
                let candidates = likeliest(x, rows, head, &top, &state.last_argmax)?;
                state.set_last_argmax();
                candidates.map(Output::Top)
            }
            OutputRequest::Nothing => {
                x.recording.submit()?;
                Pending::ready(Output::Nothing)
            }
            OutputRequest::Hidden { .. } => {
                return Err(Error::Unavailable {
                    what: "the rows behind the last layer".into(),
                    why: format!("not on {REFUSED_BY}: use --device cpu"),
                });
            }
            OutputRequest::Logits { .. } => {
                x.recording.submit()?;
                Pending::ready(Output::Logits(Vec::new()))
            }
            OutputRequest::Top { .. } => {
                x.recording.submit()?;
                Pending::ready(Output::Top(Vec::new()))
            }
        };
        state.advance(tokens);
        Ok(pending)
    }
}

/// Rows whose outputs are computed, normed, and the table.
struct HeadRows<'a> {
    table: &'a Matrix,
    rows: Rows,
    count: usize,
    /// Rows whose logits are computed together, and room for these.
    chunk: usize,
    logits: Arc<Slot>,
}

impl<'a> HeadRows<'a> {
    fn new(x: &mut GpuHidden, count: usize, head: &'a GpuLmHead) -> Result<Self> {
        let table = &*head.table;
        x.check_width(table)?;
        let recording = &mut x.recording;
        recording.uniform().asked = (recording.tokens - count) as u32;
        let row_bytes = table.rows * 4;
        let most = recording.gpu.limits.binding.min(LOGIT_BYTES.max(row_bytes));
        let chunk = (most / row_bytes).min(count).max(1);
        let logits = recording.slot(chunk * row_bytes)?;
        let source = Source::Rows(x.rows.clone());
        let mut activation = Activation::new(source, Some(head.norm.clone()), Activations::F32);
        Ok(Self {
            table,
            rows: activation.last_normed(recording, count)?,
            count,
            chunk,
            logits,
        })
    }

    /// The first row and the number of rows of each chunk.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (count, chunk) = (self.count, self.chunk);
        (0..count)
            .step_by(chunk)
            .map(move |first| (first, chunk.min(count - first)))
    }

    fn logit_bytes(&self, count: usize) -> usize {
        count * self.table.rows * 4
    }

    /// Computes the logits of some rows.
    fn compute(
        &self,
        recording: &mut Recording,
        (first, count): (usize, usize),
    ) -> Result<Bound<'_>> {
        let stride = self.rows.place.stride;
        let row_bytes = stride as usize * 4;
        let out = Bound::slot(&self.logits, self.logit_bytes(count));
        for shard in &self.table.shards {
            let x = Bound {
                buffer: self.rows.slot.buffer(),
                at: first * row_bytes,
                bytes: count * row_bytes,
            };
            let job = Dense {
                matrix: self.table,
                shard,
                x: (x, stride),
                tokens: count,
                column: shard.first,
            };
            dense(recording, job, (out, self.table.rows), None)?;
        }
        Ok(out)
    }
}

/// Logits of the last `count` rows, `[rows, vocabulary]`.
fn logits(mut x: GpuHidden, count: usize, head: &GpuLmHead) -> Result<Pending<Vec<f32>>> {
    let head_rows = HeadRows::new(&mut x, count, head)?;
    let mut recording = x.recording;
    for rows in head_rows.chunks() {
        head_rows.compute(&mut recording, rows)?;
        let bytes = head_rows.logit_bytes(rows.1);
        recording.read(head_rows.logits.buffer(), bytes);
    }
    let reads = recording.submit()?;
    Ok(joined(reads).map(|bytes| bytemuck::pod_collect_to_vec(&bytes)))
}

/// The likeliest tokens after each of the last `count` rows; the one after the last row goes to `argmax`.
fn likeliest(
    mut x: GpuHidden,
    count: usize,
    head: &GpuLmHead,
    top: &Top<'_>,
    argmax: &Arc<GpuBuffer>,
) -> Result<Pending<Vec<Vec<Candidate>>>> {
    let one = count == 1 && top.count <= 1 && top.also.is_empty();
    let table = &*head.table;
    if let Some(shadow) = head.shadow.as_ref().filter(|_| one) {
        return screened(x, head, shadow, argmax);
    }
    let head_rows = HeadRows::new(&mut x, count, head)?;
    let mut recording = x.recording;
    let vocabulary = table.rows;
    let also: Vec<u32> = top
        .also
        .iter()
        .copied()
        .filter(|id| (*id as usize) < vocabulary)
        .collect();
    if top.count > MOST_KEPT {
        return all_logits(recording, &head_rows, top, argmax);
    }
    let kept = top.count.clamp(1, vocabulary);
    let entries = kept + also.len();
    recording.uniform().entries = entries as u32;
    let listed = listed(&mut recording, &also)?;
    // Every chunk has its own, until all are submitted.
    let mut answers = Vec::new();
    for rows in head_rows.chunks() {
        let logits = head_rows.compute(&mut recording, rows)?;
        let bytes = rows.1 * entries * 8;
        let answer = recording.slot(bytes)?;
        if let Some((listed, bytes_of_list)) = &listed {
            let kernel = Kernel::Exclude {
                vocabulary: vocabulary as u32,
                kept: kept as u32,
            };
            let bound = [
                Bound::slot(listed, *bytes_of_list),
                logits,
                Bound::slot(&answer, bytes),
            ];
            let groups = (also.len() as u32).div_ceil(64);
            recording.dispatch(kernel, &bound, [groups, rows.1 as u32, 1])?;
        }
        let out = (Bound::slot(&answer, bytes), argmax);
        find(&mut recording, &head_rows, (logits, rows.1), kept, out)?;
        recording.read(answer.buffer(), bytes);
        answers.push(answer);
    }
    let reads = recording.submit()?;
    Ok(joined(reads).map(move |bytes| {
        let pairs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&bytes);
        pairs.chunks_exact(entries).map(candidates).collect()
    }))
}

/// The likeliest token after the last row, by the shadow of a table.
fn screened(
    mut x: GpuHidden,
    head: &GpuLmHead,
    shadow: &Shadow,
    argmax: &Arc<GpuBuffer>,
) -> Result<Pending<Vec<Vec<Candidate>>>> {
    let table = &*head.table;
    x.check_width(table)?;
    let recording = &mut x.recording;
    recording.uniform().asked = recording.tokens as u32 - 1;
    recording.uniform().entries = 1;
    let source = Source::Rows(x.rows.clone());
    let mut activation = Activation::new(source, Some(head.norm.clone()), Activations::F32);
    let Screened {
        found,
        count,
        logits,
    } = shadow.screen(recording, &mut activation, table)?;
    let answer = recording.slot(8)?;
    let found = (Bound::slot(&found, 8 * count as usize), count);
    let logits = Bound::slot(&logits, 4 * table.rows);
    conclude(
        recording,
        found,
        (1, table),
        logits,
        (Bound::slot(&answer, 8), argmax),
    )?;
    recording.read(answer.buffer(), 8);
    let reads = x.recording.submit()?;
    Ok(joined(reads).map(|bytes| {
        let pairs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&bytes);
        vec![candidates(&pairs)]
    }))
}

/// Finds the likeliest of a few candidates of each row, and stores it in the answer.
fn conclude(
    recording: &mut Recording,
    (found, count): (Bound<'_>, u32),
    (rows, table): (usize, &Matrix),
    logits: Bound<'_>,
    (answer, argmax): Out<'_>,
) -> Result<()> {
    let kernel = Kernel::Likeliest {
        count,
        vocabulary: table.rows as u32,
    };
    let bound = [found, logits, answer, Bound::whole(argmax)];
    recording.dispatch(kernel, &bound, [rows as u32, 1, 1])
}

/// The list of ids as kernels read it.
fn listed(recording: &mut Recording, also: &[u32]) -> Result<Option<(Arc<Slot>, usize)>> {
    if also.is_empty() {
        return Ok(None);
    }
    let mut words = vec![also.len() as u32];
    words.extend_from_slice(also);
    let bytes = words.len() * 4;
    let slot = recording.input(bytemuck::cast_slice(&words).to_vec())?;
    Ok(Some((slot, bytes)))
}

/// Rows of candidates, and the token after the last row.
type Out<'a> = (Bound<'a>, &'a Arc<GpuBuffer>);

/// Finds the `kept` likeliest of each of some rows of logits, and stores them.
fn find(
    recording: &mut Recording,
    head_rows: &HeadRows<'_>,
    (logits, rows): (Bound<'_>, usize),
    kept: usize,
    out: Out<'_>,
) -> Result<()> {
    let vocabulary = head_rows.table.rows as u32;
    let mut count = vocabulary;
    let mut found: Option<(Arc<Slot>, usize)> = None;
    loop {
        let groups = count.div_ceil(CANDIDATES);
        let bytes = rows * groups as usize * kept * 8;
        let slot = recording.slot(bytes)?;
        let first = found.is_none();
        let kernel = match kept {
            1 => Kernel::Best {
                count,
                logits: first,
            },
            _ => Kernel::Top {
                count,
                kept: kept as u32,
                logits: first,
            },
        };
        let source = match &found {
            Some((slot, bytes)) => Bound::slot(slot, *bytes),
            None => logits,
        };
        let bound = [source, Bound::slot(&slot, bytes)];
        recording.dispatch(kernel, &bound, [groups, rows as u32, 1])?;
        found = Some((slot, bytes));
        count = groups * kept as u32;
        if groups == 1 || (kept == 1 && count <= CANDIDATES) {
            break;
        }
    }
    let Some((slot, bytes)) = &found else {
        return Ok(());
    };
    if kept == 1 {
        let found = (Bound::slot(slot, *bytes), count);
        return conclude(recording, found, (rows, head_rows.table), logits, out);
    }
    let kernel = Kernel::Answer {
        vocabulary,
        kept: kept as u32,
    };
    let (answer, argmax) = (out.0, Bound::whole(out.1));
    let bound = [Bound::slot(slot, *bytes), logits, answer, argmax];
    recording.dispatch(kernel, &bound, [rows as u32, 1, 1])
}

/// The likeliest found by the host, among all logits.
fn all_logits(
    mut recording: Recording,
    head_rows: &HeadRows<'_>,
    top: &Top<'_>,
    argmax: &Arc<GpuBuffer>,
) -> Result<Pending<Vec<Vec<Candidate>>>> {
    recording.uniform().entries = 1;
    for rows in head_rows.chunks() {
        let logits = head_rows.compute(&mut recording, rows)?;
        let bytes = head_rows.logit_bytes(rows.1);
        recording.read(head_rows.logits.buffer(), bytes);
        // Only for the token that comes next.
        let bytes = rows.1 * 8;
        let answer = recording.slot(bytes)?;
        let out = (Bound::slot(&answer, bytes), argmax);
        find(&mut recording, head_rows, (logits, rows.1), 1, out)?;
    }
    let reads = recording.submit()?;
    let (count, also, vocabulary) = (top.count, top.also.to_vec(), head_rows.table.rows);
    Ok(joined(reads).map(move |bytes| {
        let logits: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let top = Top { count, also: &also };
        let rows = logits.chunks_exact(vocabulary);
        rows.map(|logits| top.of_logits(logits)).collect()
    }))
}

/// The candidates of one row, in their order; one that is not finite alone.
fn candidates(pairs: &[[u32; 2]]) -> Vec<Candidate> {
    let found: Vec<Candidate> = pairs
        .iter()
        .filter(|[id, _]| *id != NOBODY)
        .map(|&[id, bits]| Candidate {
            id,
            logit: f32::from_bits(bits),
        })
        .collect();
    match found.first() {
        Some(first) if !first.logit.is_finite() => vec![*first],
        _ => found,
    }
}

/// Bytes that arrive one part after the other.
struct Joined {
    parts: std::vec::IntoIter<Pending<Vec<u8>>>,
    current: Option<Pending<Vec<u8>>>,
    bytes: Vec<u8>,
}

fn joined(reads: Vec<Pending<Vec<u8>>>) -> Pending<Vec<u8>> {
    let mut parts = reads.into_iter();
    let current = parts.next();
    Pending::waiting(Box::new(Joined {
        parts,
        current,
        bytes: Vec::new(),
    }))
}

impl Waiting<Vec<u8>> for Joined {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        while let Some(current) = &mut self.current {
            match Pin::new(current).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(bytes)) if self.bytes.is_empty() => self.bytes = bytes,
                Poll::Ready(Ok(bytes)) => self.bytes.extend_from_slice(&bytes),
            }
            self.current = self.parts.next();
        }
        Poll::Ready(Ok(std::mem::take(&mut self.bytes)))
    }
}
