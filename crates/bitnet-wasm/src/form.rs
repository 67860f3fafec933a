//! The form of a text, which a function of JavaScript knows: the module of constraints is apart, and fetched when it is used.

use bitnet::hook::{HookScope, LogitsHook, TokenMask};
use bitnet::{Candidate, Error, Result};
use js_sys::{Function, Uint32Array};
use std::cell::RefCell;
use std::collections::BTreeMap;
use wasm_bindgen::{JsCast, JsValue};

thread_local! {
    /// The functions of the forms that there are. Values of JavaScript stay in their thread; a hook need not.
    static FUNCTIONS: RefCell<BTreeMap<u32, Function>> = const { RefCell::new(BTreeMap::new()) };
}

/// A hook that keeps a text to a form. It works in the thread where it was made.
pub(crate) struct Form {
    id: u32,
    /// Tokens before the text.
    prompt: usize,
    /// A text, and the tokens that may follow it; `None` for any.
    known: Option<(Vec<u32>, Option<TokenMask>)>,
}

impl Form {
    /// The form by `allowed`, of a text behind `prompt` tokens.
    pub(crate) fn new(allowed: Function, prompt: usize) -> Self {
        let id = FUNCTIONS.with_borrow_mut(|functions| {
            let id = functions.last_key_value().map_or(0, |(last, _)| last + 1);
            functions.insert(id, allowed);
            id
        });
        Self {
            id,
            prompt,
            known: None,
        }
    }

    fn mask(&mut self, tokens: &[u32]) -> Result<Option<&TokenMask>> {
        let text = tokens.get(self.prompt..).unwrap_or_default();
        let known = self.known.take().filter(|(known, _)| known == text);
        let known = match known {
            Some(known) => known,
            None => (text.to_vec(), ask(self.id, text)?),
        };
        Ok(self.known.insert(known).1.as_ref())
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        FUNCTIONS.with_borrow_mut(|functions| functions.remove(&self.id));
    }
}

impl LogitsHook for Form {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        let mask = self.mask(tokens)?;
        Ok(mask.map_or(HookScope::Nothing, TokenMask::scope))
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        if let Some(mask) = self.mask(tokens)? {
            mask.keep(candidates);
        }
        Ok(())
    }
}

/// Asks the function which tokens may follow `text`.
fn ask(id: u32, text: &[u32]) -> Result<Option<TokenMask>> {
    let function = FUNCTIONS.with_borrow(|functions| functions.get(&id).cloned());
    let function = function.ok_or(Error::Stopped)?;
    let said = function.call1(&JsValue::UNDEFINED, &Uint32Array::from(text));
    let refused = |found: String| Error::Argument {
        what: "responseFormat",
        expected: "a form that can be followed".into(),
        found,
    };
    match said {
        Ok(mask) if mask.is_undefined() || mask.is_null() => Ok(None),
        Ok(mask) => match mask.dyn_into::<Uint32Array>() {
            Ok(words) => Ok(Some(TokenMask::new(words.to_vec()))),
            Err(other) => Err(refused(format!("{other:?} for a mask"))),
        },
        Err(error) => {
            let message = error.dyn_ref::<js_sys::Error>().map(js_sys::Error::message);
            Err(refused(
                message.map_or_else(|| format!("{error:?}"), String::from),
            ))
        }
    }
}
