//! What JavaScript asks for, as JSON: every key is known and checked, and those left out have the library's defaults.

use crate::failure::Failure;
use bitnet::chat::TemplateChoice;
use bitnet::hook::Penalties;
use bitnet::{
    Activations, GenerateOptions, I2sLayout, LogitBias, LogitsHook, ModelOptions, SamplingOptions,
    Speculation,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads JSON; `what` is what errors call it.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::argument(format!("{what}: {error}")))
}

/// How to open a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Open {
    /// Positions of the session.
    context_length: Option<usize>,
    /// `a` or `b`.
    i2s_layout: Option<String>,
    /// `int8` or `f32`.
    activations: Option<String>,
    /// A chat template in place of the model's own.
    chat_template: Option<Template>,
}

/// A chat template: its source, or the name of one of the file's own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Template {
    Source(String),
    Name(String),
}

impl From<Template> for TemplateChoice {
    fn from(template: Template) -> Self {
        match template {
            Template::Source(source) => Self::Source {
                origin: "chatTemplate".into(),
                source,
            },
            Template::Name(name) => Self::Named(name),
        }
    }
}

impl Open {
    /// For the library, which runs on the threads that there are.
    pub(crate) fn resolve(self) -> Result<ModelOptions, Failure> {
        let choice = |key: &str, expected: &str, found: &str| {
            Failure::argument(format!("{key}: expected {expected}, found {found:?}"))
        };
        Ok(ModelOptions {
            threads: Some(1),
            context: self.context_length,
            i2s_layout: match self.i2s_layout.as_deref() {
                None | Some("a") => I2sLayout::A,
                Some("b") => I2sLayout::B,
                Some(other) => return Err(choice("i2sLayout", "\"a\" or \"b\"", other)),
            },
            activations: match self.activations.as_deref() {
                None | Some("int8") => Activations::Int8,
                Some("f32") => Activations::F32,
                Some(other) => return Err(choice("activations", "\"int8\" or \"f32\"", other)),
            },
            chat_template: self.chat_template.map(TemplateChoice::from),
            nfc: Some(nfc),
            ..ModelOptions::default()
        })
    }
}

/// Which GPU to open.
#[cfg(feature = "wgpu")]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct OpenGpu {
    /// Whether software on the processor will do.
    software: bool,
}

#[cfg(feature = "wgpu")]
impl OpenGpu {
    pub(crate) fn resolve(self) -> bitnet_core::gpu::GpuOptions {
        bitnet_core::gpu::GpuOptions {
            software: self.software,
            ..Default::default()
        }
    }

    /// Why there is no GPU, by the code that tells programs so.
    pub(crate) fn failure(error: bitnet_core::Error) -> Failure {
        Failure {
            code: "no-webgpu",
            ..Failure::from(error)
        }
    }
}

/// Unicode's normal form C, whose tables every browser has.
fn nfc(text: &str) -> String {
    js_sys::JsString::from(text).normalize("NFC").into()
}

/// How to generate.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Generate {
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    repetition_window: Option<usize>,
    seed: Option<u64>,
    stop: Vec<String>,
    ignore_end: bool,
    /// Whether drafts from earlier tokens are tried; if absent, where they may help.
    speculate: Option<bool>,
    presence_penalty: f32,
    frequency_penalty: f32,
    /// Tokens, and a number from −100 to 100 for each.
    logit_bias: Vec<(u32, f64)>,
    /// Alternatives that are reported with each token; nothing is, if absent.
    pub(crate) logprobs: Option<usize>,
}

impl Generate {
    /// The hooks of a text behind `prompt` tokens of `vocabulary`.
    pub(crate) fn hooks(
        &self,
        prompt: usize,
        vocabulary: usize,
    ) -> Result<Vec<Box<dyn LogitsHook>>, Failure> {
        let mut hooks: Vec<Box<dyn LogitsHook>> = Vec::new();
        if !self.logit_bias.is_empty() {
            let mut biases = Vec::with_capacity(self.logit_bias.len());
            for &(id, number) in &self.logit_bias {
                if id as usize >= vocabulary {
                    let message = format!("logitBias: expected ids below {vocabulary}, found {id}");
                    return Err(Failure::argument(message));
                }
                let bias = LogitBias::of_request(number).ok_or_else(|| {
                    let expected = "a number from -100 to 100";
                    Failure::argument(format!(
                        "logitBias.{id}: expected {expected}, found {number}"
                    ))
                })?;
                biases.push((id, bias));
            }
            hooks.push(Box::new(LogitBias::new(biases)?));
        }
        let (presence, frequency) = (self.presence_penalty, self.frequency_penalty);
        if presence != 0.0 || frequency != 0.0 {
            hooks.push(Box::new(Penalties::new(presence, frequency, prompt)?));
        }
        Ok(hooks)
    }
}

impl From<Generate> for GenerateOptions {
    fn from(asked: Generate) -> Self {
        let (plain, sampling) = (Self::default(), SamplingOptions::default());
        Self {
            max_tokens: asked.max_tokens.unwrap_or(plain.max_tokens),
            sampling: SamplingOptions {
                repetition_penalty: asked
                    .repetition_penalty
                    .unwrap_or(sampling.repetition_penalty),
                repetition_window: asked
                    .repetition_window
                    .unwrap_or(sampling.repetition_window),
                top_k: asked.top_k.unwrap_or(sampling.top_k),
                top_p: asked.top_p.unwrap_or(sampling.top_p),
                min_p: asked.min_p.unwrap_or(sampling.min_p),
                temperature: asked.temperature.unwrap_or(sampling.temperature),
                seed: asked.seed.unwrap_or(sampling.seed),
                ..sampling
            },
            stop: asked.stop,
            stop_at_end: !asked.ignore_end,
            speculation: match asked.speculate {
                None => Speculation::Auto,
                Some(true) => Speculation::Ngram,
                Some(false) => Speculation::Off,
            },
            ..plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_is_default_and_unknown_is_refused() {
        let options: GenerateOptions = parse::<Generate>("options", "{}").unwrap().into();
        assert_eq!(options.sampling, SamplingOptions::default());
        let options: GenerateOptions = parse::<Generate>("options", r#"{"topK":3,"seed":9}"#)
            .unwrap()
            .into();
        assert_eq!((options.sampling.top_k, options.sampling.seed), (3, 9));
        let failure = parse::<Generate>("options", r#"{"topq":3}"#).unwrap_err();
        assert_eq!(failure.code, "argument");
        assert!(failure.message.contains("topq"), "{}", failure.message);
    }

    #[test]
    fn penalties_and_biases_become_hooks() {
        let hooks = |json: &str| parse::<Generate>("options", json)?.hooks(3, 8);
        assert_eq!(hooks("{}").unwrap().len(), 0);
        let json =
            r#"{"presencePenalty":1,"frequencyPenalty":-0.5,"logitBias":[[7,-100],[0,2.5]]}"#;
        assert_eq!(hooks(json).unwrap().len(), 2);
        for wrong in [r#"{"logitBias":[[8,1]]}"#, r#"{"logitBias":[[7,101]]}"#] {
            let failure = hooks(wrong).err().unwrap();
            assert!(failure.message.contains("logitBias"), "{}", failure.message);
        }
    }

    #[test]
    fn choices_name_what_there_is() {
        let open: Open = parse("options", r#"{"i2sLayout":"c"}"#).unwrap();
        let failure = open.resolve().unwrap_err();
        assert_eq!(
            failure.message,
            "i2sLayout: expected \"a\" or \"b\", found \"c\""
        );
    }
}
