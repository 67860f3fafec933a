//! Regular expressions from a `tokenizer.json`, with a bound on the size of what they compile to, on how often the engine goes back, and on
//! the time that one text may take.
//!
//! The steps of the `tokenizers` crate stop without a word when the engine gives up, and the rest of the text would stay as it is. Here
//! that is an error.

use std::ops::Range;
use std::time::Duration;

use fancy_regex::RegexBuilder;
use web_time::Instant;

use super::steps::StepError;

/// How often the engine may go back within one match.
const BACKTRACKS: usize = 10_000_000;

/// Longer expressions are refused; those of real vocabularies have a few hundred bytes.
const LONGEST: usize = 1 << 14;

/// Atoms of an expression, counted repetitions written out.
const LARGEST: u64 = 20_000;

/// How long all matches in a text may take, and how much longer for each byte of it. Real expressions take a tenth of a microsecond for a
/// byte.
const TIME: Duration = Duration::from_secs(2);
const MICROSECONDS_PER_BYTE: u64 = 30;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Regex(fancy_regex::Regex);

impl Regex {
    pub(super) fn new(pattern: &str) -> Result<Self, StepError> {
        if pattern.len() > LONGEST {
            return Err(format!(
                "a regular expression of {} bytes; at most {LONGEST} are accepted",
                pattern.len()
            )
            .into());
        }
        let atoms = atoms(pattern);
        if atoms > LARGEST {
            return Err(format!(
                "a regular expression that is {atoms} characters and classes long with its repetitions written out; at most {LARGEST} are accepted"
            )
            .into());
        }
        let regex = RegexBuilder::new(pattern)
            .backtrack_limit(BACKTRACKS)
            .build()?;
        Ok(Self(regex))
    }

    /// One that matches exactly `text`.
    pub(super) fn literal(text: &str) -> Result<Self, StepError> {
        Self::new(&fancy_regex::escape(text))
    }

    /// The matches in `text`, in order, none reaching into the one before; an empty text has none.
    ///
    /// # Errors
    /// If the engine gives up, or the matches take too long.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, StepError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let time = TIME + Duration::from_micros(MICROSECONDS_PER_BYTE * text.len() as u64);
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut done = 0;
        for each in self.0.find_iter(text) {
            let each = each?;
            let (start, end) = (each.start(), each.end());
            if start < done || end < start {
                return Err(
                    "a match of the regular expression reaches back before its start".into(),
                );
            }
            found.push(start..end);
            done = end;
            if started.elapsed() > time {
                return Err(format!(
                    "the regular expression needs more than {} s for {} bytes of text",
                    time.as_secs(),
                    text.len()
                )
                .into());
            }
        }
        Ok(found)
    }
}

/// About how many characters and classes an expression has when its counted repetitions are written out.
fn atoms(pattern: &str) -> u64 {
    let mut chars = pattern.chars().peekable();
    // For every open group, what stood before it; then what stands in the innermost, and the size of the last atom of that.
    let mut outer: Vec<u64> = Vec::new();
    let (mut sum, mut last) = (0u64, 0u64);
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                // Escapes with a name in braces, such as \p{L}.
                if chars.next().is_some() && chars.peek() == Some(&'{') {
                    let name: String = chars.clone().take_while(|c| *c != '}').collect();
                    if repetition(&name[1..]).is_none() {
                        chars.by_ref().take_while(|c| *c != '}').for_each(drop);
                    }
                }
                last = 1;
                sum = sum.saturating_add(1);
            }
            '[' => {
                class(&mut chars);
                last = 1;
                sum = sum.saturating_add(1);
            }
            '(' => {
                outer.push(sum);
                (sum, last) = (1, 0);
            }
            ')' => {
                last = sum;
                sum = sum.saturating_add(outer.pop().unwrap_or(0));
            }
            '{' => {
                let count: String = chars.clone().take_while(|c| *c != '}').collect();
                match repetition(&count) {
                    Some(times) => {
                        let more = last.saturating_mul(times.saturating_sub(1));
                        sum = sum.saturating_add(more);
                        last = last.saturating_add(more);
                        chars.by_ref().take_while(|c| *c != '}').for_each(drop);
                    }
                    None => sum = sum.saturating_add(1),
                }
            }
            '*' | '+' | '?' => {}
            _ => {
                last = 1;
                sum = sum.saturating_add(1);
            }
        }
    }
    // What stands before groups that are not closed.
    outer.into_iter().fold(sum, u64::saturating_add)
}

/// Skips the rest of a class, in which classes may stand.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut open = 1usize;
    // A bracket that closes is a character of the class if it comes first.
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '^' if first => continue,
            ']' if !first => {
                open -= 1;
                if open == 0 {
                    return;
                }
            }
            '[' => {
                open += 1;
                first = true;
                continue;
            }
            '\\' => {
                chars.next();
            }
            _ => {}
        }
        first = false;
    }
}

/// The largest count in the braces of a repetition: `3`, `1,3`, `2,` or `,3`.
fn repetition(braces: &str) -> Option<u64> {
    let (low, high) = braces.split_once(',').unwrap_or((braces, braces));
    let number = |text: &str| match text.trim() {
        "" => Some(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().unwrap_or(u64::MAX))
        }
        _ => None,
    };
    let times = number(low)?.max(number(high)?);
    (!braces.trim().is_empty()).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        assert_eq!(atoms("abc"), 3);
        assert_eq!(atoms(r"\p{L}{3}"), 3);
        assert_eq!(atoms("[a-z]{1,3}x"), 4);
        assert_eq!(atoms("(?:ab){5}"), 20);
        assert_eq!(atoms("[](]{7}"), 7);
        assert_eq!(atoms(r"[\]({9}]{2}"), 2);
        assert!(atoms("(?:(?:(?:(?=a)a){1000}){1000}){1000}") > LARGEST);
        assert!(atoms("(?:(?:a{1000}[](]){1000}[](]){1000}") > LARGEST);
        assert!(atoms("a{99999999999999999999}") > LARGEST);
        assert!(atoms(r"\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)") < 2000);
    }

    #[test]
    fn what_is_too_large_or_takes_too_long_is_an_error() {
        assert!(Regex::new("(?:(?:(?=a)a){1000}){1000}").is_err());
        assert!(Regex::new(&"a".repeat(LONGEST + 1)).is_err());
        assert!(Regex::new("(").is_err());
        let slow = Regex::new("(?:a|b|ab)*(?!.?)").unwrap();
        assert!(slow.matches(&"ab".repeat(40)).is_err());
        assert_eq!(
            Regex::literal("a.").unwrap().matches("a.xa.").unwrap(),
            [0..2, 3..5]
        );
    }
}
