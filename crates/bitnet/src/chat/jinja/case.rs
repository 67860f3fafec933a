//! Upper and lower case, a character at a time, so that each result knows where it comes from.

use std::rc::Rc;

use super::meter::{Meter, Outcome};
use super::text::{Buffer, Glyph, Text};

fn push_upper(buffer: &mut Buffer, glyph: Glyph) -> Outcome<()> {
    let mut upper = glyph.char().to_uppercase();
    upper.try_for_each(|c| buffer.push_glyph(glyph.with(c)))
}

/// Writes the lower case of the character at `at`: a sigma that ends a word is another one.
fn push_lower(buffer: &mut Buffer, text: &[Glyph], at: usize) -> Outcome<()> {
    let glyph = text[at];
    if glyph.char() == 'Σ' {
        let letter =
            |glyph: Option<&Glyph>| glyph.is_some_and(|glyph| glyph.char().is_alphabetic());
        let ends = at > 0 && letter(text.get(at - 1)) && !letter(text.get(at + 1));
        return buffer.push_glyph(glyph.with(if ends { 'ς' } else { 'σ' }));
    }
    let mut lower = glyph.char().to_lowercase();
    lower.try_for_each(|c| buffer.push_glyph(glyph.with(c)))
}

/// Writes the case that begins a word: of letters that are two in upper case, the second is small.
fn push_title(buffer: &mut Buffer, glyph: Glyph) -> Outcome<()> {
    let c = glyph.char();
    let title = match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Georgian letters have capitals that begin no word.
        'ა'..='ჿ' => c,
        _ => {
            for (index, upper) in c.to_uppercase().enumerate() {
                if index == 0 {
                    buffer.push_glyph(glyph.with(upper))?;
                } else {
                    upper
                        .to_lowercase()
                        .try_for_each(|lower| buffer.push_glyph(glyph.with(lower)))?;
                }
            }
            return Ok(());
        }
    };
    buffer.push_glyph(glyph.with(title))
}

pub(super) fn upper(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    text.iter()
        .try_for_each(|glyph| push_upper(&mut buffer, *glyph))?;
    Ok(buffer.finish())
}

pub(super) fn lower(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    (0..text.len()).try_for_each(|at| push_lower(&mut buffer, text, at))?;
    Ok(buffer.finish())
}

/// The first character large, the others small.
pub(super) fn capitalize(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    words(meter, text, push_title, |at, _| at == 0)
}

/// `str.title`: every letter that follows no letter is large.
pub(super) fn title(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    words(meter, text, push_title, |at, text| {
        let cased = |c: char| c.is_uppercase() || c.is_lowercase();
        at == 0 || !cased(text[at - 1].char())
    })
}

/// Jinja's filter `title`: words begin after spaces, hyphens and opening brackets.
pub(super) fn title_filter(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    words(meter, text, push_upper, |at, text| {
        let ends = |glyph: &Glyph| super::text::is_space(glyph) || "-({[<".contains(glyph.char());
        at == 0 || ends(&text[at - 1])
    })
}

fn words(
    meter: &Rc<Meter>,
    text: &[Glyph],
    push_first: impl Fn(&mut Buffer, Glyph) -> Outcome<()>,
    begins: impl Fn(usize, &[Glyph]) -> bool,
) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    for (at, glyph) in text.iter().enumerate() {
        if begins(at, text) {
            push_first(&mut buffer, *glyph)?;
        } else {
            push_lower(&mut buffer, text, at)?;
        }
    }
    Ok(buffer.finish())
}

pub(super) fn swap(meter: &Rc<Meter>, text: &[Glyph]) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    for (at, glyph) in text.iter().enumerate() {
        if glyph.char().is_uppercase() {
            push_lower(&mut buffer, text, at)?;
        } else {
            push_upper(&mut buffer, *glyph)?;
        }
    }
    Ok(buffer.finish())
}
