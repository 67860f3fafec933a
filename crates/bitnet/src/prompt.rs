//! Beginnings of texts: words, tokens, or a conversation.

use crate::chat::{ChatMessage, ReplyForm, TemplateOptions, Thinking};
use crate::generate::GenerateOptions;
use crate::model::Model;
use crate::tokenizer::EncodeOptions;
use crate::{Error, Result};
use serde::Serialize;

/// The beginning that a generated text continues or answers.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Plain text: special tokens in it are text. At the start of a context the model's beginning-of-text token comes first.
    Text(String),
    /// Tokens, as they are.
    Tokens(Vec<u32>),
    /// A conversation whose last message is answered, written by the model's chat template.
    Chat(Vec<ChatMessage>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<Vec<ChatMessage>> for Prompt {
    fn from(messages: Vec<ChatMessage>) -> Self {
        Self::Chat(messages)
    }
}

/// Bytes of text that `context` tokens can hold: tokens of 64 bytes are rare, and all of them never are so long.
pub(crate) fn longest_prompt(context: usize) -> usize {
    context.saturating_mul(64).clamp(64 << 10, 16 << 20)
}

impl Model {
    /// The tokens of `text`, behind the beginning-of-text token if it is `first` and the model wants one.
    pub(crate) fn text_tokens(&self, text: &str, first: bool) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer();
        let add_bos = first && tokenizer.add_bos();
        tokenizer.encode(
            text,
            EncodeOptions {
                add_bos,
                parse_special: false,
            },
        )
    }

    /// The tokens of a conversation, up to where the answer begins. A message is as
    /// [`ChatTemplate::render`](crate::chat::ChatTemplate::render) takes it; tools are the variable `tools` of the options.
    ///
    /// # Errors
    /// If the model has no chat template, or that refuses the messages.
    pub fn chat_tokens<M: Serialize>(
        &self,
        messages: &[M],
        options: &GenerateOptions,
    ) -> Result<Vec<u32>> {
        let Some(template) = self.chat_template() else {
            return Err(Error::Template(format!("{} has none", self.name())));
        };
        let rendering = TemplateOptions {
            kwargs: options.chat_template_kwargs.clone(),
            max_bytes: longest_prompt(self.context()),
            cancel: options.cancel.clone(),
            ..TemplateOptions::default()
        };
        template.render_tokens(messages, self.tokenizer(), &rendering)
    }

    /// The form of replies to a conversation that [`chat_tokens`](Self::chat_tokens) wrote; `None` if the model has no chat template.
    pub fn reply_form(&self, tokens: &[u32]) -> Option<ReplyForm> {
        let template = self.chat_template()?;
        Some(ReplyForm::of(template, self.tokenizer(), tokens))
    }

    /// The thinking before a reply to such a conversation; `None` if there is none.
    ///
    /// # Errors
    /// As [`ReplyForm::thinking`].
    pub fn thinking(&self, tokens: &[u32]) -> Result<Option<Thinking>> {
        let form = self.reply_form(tokens);
        let thinking = form.map(|form| form.thinking(self.tokenizer()));
        Ok(thinking.transpose()?.flatten())
    }

    /// The tokens of a prompt at the start of a context.
    ///
    /// # Errors
    /// If the tokenizer refuses the text, or the chat template the messages; if there is none.
    pub fn prompt_tokens(&self, prompt: &Prompt, options: &GenerateOptions) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => self.text_tokens(text, true),
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Chat(messages) => self.chat_tokens(messages, options),
        }
    }
}

/// Refuses a context without a token: nothing can follow it.
pub(crate) fn check_not_empty(tokens: usize) -> Result<()> {
    if tokens > 0 {
        return Ok(());
    }
    Err(Error::Argument {
        what: "prompt",
        expected: "at least one token".into(),
        found: "none".into(),
    })
}
