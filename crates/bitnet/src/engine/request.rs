//! A caller's request to an engine.

use crate::generate::GenerateOptions;
use crate::hook::LogitsHook;
use crate::prompt::Prompt;

/// A text to generate.
pub struct Request {
    /// The words, tokens or conversation before it.
    pub prompt: Prompt,
    /// How it is generated.
    pub options: GenerateOptions,
    /// Alternatives whose probabilities come with each token; `Some(0)` for that of the token alone. All logits are then computed.
    pub logprobs: Option<usize>,
    /// The caller's say in each token.
    pub hook: Option<Box<dyn LogitsHook>>,
    /// Requests of higher priority run first, and make room last. Of equal ones the earlier comes first.
    pub priority: i32,
}

impl Request {
    /// A request of priority 0.
    pub fn new(prompt: impl Into<Prompt>, options: &GenerateOptions) -> Self {
        Self {
            prompt: prompt.into(),
            options: options.clone(),
            logprobs: None,
            hook: None,
            priority: 0,
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("prompt", &self.prompt)
            .field("options", &self.options)
            .field("logprobs", &self.logprobs)
            .field("hook", &self.hook.is_some())
            .field("priority", &self.priority)
            .finish()
    }
}
