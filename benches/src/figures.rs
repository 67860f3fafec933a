//! All figures by what was measured: one number for each round.

use crate::comparison::median;
use std::collections::BTreeMap;

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// Tokens per second of a prompt of so many tokens.
    Prefill(usize),
    /// Tokens per second of decoding so many tokens.
    Decode(usize),
    /// Tokens per second of decoding so many tokens behind so many others.
    DecodeAfter(usize, usize),
    /// Tokens per second of so many texts that are written together, all counted.
    Parallel(usize),
    /// Bytes that the program says it reads for one decoded token.
    BytesPerToken,
    /// The same behind so many others.
    BytesAfter(usize),
    /// Seconds from starting the program to its first token and its end.
    FirstToken,
    /// Seconds from opening the file to the first token, as the program itself saw it.
    OpenToFirst,
    /// Bytes of resident memory at most.
    Peak,
    /// Bytes per second that the machine reads.
    Bandwidth,
    /// int8 multiply-accumulates per second that the machine does.
    Int8Peak,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The model file, as its recipe is called.
    pub file: &'static str,
    /// The program.
    pub who: &'static str,
    /// Threads of the CPU; 0 where a GPU computes.
    pub threads: usize,
    /// What of it.
    pub test: Test,
}

impl Key {
    /// `test` of the program `who` on `file`.
    pub fn new(file: &'static str, who: &'static str, threads: usize, test: Test) -> Self {
        Self {
            file,
            who,
            threads,
            test,
        }
    }

    /// The machine itself.
    pub fn machine(threads: usize, test: Test) -> Self {
        Self::new("", "machine", threads, test)
    }
}

/// Numbers of all rounds, in their order.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<Key, Vec<f64>>);

impl Figures {
    /// Adds the number of one round.
    pub fn add(&mut self, key: Key, value: f64) {
        self.0.entry(key).or_default().push(value);
    }

    /// Adds the numbers of one round.
    pub fn add_all(
        &mut self,
        file: &'static str,
        who: &'static str,
        threads: usize,
        values: Vec<(Test, f64)>,
    ) {
        for (test, value) in values {
            self.add(Key::new(file, who, threads, test), value);
        }
    }

    /// The median of all rounds, if it was measured.
    pub fn median(&self, key: &Key) -> Option<f64> {
        self.0.get(key).map(|values| median(values))
    }

    /// The median over the rounds of `over / under`, if both were measured.
    pub fn ratio(&self, over: &Key, under: &Key) -> Option<f64> {
        let rounds = self.0.get(over)?.iter().zip(self.0.get(under)?);
        let ratios: Vec<f64> = rounds.map(|(over, under)| over / under).collect();
        Some(median(&ratios))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut figures = Figures::default();
        let of = |who| Key::new("f", who, 1, Test::Decode(64));
        // The machine slows down from round to round, for both alike.
        for value in [8.0, 4.0, 2.0] {
            figures.add(of("a"), value);
            figures.add(of("b"), value / 2.0);
        }
        assert_eq!(figures.median(&of("a")), Some(4.0));
        assert_eq!(figures.ratio(&of("a"), &of("b")), Some(2.0));
        assert_eq!(figures.ratio(&of("a"), &of("c")), None);
    }
}
