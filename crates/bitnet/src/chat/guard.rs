//! Keeps what messages spell from being read as marks.

use std::collections::HashSet;

use super::jinja::Glyph;
use crate::tokenizer::Tokenizer;

/// A prompt in which every mark is the template's: private-use characters interrupt the others.
pub(super) struct Guarded {
    text: String,
    /// Interrupts the spelling of a mark.
    breaker: char,
    /// Marks of one character cannot be interrupted; these stand for them.
    stand_ins: Vec<(char, char)>,
}

impl Guarded {
    /// Guards a rendered prompt. The error says why that cannot be.
    pub(super) fn new(glyphs: &[Glyph], tokenizer: &Tokenizer) -> Result<Self, &'static str> {
        const EXHAUSTED: &str = "the prompt uses every private-use character";
        let mut prompt: Vec<(char, bool)> = glyphs
            .iter()
            .map(|glyph| (glyph.char(), glyph.is_input()))
            .collect();
        let private = |c: &char| matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{ffffd}');
        let used: HashSet<char> = prompt
            .iter()
            .map(|(c, _)| *c)
            .chain(tokenizer.control_texts().flat_map(str::chars))
            .filter(private)
            .collect();
        let mut free = ('\u{e000}'..='\u{f8ff}')
            .chain('\u{f0000}'..='\u{ffffd}')
            .filter(|c| !used.contains(c));
        let breaker = free.next().ok_or(EXHAUSTED)?;
        let mut stand_ins: Vec<(char, char)> = Vec::new();
        loop {
            let text: String = prompt.iter().map(|(c, _)| c).collect();
            // Where each forged mark is to be broken: beside its first character from the input.
            let mut breaks = HashSet::new();
            let mut replaced = false;
            let mut places = prompt.iter().enumerate();
            let mut at = 0;
            for mark in tokenizer.control_ranges(&text) {
                let mut first_input = None;
                let mut length = 0;
                let mut begin = 0;
                while at < mark.end {
                    let Some((place, (c, input))) = places.next() else {
                        break;
                    };
                    if at >= mark.start {
                        if length == 0 {
                            begin = place;
                        }
                        length += 1;
                        if *input && first_input.is_none() {
                            first_input = Some(place);
                        }
                    }
                    at += c.len_utf8();
                }
                match first_input {
                    None => {}
                    Some(place) if length > 1 => {
                        breaks.insert(if place == begin { place + 1 } else { place });
                    }
                    Some(place) => {
                        let c = prompt[place].0;
                        if !stand_ins.iter().any(|(only, _)| *only == c) {
                            stand_ins.push((c, free.next().ok_or(EXHAUSTED)?));
                        }
                        replaced = true;
                    }
                }
            }
            if breaks.is_empty() && !replaced {
                return Ok(Self {
                    text,
                    breaker,
                    stand_ins,
                });
            }
            let mut broken = Vec::with_capacity(prompt.len() + breaks.len());
            for (place, (c, input)) in prompt.into_iter().enumerate() {
                if breaks.contains(&place) {
                    broken.push((breaker, true));
                }
                let stand_in = stand_ins.iter().find(|(only, _)| input && *only == c);
                broken.push((stand_in.map_or(c, |(_, stand_in)| *stand_in), input));
            }
            prompt = broken;
        }
    }

    /// The prompt with what interrupts marks.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A part of the prompt without it.
    pub(super) fn restore(&self, text: &str) -> String {
        text.chars()
            .filter(|c| *c != self.breaker)
            .map(|c| {
                let original = self.stand_ins.iter().find(|(_, stand_in)| *stand_in == c);
                original.map_or(c, |(only, _)| *only)
            })
            .collect()
    }
}
