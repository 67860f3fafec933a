//! An answer taken apart as it comes: what the model thinks first, and what it says.

use bitnet::chat::{ReplyParser, ReplyPart};
use wasm_bindgen::prelude::wasm_bindgen;

/// The state of an answer that is being taken apart.
#[wasm_bindgen]
pub struct Reply(pub(crate) ReplyParser);

#[wasm_bindgen]
impl Reply {
    /// Takes the next piece, and gives the thinking and the text that it completes.
    pub fn push(&mut self, piece: &str) -> Vec<String> {
        apart(self.0.push(piece))
    }

    /// The rest, when nothing more comes.
    pub fn finish(&mut self) -> Vec<String> {
        apart(self.0.finish())
    }
}

fn apart(parts: Vec<ReplyPart>) -> Vec<String> {
    let (mut thinking, mut text) = (String::new(), String::new());
    for part in parts {
        match part {
            ReplyPart::Thinking(more) => thinking += &more,
            ReplyPart::Text(more) => text += &more,
            // The parser leaves calls in the text.
            ReplyPart::Call(_) => {}
        }
    }
    vec![thinking, text]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet::chat::ReplyOptions;

    #[test]
    fn thinking_and_text_go_apart() {
        let mut reply = Reply(ReplyParser::without_calls(ReplyOptions {
            thinks: true,
            ..ReplyOptions::default()
        }));
        let mut parts = Vec::new();
        for piece in ["<thi", "nk>Hm", ".</think>\n", "Yes", "."] {
            parts.push(reply.push(piece));
        }
        parts.push(reply.finish());
        assert_eq!(
            parts.iter().map(|part| &*part[0]).collect::<String>(),
            "Hm."
        );
        assert_eq!(
            parts.iter().map(|part| &*part[1]).collect::<String>(),
            "Yes."
        );
    }
}
