//! Text whose characters know where they come from.
//!
//! A character of a message or of a further variable stays one through every operation: case mapping, slicing,
//! replacing, formatting, JSON. What a template wrote itself is then known in the prompt, whatever it did.

use std::rc::Rc;

use super::meter::{Lease, Meter, Outcome};

/// A character (its scalar value) and whether it comes from the input.
#[derive(Debug, Clone, Copy)]
pub(in crate::chat) struct Glyph(u32);

const FROM_INPUT: u32 = 1 << 31;

impl Glyph {
    /// A character of the template.
    pub(super) fn written(c: char) -> Self {
        Self(c as u32)
    }

    /// A character of the input.
    pub(super) fn input(c: char) -> Self {
        Self(c as u32 | FROM_INPUT)
    }

    /// The same place in the text, with another character.
    pub(super) fn with(self, c: char) -> Self {
        Self(c as u32 | self.0 & FROM_INPUT)
    }

    pub(in crate::chat) fn char(self) -> char {
        char::from_u32(self.0 & !FROM_INPUT).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    pub(in crate::chat) fn is_input(self) -> bool {
        self.0 & FROM_INPUT != 0
    }
}

/// Characters are equal wherever they come from.
impl PartialEq for Glyph {
    fn eq(&self, other: &Self) -> bool {
        (self.0 ^ other.0) & !FROM_INPUT == 0
    }
}

impl Eq for Glyph {}

impl PartialOrd for Glyph {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Glyph {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0 & !FROM_INPUT).cmp(&(other.0 & !FROM_INPUT))
    }
}

/// Shared text.
#[derive(Debug, Clone)]
pub(super) struct Text(Rc<(Vec<Glyph>, Lease)>);

impl std::ops::Deref for Text {
    type Target = [Glyph];

    fn deref(&self) -> &[Glyph] {
        &self.0.0
    }
}

impl Text {
    pub(super) fn written(meter: &Rc<Meter>, text: &str) -> Outcome<Self> {
        let mut buffer = Buffer::new(meter)?;
        buffer.push_str(text)?;
        Ok(buffer.finish())
    }

    pub(super) fn copy(meter: &Rc<Meter>, glyphs: &[Glyph]) -> Outcome<Self> {
        let mut buffer = Buffer::new(meter)?;
        buffer.push(glyphs)?;
        Ok(buffer.finish())
    }

    pub(super) fn is(&self, text: &str) -> bool {
        is(self, text)
    }
}

/// Whether `glyphs` spell `text`.
pub(super) fn is(glyphs: &[Glyph], text: &str) -> bool {
    glyphs.iter().map(|glyph| glyph.char()).eq(text.chars())
}

/// The characters as a string.
pub(super) fn plain(glyphs: &[Glyph]) -> String {
    glyphs.iter().map(|glyph| glyph.char()).collect()
}

/// Text that is being written; every character of it is paid for.
#[derive(Debug)]
pub(super) struct Buffer {
    glyphs: Vec<Glyph>,
    lease: Lease,
}

impl Buffer {
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Self> {
        meter.work(16)?;
        Ok(Self {
            glyphs: Vec::new(),
            lease: meter.lease(64)?,
        })
    }

    /// Makes room for `count` characters more.
    fn pay(&mut self, count: usize) -> Outcome<()> {
        self.lease.meter().work(count)?;
        self.lease.grow(count.saturating_mul(4))?;
        let short = (self.glyphs.len() + count).saturating_sub(self.glyphs.capacity());
        if short > 0 {
            // Growth by a half keeps the memory that is not counted small.
            self.glyphs.reserve_exact(count.max(self.glyphs.len() / 2));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, glyphs: &[Glyph]) -> Outcome<()> {
        self.pay(glyphs.len())?;
        self.glyphs.extend_from_slice(glyphs);
        Ok(())
    }

    pub(super) fn push_glyph(&mut self, glyph: Glyph) -> Outcome<()> {
        self.push(&[glyph])
    }

    /// Writes what the template writes itself.
    pub(super) fn push_str(&mut self, text: &str) -> Outcome<()> {
        self.pay(text.chars().count())?;
        self.glyphs.extend(text.chars().map(Glyph::written));
        Ok(())
    }

    /// Writes `text` in place of the character `from`.
    pub(super) fn push_as(&mut self, from: Glyph, text: &str) -> Outcome<()> {
        self.pay(text.chars().count())?;
        self.glyphs.extend(text.chars().map(|c| from.with(c)));
        Ok(())
    }

    /// Writes `glyph` `count` times.
    pub(super) fn fill(&mut self, glyph: Glyph, count: usize) -> Outcome<()> {
        self.pay(count)?;
        self.glyphs.extend(std::iter::repeat_n(glyph, count));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.glyphs.len()
    }

    pub(super) fn finish(self) -> Text {
        Text(Rc::new((self.glyphs, self.lease)))
    }

    pub(super) fn into_glyphs(self) -> Vec<Glyph> {
        self.glyphs
    }
}

/// Where `needle` begins in `haystack`, each after the end of the one before; at most `most` of them. Takes time in
/// proportion to the sum of the lengths (Knuth, Morris, Pratt).
pub(super) fn find_all(
    meter: &Meter,
    haystack: &[Glyph],
    needle: &[Glyph],
    most: usize,
) -> Outcome<Vec<usize>> {
    meter.work(haystack.len() + needle.len())?;
    let mut found = Vec::new();
    if needle.is_empty() || needle.len() > haystack.len() || most == 0 {
        return Ok(found);
    }
    let mut borders = vec![0; needle.len()];
    let mut matched = 0;
    for at in 1..needle.len() {
        while matched > 0 && needle[at] != needle[matched] {
            matched = borders[matched - 1];
        }
        if needle[at] == needle[matched] {
            matched += 1;
        }
        borders[at] = matched;
    }
    matched = 0;
    for (at, glyph) in haystack.iter().enumerate() {
        while matched > 0 && *glyph != needle[matched] {
            matched = borders[matched - 1];
        }
        if *glyph == needle[matched] {
            matched += 1;
        }
        if matched == needle.len() {
            found.push(at + 1 - needle.len());
            if found.len() == most {
                break;
            }
            matched = 0;
        }
    }
    Ok(found)
}

/// Where `needle` first begins in `haystack`.
pub(super) fn find(meter: &Meter, haystack: &[Glyph], needle: &[Glyph]) -> Outcome<Option<usize>> {
    if needle.is_empty() {
        return Ok(Some(0));
    }
    Ok(find_all(meter, haystack, needle, 1)?.first().copied())
}

/// Whitespace as Python's `str.isspace` has it.
pub(super) fn is_space(glyph: &Glyph) -> bool {
    let c = glyph.char();
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `text` without characters of `set` (whitespace if there is none) at its start and end, as asked.
pub(super) fn strip<'t>(
    mut text: &'t [Glyph],
    set: Option<&[Glyph]>,
    start: bool,
    end: bool,
) -> &'t [Glyph] {
    let drops = |glyph: &Glyph| match set {
        Some(set) => set.contains(glyph),
        None => is_space(glyph),
    };
    while let (true, Some((first, rest))) = (start, text.split_first()) {
        if !drops(first) {
            break;
        }
        text = rest;
    }
    while let (true, Some((last, rest))) = (end, text.split_last()) {
        if !drops(last) {
            break;
        }
        text = rest;
    }
    text
}
