//! Texts on their way into a model: their tokens, and the prompts of conversations.

use crate::error::{ApiError, ApiResult};
use crate::openai::messages;
use crate::prompt::{self, Conversation};
use crate::state::{App, Incoming};
use crate::tools::Tools;
use axum::Json;
use axum::extract::State;
use bitnet::Prompt;
use bitnet::tokenizer::EncodeOptions;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /tokenize`: the tokens of `content`, or of `messages`.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name: Option<String> = body.take("model")?;
    let content: Option<String> = body.take("content")?;
    let add_special = body.take("add_special")?.unwrap_or(false);
    let parse_special = body.take("parse_special")?.unwrap_or(false);
    let with_pieces = body.take("with_pieces")?.unwrap_or(false);
    body.finish()?;
    let content = content.ok_or_else(|| ApiError::field("content", "a text", "none"))?;
    let served = app.models.get(name.as_deref()).await?;
    let tokens = prompt::blocking(&served, move |served, _| {
        let tokenizer = served.model().tokenizer();
        let options = EncodeOptions {
            add_bos: add_special && tokenizer.add_bos(),
            parse_special,
        };
        Ok(tokenizer.encode(&content, options)?)
    })
    .await?;
    if !with_pieces {
        return Ok(Json(json!({"tokens": tokens})));
    }
    let tokenizer = served.model().tokenizer();
    let pieces = tokens.iter().map(|id| {
        let piece = tokenizer.token_text(*id).unwrap_or_default();
        json!({"id": id, "piece": piece})
    });
    Ok(Json(json!({"tokens": pieces.collect::<Vec<_>>()})))
}

/// `POST /detokenize`: the text of `tokens`.
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name: Option<String> = body.take("model")?;
    let tokens: Vec<u32> = body.require("tokens")?;
    body.finish()?;
    let served = app.models.get(name.as_deref()).await?;
    let tokens = prompt::of(&served, Prompt::Tokens(tokens)).await?;
    let content = served.model().tokenizer().decode(&tokens);
    Ok(Json(json!({"content": content})))
}

/// `POST /apply-template`: the prompt that `messages` become.
pub(crate) async fn apply_template(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name: Option<String> = body.take("model")?;
    let messages = messages::take(&mut body)?;
    let tools = Tools::take(&mut body)?;
    let kwargs = body.take("chat_template_kwargs")?.unwrap_or_default();
    body.finish()?;
    let served = app.models.get(name.as_deref()).await?;
    let conversation = Conversation {
        messages,
        tools: tools.written,
        kwargs,
    };
    let (text, written) = tokio::join!(
        prompt::text(&served, conversation.clone()),
        prompt::of_conversation(&served, conversation)
    );
    Ok(Json(json!({"prompt": text?, "tokens": written?.tokens})))
}
