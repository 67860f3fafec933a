//! The session in a file: written and read piece by piece, by functions of JavaScript.

use crate::engine::Engine;
use crate::failure::{Result, thrown};
use bitnet::{Error, Session};
use js_sys::{Function, Uint8Array};
use std::io::{self, BufReader, BufWriter, Read, Write};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// Bytes that cross to JavaScript at a time.
const PIECE: usize = 1 << 20;
/// What errors call the file.
const FILE: &str = "the saved session";

/// A function of JavaScript as a file, and what it threw.
struct Callback<'a> {
    function: &'a Function,
    thrown: &'a mut Option<JsValue>,
}

impl Callback<'_> {
    fn call(&mut self, argument: &JsValue) -> io::Result<JsValue> {
        self.function
            .call1(&JsValue::UNDEFINED, argument)
            .map_err(|error| {
                *self.thrown = Some(error);
                io::Error::other("the page's function failed")
            })
    }
}

impl Write for Callback<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A copy: where memory is shared with threads, browsers do not take a view of it.
        self.call(&Uint8Array::from(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Callback<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let piece = Uint8Array::from(self.call(&JsValue::from(bytes.len() as u32))?);
        let length = (piece.length() as usize).min(bytes.len());
        piece
            .subarray(0, length as u32)
            .copy_to(&mut bytes[..length]);
        Ok(length)
    }
}

/// What JavaScript threw, or else what the library says.
fn failure(error: Error, thrown_there: Option<JsValue>) -> JsValue {
    thrown_there.unwrap_or_else(|| thrown(error))
}

#[wasm_bindgen]
impl Engine {
    /// Hands the session, piece by piece, to `write(bytes)`. Ends the generation under way.
    ///
    /// # Errors
    /// What `write` throws; if memory is short, or the device keeps what it has read to itself.
    #[wasm_bindgen(js_name = saveSession)]
    pub fn save_session(&mut self, write: &Function) -> Result<()> {
        let session = self.take_session()?;
        let mut error = None;
        let out = BufWriter::with_capacity(
            PIECE,
            Callback {
                function: write,
                thrown: &mut error,
            },
        );
        let outcome = session.save(FILE, out);
        self.give_session(session);
        outcome.map_err(|saved| failure(saved, error))
    }

    /// Makes the session the one that `read(most)` gives, piece by piece, each of at most `most` bytes, and an empty one at the
    /// end. Returns the number of its tokens. On an error the session is as before.
    ///
    /// # Errors
    /// What `read` throws; if the file is damaged or belongs to another model, or memory is short.
    #[wasm_bindgen(js_name = restoreSession)]
    pub fn restore_session(&mut self, read: &Function) -> Result<usize> {
        let mut error = None;
        let from = BufReader::with_capacity(
            PIECE,
            Callback {
                function: read,
                thrown: &mut error,
            },
        );
        let outcome = Session::restore(&self.model, FILE, from);
        let session = outcome.map_err(|restored| failure(restored, error))?;
        let tokens = session.tokens().len();
        self.give_session(session);
        Ok(tokens)
    }
}
