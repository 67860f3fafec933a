//! Mixtures of experts: a router chooses for each row, and rows that chose the same expert meet its matrices together.
//!
//! A row's result does not depend on the others: products have the same bits however many rows there are, and what its experts
//! give is added up in the order of their router logits, the largest first. Work is divided among threads by experts and output
//! rows. Matrices of experts that no row of a batch chose are not read.

use super::activations::Preparation;
use super::clock::Part;
use super::interleave::TOGETHER;
use super::linear::Product;
use super::rows::{Int8Rows, RoundedRows, RowView};
use super::tuning::Operation;
use super::{Activation, CpuBackend, Rows, columns};
use crate::math::exp;
use crate::pool::Tag;
use crate::{Error, ExpertsWeights, Gate, NormWeights, Result, WeightMatrix};
use std::ops::Range;

/// Rows that run together: enough that an expert of 256 meets several, so few that what the experts give stays small.
const MOST_ROWS: usize = 512;

/// A mixture of experts of the CPU: its weights, checked, each expert's matrices apart.
#[derive(Debug)]
pub(super) struct Experts {
    function: Gate,
    limit: Option<f32>,
    activations: crate::Activations,
    norm: Option<NormWeights>,
    router: WeightMatrix,
    used: usize,
    gate: Vec<WeightMatrix>,
    up: Vec<WeightMatrix>,
    down: Vec<WeightMatrix>,
}

/// A row's choice of an expert.
#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    expert: usize,
    /// The router logit, then the share of the expert's result.
    weight: f32,
}

/// Rows by the experts that they chose.
struct Groups {
    /// Each expert that was chosen, and its places among those of all choices.
    experts: Vec<(usize, Range<usize>)>,
    /// The row at each place.
    rows: Vec<usize>,
    /// The place of each choice.
    places: Vec<usize>,
}

impl Groups {
    /// `choices` has those of row after row, `used` each.
    fn new(choices: &[Choice], used: usize, count: usize) -> Self {
        let mut next = vec![0; count + 1];
        for choice in choices {
            next[choice.expert + 1] += 1;
        }
        for expert in 0..count {
            next[expert + 1] += next[expert];
        }
        let experts = next.windows(2).map(|ends| ends[0]..ends[1]).enumerate();
        let experts = experts.filter(|(_, places)| !places.is_empty()).collect();
        let (mut rows, mut places) = (vec![0; choices.len()], vec![0; choices.len()]);
        for (index, choice) in choices.iter().enumerate() {
            let place = &mut next[choice.expert];
            rows[*place] = index / used;
            places[index] = *place;
            *place += 1;
        }
        Self {
            experts,
            rows,
            places,
        }
    }
}

impl Experts {
    /// Bytes that a row reads.
    pub(super) fn bytes(&self) -> usize {
        let first = |matrices: &[WeightMatrix]| matrices.first().map_or(0, |one| one.data().len());
        let expert = first(&self.gate) + first(&self.up) + first(&self.down);
        self.router.data().len() + self.used * expert
    }
}

impl CpuBackend {
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    pub(super) fn experts_of(&self, weights: ExpertsWeights) -> Result<Experts> {
        weights.check()?;
        let count = weights.count();
        let apart = |matrix: WeightMatrix| {
            // Rows of one expert that lie side by side with those of the next could not be told apart.
            if (matrix.rows() / count).is_multiple_of(TOGETHER) {
                return self.repacked(matrix)?.parts(count);
            }
            let parts = matrix.parts(count)?.into_iter();
            parts.map(|part| self.repacked(part)).collect()
        };
        self.validate(&weights.router)?;
        Ok(Experts {
            function: weights.function,
            limit: weights.limit,
            activations: weights.activations,
            norm: weights.norm,
            router: weights.router,
            used: weights.used,
            gate: apart(weights.gate)?,
            up: apart(weights.up)?,
            down: apart(weights.down)?,
        })
    }

    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward); [`Error::Value`] for a router logit that is not finite.
    pub(super) fn feed_experts(&self, x: &mut Rows, weights: &Experts) -> Result<()> {
        let width = x.width;
        for first in (0..x.tokens).step_by(MOST_ROWS) {
            let some = first..(first + MOST_ROWS).min(x.tokens);
            let rows = Rows::of(&self.pool, x.range(some.clone()), width)?;
            let preparation = Preparation {
                norm: weights.norm.as_ref(),
                rotation: None,
                activations: weights.activations,
            };
            let a = self.prepare_owned(rows, preparation)?;
            let choices = self.choose(&a, weights)?;
            let groups = self.timed(Part::Experts, || {
                Groups::new(&choices, weights.used, weights.router.rows())
            });
            let results = self.run_experts(&a, &groups, weights)?;
            let out = &mut x.values[some.start * width..some.end * width];
            self.timed(Part::Experts, || {
                self.add_results(&results, &choices, &groups.places, weights.used, out)
            })?;
        }
        Ok(())
    }

    /// The experts of each row, and how much of what each gives is added.
    fn choose(&self, a: &Activation, weights: &Experts) -> Result<Vec<Choice>> {
        let count = weights.router.rows();
        let mut logits = Rows::new(&self.pool, a.rows.tokens, count)?;
        self.timed(Part::Matmul, || {
            let router = [&weights.router];
            self.linear_into(a.rows.view(), None, &router, &mut [&mut logits.values[..]])
        })?;
        self.timed(Part::Experts, || {
            let mut choices = vec![Choice::default(); a.rows.tokens * weights.used];
            let rows = logits.values.chunks_exact(count);
            for (logits, chosen) in rows.zip(choices.chunks_exact_mut(weights.used)) {
                if let Some(expert) = logits.iter().position(|logit| !logit.is_finite()) {
                    return Err(Error::Value {
                        what: format!("{}: logit of expert {expert}", weights.router.name()),
                        expected: "a finite number".into(),
                        found: logits[expert].to_string(),
                    });
                }
                choose(logits, chosen);
            }
            Ok(choices)
        })
    }

    /// The results of the experts of each group for its rows.
    fn run_experts(&self, a: &Activation, groups: &Groups, weights: &Experts) -> Result<Rows> {
        for (expert, _) in &groups.experts {
            for matrices in [&weights.gate, &weights.up, &weights.down] {
                matrices[*expert].fetch();
            }
        }
        let inputs = self.gather(a, groups, weights)?;
        let (places, inner) = (groups.rows.len(), weights.down[0].cols());
        let mut gate = Rows::new(&self.pool, places, inner)?;
        let mut up = Rows::new(&self.pool, places, inner)?;
        self.timed(Part::Matmul, || {
            let gates = products(groups, &inputs, &weights.gate, &mut gate);
            let ups = products(groups, &inputs, &weights.up, &mut up);
            self.linear_each(gates.chain(ups).collect())
        })?;
        drop(inputs);
        if let Some(limit) = weights.limit {
            self.timed(Part::Gate, || {
                self.map(&mut gate, |x| if x > limit { limit } else { x })?;
                self.map(&mut up, |x| {
                    let x = if x > limit { limit } else { x };
                    if x < -limit { -limit } else { x }
                })
            })?;
        }
        let hidden = {
            let preparation = Preparation::norm(None);
            self.gate(gate, &up, weights.function, preparation)?.rows
        };
        drop(up);
        let inputs = groups.experts.iter().map(|(_, places)| {
            let rows = RowView {
                values: hidden.range(places.clone()),
                tokens: places.len(),
                width: inner,
            };
            let rounded = self.timed(Part::Gate, || self.rounded(rows, weights.activations))?;
            Ok(Input::Own(rows, rounded))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let mut results = Rows::new(&self.pool, places, a.rows.width)?;
        self.timed(Part::Matmul, || {
            let products = products(groups, &inputs, &weights.down, &mut results);
            self.linear_each(products.collect())
        })?;
        Ok(results)
    }

    /// The rows of each group; of one row, which all its experts meet, there is no copy.
    fn gather<'a>(
        &self,
        a: &'a Activation,
        groups: &Groups,
        weights: &Experts,
    ) -> Result<Vec<Input<'a>>> {
        if a.rows.tokens == 1 {
            let same = || Input::Shared(a);
            return Ok(groups.experts.iter().map(|_| same()).collect());
        }
        let ternary = |matrices: &[WeightMatrix]| matrices[0].format().is_ternary();
        let needs_floats = a.rounded.is_none() || !ternary(&weights.gate) || !ternary(&weights.up);
        self.timed(Part::Experts, || {
            let groups = groups
                .experts
                .iter()
                .map(|(_, places)| &groups.rows[places.clone()]);
            groups
                .map(|rows| {
                    let rounded = a.rounded.as_ref();
                    Ok(Input::Gathered {
                        width: a.rows.width,
                        tokens: rows.len(),
                        floats: match needs_floats {
                            true => Some(self.gather_floats(&a.rows, rows)?),
                            false => None,
                        },
                        rounded: rounded
                            .map(|rounded| self.gather_rounded(rounded, rows))
                            .transpose()?,
                    })
                })
                .collect()
        })
    }

    fn gather_floats(&self, from: &Rows, rows: &[usize]) -> Result<Rows> {
        let mut gathered = Rows::new(&self.pool, rows.len(), from.width)?;
        let outs = gathered.values.chunks_exact_mut(from.width);
        for (row, out) in rows.iter().zip(outs) {
            out.copy_from_slice(from.range(*row..*row + 1));
        }
        Ok(gathered)
    }

    fn gather_rounded(&self, from: &RoundedRows, rows: &[usize]) -> Result<RoundedRows> {
        Ok(match from {
            RoundedRows::Int8(int8) => RoundedRows::Int8(self.gather_int8(int8, rows)?),
            RoundedRows::Groups(from) => RoundedRows::Groups(self.gather_floats(from, rows)?),
        })
    }

    fn gather_int8(&self, from: &Int8Rows, rows: &[usize]) -> Result<Int8Rows> {
        let (stride, runs) = (from.stride, from.stride / Int8Rows::RUN);
        let mut gathered = Int8Rows {
            q: (self.pool).buffer_uninit(rows.len() * stride, Tag::Activation)?,
            stride,
            scales: self.pool.buffer_uninit(rows.len(), Tag::Activation)?,
            sums: (self.pool).buffer_uninit(rows.len() * runs, Tag::Activation)?,
        };
        for (place, row) in rows.iter().enumerate() {
            gathered.q[place * stride..][..stride]
                .copy_from_slice(&from.q[row * stride..][..stride]);
            gathered.scales[place] = from.scales[*row];
            gathered.sums[place * runs..][..runs].copy_from_slice(&from.sums[row * runs..][..runs]);
        }
        Ok(gathered)
    }

    /// Replaces each number.
    fn map(&self, rows: &mut Rows, change: impl Fn(f32) -> f32 + Sync) -> Result<()> {
        let (len, grain) = (rows.values.len(), 1024);
        let chunk = self.chunk(Operation::Elementwise, len, grain, len);
        columns::chunks(&self.threads, &mut rows.values, chunk, |_, piece| {
            piece.iter_mut().for_each(|x| *x = change(*x));
            Ok(())
        })
    }

    /// Adds to each row what its experts gave, in the order of its choices.
    fn add_results(
        &self,
        results: &Rows,
        choices: &[Choice],
        places: &[usize],
        used: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let (width, work) = (results.width, results.values.len());
        let chunk = self.chunk(Operation::Elementwise, out.len() / width, 1, work);
        columns::chunks(&self.threads, out, chunk * width, |index, piece| {
            let mut sum = self.pool.buffer_uninit::<f32>(width, Tag::Scratch)?;
            for (row, out) in piece.chunks_exact_mut(width).enumerate() {
                let own = (index * chunk + row) * used..(index * chunk + row + 1) * used;
                sum.fill(0.0);
                for (choice, place) in choices[own.clone()].iter().zip(&places[own]) {
                    let result = results.range(*place..*place + 1);
                    for (sum, result) in sum.iter_mut().zip(result) {
                        *sum += choice.weight * result;
                    }
                }
                (self.kernels.add)(out, &sum);
            }
            Ok(())
        })
    }
}

/// Rows of a group.
enum Input<'a> {
    /// The one row of a batch.
    Shared(&'a Activation),
    /// Copies of some rows of a batch.
    Gathered {
        width: usize,
        tokens: usize,
        floats: Option<Rows>,
        rounded: Option<RoundedRows>,
    },
    /// Rows of the group's own.
    Own(RowView<'a>, Option<RoundedRows>),
}

impl Input<'_> {
    /// The rows, without floats if no matrix multiplies these.
    fn rows(&self) -> (RowView<'_>, Option<&RoundedRows>) {
        match self {
            Self::Shared(a) => (a.rows.view(), a.rounded.as_ref()),
            Self::Gathered {
                width,
                tokens,
                floats,
                rounded,
            } => {
                let none = RowView {
                    values: &[],
                    tokens: *tokens,
                    width: *width,
                };
                (floats.as_ref().map_or(none, Rows::view), rounded.as_ref())
            }
            Self::Own(rows, rounded) => (*rows, rounded.as_ref()),
        }
    }
}

/// The product of each group's rows with the matrix of its expert.
fn products<'a>(
    groups: &'a Groups,
    inputs: &'a [Input<'a>],
    matrices: &'a [WeightMatrix],
    out: &'a mut Rows,
) -> impl Iterator<Item = Product<'a>> {
    let width = out.width;
    let mut rest = &mut out.values[..];
    groups
        .experts
        .iter()
        .zip(inputs)
        .map(move |((expert, places), input)| {
            let out;
            (out, rest) = std::mem::take(&mut rest).split_at_mut(places.len() * width);
            let (x, rounded) = input.rows();
            Product {
                x,
                rounded,
                weights: &matrices[*expert],
                out,
            }
        })
}

/// The largest logits, the first of equal ones first, and their softmax.
fn choose(logits: &[f32], chosen: &mut [Choice]) {
    let used = chosen.len();
    let mut count = 0;
    for (expert, &weight) in logits.iter().enumerate() {
        if count == used && weight <= chosen[used - 1].weight {
            continue;
        }
        count = (count + 1).min(used);
        let mut place = count - 1;
        while place > 0 && chosen[place - 1].weight < weight {
            chosen[place] = chosen[place - 1];
            place -= 1;
        }
        chosen[place] = Choice { expert, weight };
    }
    let largest = chosen[0].weight;
    let mut sum = 0.0;
    for choice in chosen.iter_mut() {
        choice.weight = exp(choice.weight - largest);
        sum += choice.weight;
    }
    for choice in chosen {
        choice.weight /= sum;
    }
}

#[cfg(test)]
mod tests;
