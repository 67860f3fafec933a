//! Conversations that outgrow the context: the oldest turns go.

use super::ChatMessage;
use crate::generate::GenerateOptions;
use crate::model::Model;
use crate::prompt::longest_prompt;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;

/// A message of a conversation: [`ChatMessage`], or a JSON object with what else a template reads, such as `tool_calls`.
pub trait Message: Clone + Serialize {
    /// Who speaks.
    fn role(&self) -> &str;

    /// Bytes that it surely adds to a prompt.
    fn byte_len(&self) -> usize;
}

impl Message for ChatMessage {
    fn role(&self) -> &str {
        &self.role
    }

    fn byte_len(&self) -> usize {
        self.content.len()
    }
}

impl Message for Value {
    fn role(&self) -> &str {
        self["role"].as_str().unwrap_or_default()
    }

    fn byte_len(&self) -> usize {
        self["content"].as_str().map_or(0, str::len)
    }
}

/// A conversation that fits the context, and what had to go for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedChat<M = ChatMessage> {
    /// The messages that are left, for [`Session::chat`](crate::Session::chat) or a [`Request`](crate::Request).
    pub messages: Vec<M>,
    /// The messages that went, in their order: whole turns, the oldest ones.
    pub dropped: Vec<M>,
}

impl Model {
    /// Makes a conversation fit the context with `room` tokens for the answer: as few of the oldest turns go as have to. A turn is
    /// a message of the user with what follows it. Instructions (messages of the system or developer) and the last turn stay; if
    /// these alone leave less room than asked for, the answer has to do with what they leave.
    ///
    /// ```no_run
    /// # fn main() -> bitnet::Result<()> {
    /// # let model = bitnet::Model::open("model.gguf")?;
    /// # let mut session = model.session()?;
    /// # let (messages, options) = (Vec::new(), bitnet::GenerateOptions::default());
    /// let fitted = model.fit_chat(&messages, 512, &options)?;
    /// if !fitted.dropped.is_empty() {
    ///     eprintln!("{} messages are no longer seen", fitted.dropped.len());
    /// }
    /// let answer = session.chat(&fitted.messages, &options)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the instructions and the last turn leave no room at all; as
    /// [`prompt_tokens`](Self::prompt_tokens).
    pub fn fit_chat<M: Message>(
        &self,
        messages: &[M],
        room: usize,
        options: &GenerateOptions,
    ) -> Result<FittedChat<M>> {
        let turns = turns(messages);
        let last = turns.len().saturating_sub(1);
        let capacity = self.context();
        // The tokens without the first `count` turns; none if there are more bytes than a prompt can have.
        let tokens_without = |count: usize| -> Result<Option<usize>> {
            let (kept, _) = without(messages, &turns[..count]);
            let bytes: usize = kept.iter().map(Message::byte_len).sum();
            if count < last && bytes > longest_prompt(capacity) {
                return Ok(None);
            }
            self.chat_tokens(&kept, options)
                .map(|tokens| Some(tokens.len()))
        };
        let fits = |count: usize| -> Result<bool> {
            let tokens = tokens_without(count)?;
            Ok(tokens.is_some_and(|tokens| tokens.saturating_add(room) <= capacity))
        };
        // The fewest turns that have to go: `low - 1` are too few, `high` are enough or all that there are.
        let (mut low, mut high) = (0, last);
        if last > 0 && fits(0)? {
            high = 0;
        }
        while low < high {
            let middle = low.midpoint(high);
            if fits(middle)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if high == last
            && let Some(wanted) = tokens_without(last)?
            && wanted >= capacity
        {
            return Err(Error::ContextFull {
                capacity,
                used: 0,
                wanted,
            });
        }
        let (messages, dropped) = without(messages, &turns[..high]);
        Ok(FittedChat { messages, dropped })
    }
}

/// The indices of the messages of each turn.
fn turns<M: Message>(messages: &[M]) -> Vec<Vec<usize>> {
    let mut turns: Vec<Vec<usize>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match (message.role(), turns.last_mut()) {
            ("system" | "developer", _) => {}
            (role, Some(turn)) if role != "user" => turn.push(index),
            _ => turns.push(vec![index]),
        }
    }
    turns
}

/// The messages that are in none of `turns`, and those that are.
fn without<M: Message>(messages: &[M], turns: &[Vec<usize>]) -> (Vec<M>, Vec<M>) {
    let mut gone = turns.iter().flatten().copied().peekable();
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for (index, message) in messages.iter().enumerate() {
        if gone.next_if_eq(&index).is_some() {
            dropped.push(message.clone());
        } else {
            kept.push(message.clone());
        }
    }
    (kept, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_a_question_with_what_follows() {
        let messages = [
            ChatMessage::system("s"),
            ChatMessage::assistant("hello"),
            ChatMessage::user("a"),
            ChatMessage::assistant("b"),
            ChatMessage::new("tool", "c"),
            ChatMessage::system("t"),
            ChatMessage::assistant("d"),
            ChatMessage::user("e"),
        ];
        let turns = turns(&messages);
        assert_eq!(turns, [vec![1], vec![2, 3, 4, 6], vec![7]]);
        let (kept, dropped) = without(&messages, &turns[..2]);
        let contents = |messages: &[ChatMessage]| -> String {
            messages.iter().map(|m| m.content.as_str()).collect()
        };
        assert_eq!(contents(&kept), "ste");
        assert_eq!(contents(&dropped), "helloabcd");
    }
}
