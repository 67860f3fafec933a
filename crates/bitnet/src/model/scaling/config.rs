//! Rotary scaling as a config.json states it.

use super::{RopeScaling, ScalingKind, unknown_kind, yarn_magnitude};
use crate::model::config_class::ConfigClass;
use crate::{Error, Result};
use serde_json::{Map, Value as Json};
use std::fmt;

/// The rotary embedding of a config.json.
#[derive(Debug, PartialEq)]
pub(crate) struct ConfigRope {
    /// θ.
    pub(crate) base: f64,
    /// The share of each head that rotates.
    pub(crate) share: f64,
    /// How positions are scaled.
    pub(crate) scaling: RopeScaling,
}

impl ConfigRope {
    /// Reads `rope_scaling` (transformers 4) or `rope_parameters` (5), and what may stand beside them. As in
    /// transformers 5, the first of the two that says anything is the one that counts, and what it says counts more than what
    /// stands beside it, but for `original_max_position_embeddings`. `class` and `context` have what counts where nothing
    /// says otherwise.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for kinds and keys that are not understood, [`Error::Malformed`] for missing or impossible
    /// values; `file` is what they call the file.
    pub(in crate::model) fn read(
        file: &str,
        config: &Json,
        class: &ConfigClass,
        context: usize,
    ) -> Result<Self> {
        let nothing = Map::new();
        let mut dict = ("rope_parameters", &nothing);
        for name in ["rope_scaling", "rope_parameters"] {
            match config.get(name) {
                None | Some(Json::Null) => {}
                Some(Json::Object(found)) if found.is_empty() => {}
                Some(Json::Object(found)) => {
                    dict = (name, found);
                    break;
                }
                Some(other) => {
                    return Err(Error::malformed(file, name, "an object or null", other));
                }
            }
        }
        let dict = Dictionary {
            file,
            name: dict.0,
            entries: of_all_layers(file, dict.0, dict.1)?,
            has_sections: class.is_hybrid,
        };
        let beside = Dictionary {
            file,
            name: "config.json",
            entries: config.as_object().unwrap_or(&nothing),
            has_sections: false,
        };
        if class.is_hybrid {
            dict.check_sections()?;
        }
        let number = |key: &str| -> Result<Option<f64>> {
            Ok(match dict.number(key)? {
                None => beside.number(key)?,
                found => found,
            })
        };
        Ok(Self {
            base: number("rope_theta")?.unwrap_or(class.base),
            share: number("partial_rotary_factor")?.unwrap_or(class.rotary_share),
            scaling: dict.scaling(
                beside.number("original_max_position_embeddings")?,
                context as f64,
            )?,
        })
    }
}

/// Where each kind of layer has a dictionary of its own: that of all of them.
fn of_all_layers<'a>(
    file: &str,
    name: &str,
    dict: &'a Map<String, Json>,
) -> Result<&'a Map<String, Json>> {
    let mut inner = dict.iter().filter(|(_, value)| value.is_object());
    let Some((_, Json::Object(first))) = inner.next() else {
        return Ok(dict);
    };
    if dict.values().all(|value| value.as_object() == Some(first)) {
        return Ok(first);
    }
    Err(Error::Unsupported {
        file: file.into(),
        what: format!("{name} that differs between kinds of layers"),
        advice: "use a model whose layers all rotate in the same way".into(),
    })
}

/// An object of a config.json.
struct Dictionary<'a> {
    file: &'a str,
    name: &'a str,
    entries: &'a Map<String, Json>,
    /// Whether pairs may belong to positions in time, height and width, which are one and the same for text.
    has_sections: bool,
}

/// Keys of such pairs.
const SECTIONS: [&str; 2] = ["mrope_section", "mrope_interleaved"];

impl Dictionary<'_> {
    fn get(&self, key: &str) -> Option<&Json> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str, found: impl fmt::Display) -> Error {
        Error::malformed(self.file, format!("{}: {key}", self.name), expected, found)
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(key, "a number", value)),
            },
        }
    }

    fn required(&self, key: &str) -> Result<f64> {
        let number = self.number(key)?;
        number.ok_or_else(|| self.wrong(key, "a number", "nothing"))
    }

    fn kind(&self) -> Result<Option<&str>> {
        match self.get("rope_type").or_else(|| self.get("type")) {
            None => Ok(None),
            Some(Json::String(kind)) => Ok(Some(kind)),
            Some(other) => Err(self.wrong("rope_type", "a string", other)),
        }
    }

    /// Refuses pairs that are not divided between three positions. However they are divided, the three positions of a token of
    /// text are equal, so that nothing else depends on it.
    fn check_sections(&self) -> Result<()> {
        let [sections, interleaved] = SECTIONS;
        if let Some(value) = self.get(sections) {
            let counts = value.as_array().filter(|list| list.len() == 3);
            if !counts.is_some_and(|list| list.iter().all(Json::is_u64)) {
                return Err(self.wrong(sections, "three whole numbers", value));
            }
        }
        match self.get(interleaved) {
            None | Some(Json::Bool(_)) => Ok(()),
            Some(other) => Err(self.wrong(interleaved, "true or false", other)),
        }
    }

    /// Refuses a key that `kind` does not have.
    fn expect_keys(&self, kind: &str, known: &[&str]) -> Result<()> {
        const EVERYWHERE: [&str; 5] = [
            "rope_type",
            "type",
            "rope_theta",
            "partial_rotary_factor",
            // Some configurations tell that they were trained further. It changes nothing.
            "finetuned",
        ];
        for (key, value) in self.entries {
            let key = key.as_str();
            let is_section = self.has_sections && SECTIONS.contains(&key);
            if !value.is_null()
                && !is_section
                && !EVERYWHERE.contains(&key)
                && !known.contains(&key)
            {
                return Err(Error::Unsupported {
                    file: self.file.into(),
                    what: format!("{key} in {} of kind {kind:?}", self.name),
                    advice: "use a model without it".into(),
                });
            }
        }
        Ok(())
    }

    /// Reads the kind and its numbers. `original` counts more than what stands here.
    fn scaling(&self, original: Option<f64>, context: f64) -> Result<RopeScaling> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let original = || -> Result<f64> {
            let stated = match original {
                None => self.number(ORIGINAL)?,
                stated => stated,
            };
            Ok(stated.unwrap_or(context))
        };
        let of_one = |kind| RopeScaling {
            kind,
            magnitude: 1.0,
        };
        match self.kind()? {
            None => {
                // transformers 5 takes no notice of such a factor, others take it for linear scaling.
                match self.number("factor")? {
                    None | Some(1.0) => {}
                    Some(factor) => {
                        let found = format!("a factor of {factor} and no type");
                        let expected = "a type (\"linear\", \"yarn\", …) beside its factor";
                        return Err(self.wrong("rope_type", expected, found));
                    }
                }
                self.expect_keys("default", &["factor", ORIGINAL])?;
                Ok(RopeScaling::NONE)
            }
            Some(kind @ ("default" | "none")) => {
                self.expect_keys(kind, &["factor", ORIGINAL])?;
                Ok(RopeScaling::NONE)
            }
            Some(kind @ "linear") => {
                self.expect_keys(kind, &["factor", ORIGINAL])?;
                let factor = self.required("factor")?;
                Ok(of_one(ScalingKind::Linear { factor }))
            }
            Some(kind @ "dynamic") => {
                self.expect_keys(kind, &["factor", ORIGINAL])?;
                let factor = self.required("factor")?;
                Ok(of_one(ScalingKind::Dynamic { factor }))
            }
            Some(kind @ "llama3") => {
                let own = ["factor", "low_freq_factor", "high_freq_factor", ORIGINAL];
                self.expect_keys(kind, &own)?;
                Ok(of_one(ScalingKind::Llama3 {
                    factor: self.required("factor")?,
                    low: self.required("low_freq_factor")?,
                    high: self.required("high_freq_factor")?,
                    original: original()?,
                }))
            }
            Some("yarn") => self.yarn(original()?, context),
            Some(other) => Err(unknown_kind(self.file, other)),
        }
    }

    fn yarn(&self, original: f64, context: f64) -> Result<RopeScaling> {
        let own = [
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ];
        self.expect_keys("yarn", &own)?;
        // A factor of null is the quotient of the lengths; one that is missing, an error.
        let factor = match self.entries.get("factor") {
            Some(Json::Null) => context / original,
            _ => self.required("factor")?,
        };
        // 0 counts as nothing.
        let other_than_0 = |key: &str| -> Result<Option<f64>> {
            Ok(self.number(key)?.filter(|number| *number != 0.0))
        };
        let stated = self.number("attention_factor")?;
        let scales = (other_than_0("mscale")?, other_than_0("mscale_all_dim")?);
        let magnitude = match (stated, scales) {
            (Some(stated), _) => stated,
            (None, (Some(scale), Some(all))) => {
                yarn_magnitude(factor, scale) / yarn_magnitude(factor, all)
            }
            (None, _) => yarn_magnitude(factor, 1.0),
        };
        let truncate = match self.get("truncate") {
            None => true,
            Some(Json::Bool(truncate)) => *truncate,
            Some(other) => return Err(self.wrong("truncate", "true or false", other)),
        };
        let kind = ScalingKind::Yarn {
            factor,
            original,
            beta_fast: other_than_0("beta_fast")?.unwrap_or(32.0),
            beta_slow: other_than_0("beta_slow")?.unwrap_or(1.0),
            truncate,
        };
        Ok(RopeScaling { kind, magnitude })
    }
}
