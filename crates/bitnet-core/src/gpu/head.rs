//! The head: logits, and the likeliest tokens found on the device, of which only those come to the host.

use super::kernel::{CANDIDATES, Kernel};
use super::memory::Slot;
use super::product::{Dense, dense};
use super::recording::{Bound, Recording};
use super::rows::{Activation, GpuRows, NormOf, Rows};
use super::screen::{Screened, Shadow};
use super::weights::{GpuTable, Matrix};
use crate::pending::Waiting;
use crate::{Activations, Candidate, Error, Pending, Result, Top};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The most candidates that are sorted on the device; for more, all logits come to the host.
const MOST_KEPT: usize = 256;
/// The most bytes of logits computed before they are looked at.
const LOGIT_BYTES: usize = 64 << 20;
/// Stands for no token.
const NOBODY: u32 = u32::MAX;

/// What the head is asked about: rows normed, and the table.
struct Asked<'a> {
    recording: &'a Arc<Recording>,
    table: &'a Matrix,
    rows: Rows,
    count: usize,
    /// Rows whose logits are computed together, and room for these.
    chunk: usize,
    logits: Arc<Slot>,
}

impl<'a> Asked<'a> {
    /// `None` if there is no such row.
    fn new(x: &'a GpuRows, first: usize, norm: NormOf, table: &'a Matrix) -> Result<Option<Self>> {
        let recording = &x.recording;
        check(table, x)?;
        let count = recording.tokens.saturating_sub(first);
        if count == 0 {
            return Ok(None);
        }
        recording.set(|step| step.asked = first as u32);
        let row_bytes = table.rows * 4;
        let most = recording.gpu.limits.binding.min(LOGIT_BYTES.max(row_bytes));
        let chunk = (most / row_bytes).min(count).max(1);
        let logits = recording.slot(chunk * row_bytes)?;
        let activation =
            Activation::new(recording, x.source()?, None, Some(norm), Activations::F32);
        Ok(Some(Self {
            recording,
            table,
            rows: activation.asked(count)?,
            count,
            chunk,
            logits,
        }))
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
    fn compute(&self, (first, count): (usize, usize)) -> Result<Bound<'_>> {
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
            dense(self.recording, job, (out, self.table.rows), None)?;
        }
        Ok(out)
    }
}

/// Logits of the rows `first..`, `[rows, vocabulary]`.
///
/// # Errors
/// If widths differ, memory is short, or the device fails.
pub(super) fn logits(
    x: &GpuRows,
    first: usize,
    norm: NormOf,
    table: &Matrix,
) -> Result<Pending<Vec<f32>>> {
    let Some(asked) = Asked::new(x, first, norm, table)? else {
        x.recording.submit()?;
        return Ok(Pending::ready(Vec::new()));
    };
    for rows in asked.chunks() {
        asked.compute(rows)?;
        let bytes = asked.logit_bytes(rows.1);
        asked.recording.read(asked.logits.buffer(), bytes)?;
    }
    let reads = asked.recording.submit()?;
    Ok(joined(reads).map(|bytes| bytemuck::pod_collect_to_vec(&bytes)))
}

/// The likeliest tokens after each of the rows `first..`; the one after the last row is the session's chosen one.
///
/// # Errors
/// As [`logits`].
pub(super) fn top(
    x: &GpuRows,
    first: usize,
    norm: NormOf,
    table: &GpuTable,
    top: &Top<'_>,
) -> Result<Pending<Vec<Vec<Candidate>>>> {
    let recording = &x.recording;
    let one = recording.tokens == first + 1 && top.count <= 1 && top.also.is_empty();
    let (table, shadow) = (&*table.matrix, &table.shadow);
    if let Some(shadow) = shadow.as_ref().filter(|_| one) {
        return screened(x, norm, table, shadow);
    }
    let Some(asked) = Asked::new(x, first, norm, table)? else {
        recording.submit()?;
        return Ok(Pending::ready(Vec::new()));
    };
    let vocabulary = table.rows;
    let also: Vec<u32> = top
        .also
        .iter()
        .copied()
        .filter(|id| (*id as usize) < vocabulary)
        .collect();
    if top.count > MOST_KEPT {
        return all_logits(&asked, top);
    }
    let kept = top.count.clamp(1, vocabulary);
    let entries = kept + also.len();
    recording.set(|step| step.entries = entries as u32);
    let listed = listed(recording, &also)?;
    let mut answers = Vec::new();
    for rows in asked.chunks() {
        let logits = asked.compute(rows)?;
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
        find(&asked, logits, rows.1, kept, Bound::slot(&answer, bytes))?;
        recording.read(answer.buffer(), bytes)?;
        answers.push(answer);
    }
    let reads = recording.submit()?;
    recording.session.choose();
    Ok(joined(reads).map(move |bytes| {
        let pairs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&bytes);
        pairs.chunks_exact(entries).map(candidates).collect()
    }))
}

/// The likeliest token after the last row, by the shadow of a table.
fn screened(
    x: &GpuRows,
    norm: NormOf,
    table: &Matrix,
    shadow: &Shadow,
) -> Result<Pending<Vec<Vec<Candidate>>>> {
    let recording = &x.recording;
    check(table, x)?;
    recording.set(|step| {
        step.asked = recording.tokens as u32 - 1;
        step.entries = 1;
    });
    let activation = Activation::new(recording, x.source()?, None, Some(norm), Activations::F32);
    let Screened {
        found,
        count,
        logits,
    } = shadow.screen(recording, &activation, table)?;
    let answer = recording.slot(8)?;
    let found = (Bound::slot(&found, 8 * count as usize), count);
    let logits = Bound::slot(&logits, 4 * table.rows);
    conclude(
        recording,
        found,
        (1, table),
        logits,
        Bound::slot(&answer, 8),
    )?;
    recording.read(answer.buffer(), 8)?;
    let reads = recording.submit()?;
    recording.session.choose();
    Ok(joined(reads).map(|bytes| {
        let pairs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&bytes);
        vec![candidates(&pairs)]
    }))
}

/// Finds the likeliest of a few candidates of each row, and stores it in the answer.
fn conclude(
    recording: &Recording,
    (found, count): (Bound<'_>, u32),
    (rows, table): (usize, &Matrix),
    logits: Bound<'_>,
    answer: Bound<'_>,
) -> Result<()> {
    let kernel = Kernel::Likeliest {
        count,
        vocabulary: table.rows as u32,
    };
    let chosen = Bound::whole(&recording.session.chosen);
    let bound = [found, logits, answer, chosen];
    recording.dispatch(kernel, &bound, [rows as u32, 1, 1])
}

fn check(table: &Matrix, x: &GpuRows) -> Result<()> {
    if table.cols == x.width {
        return Ok(());
    }
    Err(Error::Shape {
        what: table.name.clone(),
        expected: format!("width {}", table.cols),
        found: format!("width {}", x.width),
    })
}

/// The list of ids as kernels read it.
fn listed(recording: &Recording, also: &[u32]) -> Result<Option<(Arc<Slot>, usize)>> {
    if also.is_empty() {
        return Ok(None);
    }
    let mut words = vec![also.len() as u32];
    words.extend_from_slice(also);
    let bytes = words.len() * 4;
    let slot = recording.input(bytemuck::cast_slice(&words).to_vec())?;
    Ok(Some((slot, bytes)))
}

/// Finds the `kept` likeliest of each row, and stores them in the answer.
fn find(
    asked: &Asked<'_>,
    logits: Bound<'_>,
    rows: usize,
    kept: usize,
    answer: Bound<'_>,
) -> Result<()> {
    let recording = asked.recording;
    let vocabulary = asked.table.rows as u32;
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
        return conclude(recording, found, (rows, asked.table), logits, answer);
    }
    let kernel = Kernel::Answer {
        vocabulary,
        kept: kept as u32,
    };
    let chosen = Bound::whole(&recording.session.chosen);
    let bound = [Bound::slot(slot, *bytes), logits, answer, chosen];
    recording.dispatch(kernel, &bound, [rows as u32, 1, 1])
}

/// The likeliest found by the host, among all logits.
fn all_logits(asked: &Asked<'_>, top: &Top<'_>) -> Result<Pending<Vec<Vec<Candidate>>>> {
    let recording = asked.recording;
    recording.set(|step| step.entries = 1);
    for rows in asked.chunks() {
        let logits = asked.compute(rows)?;
        recording.read(asked.logits.buffer(), asked.logit_bytes(rows.1))?;
        // Only for the token that comes next.
        let bytes = rows.1 * 8;
        let answer = recording.slot(bytes)?;
        find(asked, logits, rows.1, 1, Bound::slot(&answer, bytes))?;
    }
    let reads = recording.submit()?;
    recording.session.choose();
    let (count, also, vocabulary) = (top.count, top.also.to_vec(), asked.table.rows);
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
