//! How a checkpoint stores its projections: packed, as master weights or as they are, by the rules of its config.json.

mod modules;

use bitnet_quant::{Format, WeightScale};
use serde_json::Value as Json;

use modules::Modules;

use super::ternary::Ternary;
use super::{Dtype, RawTensor, SafeTensorsModel};
use crate::{Error, Result};

/// What a config.json says about how weights are stored.
pub(crate) struct Quantization {
    /// Whether float weights of projections are master weights, to be made ternary by absmean.
    master: bool,
    /// Whether float weights of projections must be ternary as they are.
    finished: bool,
    /// Whether weights may be packed in U8.
    packed: bool,
    scale: WeightScale,
    /// Modules that stay as they are.
    kept: Modules,
}

/// What a checkpoint holds for a projection.
pub(crate) enum Projection {
    /// A ternary matrix. `rounded` tells that it was made so by absmean.
    Ternary { weights: Ternary, rounded: bool },
    /// Numbers that stay as they are.
    Floats(Format),
}

impl Quantization {
    /// The rules of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Malformed`] for rules that are not understood.
    pub(crate) fn read(file: &SafeTensorsModel) -> Result<Self> {
        let config = file.config();
        let quantization = match config.get("quantization_config") {
            None | Some(Json::Null) => &Json::Null,
            Some(object @ Json::Object(_)) => object,
            Some(other) => {
                let expected = "an object or null";
                return Err(Error::malformed(
                    file.name(),
                    "quantization_config",
                    expected,
                    other,
                ));
            }
        };
        let unsupported = |what: String, advice: &str| Error::Unsupported {
            file: file.name().to_owned(),
            what,
            advice: advice.to_owned(),
        };
        refuse_mlx(file, quantization)?;
        let text = |key: &str, known: &[&'static str]| -> Result<Option<&'static str>> {
            let value = match &quantization[key] {
                Json::Null => return Ok(None),
                value => value,
            };
            let found = known.iter().find(|known| value == **known);
            found.copied().map(Some).ok_or_else(|| {
                let what = format!("quantization_config: {key}");
                Error::malformed(file.name(), what, known.join(" or "), value)
            })
        };
        let method = &quantization["quant_method"];
        if !method.is_null() && method != "bitnet" {
            return Err(unsupported(
                format!("the quantization method {method}"),
                "use a checkpoint quantized by the method \"bitnet\", or a GGUF file",
            ));
        }
        match &quantization["use_rms_norm"] {
            Json::Null | Json::Bool(false) => {}
            Json::Bool(true) => {
                let what = "a norm inside every projection (use_rms_norm)".to_owned();
                return Err(unsupported(what, "use a checkpoint without it"));
            }
            other => {
                let what = "quantization_config: use_rms_norm";
                return Err(Error::malformed(file.name(), what, "true or false", other));
            }
        }
        // Defaults of BitNetQuantConfig (transformers 5.24, utils/quantization_config.py).
        let linear_class = text("linear_class", &["bitlinear", "autobitlinear"])?;
        let automatic = linear_class == Some("autobitlinear");
        let online = text("quantization_mode", &["offline", "online"])? == Some("online");
        // Checkpoints by 1bitLLM are master weights and say so by their class alone.
        let class = config["architectures"][0].as_str() == Some("BitnetForCausalLM");
        let flag = config["is_bitnet_config"].as_bool() == Some(true);
        // AutoBitLinear rounds weights in mode "online" alone; BitLinear has no other weights than ternary ones.
        let configured = !method.is_null() && (!automatic || online);
        let unconfigured = method.is_null() && (class || flag);
        let list = &quantization["modules_to_not_convert"];
        let kept = Modules::read(file.name(), list)?;
        if list.is_array() && !kept.contain(file.name(), "lm_head")? {
            tracing::warn!(
                "{}: modules_to_not_convert lacks lm_head; it is left as it is all the same",
                file.name()
            );
        }
        Ok(Self {
            master: configured || unconfigured,
            finished: !method.is_null() && automatic && !online,
            packed: !(quantization.is_null() || automatic && online),
            scale: if automatic {
                WeightScale::Multiply
            } else {
                WeightScale::Divide
            },
            kept,
        })
    }

    /// What `weight`, which must be a projection of `rows × cols`, holds.
    ///
    /// # Errors
    /// [`Error::Tensor`] if its shape or type is another, or its scale is missing, misplaced or no number to multiply by.
    pub(crate) fn projection(
        &self,
        file: &SafeTensorsModel,
        weight: &RawTensor,
        (rows, cols): (usize, usize),
    ) -> Result<Projection> {
        let scale = match file.tensor(&scale_name(&weight.name)) {
            Some(tensor) => Some(self.factor(file.name(), &tensor)?),
            None => None,
        };
        let expect_shape = |shape: [usize; 2], packed: &str| {
            if weight.shape == shape {
                return Ok(());
            }
            let expected = format_args!("a matrix of {rows} × {cols}{packed}: shape {shape:?}");
            let found = format_args!("shape {:?}", weight.shape);
            Err(Error::tensor(file.name(), &weight.name, expected, found))
        };
        if weight.dtype == Dtype::U8 && !self.packed {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: format!(
                    "packed weights ({} is U8) of which config.json does not say how they are scaled",
                    weight.name
                ),
                advice: "add the model's quantization_config (quant_method \"bitnet\", its linear_class, \
                         quantization_mode \"offline\") from where it was published"
                    .to_owned(),
            });
        }
        if weight.dtype == Dtype::U8 {
            expect_shape([rows.div_ceil(4), cols], " with four rows packed in one")?;
            let scale = scale.ok_or_else(|| {
                let missing = scale_name(&weight.name);
                Error::tensor(file.name(), missing, "one number", "no such tensor")
            })?;
            let data = weight.data.clone();
            return Ok(Projection::Ternary {
                weights: Ternary::Packed { data, scale },
                rounded: false,
            });
        }
        let format = weight.float_format(file.name())?;
        expect_shape([rows, cols], "")?;
        if !self.keeps(file.name(), &weight.name)? {
            // The scale of a checkpoint of mode "offline" counts also where the weights were left as floats.
            let factor = scale.unwrap_or(1.0);
            let floats = Ternary::of_floats(format, weight.data.clone(), cols, factor, self.master);
            let floats = floats.map_err(|error| {
                Error::tensor(file.name(), &weight.name, "finite weights", error)
            })?;
            if let Some((weights, rounded)) = floats {
                return Ok(Projection::Ternary { weights, rounded });
            }
            if self.finished {
                let expected = "ternary weights, as quantization_mode \"offline\" says (\"online\" if they are master \
                                weights that are yet to be rounded)";
                let found = format!("other {format} numbers");
                return Err(Error::tensor(file.name(), &weight.name, expected, found));
            }
        }
        match scale {
            None => Ok(Projection::Floats(format)),
            Some(_) => Err(Error::tensor(
                file.name(),
                scale_name(&weight.name),
                "a scale beside ternary weights only",
                format_args!("one beside {format} weights that are not made ternary"),
            )),
        }
    }

    /// Whether the weight called `name` stays as it is.
    fn keeps(&self, file: &str, name: &str) -> Result<bool> {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        self.kept.contain(file, module)
    }

    /// What the codes of a weight are multiplied by, from the tensor beside it.
    fn factor(&self, file: &str, tensor: &RawTensor) -> Result<f32> {
        let &[stored] = &tensor.floats(file)?[..] else {
            let found = format!("shape {:?}", tensor.shape);
            return Err(Error::tensor(file, &tensor.name, "one number", found));
        };
        self.scale
            .factor(stored)
            .map_err(|error| Error::tensor(file, &tensor.name, "a usable scale", error))
    }
}

/// What the scale of the weight called `weight` is called.
pub(crate) fn scale_name(weight: &str) -> String {
    format!("{weight}_scale")
}

/// Refuses weights in the groups of MLX, which have scales and biases of their own.
fn refuse_mlx(file: &SafeTensorsModel, quantization: &Json) -> Result<()> {
    let grouped = |entry: &Json| entry.get("group_size").is_some() && entry.get("bits").is_some();
    let stated = [&file.config()["quantization"], quantization]
        .into_iter()
        .find(|entry| grouped(entry) && entry["quant_method"].is_null());
    let beside = |name: &str| {
        let weight = name
            .strip_suffix(".scales")
            .map(|module| format!("{module}.weight"));
        let weight = weight.and_then(|weight| file.tensor(&weight));
        weight.is_some_and(|weight| weight.dtype == Dtype::U32)
    };
    let what = match stated {
        Some(stated) => format!(
            "an MLX checkpoint of {} bits in groups of {}",
            stated["bits"], stated["group_size"]
        ),
        None if file.names().any(beside) => "an MLX checkpoint with grouped weights".to_owned(),
        None => return Ok(()),
    };
    Err(Error::Unsupported {
        file: file.name().to_owned(),
        what,
        advice:
            "use the same model as a GGUF file, or as safetensors that were not quantized for MLX"
                .to_owned(),
    })
}
