//! Mixers: gated delta nets, from the norm of their input to the sum with their output.
//!
//! The recurrence has one definition, token after token ([`Delta`]): its bits depend neither on how a prompt is divided nor on
//! threads, which share heads.

use super::activations::Preparation;
use super::clock::Part;
use super::state::Recurrent;
use super::tuning::Operation;
use super::{CpuBackend, CpuHidden, CpuState, Rows, columns, shape_error};
use crate::math;
use crate::pool::{Buffer, Tag};
use crate::simd::Delta;
use crate::sublayer::{DeltaHeads, DeltaNetWeights};
use crate::{Batch, Gate, Result};
use std::ops::Range;

/// Above this, ln(1 + eˣ) is x.
const LINEAR: f32 = 20.0;

/// The rows of a span and the state of its sequence.
struct Spanned<'a> {
    rows: Range<usize>,
    before: &'a Recurrent,
    behind: &'a mut Recurrent,
}

impl CpuBackend {
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn delta_net(
        &self,
        x: &mut CpuHidden,
        weights: &DeltaNetWeights,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<()> {
        let projections = [&weights.mixed, &weights.gate, &weights.rate, &weights.decay];
        let (norm, activations) = (weights.norm.as_ref(), weights.activations);
        let [mixed, gate, rate, decay] = self.project(&x.rows, norm, activations, projections)?;
        let runs: Vec<_> = batch.runs().collect();
        let mut spans = Vec::with_capacity(runs.len());
        for (span, run) in batch.spans_mut().iter_mut().zip(runs) {
            let (before, behind) = span.state.recurrent(layer, weights.heads)?;
            spans.push(Spanned {
                rows: run.rows,
                before,
                behind,
            });
        }
        let rows = self.timed(Part::Recurrence, || {
            let mixed = self.convolved(&mixed, weights, &mut spans)?;
            let gates = gates(&rate, &decay, weights);
            let runs: Vec<_> = spans.iter().map(|span| span.rows.clone()).collect();
            let outputs = self.recurred(&mixed, &gates, weights.heads, spans)?;
            self.gated_outputs(gate, &outputs, &runs, weights)
        })?;
        let output = &weights.output;
        let a = self.prepare_owned(rows, Preparation::of(output, activations))?;
        self.add_product(&a, &output.matrix, None, &mut x.rows)
    }

    /// The causal convolution of each span's rows and its SiLU; queries and keys are brought to length 1. States get the last
    /// rows of `mixed`.
    fn convolved(
        &self,
        mixed: &Rows,
        weights: &DeltaNetWeights,
        spans: &mut [Spanned<'_>],
    ) -> Result<Rows> {
        let (heads, width) = (weights.heads, mixed.width);
        if width != heads.conv_width() {
            return Err(shape_error(
                "rows of a convolution",
                heads.conv_width(),
                width,
            ));
        }
        let past = heads.taps - 1;
        for span in &mut *spans {
            let new = mixed.range(span.rows.clone());
            let old = &span.before.conv[..];
            let kept = past.saturating_sub(span.rows.len()) * width;
            let (front, back) = span.behind.conv.split_at_mut(kept);
            front.copy_from_slice(&old[old.len() - kept..]);
            back.copy_from_slice(&new[new.len() - back.len()..]);
        }
        let spans = &*spans;
        let mut out = Rows::new(&self.pool, mixed.tokens, width)?;
        let work = out.values.len();
        let chunk = self.chunk(Operation::Elementwise, mixed.tokens, 1, work);
        columns::chunks(
            &self.threads,
            &mut out.values,
            chunk * width,
            |index, out| {
                let mut sources = Vec::with_capacity(heads.taps);
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    let row = index * chunk + row;
                    let span = &spans[spans.partition_point(|span| span.rows.end <= row)];
                    sources.clear();
                    for back in (0..heads.taps).rev() {
                        // Rows before the span are those that the state remembers.
                        sources.push(match row.checked_sub(span.rows.start + back) {
                            Some(place) => {
                                mixed.range(span.rows.start + place..span.rows.start + place + 1)
                            }
                            None => {
                                let place = past + row - span.rows.start - back;
                                &span.before.conv[place * width..][..width]
                            }
                        });
                    }
                    (self.kernels.convolve)(&sources, &weights.conv, out);
                    let (queries, rest) = out.split_at_mut(heads.key_width());
                    let scale = 1.0 / (heads.key_dim as f32).sqrt();
                    for query in queries.chunks_exact_mut(heads.key_dim) {
                        (self.kernels.unit)(query, weights.eps, scale);
                    }
                    for key in rest[..heads.key_width()].chunks_exact_mut(heads.key_dim) {
                        (self.kernels.unit)(key, weights.eps, 1.0);
                    }
                }
                Ok(())
            },
        )?;
        Ok(out)
    }

    /// The delta rule of all heads: for each span `[head][row][value_dim]`.
    fn recurred(
        &self,
        mixed: &Rows,
        gates: &[[f32; 2]],
        heads: DeltaHeads,
        spans: Vec<Spanned<'_>>,
    ) -> Result<Buffer<f32>> {
        let (rows, dim, width) = (mixed.tokens, heads.value_dim, mixed.width);
        let state_len = heads.key_dim * dim;
        let mut out = self
            .pool
            .buffer_uninit(heads.value * rows * dim, Tag::Activation)?;
        // Heads of a span one after the other in `out`, spans one after the other.
        let mut rest = &mut out[..];
        let mut jobs = Vec::with_capacity(spans.len() * heads.value);
        for span in spans {
            let before = span.before.heads.chunks_exact(state_len);
            let behind = span.behind.heads.chunks_exact_mut(state_len);
            for (head, (before, behind)) in before.zip(behind).enumerate() {
                let (own, others) = std::mem::take(&mut rest).split_at_mut(span.rows.len() * dim);
                rest = others;
                let first = span.rows.start * width;
                let key_head = head % heads.key * heads.key_dim;
                jobs.push(Delta {
                    queries: &mixed.values[first + key_head..],
                    keys: &mixed.values[first + heads.key_width() + key_head..],
                    values: &mixed.values[first + 2 * heads.key_width() + head * dim..],
                    stride: width,
                    gates: &gates[head * rows..][span.rows.clone()],
                    shape: [heads.key_dim, dim],
                    before,
                    behind,
                    out: own,
                });
            }
        }
        let work = 4 * rows * heads.state_len();
        if self.crossovers.is_parallel(Operation::Attention, work) {
            self.threads.each(jobs.into_iter(), |_, job| {
                (self.kernels.delta)(job);
                Ok(())
            })?;
        } else {
            jobs.into_iter().for_each(self.kernels.delta);
        }
        Ok(out)
    }

    /// norm(outputs) · SiLU(gate) of each head, in the place of the gate.
    fn gated_outputs(
        &self,
        mut gate: Rows,
        outputs: &[f32],
        runs: &[Range<usize>],
        weights: &DeltaNetWeights,
    ) -> Result<Rows> {
        let (dim, width, norm) = (weights.heads.value_dim, gate.width, &weights.head_norm);
        let work = gate.values.len();
        let chunk = self.chunk(Operation::Elementwise, gate.tokens, 1, work);
        columns::chunks(
            &self.threads,
            &mut gate.values,
            chunk * width,
            |index, gate| {
                let mut normed = self.pool.buffer_uninit(dim, Tag::Scratch)?;
                for (row, gate) in gate.chunks_exact_mut(width).enumerate() {
                    let row = index * chunk + row;
                    let run = &runs[runs.partition_point(|run| run.end <= row)];
                    for (head, gate) in gate.chunks_exact_mut(dim).enumerate() {
                        let place = run.start * width + (head * run.len() + row - run.start) * dim;
                        let output = &outputs[place..][..dim];
                        (self.kernels.rms_norm_into)(output, &norm.weight, norm.eps, &mut normed);
                        (self.kernels.gate)(gate, &normed, Gate::Silu);
                    }
                }
                Ok(())
            },
        )?;
        Ok(gate)
    }
}

/// Decay and rate of each head and row: `[head][row]`.
fn gates(rate: &Rows, decay: &Rows, weights: &DeltaNetWeights) -> Vec<[f32; 2]> {
    let heads = weights.heads.value;
    let mut gates = Vec::with_capacity(heads * rate.tokens);
    for head in 0..heads {
        let (bias, factor) = (weights.decay_bias[head], weights.decay_factor[head]);
        for row in 0..rate.tokens {
            let place = row * heads + head;
            let decay = math::exp(factor * softplus(decay.values[place] + bias));
            gates.push([decay, math::sigmoid(rate.values[place])]);
        }
    }
    gates
}

/// ln(1 + eˣ).
fn softplus(x: f32) -> f32 {
    if x > LINEAR {
        return x;
    }
    libm::log1pf(math::exp(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_of_published_numbers() {
        assert!((softplus(1.0) - 1.313_261_7).abs() < 1e-6);
        assert!((math::exp(-2.0 * softplus(1.0)) - 0.072_329_49).abs() < 1e-7);
        assert!((softplus(30.0) - 30.0).abs() < 1e-6);
        assert!(softplus(-100.0) >= 0.0);
    }
}
