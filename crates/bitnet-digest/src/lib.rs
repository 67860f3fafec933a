//! Digests of a model's logits on every kernel set that a machine can run.
//!
//! The promise is that they are all equal. `bitnet logits --digest` shows it one at a time where the command runs; this
//! program does a whole table in one process, and is small enough to be built for an emulated CPU or for WebAssembly.
//! `cargo xtask test --cross` compares what it prints on all of them. For WebAssembly the library itself is the program,
//! built with `--crate-type cdylib`: its module `wasm` is what a host calls.

#[cfg(target_family = "wasm")]
pub mod wasm;

use bitnet::{Isa, KvType, LogitsFor, Model, ModelOptions, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What is run: every kernel set × threads × batch × type of keys and values, over the same tokens.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Token ids, from the start of the context.
    pub tokens: Vec<u32>,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Numbers of tokens run at once.
    pub batches: Vec<usize>,
    /// Types of keys and values.
    pub kv: Vec<KvType>,
}

/// One digest and how it came about.
#[derive(Debug, Clone)]
pub struct Line {
    /// The kernel set.
    pub isa: Isa,
    /// The number of threads.
    pub threads: usize,
    /// The number of tokens run at once.
    pub batch: usize,
    /// The type of keys and values.
    pub kv: KvType,
    /// SHA-256 of the little-endian bits of all positions' logits, in hexadecimal.
    pub digest: String,
}

impl std::fmt::Display for Line {
    /// `isa threads batch kv digest`, separated by spaces.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            isa,
            threads,
            batch,
            kv,
            digest,
        } = self;
        write!(f, "{isa} {threads} {batch} {kv} {digest}")
    }
}

impl Plan {
    /// A plan from four comma-separated lists.
    ///
    /// # Errors
    /// A sentence that names the list with something other than whole numbers or types, or with a zero where none makes sense.
    pub fn parse([tokens, threads, batches, kv]: [&str; 4]) -> std::result::Result<Self, String> {
        let positive = |what: &str, list: &str| -> std::result::Result<Vec<usize>, String> {
            let numbers = numbers(what, list)?;
            if numbers.contains(&0) {
                return Err(format!("{what}: expected numbers from 1, found 0"));
            }
            Ok(numbers)
        };
        Ok(Self {
            tokens: numbers("tokens", tokens)?,
            threads: positive("threads", threads)?,
            batches: positive("batches", batches)?,
            kv: kv
                .split(',')
                .map(|word| word.parse().map_err(|error| format!("{error}")))
                .collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Opens the model anew with `open` for every kernel set, number of threads and type of keys and values, and hands each digest to `each`.
    ///
    /// # Errors
    /// Those of `open`; if a token is not in the vocabulary or the context too short.
    pub fn run(
        &self,
        open: impl Fn(&ModelOptions) -> Result<Model>,
        mut each: impl FnMut(&Line),
    ) -> Result<()> {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let threads = self.threads.iter();
            let pairs = threads.flat_map(|&threads| self.kv.iter().map(move |&kv| (threads, kv)));
            for (threads, kv) in pairs {
                let model = open(&ModelOptions {
                    threads: Some(threads),
                    isa: Some(isa),
                    kv: Some(kv),
                    ..ModelOptions::default()
                })?;
                for &batch in &self.batches {
                    each(&Line {
                        isa,
                        threads,
                        batch,
                        kv,
                        digest: digest(&model, &self.tokens, batch)?,
                    });
                }
            }
        }
        Ok(())
    }
}

fn numbers<T: std::str::FromStr>(what: &str, list: &str) -> std::result::Result<Vec<T>, String> {
    let number = |word: &str| {
        word.parse()
            .map_err(|_| format!("{what}: expected numbers separated by commas, found {word:?}"))
    };
    list.split(',').map(number).collect()
}

/// SHA-256 of the logits of `tokens`, `batch` of them at once.
fn digest(model: &Model, tokens: &[u32], batch: usize) -> Result<String> {
    let mut session = model.session()?;
    let mut digest = Sha256::new();
    for piece in tokens.chunks(batch) {
        for value in session.forward(piece, LogitsFor::All)? {
            digest.update(value.to_le_bytes());
        }
    }
    let mut hex = String::new();
    for byte in digest.finalize() {
        // A string takes everything.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}
