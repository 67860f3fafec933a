//! How a checkpoint stores its projections: packed, as master weights or as they are, by the rules of its config.json.

use bitnet_quant::{Format, WeightScale};

use super::ternary::Ternary;
use super::{Dtype, RawTensor, SafeTensorsModel};
use crate::{Error, Result};

/// What a config.json says about how weights are stored.
pub(crate) struct Quantization {
    /// Whether float weights of projections are master weights, to be made ternary by absmean.
    master: bool,
    scale: WeightScale,
    /// Modules that stay as they are.
    kept: Vec<String>,
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
        let quantization = &config["quantization_config"];
        let unsupported = |what: String, advice: &str| Error::Unsupported {
            file: file.name().to_owned(),
            what,
            advice: advice.to_owned(),
        };
        let method = quantization["quant_method"].as_str();
        if let Some(other) = method
            && other != "bitnet"
        {
            return Err(unsupported(
                format!("the quantization method {other:?}"),
                "use a checkpoint quantized by the method \"bitnet\", or a GGUF file",
            ));
        }
        if quantization["use_rms_norm"].as_bool() == Some(true) {
            let what = "a norm inside every projection (use_rms_norm)".to_owned();
            return Err(unsupported(what, "use a checkpoint without it"));
        }
        let scale = match quantization["linear_class"].as_str() {
            Some("autobitlinear") => WeightScale::Multiply,
            None | Some("bitlinear") => WeightScale::Divide,
            Some(other) => {
                let expected = "bitlinear or autobitlinear";
                return Err(Error::malformed(
                    file.name(),
                    "linear_class",
                    expected,
                    other,
                ));
            }
        };
        // Checkpoints by 1bitLLM are master weights and say so by their class alone.
        let class = config["architectures"][0].as_str() == Some("BitnetForCausalLM");
        let flag = config["is_bitnet_config"].as_bool() == Some(true);
        let kept = quantization["modules_to_not_convert"].as_array();
        Ok(Self {
            master: method.is_some() || class || flag,
            scale,
            kept: kept
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
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
        if !self.keeps(&weight.name) {
            // The scale of a checkpoint of mode "offline" counts also where the weights were left as floats.
            let factor = scale.unwrap_or(1.0);
            let floats = Ternary::of_floats(format, weight.data.clone(), cols, factor, self.master);
            let floats = floats.map_err(|error| {
                Error::tensor(file.name(), &weight.name, "finite weights", error)
            })?;
            if let Some((weights, rounded)) = floats {
                return Ok(Projection::Ternary { weights, rounded });
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
    fn keeps(&self, name: &str) -> bool {
        let module = name.trim_end_matches(".weight");
        self.kept
            .iter()
            .any(|kept| module == kept || module.split('.').any(|part| part == kept))
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
