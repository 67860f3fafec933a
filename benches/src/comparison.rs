//! Ways of doing the same work, timed beside each other.
//!
//! A [`Comparison`] has a few [`Contender`]s. A criterion bench registers each of them as a benchmark;
//! [`Comparison::interleave`] times them in turns within one run, so that what else happens on the machine meets all
//! of them alike and their ratios stay meaningful.

use anyhow::Result;
use criterion::Throughput;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Prepared work: does it as often as told and says how long that took.
pub type Timed = Box<dyn FnMut(u64) -> Duration>;

/// One way of doing the work.
pub struct Contender {
    /// Who does it: `bitnet`, `candle`, …
    pub label: String,
    prepare: Box<dyn Fn() -> Result<Timed>>,
}

impl Contender {
    /// `prepare` makes the inputs and returns the work; nothing is prepared before it is timed.
    pub fn new<F, T>(
        label: impl Into<String>,
        prepare: impl Fn() -> Result<F> + 'static,
    ) -> Contender
    where
        F: FnMut() -> T + 'static,
    {
        Contender {
            label: label.into(),
            prepare: Box::new(move || {
                let mut work = prepare()?;
                Ok(Box::new(move |times| {
                    let begin = Instant::now();
                    for _ in 0..times {
                        black_box(work());
                    }
                    begin.elapsed()
                }))
            }),
        }
    }

    /// As [`new`](Self::new), for work that keeps its own time.
    pub fn timed(
        label: impl Into<String>,
        prepare: impl Fn() -> Result<Timed> + 'static,
    ) -> Contender {
        Contender {
            label: label.into(),
            prepare: Box::new(prepare),
        }
    }

    /// The work, its inputs made.
    ///
    /// # Errors
    /// If the inputs cannot be made.
    pub fn prepare(&self) -> Result<Timed> {
        (self.prepare)()
    }
}

/// The same work done in several ways.
pub struct Comparison {
    /// What is done, and on how much: `exp/32768`.
    pub name: String,
    /// What one execution processes, where a rate says more than a time.
    pub throughput: Option<Throughput>,
    /// The ways.
    pub contenders: Vec<Contender>,
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Turns of every contender.
    pub rounds: usize,
    /// About how long one turn takes, if one execution takes no longer.
    pub turn: Duration,
}

/// Times of one contender: nanoseconds of one execution, for each round.
#[derive(Debug, Clone)]
pub struct Times {
    /// Who.
    pub label: String,
    /// One number per round.
    pub nanoseconds: Vec<f64>,
}

impl Times {
    /// The median time in nanoseconds.
    pub fn median(&self) -> f64 {
        median(&self.nanoseconds)
    }

    /// How many times faster this is than `other`: the median of the ratios of their turns in the same round.
    pub fn faster_than(&self, other: &Self) -> f64 {
        let ratios: Vec<f64> = other
            .nanoseconds
            .iter()
            .zip(&self.nanoseconds)
            .map(|(other, own)| other / own)
            .collect();
        median(&ratios)
    }
}

impl Comparison {
    /// A comparison without contenders yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            throughput: None,
            contenders: Vec::new(),
        }
    }

    /// Says how many numbers one execution processes.
    pub fn elements(mut self, count: usize) -> Self {
        self.throughput = Some(Throughput::Elements(count as u64));
        self
    }

    /// Says how many bytes one execution reads.
    pub fn bytes(mut self, count: usize) -> Self {
        self.throughput = Some(Throughput::BytesDecimal(count as u64));
        self
    }

    /// Adds a way of doing the work.
    pub fn with(mut self, contender: Contender) -> Self {
        self.contenders.push(contender);
        self
    }

    /// Times all contenders in turns.
    ///
    /// # Errors
    /// If the inputs of one cannot be made.
    pub fn interleave(&self, effort: Effort) -> Result<Vec<Times>> {
        let mut turns = Vec::with_capacity(self.contenders.len());
        for contender in &self.contenders {
            let mut work = contender.prepare()?;
            let times = calibrate(&mut work, effort.turn);
            turns.push((contender.label.clone(), work, times, Vec::new()));
        }
        for round in 0..effort.rounds {
            let count = turns.len();
            for turn in 0..count {
                // Nobody always runs behind the same neighbour.
                let (_, work, times, taken) = &mut turns[(round + turn) % count];
                taken.push(work(*times).as_nanos() as f64 / *times as f64);
            }
        }
        Ok(turns
            .into_iter()
            .map(|(label, _, _, nanoseconds)| Times { label, nanoseconds })
            .collect())
    }
}

/// How many executions take about `turn`; warms up on the way.
fn calibrate(work: &mut Timed, turn: Duration) -> u64 {
    let mut times = 1;
    loop {
        let taken = work(times);
        if taken >= turn / 2 || times >= 1 << 32 {
            let one = taken.as_nanos().max(1) as f64 / times as f64;
            return (turn.as_nanos() as f64 / one).max(1.0) as u64;
        }
        times *= 2;
    }
}

/// The middle value; the mean of the two middle ones of an even number; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn every_contender_gets_every_round_and_ratios_are_of_the_same_round() -> Result<()> {
        // The clock of the second runs twice as slow, and both slow down from round to round.
        let clock = |nanoseconds: u64| {
            move || {
                let mut turn = 0;
                let timed: Timed = Box::new(move |times| {
                    turn += 1;
                    Duration::from_nanos(nanoseconds * turn * times)
                });
                Ok(timed)
            }
        };
        let times = Comparison::new("clocks")
            .with(Contender::timed("a", clock(100)))
            .with(Contender::timed("b", clock(200)))
            .interleave(Effort {
                rounds: 5,
                turn: Duration::from_nanos(1),
            })?;
        assert_eq!(times.len(), 2);
        assert!(times.iter().all(|times| times.nanoseconds.len() == 5));
        assert!((times[0].faster_than(&times[1]) - 2.0).abs() < 0.01);
        Ok(())
    }
}
