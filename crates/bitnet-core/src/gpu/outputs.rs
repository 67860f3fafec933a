//! The end of a batch: logits, and the likeliest tokens found on the device, of which only those come to the host.
//!
//! Rows of all spans that are to be known in the same way go through the head together, so that its table is read once for
//! several of them.

use super::head::GpuLmHead;
use super::kernel::{CANDIDATES, Kernel};
use super::memory::{GpuBuffer, Slot};
use super::product::{Dense, dense};
use super::recording::Recording;
use super::rows::{Activation, Rows, Source};
use super::scratch::Bound;
use super::screen::{Screened, Shadow};
use super::weights::Matrix;
use super::{GpuBackend, GpuHidden, GpuState, REFUSED_BY};
use crate::batch::{Batch, Run};
use crate::pending::Waiting;
use crate::{Activations, Candidate, Error, Output, OutputRequest, Pending, Result, Top};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The most candidates that are sorted on the device; for more, all logits come to the host.
const MOST_KEPT: usize = 256;
/// The most bytes of logits computed before they are looked at.
const LOGIT_BYTES: usize = 64 << 20;
/// Stands for no token, and for no place of one.
const NOBODY: u32 = u32::MAX;

/// A row that the head is asked about.
struct Asked {
    /// The span that it belongs to.
    span: usize,
    row: u32,
    /// Where its likeliest token is kept, or [`NOBODY`].
    place: u32,
    /// Tokens that are wanted beside the likeliest.
    also: Vec<u32>,
}

/// How rows are to be known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By so many likeliest tokens, found on the device.
    Kept(usize),
    /// By all logits.
    Logits,
}

/// The output that the host makes of a span's rows.
enum Span {
    Nothing,
    Logits,
    /// The likeliest that the device found.
    Found,
    /// The likeliest of all logits: so many, and these.
    Sought(usize, Vec<u32>),
}

/// The rows of a batch that the head is asked about.
struct Plan {
    spans: Vec<Span>,
    groups: Vec<(Way, Vec<Asked>)>,
    vocabulary: usize,
    /// Rows whose logits are computed together.
    chunk: usize,
}

impl Plan {
    /// # Errors
    /// [`Error::Unavailable`] for outputs that only other backends give.
    fn of(
        batch: &Batch<'_, GpuState>,
        runs: &[Run],
        vocabulary: usize,
        binding: usize,
    ) -> Result<Self> {
        let row_bytes = 4 * vocabulary.max(1);
        let mut plan = Self {
            spans: Vec::new(),
            groups: Vec::new(),
            vocabulary,
            chunk: (LOGIT_BYTES.min(binding) / row_bytes).max(1),
        };
        for (index, (span, run)) in batch.spans().iter().zip(runs).enumerate() {
            let (way, made) = match span.outputs {
                OutputRequest::Nothing => (None, Span::Nothing),
                OutputRequest::Logits { .. } => (Some(Way::Logits), Span::Logits),
                OutputRequest::Top { top, .. } if top.count > MOST_KEPT => {
                    let sought = Span::Sought(top.count, top.also.to_vec());
                    (Some(Way::Logits), sought)
                }
                OutputRequest::Top { top, .. } => {
                    let kept = top.count.clamp(1, vocabulary);
                    (Some(Way::Kept(kept)), Span::Found)
                }
                OutputRequest::Hidden { .. } => {
                    return Err(Error::Unavailable {
                        what: "the rows behind the last layer".into(),
                        why: format!("not on {REFUSED_BY}: use --device cpu"),
                    });
                }
            };
            plan.spans.push(made);
            let Some(way) = way else {
                continue;
            };
            let group = match plan.groups.iter().position(|(other, _)| *other == way) {
                Some(group) => group,
                None => {
                    plan.groups.push((way, Vec::new()));
                    plan.groups.len() - 1
                }
            };
            let last = run.rows.end - 1;
            for row in run.last(span.outputs.rows()) {
                let mut asked = Asked {
                    span: index,
                    row: row as u32,
                    place: NOBODY,
                    also: Vec::new(),
                };
                if let OutputRequest::Top { top, .. } = span.outputs {
                    if row == last {
                        asked.place = span.state.likeliest.index;
                    }
                    if way != Way::Logits {
                        let also = top.also.iter().copied();
                        asked.also = also.filter(|id| (*id as usize) < vocabulary).collect();
                    }
                }
                plan.groups[group].1.push(asked);
            }
        }
        plan.groups.retain(|(_, rows)| !rows.is_empty());
        Ok(plan)
    }

    /// The outputs, of the bytes that all groups brought, one after the other.
    fn outputs(self, bytes: &[u8]) -> Vec<Output> {
        let empty = |span: &Span| match span {
            Span::Nothing => Output::Nothing,
            Span::Logits => Output::Logits(Vec::new()),
            Span::Found | Span::Sought(..) => Output::Top(Vec::new()),
        };
        let mut outputs: Vec<Output> = self.spans.iter().map(empty).collect();
        let mut rest = bytes;
        for (way, rows) in &self.groups {
            for chunk in rows.chunks(self.chunk) {
                let each = match way {
                    Way::Kept(kept) => 8 * entries(*kept, chunk),
                    Way::Logits => 4 * self.vocabulary,
                };
                for asked in chunk {
                    let (own, later) = rest.split_at(each.min(rest.len()));
                    rest = later;
                    let Some(output) = outputs.get_mut(asked.span) else {
                        continue;
                    };
                    match (output, way) {
                        (Output::Top(rows), Way::Kept(kept)) => {
                            let pairs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(own);
                            let count = (kept + asked.also.len()).min(pairs.len());
                            rows.push(candidates(&pairs[..count]));
                        }
                        (Output::Top(rows), Way::Logits) => {
                            let logits: Vec<f32> = bytemuck::pod_collect_to_vec(own);
                            if let Some(Span::Sought(count, also)) = self.spans.get(asked.span) {
                                let top = Top {
                                    count: *count,
                                    also,
                                };
                                rows.push(top.of_logits(&logits));
                            }
                        }
                        (Output::Logits(all), _) => {
                            let logits: Vec<f32> = bytemuck::pod_collect_to_vec(own);
                            all.extend_from_slice(&logits);
                        }
                        (Output::Nothing | Output::Hidden(_), _) => {}
                    }
                }
            }
        }
        outputs
    }
}

/// Pairs in the answer for a row.
fn entries(kept: usize, rows: &[Asked]) -> usize {
    kept + rows.iter().map(|row| row.also.len()).max().unwrap_or(0)
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::outputs`](crate::Backend::outputs).
    pub(super) fn outputs_of(
        &self,
        mut x: GpuHidden,
        head: &GpuLmHead,
        batch: &mut Batch<'_, GpuState>,
    ) -> Result<Pending<Vec<Output>>> {
        x.spans.check(batch)?;
        let binding = x.recording.gpu.limits.binding;
        let plan = Plan::of(batch, &x.spans.runs, head.table.rows, binding)?;
        let sequences = batch
            .spans()
            .first()
            .map(|s| Arc::clone(s.state.sequences()));
        if let Some(sequences) = &sequences {
            let one = plan
                .groups
                .iter()
                .map(|(_, rows)| rows.len())
                .sum::<usize>()
                == 1;
            for (way, rows) in &plan.groups {
                x.check_width(&head.table)?;
                match (&head.shadow, way, rows.as_slice()) {
                    (Some(shadow), Way::Kept(1), [row]) if one && row.also.is_empty() => {
                        screened(&mut x, head, shadow, row, &sequences.likeliest)?;
                    }
                    _ => {
                        for rows in rows.chunks(plan.chunk) {
                            ask(&mut x, head, *way, rows, &sequences.likeliest)?;
                        }
                    }
                }
            }
        }
        let reads = x.recording.submit()?;
        for span in batch.spans_mut() {
            span.state.advance(span.input.len());
            if matches!(span.outputs, OutputRequest::Top { rows, .. } if rows > 0) {
                span.state.set_last_argmax();
            }
        }
        if reads.is_empty() {
            return Ok(Pending::ready(plan.outputs(&[])));
        }
        Ok(joined(reads).map(move |bytes| plan.outputs(&bytes)))
    }
}

/// The list of rows as kernels read it: `asked.wgsl`.
fn listed(recording: &mut Recording, rows: &[Asked], entries: usize) -> Result<(Arc<Slot>, usize)> {
    let mut words = vec![rows.len() as u32, entries as u32, 0, 0];
    let mut start = 4 + 4 * rows.len();
    for asked in rows {
        let count = asked.also.len();
        words.extend([asked.row, asked.place, start as u32, count as u32]);
        start += count;
    }
    for asked in rows {
        words.extend_from_slice(&asked.also);
    }
    let slot = recording.input(bytemuck::pod_collect_to_vec(&words))?;
    Ok((slot, 4 * words.len()))
}

/// The rows behind the last layer, before the head's norm.
fn last(x: &GpuHidden, head: &GpuLmHead) -> Activation {
    let source = Source::Rows(x.rows.clone());
    Activation::new(source, Some(head.norm.clone()), Activations::F32)
}

/// Multiplies some rows by the head, and brings what is to be known of them to the host.
fn ask(
    x: &mut GpuHidden,
    head: &GpuLmHead,
    way: Way,
    rows: &[Asked],
    likeliest: &Arc<GpuBuffer>,
) -> Result<()> {
    let (table, count) = (&*head.table, rows.len());
    let mut activation = last(x, head);
    let recording = &mut x.recording;
    let kept = match way {
        Way::Kept(kept) => kept,
        // Only for the token that comes next.
        Way::Logits => 1,
    };
    let entries = entries(kept, rows);
    let (list, list_bytes) = listed(recording, rows, entries)?;
    let asked = Bound::slot(&list, list_bytes);
    let normed = activation.asked_normed(recording, count, asked)?;
    let logit_bytes = 4 * count * table.rows;
    let logits = recording.slot(logit_bytes)?;
    let logits = Bound::slot(&logits, logit_bytes);
    multiply(recording, table, &normed, asked, logits)?;
    if way == Way::Logits {
        recording.read(logits.buffer, logit_bytes);
        if rows.iter().all(|row| row.place == NOBODY) {
            return Ok(());
        }
    }
    let bytes = 8 * count * entries;
    let answer = recording.slot(bytes)?;
    let search = Search {
        rows: count as u32,
        vocabulary: table.rows as u32,
        logits,
        asked,
        answer: Bound::slot(&answer, bytes),
        likeliest: Bound::whole(likeliest),
    };
    let most = rows.iter().map(|row| row.also.len()).max().unwrap_or(0);
    if most > 0 {
        let kernel = Kernel::Exclude {
            vocabulary: search.vocabulary,
            kept: kept as u32,
        };
        let groups = [(most as u32).div_ceil(64), search.rows, 1];
        recording.dispatch(kernel, &[asked, logits, search.answer], groups)?;
    }
    search.find(recording, kept)?;
    if way != Way::Logits {
        recording.read(answer.buffer(), bytes);
    }
    Ok(())
}

/// The logits of some rows.
fn multiply(
    recording: &mut Recording,
    table: &Matrix,
    rows: &Rows,
    asked: Bound<'_>,
    logits: Bound<'_>,
) -> Result<()> {
    let stride = rows.place.stride;
    for shard in &table.shards {
        let job = Dense {
            matrix: table,
            shard,
            x: (rows.bound(), stride),
            tokens: rows.bytes / (4 * stride as usize),
            counts: asked,
            column: shard.first,
        };
        dense(recording, job, (logits, table.rows), None)?;
    }
    Ok(())
}

/// The likeliest token after one row, by the shadow of a table.
fn screened(
    x: &mut GpuHidden,
    head: &GpuLmHead,
    shadow: &Shadow,
    row: &Asked,
    likeliest: &Arc<GpuBuffer>,
) -> Result<()> {
    let table = &*head.table;
    let mut activation = last(x, head);
    let recording = &mut x.recording;
    let (list, list_bytes) = listed(recording, std::slice::from_ref(row), 1)?;
    let asked = Bound::slot(&list, list_bytes);
    let Screened {
        found,
        count,
        logits,
    } = shadow.screen(recording, &mut activation, table, asked)?;
    let answer = recording.slot(8)?;
    let search = Search {
        rows: 1,
        vocabulary: table.rows as u32,
        logits: Bound::slot(&logits, 4 * table.rows),
        asked,
        answer: Bound::slot(&answer, 8),
        likeliest: Bound::whole(likeliest),
    };
    search.conclude(recording, Bound::slot(&found, 8 * count as usize), count)?;
    recording.read(answer.buffer(), 8);
    Ok(())
}

/// A search for the likeliest tokens of some rows.
struct Search<'a> {
    rows: u32,
    vocabulary: u32,
    logits: Bound<'a>,
    asked: Bound<'a>,
    answer: Bound<'a>,
    /// The likeliest token of each sequence.
    likeliest: Bound<'a>,
}

impl Search<'_> {
    /// Finds the likeliest of a few candidates of each row, and stores it in the answer.
    fn conclude(&self, recording: &mut Recording, found: Bound<'_>, count: u32) -> Result<()> {
        let kernel = Kernel::Likeliest {
            count,
            vocabulary: self.vocabulary,
        };
        let bound = [found, self.logits, self.answer, self.likeliest, self.asked];
        recording.dispatch(kernel, &bound, [self.rows, 1, 1])
    }

    /// Finds the `kept` likeliest of each row's logits, and stores them.
    fn find(&self, recording: &mut Recording, kept: usize) -> Result<()> {
        let mut count = self.vocabulary;
        let mut found: Option<(Arc<Slot>, usize)> = None;
        loop {
            let groups = count.div_ceil(CANDIDATES);
            let bytes = (self.rows * groups) as usize * kept * 8;
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
                None => self.logits,
            };
            let bound = [source, Bound::slot(&slot, bytes)];
            recording.dispatch(kernel, &bound, [groups, self.rows, 1])?;
            found = Some((slot, bytes));
            count = groups * kept as u32;
            if groups == 1 || (kept == 1 && count <= CANDIDATES) {
                break;
            }
        }
        let Some((slot, bytes)) = &found else {
            return Ok(());
        };
        let found = Bound::slot(slot, *bytes);
        if kept == 1 {
            return self.conclude(recording, found, count);
        }
        let kernel = Kernel::Answer {
            vocabulary: self.vocabulary,
            kept: kept as u32,
        };
        let bound = [found, self.logits, self.answer, self.likeliest, self.asked];
        recording.dispatch(kernel, &bound, [self.rows, 1, 1])
    }
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
