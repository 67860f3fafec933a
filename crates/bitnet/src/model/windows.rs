//! Layers whose attention has a window of positions (`maple`, `gemma3`).
//!
//! Their queries and keys may rotate in another way than those of the others: by a base of their own, never scaled; or they alone
//! rotate.

use super::architecture::missing;
use crate::file::gguf::Sliding;
use crate::file::{Gguf, Value};
use crate::{Error, Result};

/// Of so many layers one sees all positions, where a file does not say.
const USUAL_PERIOD: usize = 6;
/// θ of layers with a window, where a file does not say.
const USUAL_BASE: f32 = 10_000.0;

/// The layers whose attention has a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Positions that a token attends to in layers that slide.
    pub positions: usize,
    /// Whether each layer slides.
    pub slides: Vec<bool>,
    /// How queries and keys rotate.
    pub rotation: WindowRotation,
}

/// How queries and keys rotate in a model some of whose layers have a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WindowRotation {
    /// In layers with a window, and in no others.
    WindowsAlone,
    /// In layers with a window by this θ, unscaled, and in others as the architecture says.
    OwnBase(f32),
}

impl Windows {
    /// Reads the keys of a file of architecture `arch` with `layers` layers; `None` if no layer has a window.
    ///
    /// # Errors
    /// If a key is missing or impossible.
    pub(super) fn read(
        file: &Gguf,
        (arch, sliding): (&str, Sliding),
        layers: usize,
    ) -> Result<Option<Self>> {
        let key = |name: &str| format!("{arch}.{name}");
        let (window_key, pattern_key) = (
            key("attention.sliding_window"),
            key("attention.sliding_window_pattern"),
        );
        let window = file.usize(&window_key)?;
        let rotation = match (sliding, window) {
            (Sliding::Never, _) | (Sliding::IfStated, None | Some(0)) => return Ok(None),
            (Sliding::Always, None) => return Err(missing(file.name(), &window_key)),
            (Sliding::Always, _) => WindowRotation::WindowsAlone,
            (Sliding::IfStated, _) => {
                let base_key = key("rope.freq_base_swa");
                let base = file.f32(&base_key)?.unwrap_or(USUAL_BASE);
                if !base.is_finite() || base <= 0.0 {
                    let expected = "a positive number";
                    return Err(Error::malformed(file.name(), base_key, expected, base));
                }
                WindowRotation::OwnBase(base)
            }
        };
        let positions = window.unwrap_or(0);
        if positions == 0 || positions > u32::MAX as usize {
            let expected = format!("1 to {}", u32::MAX);
            return Err(Error::malformed(
                file.name(),
                window_key,
                expected,
                positions,
            ));
        }
        let is_listed = matches!(file.get(&pattern_key), Some(Value::Array(_)));
        let slides = match sliding == Sliding::Always || is_listed {
            true => of_each_layer(file, &pattern_key, layers)?,
            false => of_a_period(file, &pattern_key, layers)?,
        };
        Ok(Some(Self {
            positions,
            slides,
            rotation,
        }))
    }

    /// The window of a layer's attention, if it has one.
    pub(super) fn window_of(&self, layer: usize) -> Option<usize> {
        let slides = self.slides.get(layer) == Some(&true);
        slides.then_some(self.positions)
    }
}

/// Whether each layer slides, by a list.
fn of_each_layer(file: &Gguf, key: &str, layers: usize) -> Result<Vec<bool>> {
    let mut slides = file.flags(key)?.ok_or_else(|| missing(file.name(), key))?;
    if slides.len() < layers {
        let expected = format!("at least {layers} elements, one for each layer");
        return Err(Error::malformed(file.name(), key, expected, slides.len()));
    }
    slides.truncate(layers);
    Ok(slides)
}

/// Whether each layer slides, where the last of each period does not.
fn of_a_period(file: &Gguf, key: &str, layers: usize) -> Result<Vec<bool>> {
    let period = file.usize(key)?.unwrap_or(USUAL_PERIOD);
    if period == 0 {
        let expected = "at least 1, or an element for each layer";
        return Err(Error::malformed(file.name(), key, expected, period));
    }
    let is_last = |layer: usize| (layer + 1).is_multiple_of(period);
    Ok((0..layers).map(|layer| !is_last(layer)).collect())
}
