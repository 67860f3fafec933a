//! A model's tokenizer.

use crate::error::exception;
use bitnet::tokenizer::EncodeOptions;
use pyo3::prelude::*;

/// The tokenizer of a model.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Tokenizer(pub(crate) bitnet::tokenizer::Tokenizer);

#[pymethods]
impl Tokenizer {
    /// The ids of the tokens of a text. `add_bos` puts the beginning-of-text token in front; unless it is said, as the model is made
    /// for. `parse_special` lets the spelling of control tokens stand for them: not for text that a user typed.
    #[pyo3(signature = (text, *, add_bos = None, parse_special = false))]
    fn encode(
        &self,
        py: Python<'_>,
        text: &str,
        add_bos: Option<bool>,
        parse_special: bool,
    ) -> PyResult<Vec<u32>> {
        let options = EncodeOptions {
            add_bos: add_bos.unwrap_or(self.0.add_bos()),
            parse_special,
        };
        py.detach(|| self.0.encode(text, options))
            .map_err(exception)
    }

    /// The text of some tokens.
    fn decode(&self, py: Python<'_>, tokens: Vec<u32>) -> String {
        py.detach(|| self.0.decode(&tokens))
    }

    /// The spelling of a token, or None if there is no such id.
    fn token_text(&self, token: u32) -> Option<String> {
        self.0.token_text(token)
    }

    /// The id of the token that is spelled so, or None.
    fn token_id(&self, text: &str) -> Option<u32> {
        self.0.token_id(text)
    }

    /// The beginning-of-text token, if there is one.
    #[getter]
    fn bos(&self) -> Option<u32> {
        self.0.bos()
    }

    /// The end-of-text token, if there is one.
    #[getter]
    fn eos(&self) -> Option<u32> {
        self.0.eos()
    }

    /// The padding token, if there is one.
    #[getter]
    fn pad(&self) -> Option<u32> {
        self.0.pad()
    }

    /// Tokens that end a generated text.
    #[getter]
    fn stops(&self) -> Vec<u32> {
        self.0.stops().to_vec()
    }

    /// How many tokens there are.
    fn __len__(&self) -> usize {
        self.0.vocab_size()
    }
}
