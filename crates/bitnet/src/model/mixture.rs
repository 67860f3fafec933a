//! Mixtures of experts (`maple`).
//!
//! What the architecture leaves to its files is read from them, and what a file says that is not run here is refused by its key
//! and value: a router that chooses in another way would give another text, and no error.

use super::architecture::missing;
use crate::file::{Gguf, Value};
use crate::{Error, Result};

/// Whether mixtures run: not in a browser, for which they are too large.
pub(super) const RUNS: bool = !cfg!(target_family = "wasm");

/// More experts than any model has.
const MOST_EXPERTS: usize = 1024;
/// Clamps up to this are none.
const NO_LIMIT: f32 = 1e-6;
/// The clamp of files that state none.
const USUAL_LIMIT: f32 = 7.0;

/// The experts of a mixture.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that a token meets in each layer.
    pub used: usize,
    /// Width of an expert's feed-forward.
    pub width: usize,
    /// The clamp of gates and up projections in each layer, where there is one.
    pub limits: Vec<Option<f32>>,
}

impl Mixture {
    /// Reads the keys of a file of architecture `arch` with `layers` layers.
    ///
    /// # Errors
    /// If a key is missing or impossible, or says what is not run here.
    pub(super) fn read(file: &Gguf, arch: &str, layers: usize) -> Result<Self> {
        let key = |name: &str| format!("{arch}.{name}");
        if !RUNS {
            return Err(unsupported(
                file,
                format!("architecture {arch:?}"),
                "run it natively",
            ));
        }
        refuse_other_routers(file, arch)?;
        let count = |name: &str, most: usize| {
            let key = key(name);
            let found = file
                .usize(&key)?
                .ok_or_else(|| missing(file.name(), &key))?;
            if found == 0 || found > most {
                let expected = format!("1 to {most}");
                return Err(Error::malformed(file.name(), key, expected, found));
            }
            Ok(found)
        };
        let experts = count("expert_count", MOST_EXPERTS)?;
        Ok(Self {
            experts,
            used: count("expert_used_count", experts)?,
            width: count("expert_feed_forward_length", 1 << 20)?,
            limits: limits(file, &key("swiglu_clamp_exp"), layers)?,
        })
    }
}

/// The clamp of each layer.
fn limits(file: &Gguf, key: &str, layers: usize) -> Result<Vec<Option<f32>>> {
    let mut limits = match file.get(key) {
        None => vec![USUAL_LIMIT; layers],
        Some(Value::Array(_)) => file.f32s(key)?.unwrap_or_default(),
        Some(_) => vec![file.f32(key)?.unwrap_or(USUAL_LIMIT); layers],
    };
    if limits.len() < layers {
        let expected = format!("one number, or at least {layers}, one for each layer");
        return Err(Error::malformed(file.name(), key, expected, limits.len()));
    }
    limits.truncate(layers);
    if let Some(wrong) = limits.iter().find(|limit| !limit.is_finite()) {
        return Err(Error::malformed(file.name(), key, "finite numbers", wrong));
    }
    let limits = limits.into_iter();
    Ok(limits
        .map(|limit| (limit > NO_LIMIT).then_some(limit))
        .collect())
}

/// Refuses keys by which a router would choose, or its experts count, in another way.
fn refuse_other_routers(file: &Gguf, arch: &str) -> Result<()> {
    let key = |name: &str| format!("{arch}.{name}");
    let refuse = |name: &str, found: String, advice: &str| {
        Err(unsupported(file, format!("{} {found}", key(name)), advice))
    };
    if let Some(function) = file
        .usize(&key("expert_gating_func"))?
        .filter(|kind| *kind != 1)
    {
        let advice = "supported is 1, a softmax";
        return refuse("expert_gating_func", function.to_string(), advice);
    }
    if file.bool(&key("expert_weights_norm"))? == Some(false) {
        let advice = "supported is true: weights of chosen experts add up to 1";
        return refuse("expert_weights_norm", "false".into(), advice);
    }
    let scale = file.f32(&key("expert_weights_scale"))?;
    if let Some(scale) = scale.filter(|scale| *scale != 0.0 && *scale != 1.0) {
        let advice = "supported is 1: results of experts are not scaled";
        return refuse("expert_weights_scale", scale.to_string(), advice);
    }
    for name in [
        "expert_shared_count",
        "expert_shared_feed_forward_length",
        "expert_group_count",
        "expert_group_used_count",
        "leading_dense_block_count",
    ] {
        if let Some(count) = file.usize(&key(name))?.filter(|count| *count != 0) {
            let advice = "every layer is a mixture whose experts are chosen one by one";
            return refuse(name, count.to_string(), advice);
        }
    }
    Ok(())
}

fn unsupported(file: &Gguf, what: String, advice: &str) -> Error {
    Error::Unsupported {
        file: file.name().into(),
        what,
        advice: advice.into(),
    }
}
