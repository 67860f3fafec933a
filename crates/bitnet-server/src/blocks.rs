//! The parts of an answer as blocks, each with a beginning and an end: thinking, text, calls.

use bitnet::chat::{ReplyPart, ToolCall};
use serde_json::Value;
use std::mem::discriminant;

/// A block, as far as it is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Block {
    Thinking(String),
    Text(String),
    Call(ToolCall),
}

/// What happens to the blocks, in its order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A block begins: a call as a whole, the others empty.
    Begin(Block),
    /// More of the thinking that has begun.
    Thinking(String),
    /// More of the text that has begun.
    Text(String),
    /// All arguments of the call that has begun, as JSON.
    Arguments(String),
    /// The block ends; all of it.
    End(Block),
}

/// Blocks as they come. One of white space alone, as models write it between others, is none.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// The last one, of which there may be more.
    open: Option<Block>,
    /// Whether that has begun: it has more than white space.
    begun: bool,
}

impl Blocks {
    /// What a part makes happen.
    pub(crate) fn push(&mut self, part: ReplyPart) -> Vec<Step> {
        let mut steps = Vec::new();
        match part {
            ReplyPart::Thinking(more) => {
                self.extend(&more, Block::Thinking, Step::Thinking, &mut steps);
            }
            ReplyPart::Text(more) => self.extend(&more, Block::Text, Step::Text, &mut steps),
            ReplyPart::Call(call) => {
                self.end(&mut steps);
                let arguments = Value::Object(call.arguments.clone()).to_string();
                let block = Block::Call(call);
                steps.extend([
                    Step::Begin(block.clone()),
                    Step::Arguments(arguments),
                    Step::End(block),
                ]);
            }
        }
        steps
    }

    /// What the end of the answer makes happen.
    pub(crate) fn finish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.end(&mut steps);
        steps
    }

    /// Adds text to the open block, or to a new one if that is of another kind.
    fn extend(
        &mut self,
        more: &str,
        block: fn(String) -> Block,
        step: fn(String) -> Step,
        steps: &mut Vec<Step>,
    ) {
        let empty = block(String::new());
        if self.open.as_ref().map(discriminant) != Some(discriminant(&empty)) {
            self.end(steps);
        }
        let open = self.open.get_or_insert_with(|| empty.clone());
        let (Block::Thinking(text) | Block::Text(text)) = open else {
            return;
        };
        text.push_str(more);
        if self.begun {
            steps.push(step(more.to_owned()));
        } else if !text.trim().is_empty() {
            self.begun = true;
            steps.extend([Step::Begin(empty), step(text.clone())]);
        }
    }

    /// Ends the open block, if there is one.
    fn end(&mut self, steps: &mut Vec<Step>) {
        let ended = self.open.take().filter(|_| self.begun);
        steps.extend(ended.map(Step::End));
        self.begun = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ReplyPart {
        ReplyPart::Text(text.into())
    }

    #[test]
    fn blocks_begin_and_end_and_white_space_is_none() {
        let call = ToolCall {
            name: "look".into(),
            arguments: serde_json::Map::new(),
        };
        let parts = [
            ReplyPart::Thinking("\n".into()),
            ReplyPart::Thinking("a".into()),
            ReplyPart::Thinking("b".into()),
            text("\n\n"),
            ReplyPart::Call(call.clone()),
            text(" "),
            text("c"),
        ];
        let mut blocks = Blocks::default();
        let mut steps: Vec<_> = parts.into_iter().flat_map(|p| blocks.push(p)).collect();
        steps.extend(blocks.finish());
        let expected = [
            Step::Begin(Block::Thinking(String::new())),
            Step::Thinking("\na".into()),
            Step::Thinking("b".into()),
            Step::End(Block::Thinking("\nab".into())),
            Step::Begin(Block::Call(call.clone())),
            Step::Arguments("{}".into()),
            Step::End(Block::Call(call)),
            Step::Begin(Block::Text(String::new())),
            Step::Text(" c".into()),
            Step::End(Block::Text(" c".into())),
        ];
        assert_eq!(steps, expected);
        assert_eq!(blocks.finish(), []);
    }
}
