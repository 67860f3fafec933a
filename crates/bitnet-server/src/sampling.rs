//! The fields that say how texts are generated, as all interfaces have them in common.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::generation::{Form, Job};
use crate::models::Served;
use crate::state::App;
use bitnet::{GenerateOptions, LogitBias, Model};
use serde_json::{Map, Value};
use std::time::Instant;

/// The most stop texts.
const MOST_STOPS: usize = 64;

/// The names of fields that interfaces call differently.
pub(crate) struct Names {
    pub(crate) stop: &'static str,
    pub(crate) repetition_penalty: &'static str,
}

/// The values of the fields.
pub(crate) struct Sampling {
    pub(crate) options: GenerateOptions,
    /// How many texts.
    pub(crate) count: usize,
    bias: Option<LogitBias>,
    presence: f32,
    frequency: f32,
    priority: i32,
    /// The most positions of prompt and text together, and the name of the field that says so.
    pub(crate) context: Option<(usize, &'static str)>,
}

impl Sampling {
    /// Takes the fields. Everything that has none is as the server's options say; texts end after `most` tokens, or when the
    /// server's time limit is over.
    ///
    /// # Errors
    /// If a field has a value that it cannot have.
    pub(crate) fn take(
        body: &mut Body,
        app: &App,
        served: &Served,
        most: usize,
        names: &Names,
    ) -> ApiResult<Self> {
        let mut options = app.defaults(most);
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
        let penalty = body.within(names.repetition_penalty, 0.01..=100.0)?;
        set(&mut sampling.repetition_penalty, penalty);
        // Without a seed each request gets its own text, and is told the seed that gives it again.
        sampling.seed = match body.take::<Value>("seed")? {
            None => app.options.seed.unwrap_or_else(random),
            Some(seed) => seed
                .as_u64()
                .or_else(|| Some(seed.as_i64()?.cast_unsigned()))
                .ok_or_else(|| ApiError::field(body.name("seed"), "a whole number", seed))?,
        };
        options.stop = stops(body, names.stop)?;
        let limit = app.options.time_limit;
        options.deadline = limit.map(|limit| Instant::now() + limit);
        if body.take::<bool>("ignore_eos")? == Some(true) {
            options.stop_at_end = false;
        }
        let bias = bias(body, served.model())?;
        let penalty = -2.0..=2.0;
        Ok(Self {
            options,
            count: 1,
            bias,
            presence: body
                .within("presence_penalty", penalty.clone())?
                .unwrap_or(0.0),
            frequency: body.within("frequency_penalty", penalty)?.unwrap_or(0.0),
            priority: body.take("priority")?.unwrap_or(0),
            context: None,
        })
    }

    /// The seed of the first text.
    pub(crate) fn seed(&self) -> u64 {
        self.options.sampling.seed
    }

    /// The job of continuing `tokens`.
    ///
    /// # Errors
    /// If they leave no room in the context that the request asks for.
    pub(crate) fn job(
        &self,
        tokens: Vec<u32>,
        logprobs: Option<usize>,
        form: Option<Form>,
    ) -> ApiResult<Job> {
        let mut options = self.options.clone();
        if let Some((positions, field)) = self.context {
            let room = positions.saturating_sub(tokens.len());
            if room == 0 {
                let expected = format!("more than the {} tokens of the prompt", tokens.len());
                return Err(ApiError::field(field, expected, positions));
            }
            options.max_tokens = options.max_tokens.min(room);
        }
        Ok(Job {
            tokens,
            options,
            count: self.count,
            logprobs,
            bias: self.bias.clone(),
            presence: self.presence,
            frequency: self.frequency,
            budget: None,
            form,
            priority: self.priority,
        })
    }
}

/// The texts that end an answer: one, or a list of some.
fn stops(body: &mut Body, name: &str) -> ApiResult<Vec<String>> {
    let stops = match body.value(name) {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(other) => serde_json::from_value(other)
            .map_err(|error| ApiError::field(body.name(name), "a text or a list of them", error))?,
    };
    if stops.len() > MOST_STOPS {
        let expected = format!("at most {MOST_STOPS} texts");
        return Err(ApiError::field(body.name(name), expected, stops.len()));
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
        let bias = value.as_f64().and_then(LogitBias::of_request);
        let bias =
            bias.ok_or_else(|| ApiError::field(name(), "a number from -100 to 100", &value))?;
        biases.push((id, bias));
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
