//! From requests to tokens. Long texts take a while: this is done on threads that may block.

use crate::error::{ApiError, ApiResult};
use crate::generation::Form;
use crate::models::Served;
use bitnet::chat::{
    CallFormat, ChatTemplate, ReplyForm, ReplyOptions, TemplateOptions, Thinking, ThinkingBudget,
    Tool,
};
use bitnet::constraint::Grammar;
use bitnet::{Cancel, GenerateOptions, Prompt};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A conversation whose next message is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Vec<Value>,
    /// Further variables of the template.
    pub(crate) kwargs: Map<String, Value>,
}

/// Tells the template how much the model is to think: `none`, or a word that some templates know.
pub(crate) fn set_effort(kwargs: &mut Map<String, Value>, effort: String) {
    kwargs.insert("enable_thinking".into(), (effort != "none").into());
    kwargs.insert("reasoning_effort".into(), effort.into());
}

/// A conversation in tokens.
pub(crate) struct Written {
    pub(crate) tokens: Vec<u32>,
    /// The form of its reply.
    reply: ReplyForm,
    /// What the model thinks before it answers.
    thinking: Option<Thinking>,
}

impl Written {
    /// The form of calls that the template asks for.
    pub(crate) fn calls(&self) -> CallFormat {
        self.reply.calls
    }

    /// The form of a reply to it, in which the model may think first.
    pub(crate) fn form(&self, grammar: Grammar) -> Form {
        Form {
            grammar,
            thinking: self.thinking.clone(),
        }
    }

    /// How long the model may think.
    pub(crate) fn budget(&self, tokens: usize) -> Option<ThinkingBudget> {
        let thinking = self.thinking.clone();
        thinking.map(|thinking| thinking.budget(tokens))
    }

    /// How replies to it are read.
    pub(crate) fn reply_options(&self, tools: Vec<Tool>) -> ReplyOptions {
        self.reply.options(tools)
    }
}

/// The tokens of a conversation by the model's template.
///
/// # Errors
/// If the model has no template, it refuses the messages or knows nothing of tools, or the prompt is too long.
pub(crate) async fn of_conversation(
    served: &Arc<Served>,
    conversation: Conversation,
) -> ApiResult<Written> {
    blocking(served, move |served, cancel| {
        write(served, conversation, cancel)
    })
    .await
}

/// The tokens of a prompt.
///
/// # Errors
/// If the tokenizer refuses it, or it names a token that there is not.
pub(crate) async fn of(served: &Arc<Served>, prompt: Prompt) -> ApiResult<Vec<u32>> {
    blocking(served, move |served, cancel| {
        let options = GenerateOptions {
            cancel,
            ..GenerateOptions::default()
        };
        let model = served.model();
        let tokens = model.prompt_tokens(&prompt, &options)?;
        model.check_tokens(&tokens)?;
        Ok(tokens)
    })
    .await
}

/// Runs `work` on a thread that may block; if the request goes away, `work` is told.
pub(crate) async fn blocking<T: Send + 'static>(
    served: &Arc<Served>,
    work: impl FnOnce(&Served, Cancel) -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    struct CancelOnDrop(Cancel);

    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }

    let cancel = Cancel::default();
    let _end = CancelOnDrop(cancel.clone());
    let served = Arc::clone(served);
    let working = tokio::task::spawn_blocking(move || work(&served, cancel));
    working
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
}

/// The text of a conversation by the model's template.
///
/// # Errors
/// As [`of_conversation`].
pub(crate) async fn text(served: &Arc<Served>, conversation: Conversation) -> ApiResult<String> {
    blocking(served, move |served, cancel| {
        let (template, options) =
            rendering(served, conversation.tools, conversation.kwargs, cancel)?;
        Ok(template.render(&conversation.messages, &options)?)
    })
    .await
}

fn write(served: &Served, conversation: Conversation, cancel: Cancel) -> ApiResult<Written> {
    let (template, options) = rendering(served, conversation.tools, conversation.kwargs, cancel)?;
    let tokenizer = served.model().tokenizer();
    let tokens = template.render_tokens(&conversation.messages, tokenizer, &options)?;
    let reply = ReplyForm::of(template, tokenizer, &tokens);
    Ok(Written {
        thinking: reply.thinking(tokenizer)?,
        reply,
        tokens,
    })
}

/// The model's template, and how it is rendered.
fn rendering(
    served: &Served,
    tools: Vec<Value>,
    mut kwargs: Map<String, Value>,
    cancel: Cancel,
) -> ApiResult<(&ChatTemplate, TemplateOptions)> {
    let model = served.model();
    let Some(template) = model.chat_template() else {
        let advice = "its file has no chat template; use /v1/completions";
        return Err(ApiError::unsupported(
            format!("a conversation with {}", served.name),
            advice,
        ));
    };
    if !tools.is_empty() {
        if !template.knows_tools() {
            let advice = format!("the chat template of {} knows nothing of them", served.name);
            return Err(ApiError::unsupported("tools", advice));
        }
        kwargs.insert("tools".into(), Value::Array(tools));
    }
    let options = TemplateOptions {
        kwargs,
        cancel,
        ..TemplateOptions::default()
    };
    Ok((template, options))
}
