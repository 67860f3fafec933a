//! The fields that say how texts are generated, as chat and completions have them in common.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::generation::{Form, Job};
use bitnet::{GenerateOptions, LogitBias, Model};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// The most texts of one request.
const MOST_CHOICES: usize = 128;
/// The most alternatives to a token.
pub(super) const MOST_ALTERNATIVES: usize = 20;
/// The most stop texts.
const MOST_STOPS: usize = 64;

/// The values of the fields.
pub(super) struct Sampling {
    options: GenerateOptions,
    count: usize,
    bias: Option<LogitBias>,
    presence: f32,
    frequency: f32,
    priority: i32,
    /// Whether the answer comes piece by piece.
    pub(super) streams: bool,
    /// Whether the last chunk says how many tokens there were.
    pub(super) includes_usage: bool,
}

impl Sampling {
    /// Takes the fields. Everything that has none is as `defaults` say, but for the seed, which is `seed` or another each time;
    /// texts end `limit` from now.
    ///
    /// # Errors
    /// If a field has a value that it cannot have.
    pub(super) fn take(
        body: &mut Body,
        model: &Model,
        defaults: &GenerateOptions,
        seed: Option<u64>,
        limit: Option<Duration>,
    ) -> ApiResult<Self> {
        let mut options = defaults.clone();
        let sampling = &mut options.sampling;
        set(
            &mut sampling.temperature,
            body.within("temperature", 0.0..=100.0)?,
        );
        set(&mut sampling.top_p, body.within("top_p", 0.0..=1.0)?);
        set(&mut sampling.min_p, body.within("min_p", 0.0..=1.0)?);
        let typical = body.within("typical_p", 0.0..=1.0)?;
        set(&mut sampling.typical_p, typical);
        let threshold = body.within("xtc_threshold", 0.0..=1.0)?;
        set(&mut sampling.xtc_threshold, threshold);
        let probability = body.within("xtc_probability", 0.0..=1.0)?;
        set(&mut sampling.xtc_probability, probability);
        // −1 is how vLLM writes all of them.
        if let Some(top_k) = body.within::<i64>("top_k", -1..=i64::from(u32::MAX))? {
            sampling.top_k = usize::try_from(top_k).unwrap_or(0);
        }
        let penalty = body.within("repetition_penalty", 0.01..=100.0)?;
        set(&mut sampling.repetition_penalty, penalty);
        // Without a seed each request gets its own text, and is told the seed that gives it again.
        sampling.seed = match body.take::<Value>("seed")? {
            None => seed.unwrap_or_else(random),
            Some(seed) => seed
                .as_u64()
                .or_else(|| Some(seed.as_i64()?.cast_unsigned()))
                .ok_or_else(|| ApiError::field(body.name("seed"), "a whole number", seed))?,
        };
        let longer = body.take("max_completion_tokens")?;
        let shorter = body.take("max_tokens")?;
        if let Some(most) = longer.or(shorter) {
            options.max_tokens = most;
        }
        options.stop = stops(body)?;
        options.deadline = limit.map(|limit| Instant::now() + limit);
        if body.take::<bool>("ignore_eos")? == Some(true) {
            options.stop_at_end = false;
        }
        let streams = body.take("stream")?.unwrap_or(false);
        let includes_usage = match body.value("stream_options") {
            None => false,
            Some(_) if !streams => {
                let name = body.name("stream_options");
                return Err(ApiError::field(
                    name,
                    "none where `stream` is false",
                    "some",
                ));
            }
            Some(value) => {
                let mut inner = Body::of(value, "stream_options")?;
                let includes = inner.take("include_usage")?.unwrap_or(false);
                inner.only("include_obfuscation", &[json!(false)])?;
                inner.finish()?;
                includes
            }
        };
        let bias = bias(body, model)?;
        let penalty = -2.0..=2.0;
        let sampling = Self {
            options,
            count: body.within("n", 1..=MOST_CHOICES)?.unwrap_or(1),
            bias,
            presence: body
                .within("presence_penalty", penalty.clone())?
                .unwrap_or(0.0),
            frequency: body.within("frequency_penalty", penalty)?.unwrap_or(0.0),
            priority: body.take("priority")?.unwrap_or(0),
            streams,
            includes_usage,
        };
        // They say who asks, or where the answer is kept, of which nothing depends here.
        body.skip(&["user", "safety_identifier", "metadata", "prompt_cache_key"]);
        body.only("store", &[json!(false)])?;
        body.only("service_tier", &[json!("auto"), json!("default")])?;
        Ok(sampling)
    }

    /// The seed of the first text.
    pub(super) fn seed(&self) -> u64 {
        self.options.sampling.seed
    }

    /// How many texts each prompt gets.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The job of continuing `tokens`.
    pub(super) fn job(&self, tokens: Vec<u32>, logprobs: Option<usize>, form: Option<Form>) -> Job {
        Job {
            tokens,
            options: self.options.clone(),
            count: self.count,
            logprobs,
            bias: self.bias.clone(),
            presence: self.presence,
            frequency: self.frequency,
            budget: None,
            form,
            priority: self.priority,
        }
    }
}

/// `stop`: a text, or a list of some.
fn stops(body: &mut Body) -> ApiResult<Vec<String>> {
    let stops = match body.value("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(other) => serde_json::from_value(other).map_err(|error| {
            ApiError::field(body.name("stop"), "a text or a list of them", error)
        })?,
    };
    if stops.len() > MOST_STOPS {
        let expected = format!("at most {MOST_STOPS} texts");
        return Err(ApiError::field(body.name("stop"), expected, stops.len()));
    }
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

/// `logit_bias`: numbers for token ids. ±100, OpenAI's ends, mean never and always.
fn bias(body: &mut Body, model: &Model) -> ApiResult<Option<LogitBias>> {
    let Some(map) = body.take::<Map<String, Value>>("logit_bias")? else {
        return Ok(None);
    };
    if map.is_empty() {
        return Ok(None);
    }
    let mut biases = Vec::with_capacity(map.len());
    for (key, value) in map {
        let name = || body.name(&format!("logit_bias.{key}"));
        let vocabulary = model.vocabulary();
        let id = key.parse::<u32>().ok();
        let id = id.filter(|id| (*id as usize) < vocabulary);
        let id = id.ok_or_else(|| {
            ApiError::field(name(), format!("a token id below {vocabulary}"), &key)
        })?;
        let number = value
            .as_f64()
            .filter(|bias| (-100.0..=100.0).contains(bias));
        let number =
            number.ok_or_else(|| ApiError::field(name(), "a number from -100 to 100", &value))?;
        biases.push((
            id,
            if number == -100.0 {
                f32::NEG_INFINITY
            } else {
                number as f32
            },
        ));
    }
    Ok(Some(LogitBias::new(biases)?))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A seed that JSON's numbers hold exactly.
fn random() -> u64 {
    (uuid::Uuid::new_v4().as_u128() as u64) >> 11
}
