//! Tokens that end an answer and are known by their text, whatever a file declares.

use super::special::SpecialToken;

/// Texts that end a turn or a whole text. The list is that of llama.cpp (`src/llama-vocab.cpp`, "end of generation"); CodeLlama's
/// spelling with U+2581 is added.
const STOP_TEXTS: [&str; 23] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "\u{2581}<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "[e~[",
    "</s>",
    "<eos>",
];

/// Those that other texts may hold, such as HTML: they count where the file calls the token a control token, and only there.
const PLAIN_TEXTS: [&str; 2] = ["</s>", "<eos>"];

/// Those that end a whole text and not a turn.
const END_OF_TEXT: [&str; 6] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "[EOS]",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "</s>",
    "<eos>",
];

/// Whether a token of this text ends an answer even if the file calls it a normal one.
pub(super) fn always_stops(text: &[u8]) -> bool {
    let listed = |list: &[&str]| list.iter().any(|stop| stop.as_bytes() == text);
    listed(&STOP_TEXTS) && !listed(&PLAIN_TEXTS)
}

/// Whether a token of this text ends a whole text, as opposed to a turn.
pub(super) fn ends_text(text: &str) -> bool {
    END_OF_TEXT.contains(&text)
}

/// The ids of those of `tokens` that are known to end an answer.
///
/// Two vocabularies use a text of the list for something else. Where calls of tools have a mark of their own (`<|return|>` and
/// `<|call|>`, or `<|call|>`/`<|calls|>` and `<|flush|>`), `<|end|>` ends a message within a turn. Where `<|tool_response>` is
/// known, `</s>` is text.
pub(super) fn known(tokens: &[SpecialToken]) -> impl Iterator<Item = u32> {
    let has = |text: &str| tokens.iter().any(|token| token.text == text);
    let calls = has("<|call|>") || has("<|calls|>");
    let end_is_inner = calls && (has("<|return|>") || has("<|flush|>"));
    let end_is_text = has("<|tool_response>");
    tokens
        .iter()
        .filter(move |token| {
            let text = token.text.as_str();
            STOP_TEXTS.contains(&text)
                && (token.control || !PLAIN_TEXTS.contains(&text))
                && !(text == "<|end|>" && end_is_inner)
                && !(text == "</s>" && end_is_text)
        })
        .map(|token| token.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(texts: &[(&str, bool)]) -> Vec<u32> {
        let tokens: Vec<SpecialToken> = texts
            .iter()
            .zip(0..)
            .map(|((text, control), id)| SpecialToken::new(id, (*text).to_owned(), *control))
            .collect();
        known(&tokens).collect()
    }

    #[test]
    fn spellings_are_those_of_llama_cpp() {
        let all: Vec<(&str, bool)> = [
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "</s>",
            "<|eom_id|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "[EOS]",
            "<|end_of_text|>",
            "<end_of_utterance>",
            "<eos>",
            "<turn|>",
            "<｜end▁of▁sentence｜>",
            "[e~[",
        ]
        .map(|text| (text, true))
        .to_vec();
        assert_eq!(ids(&all).len(), all.len());
        assert_eq!(ids(&[("<|im_start|>", true), ("<pad>", true)]), [0u32; 0]);
        assert_eq!(
            ids(&[("</s>", false), ("<eos>", false), ("<|end|>", false)]),
            [2]
        );
    }

    #[test]
    fn the_end_of_a_message_is_no_stop_where_calls_have_their_own() {
        let harmony = [
            ("<|end|>", true),
            ("<|return|>", true),
            ("<|call|>", true),
            ("<|start|>", true),
        ];
        assert_eq!(ids(&harmony), [1, 2]);
        let solar = [("<|end|>", true), ("<|flush|>", true), ("<|calls|>", true)];
        assert_eq!(ids(&solar), [1, 2]);
        assert_eq!(ids(&[("<|tool_response>", true), ("</s>", true)]), [0]);
    }
}
