//! GGUF files: parsed, every value and tensor looked at, and some loaded as models.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use bitnet::file::{Bytes, ModelFile};
use bitnet::{Device, EmbedOptions, LogitsFor, Model, ModelOptions};

use crate::edit::{self, Field};
use crate::look::look_at;
use crate::seeds;

/// A whole file and the places of its numbers.
struct Seed {
    file: Vec<u8>,
    fields: Vec<Field>,
    /// Where the description ends.
    head: usize,
}

/// Walks through the description of a whole file.
struct Walk<'a> {
    file: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Walk<'_> {
    /// The number in the next `bytes` bytes.
    fn number(&mut self, bytes: usize) -> usize {
        let field = Field { at: self.at, bytes };
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&self.file[self.at..][..bytes]);
        self.fields.push(field);
        self.at += bytes;
        usize::try_from(u64::from_le_bytes(number)).expect("a whole file")
    }

    fn text(&mut self) {
        self.at += self.number(8);
    }

    /// A value of the type `kind`; numbers in long arrays are not listed.
    fn value(&mut self, kind: usize) {
        match kind {
            0 | 1 | 7 => drop(self.number(1)),
            2 | 3 => drop(self.number(2)),
            4..=6 => drop(self.number(4)),
            8 => self.text(),
            9 => {
                let (kind, count) = (self.number(4), self.number(8));
                let listed = self.fields.len() + 16;
                for _ in 0..count {
                    self.value(kind);
                    self.fields.truncate(listed);
                }
            }
            _ => drop(self.number(8)),
        }
    }
}

fn seed(file: Vec<u8>) -> Seed {
    let mut walk = Walk {
        file: &file,
        at: 4,
        fields: Vec::new(),
    };
    walk.number(4);
    let (tensors, entries) = (walk.number(8), walk.number(8));
    for _ in 0..entries {
        walk.text();
        let kind = walk.number(4);
        walk.value(kind);
    }
    for _ in 0..tensors {
        walk.text();
        for _ in 0..walk.number(4) {
            walk.number(8);
        }
        walk.number(4);
        walk.number(8);
    }
    let (fields, head) = (walk.fields, walk.at);
    Seed { file, fields, head }
}

pub(crate) fn run(u: &mut Unstructured<'_>) {
    // A script that ends early is no input.
    let _ = try_run(u);
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| seeds::gguf().into_iter().map(seed).collect());
    let seed = u.choose(seeds)?;
    let mut file = seed.file.clone();
    let load = u.ratio(1, 8)?;
    edit::binary(&mut file, &seed.fields, seed.head, u)?;
    let Ok(ModelFile::Gguf(file)) = ModelFile::parse("fuzzed", Bytes::from(file)) else {
        return Ok(());
    };
    look_at(&file);
    if load {
        run_model(&ModelFile::Gguf(file));
    }
    Ok(())
}

/// Loads the file as a model, if it is one, and runs a few tokens.
fn run_model(file: &ModelFile) {
    let options = ModelOptions {
        device: Some(Device::Cpu),
        threads: Some(1),
        context: Some(32),
        ..ModelOptions::default()
    };
    let Ok(model) = Model::from_file(file, &options, |_, _| ()) else {
        return;
    };
    if let Ok(mut session) = model.session() {
        let _ = session.forward(&[1, 2, 3], LogitsFor::Last);
        // Some models go back by other ways than forward.
        session.truncate(1);
        let _ = session.forward(&[2], LogitsFor::Last);
    }
    let _ = model.embed_tokens(
        &[vec![1, 2, 3], vec![4]],
        &EmbedOptions::default(),
        |_, _| (),
    );
    if let Some(template) = model.chat_template() {
        let _ = template.compile();
    }
}
