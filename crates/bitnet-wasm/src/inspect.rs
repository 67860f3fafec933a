//! A look inside: the weights of a tensor, and what the model thinks comes next.

use crate::engine::Engine;
use crate::failure::{Failure, Result, thrown};
use crate::report::json;
use bitnet::I2sLayout;
use bitnet::LogitsFor;
use bitnet::file::GgufTensor;
use bitnet::tokenizer::TokenKind;
use bitnet_core::pending::now;
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;

/// A tensor of the file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    name: &'a str,
    kind: String,
    rows: usize,
    cols: usize,
    bytes: usize,
    ternary: bool,
}

/// How often each value stands in a ternary tensor.
#[derive(Debug, Default, Serialize)]
struct Counts {
    minus: u64,
    zero: u64,
    plus: u64,
}

/// A token, and how much is attended to it.
#[derive(Debug, Serialize)]
struct Attended {
    text: String,
    weight: f32,
}

/// A token that may follow.
#[derive(Debug, Serialize)]
struct Likely {
    id: u32,
    text: String,
    probability: f64,
}

/// What may follow at one place of a text.
#[derive(Debug, Default, Serialize)]
struct Step {
    context: String,
    chosen: Option<u32>,
    tokens: Vec<Likely>,
}

/// Tokens before a place that are shown with it.
const CONTEXT: usize = 12;

#[wasm_bindgen]
impl Engine {
    /// The tensors of the file, as a JSON array of `{name, kind, rows, cols, bytes, ternary}`.
    pub fn tensors(&self) -> String {
        let all: Vec<Described<'_>> = self
            .file
            .tensors()
            .iter()
            .map(|tensor| Described {
                name: &tensor.name,
                kind: tensor.kind.to_string(),
                rows: tensor.rows(),
                cols: tensor.cols(),
                bytes: tensor.data.len(),
                ternary: tensor
                    .format(I2sLayout::A, self.model.name())
                    .is_ok_and(|format| format.is_ternary()),
            })
            .collect();
        json(&all)
    }

    /// The codes −1, 0 and +1 of a rectangle of a ternary tensor, row after row; less where the tensor ends before.
    ///
    /// # Errors
    /// If there is no such tensor or it is not ternary.
    #[wasm_bindgen(js_name = ternaryCodes)]
    pub fn ternary_codes(
        &self,
        tensor: &str,
        first_row: usize,
        rows: usize,
        first_col: usize,
        cols: usize,
    ) -> Result<Vec<i8>> {
        let mut codes = Vec::new();
        let tensor = self.ternary_tensor(tensor)?;
        let end_row = first_row.saturating_add(rows).min(tensor.rows());
        let end_col = first_col.saturating_add(cols).min(tensor.cols());
        self.each_row(tensor, first_row..end_row, |row| {
            let part = row.get(first_col..end_col).unwrap_or_default();
            codes.extend(part.iter().map(|value| sign(*value)));
        })?;
        Ok(codes)
    }

    /// How often each code stands in a ternary tensor, as JSON `{minus, zero, plus}`.
    ///
    /// # Errors
    /// As `ternaryCodes`.
    #[wasm_bindgen(js_name = ternaryCounts)]
    pub fn ternary_counts(&self, tensor: &str) -> Result<String> {
        let mut counts = Counts::default();
        let tensor = self.ternary_tensor(tensor)?;
        self.each_row(tensor, 0..tensor.rows(), |row| {
            for value in row {
                match sign(*value) {
                    -1 => counts.minus += 1,
                    0 => counts.zero += 1,
                    _ => counts.plus += 1,
                }
            }
        })?;
        Ok(json(&counts))
    }

    /// The likeliest `count` tokens to follow the session's tokens without the last `back` of them, as JSON
    /// `{context, chosen, tokens: [{id, text, probability}]}`: what the model says before any sampling, the text before that place, and
    /// the id of the token that does follow there. Ends the generation under way.
    ///
    /// # Errors
    /// If memory is short.
    #[wasm_bindgen(js_name = likeliest)]
    pub fn likeliest(&mut self, count: usize, back: usize) -> Result<String> {
        Ok(now(self.what_follows(count, back))?)
    }

    /// How much head `head` of layer `layer` attends, from the session's last token, to each token, as a JSON array of
    /// `{text, weight}`. Ends the generation under way.
    ///
    /// # Errors
    /// If there is no such layer or head, or memory is short.
    pub fn attention(&mut self, layer: usize, head: usize) -> Result<String> {
        let heads = self.model.architecture().heads.query;
        if head >= heads {
            let message = format!("head: expected below {heads}, found {head}");
            return Err(Failure::argument(message).into());
        }
        let mut session = self.take_session()?;
        let weights = session.attention(layer);
        let tokens = session.tokens().to_vec();
        self.give_session(session);
        let weights = weights.map_err(thrown)?;
        let row = weights.chunks_exact(tokens.len().max(1)).nth(head);
        let mut detokenizer = self.model.tokenizer().detokenizer();
        let attended: Vec<Attended> = tokens
            .iter()
            .zip(row.unwrap_or_default())
            .map(|(token, weight)| Attended {
                text: detokenizer.push(*token),
                weight: *weight,
            })
            .collect();
        Ok(json(&attended))
    }
}

impl Engine {
    /// See `likeliest`.
    pub(crate) async fn what_follows(
        &mut self,
        count: usize,
        back: usize,
    ) -> std::result::Result<String, Failure> {
        let mut session = self.take_session()?;
        let tokens = session.tokens().to_vec();
        let Some(at) = tokens.len().checked_sub(1) else {
            self.give_session(session);
            return Ok(json(&Step::default()));
        };
        let at = at.saturating_sub(back);
        session.truncate(at);
        let logits = session
            .forward_async(&tokens[at..=at], LogitsFor::Last)
            .await;
        // The rest is as before.
        let rest = session.forward(&tokens[at + 1..], LogitsFor::Nothing);
        self.give_session(session);
        let logits = logits?;
        rest?;
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits
            .iter()
            .map(|logit| f64::from(logit - highest).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]));
        order.truncate(count);
        let likely = order.into_iter().map(|id| Likely {
            id,
            text: self.spelled(id),
            probability: weights[id as usize] / total,
        });
        let first = at.saturating_sub(CONTEXT);
        Ok(json(&Step {
            context: self.model.tokenizer().decode(&tokens[first..=at]),
            chosen: tokens.get(at + 1).copied(),
            tokens: likely.collect(),
        }))
    }

    /// A token as people read it: marks by their names, others as their text.
    fn spelled(&self, id: u32) -> String {
        let tokenizer = self.model.tokenizer();
        match (tokenizer.token_kind(id), tokenizer.token_bytes(id)) {
            (Some(TokenKind::Normal | TokenKind::Byte), Some(bytes)) => {
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => tokenizer.token_text(id).unwrap_or_default(),
        }
    }

    fn ternary_tensor(&self, name: &str) -> std::result::Result<&GgufTensor, Failure> {
        let found = self.file.tensors().iter().find(|t| t.name == name);
        found.ok_or_else(|| {
            Failure::argument(format!("{}: there is no tensor {name}", self.model.name()))
        })
    }

    /// Hands the rows of `tensor`, decoded without its scale, to `each`.
    fn each_row(
        &self,
        tensor: &GgufTensor,
        rows: std::ops::Range<usize>,
        mut each: impl FnMut(&[f32]),
    ) -> Result<()> {
        let format = tensor
            .format(I2sLayout::A, self.model.name())
            .map_err(thrown)?;
        if !format.is_ternary() {
            let message = format!(
                "tensor {}: expected a ternary type, found {format}",
                tensor.name
            );
            return Err(Failure::argument(message).into());
        }
        let row_bytes = format
            .row_bytes(tensor.cols())
            .map_err(|error| thrown(error.into()))?;
        let data = tensor.row_data();
        let mut values = vec![0.0; tensor.cols()];
        for row in rows {
            let Some(bytes) = data.get(row * row_bytes..(row + 1) * row_bytes) else {
                break;
            };
            format
                .decode_row(bytes, 1.0, &mut values)
                .map_err(|error| thrown(error.into()))?;
            each(&values);
        }
        Ok(())
    }
}

fn sign(value: f32) -> i8 {
    if value > 0.0 {
        1
    } else if value < 0.0 {
        -1
    } else {
        0
    }
}
