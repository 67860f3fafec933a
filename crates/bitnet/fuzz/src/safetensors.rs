//! Safetensors files and the config.json beside them.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use bitnet::file::{Bytes, ModelFile, SafeTensorsModel};
use bitnet::{Device, Model, ModelOptions};
use serde_json::Value;

use crate::edit;
use crate::seeds;

struct Seed {
    config: Value,
    header: Value,
    data: Vec<u8>,
}

pub(crate) fn run(u: &mut Unstructured<'_>) {
    // A script that ends early is no input.
    let _ = try_run(u);
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| {
        let seed = |checkpoint: seeds::Checkpoint| {
            let (length, rest) = checkpoint.weights.split_at(8);
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
            let (header, data) = rest.split_at(length as usize);
            Seed {
                config: checkpoint.config,
                header: serde_json::from_slice(header).expect("a header"),
                data: data.to_vec(),
            }
        };
        seeds::checkpoints().into_iter().map(seed).collect()
    });
    let seed = u.choose(seeds)?;
    let mut config = seed.config.clone();
    let mut header = seed.header.clone();
    let which = u.int_in_range(0..=3)?;
    if which != 0 {
        edit::json(&mut config, &[], u)?;
    }
    if which != 1 {
        edit::json(&mut header, &[], u)?;
    }
    let mut header = header.to_string().into_bytes();
    if which == 2 {
        let head = header.len();
        edit::binary(&mut header, &[], head, u)?;
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(&seed.data);
    let Ok(model) = SafeTensorsModel::parse("fuzzed", Bytes::from(file), config) else {
        return Ok(());
    };
    for tensor in model.tensors() {
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(elements * tensor.dtype.bitsize() / 8, tensor.data.len());
    }
    let options = ModelOptions {
        device: Some(Device::Cpu),
        threads: Some(1),
        context: Some(32),
        ..ModelOptions::default()
    };
    // As far as the tokenizer, which is a file beside the weights.
    let outcome = Model::from_file(&ModelFile::SafeTensors(model), &options, |_, _| ());
    assert!(outcome.is_err());
    Ok(())
}
