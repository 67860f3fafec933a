//! Sessions in files: what a session has read, so that another process goes on with it and reads nothing again.
//!
//! ```text
//! "bitnet-s" │ version │ layers │ kv heads │ head width │ vocabulary │ tokens │ positions │ fingerprint │ name length │ name
//!            │ token … │ for each layer: key rows, value rows │ SHA-256 of everything before
//! ```
//!
//! Numbers are little-endian u32, rows are f32 whatever type the session keeps them in, the fingerprint (that of the [`Model`]) and the hash have 32 bytes, the name is
//! UTF-8. Positions are the tokens that had run. A file comes from anywhere: nothing is allocated for what it claims before that
//! has been compared with the model, and nothing of it is used before all of it has been read and its hash is right.

use crate::file::quoted;
use crate::model::Model;
use crate::session::Session;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"bitnet-s";
/// The only version so far.
const VERSION: u32 = 1;
/// Bytes of a name that are kept.
const LONGEST_NAME: usize = 200;
/// Numbers that are converted at a time.
const PIECE: usize = 4096;
const HASH: usize = 32;

/// What stands in front of the tokens, but for the magic and the version.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    layers: u32,
    kv_heads: u32,
    head_dim: u32,
    vocabulary: u32,
    tokens: u32,
    positions: u32,
    fingerprint: [u8; HASH],
    name: String,
}

impl Header {
    fn of(model: &Model, tokens: usize, positions: usize) -> Result<Self> {
        let shape = model.architecture();
        let name = model.name();
        let cut = (0..=LONGEST_NAME.min(name.len())).rev();
        let cut = cut.into_iter().find(|at| name.is_char_boundary(*at));
        // Shapes and contexts that do not fit were refused when the model was opened.
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Self {
            layers: number(shape.layers),
            kv_heads: number(shape.heads.kv),
            head_dim: number(shape.heads.dim),
            vocabulary: number(model.vocabulary()),
            tokens: number(tokens),
            positions: number(positions),
            fingerprint: model.fingerprint()?,
            name: name[..cut.unwrap_or(0)].to_owned(),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        let numbers = [
            VERSION,
            self.layers,
            self.kv_heads,
            self.head_dim,
            self.vocabulary,
            self.tokens,
            self.positions,
        ];
        for number in numbers {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&self.fingerprint)?;
        out.write_all(&(self.name.len() as u32).to_le_bytes())?;
        out.write_all(self.name.as_bytes())
    }

    fn read(file: &str, input: &mut Input<impl Read>) -> Result<Self> {
        let magic: [u8; MAGIC.len()] = input.bytes()?;
        if magic != MAGIC {
            let expected = "a session that bitnet saved";
            return Err(Error::malformed(
                file,
                "the first bytes",
                expected,
                quoted(&magic),
            ));
        }
        let version = input.number()?;
        if version != VERSION {
            return Err(Error::Unsupported {
                file: file.into(),
                what: format!("version {version} of the format of sessions"),
                advice: format!(
                    "this library reads version {VERSION}: save the session again with it"
                ),
            });
        }
        let [layers, kv_heads, head_dim] = [input.number()?, input.number()?, input.number()?];
        let [vocabulary, tokens, positions] = [input.number()?, input.number()?, input.number()?];
        let fingerprint = input.bytes()?;
        let length = input.number()? as usize;
        if length > LONGEST_NAME {
            let expected = format!("at most {LONGEST_NAME} bytes");
            return Err(Error::malformed(file, "the model's name", expected, length));
        }
        let mut name = vec![0; length];
        input.fill(&mut name)?;
        Ok(Self {
            layers,
            kv_heads,
            head_dim,
            vocabulary,
            tokens,
            positions,
            fingerprint,
            name: String::from_utf8_lossy(&name).into_owned(),
        })
    }

    /// Refuses what `model` cannot go on with.
    fn check(&self, file: &str, model: &Model) -> Result<()> {
        let (found, here) = (self.shape(), Self::of(model, 0, 0)?);
        let expected = format!("one of {} ({})", quoted(here.name.as_bytes()), here.shape());
        let found = format!("one of {} ({found})", quoted(self.name.as_bytes()));
        if self.shape() != here.shape() {
            return Err(Error::malformed(file, "the session", expected, found));
        }
        if self.fingerprint != here.fingerprint {
            let found = format!("{found}, whose weights or options are others");
            return Err(Error::malformed(file, "the session", expected, found));
        }
        if self.tokens as usize > model.context() {
            return Err(Error::ContextFull {
                capacity: model.context(),
                used: 0,
                wanted: self.tokens as usize,
            });
        }
        if self.positions > self.tokens {
            let expected = format!("at most the {} tokens", self.tokens);
            return Err(Error::malformed(
                file,
                "the positions",
                expected,
                self.positions,
            ));
        }
        Ok(())
    }

    fn shape(&self) -> String {
        format!(
            "{} layers, {} kv heads of width {}, {} tokens in the vocabulary",
            self.layers, self.kv_heads, self.head_dim, self.vocabulary
        )
    }

    /// Floats of a layer's keys, and of its values; of a delta net those of its heads, and of its convolution.
    fn floats(&self, model: &Model, layer: usize) -> [usize; 2] {
        let architecture = model.architecture();
        match &architecture.hybrid {
            Some(_) if self.positions == 0 => [0; 2],
            Some(hybrid) if architecture.is_recurrent(layer) => {
                [hybrid.delta.state_len(), hybrid.delta.conv_len()]
            }
            // Each factor has been compared with that of a model that has such a cache.
            _ => [self.positions as usize * self.kv_heads as usize * self.head_dim as usize; 2],
        }
    }
}

/// Bytes that are hashed as they go by.
struct Output<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes the four bytes that `bits` gives of each value.
fn write_all<T: Copy>(
    out: &mut impl Write,
    values: &[T],
    bits: fn(T) -> [u8; 4],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE * 4);
    for piece in values.chunks(PIECE) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| bits(*value)));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// A file that is being read, hashed as it comes.
struct Input<'a, R> {
    file: &'a str,
    from: R,
    hash: Sha256,
    /// Bytes so far.
    at: u64,
}

impl<R: Read> Input<'_, R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.from.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                let expected = format!("more than {} bytes", self.at);
                Error::malformed(self.file, "its length", expected, "an end in the middle")
            } else {
                Error::io(self.file, error)
            }
        })?;
        self.hash.update(&*bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// `count` values of four bytes each.
    fn values<T>(&mut self, count: usize, value: fn([u8; 4]) -> T) -> Result<Vec<T>> {
        let mut values = Vec::new();
        values
            .try_reserve_exact(count)
            .map_err(|_| bitnet_core::Error::OutOfMemory {
                what: "a saved session".into(),
                bytes: count.saturating_mul(size_of::<T>()),
                in_use: 0,
                limit: None,
            })?;
        let mut bytes = [0; PIECE * 4];
        while values.len() < count {
            let piece = &mut bytes[..4 * (count - values.len()).min(PIECE)];
            self.fill(piece)?;
            let (words, _) = piece.as_chunks::<4>();
            values.extend(words.iter().map(|word| value(*word)));
        }
        Ok(values)
    }

    /// Finite floats of layer `layer`.
    fn floats(&mut self, count: usize, layer: usize, what: &str) -> Result<Vec<f32>> {
        let floats = self.values(count, f32::from_le_bytes)?;
        match floats.iter().find(|value| !value.is_finite()) {
            None => Ok(floats),
            Some(value) => {
                let what = format!("{what} of layer {layer}");
                Err(Error::malformed(self.file, what, "finite numbers", value))
            }
        }
    }

    /// Refuses a file whose hash is wrong or that goes on.
    fn finish(mut self) -> Result<()> {
        let found: [u8; HASH] = self.hash.clone().finalize().into();
        let expected: [u8; HASH] = self.bytes()?;
        if found != expected {
            let expected = "those that its hash was made of";
            return Err(Error::malformed(
                self.file,
                "its bytes",
                expected,
                "others: it is damaged",
            ));
        }
        let end = self.at;
        match self.fill(&mut [0]) {
            Err(Error::Malformed { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let expected = format!("{end} bytes");
                Err(Error::malformed(self.file, "its length", expected, "more"))
            }
        }
    }
}

impl Session {
    /// Writes what the session holds: its tokens, and the keys and values of those that have run. [`restore`](Self::restore)
    /// goes on from there with the same bits, on any CPU, if keys and values are kept in the same type
    /// ([`ModelOptions::kv`](crate::ModelOptions::kv)); in another they are rounded to that. The file has them as f32. `file` is
    /// what errors call the place.
    ///
    /// # Errors
    /// [`Error::Io`] if `out` fails; if the backend cannot hand out what it has read.
    pub fn save(&self, file: &str, out: impl Write) -> Result<()> {
        let (tokens, positions) = (self.tokens(), self.positions());
        let header = Header::of(self.model(), tokens.len(), positions)?;
        let failed = |error| Error::io(file, error);
        // Before anything is written: a backend may refuse.
        let mut layer = self.read_layer(0)?;
        let mut out = Output {
            to: out,
            hash: Sha256::new(),
        };
        header.write(&mut out).map_err(failed)?;
        write_all(&mut out, tokens, u32::to_le_bytes).map_err(failed)?;
        for index in 0..self.model().architecture().layers {
            if index > 0 {
                layer = self.read_layer(index)?;
            }
            for (rows, floats) in layer.iter().zip(header.floats(self.model(), index)) {
                // Positions that were run ahead never became part of the text.
                let rows = rows.get(..floats).unwrap_or(rows);
                write_all(&mut out, rows, f32::to_le_bytes).map_err(failed)?;
            }
        }
        let Output { mut to, hash } = out;
        to.write_all(&hash.finalize()).map_err(failed)?;
        to.flush().map_err(failed)
    }

    /// A session of `model` that goes on where [`save`](Self::save) wrote what `from` reads. `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Io`] if `from` fails; [`Error::Malformed`] if it is no such file, is damaged, or was saved with another model;
    /// [`Error::Unsupported`] if a later version wrote it; [`Error::ContextFull`] if this model's context is too short for it.
    pub fn restore(model: &Model, file: &str, from: impl Read) -> Result<Self> {
        let mut input = Input {
            file,
            from,
            hash: Sha256::new(),
            at: 0,
        };
        let header = Header::read(file, &mut input)?;
        header.check(file, model)?;
        let tokens = input.values(header.tokens as usize, u32::from_le_bytes)?;
        if let Some(token) = tokens.iter().find(|&&token| token >= header.vocabulary) {
            let expected = format!("below the vocabulary's {}", header.vocabulary);
            return Err(Error::malformed(file, "a token", expected, token));
        }
        let mut session = model.session()?;
        let mut layer = 0;
        session.restore_tokens(tokens, header.positions as usize, &mut || {
            let [keys, values] = header.floats(model, layer);
            let keys = input.floats(keys, layer, "keys")?;
            let values = input.floats(values, layer, "values")?;
            layer += 1;
            Ok([keys, values])
        })?;
        input.finish()?;
        Ok(session)
    }
}
