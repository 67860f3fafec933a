//! Saved sessions, with a hash that is right as often as not.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use bitnet::{Device, LogitsFor, Model, ModelOptions, Session};
use sha2::{Digest, Sha256};

use crate::edit::{self, Field};
use crate::seeds;

/// Bytes of the hash at the end of a file.
const HASH: usize = 32;

/// The magic, seven numbers, the fingerprint, the length of the name.
const FIELDS: [Field; 8] = {
    let mut fields = [Field { at: 0, bytes: 4 }; 8];
    let mut index = 0;
    while index < 7 {
        fields[index].at = 8 + 4 * index;
        index += 1;
    }
    fields[7].at = 8 + 4 * 7 + 32;
    fields
};

struct Seed {
    model: Model,
    file: Vec<u8>,
}

pub(crate) fn run(u: &mut Unstructured<'_>) {
    // A script that ends early is no input.
    let _ = try_run(u);
}

fn seed() -> Seed {
    let options = ModelOptions {
        device: Some(Device::Cpu),
        threads: Some(1),
        context: Some(32),
        ..ModelOptions::default()
    };
    let file = seeds::gguf().swap_remove(0);
    let model = Model::from_bytes("tiny", file, &options).expect("a synthetic model");
    let mut session = model.session().expect("a session");
    session
        .forward(&[1, 2, 3], LogitsFor::Last)
        .expect("logits");
    let mut file = Vec::new();
    session.save("memory", &mut file).expect("a saved session");
    Seed { model, file }
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    static SEED: OnceLock<Seed> = OnceLock::new();
    let seed = SEED.get_or_init(seed);
    let mut file = seed.file.clone();
    let keep_hash = u.ratio(1, 4)?;
    let mut fields = FIELDS.to_vec();
    // A few tokens and floats.
    for _ in 0..4 {
        let last = (file.len() - HASH) / 4 - 1;
        let at = 4 * u.int_in_range(0..=last)?;
        fields.push(Field { at, bytes: 4 });
    }
    edit::binary(&mut file, &fields, 128, u)?;
    if !keep_hash && let Some(end) = file.len().checked_sub(HASH) {
        let hash = Sha256::digest(&file[..end]);
        file[end..].copy_from_slice(&hash);
    }
    let Ok(mut session) = Session::restore(&seed.model, "fuzzed", &file[..]) else {
        return Ok(());
    };
    let mut again = Vec::new();
    session.save("memory", &mut again).expect("a saved session");
    let _ = session.forward(&[4], LogitsFor::Last);
    Ok(())
}
