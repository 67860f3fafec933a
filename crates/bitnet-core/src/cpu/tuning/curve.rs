//! Where one way of doing the same work overtakes another.
//!
//! A [`Curve`] holds the times of two ways at growing sizes: one meant for small work (on the caller's thread; straight
//! from the packed row) and one for large (on all threads; from an unpacked tile). A [`Threshold`] is the size from which
//! the second is used. Both ways give the same bits, so a bad threshold costs time and nothing else.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Times of both ways at one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Multiply-adds, elements or tokens: the curve's owner says which.
    pub size: u64,
    /// Median time of the way for small sizes.
    pub small_ns: f64,
    /// Median time of the way for large sizes.
    pub large_ns: f64,
}

/// Times of both ways at growing sizes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Curve {
    /// Sizes grow strictly.
    pub points: Vec<Point>,
}

/// The size from which the way for large sizes is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// That size.
    pub from: u64,
    /// Whether the second way was measured to pay from there on, by a twentieth of the time at the least. If not, `from` is
    /// twice the largest measured size.
    pub measured: bool,
}

impl Curve {
    /// Points a curve may have; more are no measurement of ours.
    const MOST_POINTS: usize = 64;
    /// A time no single product takes: ten minutes.
    const LONGEST_NS: f64 = 6e11;
    /// The share of the time that the way for large sizes may take, in the geometric mean over the sizes it is used for.
    const MIN_GAIN: f64 = 0.95;
    /// Sizes stay below this, so that twice a size is a number.
    const LARGEST: u64 = 1 << 48;

    /// Checks a curve that came from a file. `name` is for the message.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no point, there are too many, sizes do not grow, or a time is no positive time.
    pub fn validate(&self, name: &str) -> Result<()> {
        let refuse = |expected: &str, found: String| {
            Err(Error::Value {
                what: name.to_owned(),
                expected: expected.to_owned(),
                found,
            })
        };
        if self.points.is_empty() || self.points.len() > Self::MOST_POINTS {
            return refuse("1 to 64 points", format!("{} points", self.points.len()));
        }
        let mut last = 0;
        for point in &self.points {
            if point.size <= last || point.size > Self::LARGEST {
                return refuse(
                    "growing sizes below 2⁴⁸",
                    format!("{} after {last}", point.size),
                );
            }
            last = point.size;
            for time in [point.small_ns, point.large_ns] {
                if !(time > 0.0 && time < Self::LONGEST_NS) {
                    return refuse("times above 0 and below 10 min", format!("{time} ns"));
                }
            }
        }
        Ok(())
    }

    /// The threshold that loses least: the one with the smallest product, over all measured sizes, of chosen time by best time.
    /// One disturbed measurement therefore moves it little, and on a machine too busy to tell the ways apart there is none
    /// within the curve. `None` for a curve without points.
    pub fn threshold(&self) -> Option<Threshold> {
        let last = self.points.last()?;
        // Cost of "large from point k on", relative to "always small", in logarithms.
        let mut cost: f64 = self.points.iter().map(Point::cost).sum();
        let mut best = (cost, 0);
        for (k, point) in self.points.iter().enumerate() {
            cost -= point.cost();
            if cost <= best.0 {
                best = (cost, k + 1);
            }
        }
        let (cost, k) = best;
        let beyond = (self.points.len() - k) as f64;
        Some(match self.points.get(k) {
            Some(point) if cost < beyond * Self::MIN_GAIN.ln() => Threshold {
                from: point.size,
                measured: true,
            },
            _ => Threshold {
                from: last.size.saturating_mul(2),
                measured: false,
            },
        })
    }

    /// The measured point nearest to `size` by ratio; `None` for a curve without points.
    pub fn nearest(&self, size: u64) -> Option<&Point> {
        let distance = |point: &&Point| (point.size as f64 / size.max(1) as f64).ln().abs();
        self.points
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

impl Point {
    /// ln(large / small): below zero where the way for large sizes is faster.
    fn cost(&self) -> f64 {
        (self.large_ns / self.small_ns).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(points: &[(u64, f64, f64)]) -> Curve {
        let points = points
            .iter()
            .map(|&(size, small_ns, large_ns)| Point {
                size,
                small_ns,
                large_ns,
            })
            .collect();
        Curve { points }
    }

    #[test]
    fn the_threshold_is_where_the_ways_cross() {
        let crossing = curve(&[(1, 1.0, 9.0), (2, 4.0, 9.0), (4, 9.0, 8.0), (8, 20.0, 10.0)]);
        let expected = Threshold {
            from: 4,
            measured: true,
        };
        assert_eq!(crossing.threshold(), Some(expected));
        // A single disturbed point on either side does not move it.
        let disturbed = curve(&[
            (1, 1.0, 9.0),
            (2, 10.0, 9.0),
            (4, 9.0, 8.0),
            (8, 11.0, 12.0),
            (16, 90.0, 40.0),
        ]);
        assert_eq!(disturbed.threshold().unwrap().from, 2);
        let always = curve(&[(3, 2.0, 1.0), (5, 2.0, 1.0)]);
        assert_eq!(always.threshold().unwrap().from, 3);
        let never = curve(&[(3, 1.0, 2.0), (5, 1.0, 2.0)]);
        let expected = Threshold {
            from: 10,
            measured: false,
        };
        assert_eq!(never.threshold(), Some(expected));
        let indifferent = curve(&[(3, 1.0, 1.01), (5, 1.0, 0.98)]);
        assert_eq!(indifferent.threshold(), Some(expected));
        assert_eq!(Curve::default().threshold(), None);
    }

    #[test]
    fn the_nearest_point_is_nearest_by_ratio() {
        let curve = curve(&[(1, 1.0, 1.0), (100, 1.0, 1.0)]);
        assert_eq!(curve.nearest(9).map(|p| p.size), Some(1));
        assert_eq!(curve.nearest(11).map(|p| p.size), Some(100));
        assert_eq!(curve.nearest(0).map(|p| p.size), Some(1));
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        for bad in [
            curve(&[]),
            curve(&[(0, 1.0, 1.0)]),
            curve(&[(2, 1.0, 1.0), (2, 1.0, 1.0)]),
            curve(&[(2, 1.0, 1.0), (1, 1.0, 1.0)]),
            curve(&[(u64::MAX, 1.0, 1.0)]),
            curve(&[(1, 0.0, 1.0)]),
            curve(&[(1, 1.0, -1.0)]),
            curve(&[(1, f64::NAN, 1.0)]),
            curve(&[(1, 1.0, f64::INFINITY)]),
            curve(&(1..=65).map(|n| (n, 1.0, 1.0)).collect::<Vec<_>>()),
        ] {
            assert!(bad.validate("curve").is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// No other threshold loses much less, and a valid curve always has one within twice its range.
        #[test]
        fn no_threshold_is_better(times in prop::collection::vec((0.1f64..1e6, 0.1f64..1e6), 1..20)) {
            let points: Vec<_> = times.iter().enumerate().map(|(i, t)| (1 << i, t.0, t.1)).collect();
            let curve = curve(&points);
            curve.validate("curve").unwrap();
            let cost = |from: u64| -> f64 {
                curve.points.iter().map(|p| if p.size >= from { p.large_ns } else { p.small_ns }.ln()).sum()
            };
            let threshold = curve.threshold().unwrap();
            prop_assert!(threshold.from >= 1 && threshold.from <= 1 << points.len());
            let slack = if threshold.measured { 0.0 } else { points.len() as f64 * 0.052 };
            for other in 0..=points.len() {
                prop_assert!(cost(threshold.from) <= cost(1 << other) + slack + 1e-6);
            }
        }
    }
}
