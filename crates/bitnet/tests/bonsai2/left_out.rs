//! Tensors of a file that are not run: drafts of next tokens, and the part of a model that sees. They are left out by name.

use super::{BYTES, Model, ModelOptions, golden, steady};
use bitnet::I2sLayout;
use bitnet::file::gguf::Array;
use bitnet::file::{Gguf, GgufWriter};
use bitnet_quant::Format;

/// The golden file with a layer of drafts behind the others, and further tensors of `names`.
fn with_drafts(drafts: u32, names: &[&str]) -> Vec<u8> {
    let file = Gguf::parse("golden", BYTES.into()).expect("a file");
    let mut writer = GgufWriter::new("more");
    for (key, value) in file.metadata() {
        let value = match key.as_str() {
            "qwen35.block_count" => 5u32.into(),
            "prism.hadamard.weight_names" => {
                let list = file.strings(key).expect("a list").expect("names");
                let mut list: Vec<&str> = list
                    .iter()
                    .map(|name| str::from_utf8(name).expect("a name"))
                    .collect();
                list.extend(names.iter().filter(|name| name.contains("ffn_up")));
                Array::from_strings(&list).into()
            }
            _ => value.clone(),
        };
        writer.entry(key, value);
    }
    writer.entry("qwen35.nextn_predict_layers", drafts);
    for tensor in file.tensors() {
        let format = tensor.format(I2sLayout::A, "golden").expect("a format");
        writer
            .tensor(&tensor.name, &tensor.ne, format)
            .expect("a tensor");
    }
    for name in names {
        writer
            .tensor(*name, &[128, 2], Format::F32)
            .expect("a tensor");
    }
    let mut data = writer.begin(Vec::new()).expect("a description");
    for tensor in file.tensors() {
        data.push(&tensor.name, &tensor.data).expect("its data");
    }
    for name in names {
        data.push(name, &[0; 128 * 2 * 4]).expect("its data");
    }
    data.finish().expect("a file")
}

fn bits(bytes: Vec<u8>) -> Vec<u32> {
    let model = Model::from_bytes("more", bytes, &ModelOptions::default()).expect("a model");
    let (tokens, _) = steady::golden(&golden());
    let logits = steady::logits(&mut model.session().expect("a session"), &tokens);
    logits.into_iter().map(f32::to_bits).collect()
}

const LEFT_OUT: [&str; 7] = [
    "blk.4.nextn.eh_proj.weight",
    "blk.4.nextn.shared_head_head.weight",
    "blk.4.attn_q.weight",
    // Rotated, as the file says.
    "blk.4.ffn_up.weight",
    "blk.4.attn_norm.weight",
    "v.blk.0.attn_qkv.weight",
    "mm.0.weight",
];

#[test]
fn drafts_and_the_part_that_sees_are_left_out() {
    assert!(bits(with_drafts(1, &LEFT_OUT)) == bits(BYTES.to_vec()));
}

#[test]
fn nothing_else_is_left_out() {
    for name in [
        "blk.5.attn_norm.weight",
        "blk.0.attn_bias.weight",
        "vision.weight",
        "nextn.weight",
    ] {
        let bytes = with_drafts(1, &[name]);
        let model = Model::from_bytes("more", bytes, &ModelOptions::default());
        let error = model.expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    // A layer that is no draft has to be whole.
    let model = Model::from_bytes("more", with_drafts(0, &LEFT_OUT), &ModelOptions::default());
    let error = model.expect_err("half a layer").to_string();
    assert!(error.contains("blk.4."), "{error}");
}
