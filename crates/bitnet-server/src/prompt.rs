//! From requests to tokens. Long texts take a while: this is done on threads that may block.

use crate::error::{ApiError, ApiResult};
use crate::generation::Form;
use crate::models::Served;
use bitnet::chat::{CallFormat, ChatTemplate, ReplyOptions, TemplateOptions, Tool};
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
    /// The form of calls that the template asks for.
    format: CallFormat,
    /// Whether the template knows of thinking.
    thinks: bool,
    /// Whether the prompt ends within the thinking.
    begins_thinking: bool,
}

impl Written {
    /// The form of a reply to it. A model that is thinking goes on with that first.
    pub(crate) fn form(&self, served: &Served, grammar: Grammar) -> Form {
        let end = served.model().tokenizer().token_id("</think>");
        let after = end.filter(|_| self.begins_thinking);
        Form {
            grammar,
            after: after.into_iter().collect(),
        }
    }

    /// How replies to it are read.
    pub(crate) fn reply_options(&self, tools: Vec<Tool>) -> ReplyOptions {
        ReplyOptions {
            thinks: self.thinks,
            begins_thinking: self.begins_thinking,
            tools: (!tools.is_empty()).then_some((self.format, tools)),
        }
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
    let end = tokenizer.decode(&tokens[tokens.len().saturating_sub(8)..]);
    let source = template.source().unwrap_or_default();
    Ok(Written {
        format: CallFormat::of_template(source),
        thinks: source.contains("</think>"),
        begins_thinking: end.trim_end().ends_with("<think>"),
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
        if !template
            .source()
            .is_some_and(|source| source.contains("tools"))
        {
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
