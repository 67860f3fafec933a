//! What requests say, in the words that all interfaces have in common.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use crate::models::Served;
use crate::prompt;
use crate::sampling::{Names, Sampling};
use crate::state::App;
use bitnet::constraint::Grammar;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What fields are called here.
const NAMES: Names = Names {
    stop: "stop",
    repetition_penalty: "repeat_penalty",
};

/// How long a model stays open behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepAlive {
    For(Duration),
    Forever,
}

/// The fields that all requests to a model have.
pub(super) struct Asked {
    /// The model's name as this server has it.
    pub(super) model: String,
    pub(super) keep_alive: Option<KeepAlive>,
    begin: Instant,
}

impl Asked {
    /// Takes `model` and `keep_alive`.
    ///
    /// # Errors
    /// If there is no such model, or a time that is none.
    pub(super) fn take(body: &mut Body, app: &App) -> ApiResult<Self> {
        let keep_alive = body.value("keep_alive");
        Ok(Self {
            model: model(body, app)?,
            keep_alive: keep_alive.map(|value| keep(&value)).transpose()?,
            begin: Instant::now(),
        })
    }

    /// Opens the model.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) async fn open(&self, app: &App) -> ApiResult<Opened> {
        if let Some(keep) = self.keep_alive {
            let time = match keep {
                KeepAlive::For(time) => Some(time),
                KeepAlive::Forever => None,
            };
            app.models.keep(&self.model, time)?;
        }
        let loading = Instant::now();
        let served = app.models.get(Some(&self.model)).await?;
        Ok(Opened {
            served,
            begin: self.begin,
            loading: loading.elapsed(),
        })
    }
}

/// A model that is open for a request.
pub(super) struct Opened {
    pub(super) served: Arc<Served>,
    /// When the request began.
    pub(super) begin: Instant,
    /// How long it was waited for.
    pub(super) loading: Duration,
}

/// Takes `model`, or `name` as it was called once: the name of a model, with or without `:latest`.
///
/// # Errors
/// If there is none of that name.
pub(super) fn model(body: &mut Body, app: &App) -> ApiResult<String> {
    let older: Option<String> = body.take("name")?;
    let name = match body.take("model")?.or(older) {
        Some(name) => name,
        None => body.require("model")?,
    };
    let plain = name.strip_suffix(":latest");
    match plain.filter(|plain| app.models.check(plain).is_ok()) {
        Some(plain) => Ok(plain.to_owned()),
        None => app.models.check(&name).map(|()| name),
    }
}

/// Seconds, or a text such as `5m`, `1h30m`, `300ms`. What is negative has no end.
fn keep(value: &Value) -> ApiResult<KeepAlive> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => seconds(text),
        _ => None,
    };
    let time = match seconds {
        Some(seconds) if seconds < 0.0 => return Ok(KeepAlive::Forever),
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => None,
    };
    time.map(KeepAlive::For).ok_or_else(|| {
        let expected = "seconds, or a time such as \"5m\" or \"1h30m\"";
        ApiError::field("keep_alive", expected, value)
    })
}

/// The seconds of a time with units.
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if let Ok(plain) = rest.parse::<u64>() {
        return Some(sign * plain as f64);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        // The longer unit of two with one beginning comes first.
        let units = [
            ("ms", 1e-3),
            ("us", 1e-6),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += number * factor;
    }
    Some(sign * total)
}

/// Takes `options`.
///
/// # Errors
/// If one has a value that it cannot have, or is not known.
pub(super) fn options(body: &mut Body, app: &App, served: &Served) -> ApiResult<Sampling> {
    let value = body.value("options").unwrap_or_else(|| json!({}));
    let mut options = Body::of(value, "options")?;
    // What is negative means no limit.
    let most: Option<i64> = options.take("num_predict")?;
    let most = most.and_then(|most| usize::try_from(most).ok());
    let context = options.within("num_ctx", 1..=served.model().context())?;
    let window: Option<i64> = options.take("repeat_last_n")?;
    let mut sampling = Sampling::take(
        &mut options,
        app,
        served,
        most.unwrap_or(usize::MAX),
        &NAMES,
    )?;
    sampling.context = context.map(|positions| (positions, "options.num_ctx"));
    if let Some(window) = window {
        // −1 means all of them.
        sampling.options.sampling.repetition_window =
            usize::try_from(window).unwrap_or(served.model().context());
    }
    // Filters that are off anyway.
    options.only("tfs_z", &[json!(1), json!(1.0)])?;
    options.only("mirostat", &[json!(0)])?;
    options.finish()?;
    Ok(sampling)
}

/// Takes `format`: `json`, or a schema.
///
/// # Errors
/// If it is neither.
pub(super) fn format(body: &mut Body) -> ApiResult<Option<Grammar>> {
    match body.value("format") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(Grammar::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Grammar::JsonSchema(schema))),
        Some(other) => Err(ApiError::field(
            "format",
            "\"json\" or a JSON Schema",
            other,
        )),
    }
}

/// Takes `think`: whether, or how much.
///
/// # Errors
/// If it is neither.
pub(super) fn think(body: &mut Body) -> ApiResult<Map<String, Value>> {
    let mut kwargs = Map::new();
    match body.value("think") {
        None => {}
        Some(Value::Bool(thinks)) => {
            kwargs.insert("enable_thinking".into(), thinks.into());
        }
        Some(Value::String(effort)) => prompt::set_effort(&mut kwargs, effort),
        Some(other) => {
            let expected = "true, false, \"low\", \"medium\" or \"high\"";
            return Err(ApiError::field("think", expected, kind(&other)));
        }
    }
    Ok(kwargs)
}

/// Takes `images`, of which there must be none.
///
/// # Errors
/// If there are.
pub(super) fn no_images(body: &mut Body) -> ApiResult<()> {
    match body.value("images") {
        None => Ok(()),
        Some(Value::Array(images)) if images.is_empty() => Ok(()),
        Some(_) => {
            let advice = "the models that this server runs read text alone";
            Err(ApiError::unsupported(body.name("images"), advice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_units() {
        let time = |milliseconds| Some(KeepAlive::For(Duration::from_millis(milliseconds)));
        for (value, expected) in [
            (json!(0), time(0)),
            (json!(90), time(90_000)),
            (json!(0.5), time(500)),
            (json!("30"), time(30_000)),
            (json!("5m"), time(300_000)),
            (json!("1h30m"), time(5_400_000)),
            (json!("250ms"), time(250)),
            (json!("1.5s"), time(1500)),
            (json!(-1), Some(KeepAlive::Forever)),
            (json!("-1m"), Some(KeepAlive::Forever)),
            (json!(""), None),
            (json!("5 m"), None),
            (json!("m"), None),
            (json!("5x"), None),
            (json!(1e300), None),
            (json!(true), None),
        ] {
            assert_eq!(keep(&value).ok(), expected, "{value}");
        }
    }
}
