//! Texts that end an answer.
//!
//! Text comes in pieces, and a stop string may begin in one and end in another. What could still become one
//! is held back; nothing of a stop string, and nothing after it, is ever let through.

use crate::{Error, Result};

/// Watches a stream of text for stop strings. How the text is cut into pieces makes no difference to what
/// comes out all together: the text before the stop string that is complete first (of those complete at the
/// same place, the longest).
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Which of the strings was complete.
    stopped: Option<usize>,
}

impl StopStrings {
    /// # Errors
    /// If one of the strings is empty: it would stop before the first word.
    pub fn new(strings: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let strings: Vec<String> = strings.into_iter().map(Into::into).collect();
        if strings.iter().any(String::is_empty) {
            return Err(Error::Argument {
                what: "stop string",
                expected: "at least one character".into(),
                found: "an empty string".into(),
            });
        }
        Ok(Self {
            strings,
            held: String::new(),
            stopped: None,
        })
    }

    /// Takes the next piece and returns the text that may be shown now. Once a stop string is complete,
    /// [`StopStrings::stopped`] says which, and nothing more comes out.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self
            .strings
            .iter()
            .enumerate()
            .filter_map(|(index, string)| {
                let start = self.held.find(string.as_str())?;
                Some((start + string.len(), start, index))
            })
            .min();
        if let Some((_, start, index)) = first {
            self.stopped = Some(index);
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let keep = self
            .strings
            .iter()
            .map(|string| begun(&self.held, string))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, when no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The place among the stop strings of the one that was complete, if any was.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }
}

/// Length of the longest end of `text` that is a beginning, but not the whole, of `string`.
fn begun(text: &str, string: &str) -> usize {
    string
        .char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|at| text.ends_with(&string[..*at]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_beginning_is_held_until_it_is_decided() {
        let mut stop = StopStrings::new(["\nUser:"]).unwrap();
        assert_eq!(stop.push("Hello\nUs"), "Hello");
        assert_eq!(stop.push("ual"), "\nUsual");
        assert_eq!(stop.push("\nUser"), "");
        assert_eq!(stop.push(": hi"), "");
        assert_eq!(stop.stopped(), Some(0));
        assert_eq!(stop.push("more"), "");
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn the_end_lets_go_what_was_held() {
        let mut stop = StopStrings::new(["END"]).unwrap();
        assert_eq!(stop.push("the EN"), "the ");
        assert_eq!(stop.finish(), "EN");
        assert_eq!(stop.stopped(), None);
    }

    #[test]
    fn without_strings_everything_passes() {
        let mut stop = StopStrings::default();
        assert_eq!(stop.push("abc"), "abc");
        assert!(StopStrings::new([""]).is_err());
    }

    /// The definition: the shortest beginning of `text` that ends with a stop string, without the longest, and which that is.
    fn naive(text: &str, strings: &[String]) -> (String, Option<usize>) {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        for end in ends {
            let found = strings
                .iter()
                .filter(|string| text[..end].ends_with(string.as_str()));
            if let Some(longest) = found.max_by_key(|string| string.len()) {
                let index = strings.iter().position(|string| string == longest);
                return (text[..end - longest.len()].into(), index);
            }
        }
        (text.into(), None)
    }

    proptest! {
        #[test]
        fn any_cut_gives_what_the_definition_gives(
            pieces in proptest::collection::vec("[ab\u{e9}]{0,4}", 0..12),
            strings in proptest::collection::vec("[ab\u{e9}]{1,4}", 0..4),
        ) {
            let mut stop = StopStrings::new(strings.clone()).unwrap();
            let mut out = String::new();
            let (expected, stopped) = naive(&pieces.concat(), &strings);
            for piece in &pieces {
                out.push_str(&stop.push(piece));
                prop_assert!(expected.starts_with(&out));
            }
            out.push_str(&stop.finish());
            prop_assert_eq!(out, expected);
            prop_assert_eq!(stop.stopped(), stopped);
        }
    }
}
