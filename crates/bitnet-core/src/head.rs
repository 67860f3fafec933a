//! What is asked of a head by those who need the likeliest tokens and not the logits of all.

/// How a head finds the likeliest tokens. The tokens and their logits are the same in every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LmHeadMode {
    /// Logits of the whole vocabulary, every time.
    Full,
    /// Estimates of all logits from a small copy of the head, then the logits that could be among the highest.
    Screened,
    /// Screened where it was measured to be faster: large heads of floats, and on processors of Q6_K, natively.
    #[default]
    Auto,
}

impl LmHeadMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Full, Self::Screened, Self::Auto];

    /// Its name in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Screened => "screened",
            Self::Auto => "auto",
        }
    }
}

/// A token that may follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
}

impl Candidate {
    /// The order of likelihood: the higher logit first; of equals the lower id.
    pub fn by_likelihood(&self, other: &Self) -> std::cmp::Ordering {
        let order = other.logit.partial_cmp(&self.logit);
        let order = order.unwrap_or(std::cmp::Ordering::Equal);
        order.then(self.id.cmp(&other.id))
    }
}

/// Which candidates are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top<'a> {
    /// The likeliest so many that are not among `also`; at least 1.
    pub count: usize,
    /// These tokens too, however unlikely, in growing order without repetition. Those that there are none of do not
    /// count.
    pub also: &'a [u32],
}

impl Top<'_> {
    /// The wanted of all `logits`: the likeliest in their order, then those of `also`. If a logit is not finite, the first
    /// of those alone.
    pub fn of_logits(&self, logits: &[f32]) -> Vec<Candidate> {
        let candidate = |id: usize| Candidate {
            id: id as u32,
            logit: logits[id],
        };
        if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
            return vec![candidate(id)];
        }
        let mut also = self.also.iter().copied().peekable();
        let others = (0..logits.len()).filter(|&id| {
            let listed = also.peek() == Some(&(id as u32));
            if listed {
                also.next();
            }
            !listed
        });
        let mut top: Vec<Candidate> = Vec::new();
        if self.count == 1 {
            // Of equals the first.
            let best = others.reduce(|best, id| if logits[id] > logits[best] { id } else { best });
            top.extend(best.map(candidate));
        } else {
            top.extend(others.map(candidate));
            self.keep(&mut top);
        }
        let also = self.also.iter().map(|&id| id as usize);
        top.extend(also.filter(|&id| id < logits.len()).map(candidate));
        top
    }

    /// Sorts `candidates`, none of them among `also`, and keeps the likeliest.
    pub(crate) fn keep(&self, candidates: &mut Vec<Candidate>) {
        if (1..candidates.len()).contains(&self.count) {
            candidates.select_nth_unstable_by(self.count - 1, Candidate::by_likelihood);
            candidates.truncate(self.count);
        }
        candidates.sort_unstable_by(Candidate::by_likelihood);
    }
}

/// What screening saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LmHeadStats {
    /// Positions whose likeliest tokens were asked for.
    pub positions: u64,
    /// Logits computed for them.
    pub logits: u64,
    /// Rows of the head.
    pub rows: u64,
}

impl LmHeadStats {
    /// Logits computed for a position, on average; 0 before any.
    pub fn logits_per_position(&self) -> f64 {
        self.logits as f64 / self.positions.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_logits() {
        let logits = [1.0, 3.0, -1.0, 3.0, 2.0];
        let ids = |count, also: &[u32]| -> Vec<u32> {
            let top = Top { count, also }.of_logits(&logits);
            top.into_iter().map(|candidate| candidate.id).collect()
        };
        assert_eq!(ids(1, &[]), [1]);
        assert_eq!(ids(3, &[]), [1, 3, 4]);
        assert_eq!(ids(9, &[]), [1, 3, 4, 0, 2]);
        assert_eq!(ids(1, &[1, 2]), [3, 1, 2]);
        assert_eq!(ids(2, &[0, 1, 9]), [3, 4, 0, 1]);
        assert_eq!(ids(1, &[0, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);
        let bad = Top {
            count: 1,
            also: &[],
        }
        .of_logits(&[0.0, f32::NAN, 1.0]);
        assert!(bad.len() == 1 && bad[0].id == 1);
        assert!(
            Top {
                count: 1,
                also: &[3]
            }
            .of_logits(&[])
            .is_empty()
        );
    }
}
