//! The golden file as a checkpoint of transformers (`Qwen3_5ForCausalLM`, and within a model that also sees): rotations undone,
//! value heads of a key head together, gains less by 1. Written from the description of both layouts; nothing here is the loader's.

use super::{BYTES, Model, ModelOptions, golden, steady};
use bitnet::I2sLayout;
use bitnet::file::safetensors::SafeTensorsWriter;
use bitnet::file::{Dtype, Gguf, GgufWriter, ModelFiles};
use bitnet_quant::{Format, hf_packed};
use serde_json::{Value as Json, json};

const KEY_HEADS: usize = 4;
const REPEATS: usize = 2;
const VALUE_DIM: usize = 32;
const KEY_WIDTH: usize = 128;

/// Sequence of a tensor's rows or columns: where element `index` of the checkpoint is in the GGUF file.
type Order = fn(usize) -> usize;

/// Of values: head `REPEATS · k + r` of the checkpoint is head `k + KEY_HEADS · r` of the file.
fn values(index: usize) -> usize {
    let (head, element) = (index / VALUE_DIM, index % VALUE_DIM);
    of_heads(head) * VALUE_DIM + element
}

fn of_heads(head: usize) -> usize {
    head / REPEATS + KEY_HEADS * (head % REPEATS)
}

/// Queries and keys before the values.
fn behind_keys(index: usize) -> usize {
    match index.checked_sub(2 * KEY_WIDTH) {
        None => index,
        Some(value) => 2 * KEY_WIDTH + values(value),
    }
}

/// A tensor as plain numbers.
#[derive(Clone)]
struct Plain {
    /// As in GGUF.
    name: String,
    /// The fastest dimension first.
    ne: Vec<u64>,
    numbers: Vec<f32>,
}

impl Plain {
    fn cols(&self) -> usize {
        self.ne[0] as usize
    }

    /// The part of a layer, or the name of a tensor outside of them.
    fn part(&self) -> &str {
        let layer = self.name.strip_prefix("blk.");
        let part = layer.and_then(|rest| rest.split_once('.'));
        part.map_or(&self.name, |(_, part)| part)
    }

    fn is_projection(&self) -> bool {
        let part = self.part();
        self.ne.len() == 2 && part.starts_with("ffn")
            || part.starts_with("attn") && self.ne.len() == 2
            || part == "ssm_out.weight"
    }
}

/// Applies the symmetric transform to each `block` of numbers, by its definition.
fn hadamard(row: &[f32], block: usize) -> Vec<f32> {
    let sign = |r: usize, c: usize| {
        if (r & c).count_ones().is_multiple_of(2) {
            1.0
        } else {
            -1.0
        }
    };
    let whole = |part: &[f32], r: usize| {
        let terms = part.iter().enumerate();
        terms.map(|(c, x)| sign(r, c) * f64::from(*x)).sum::<f64>() / (block as f64).sqrt()
    };
    let parts = row.chunks_exact(block);
    parts
        .flat_map(|part| {
            (0..block)
                .map(|r| whole(part, r) as f32)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The tensors of the golden file, not rotated. Columns of `ssm_out` have the file's order of heads.
fn unrotated(file: &Gguf) -> Vec<Plain> {
    let names = |key: &str| -> Vec<String> {
        let list = file.strings(key).expect("a list").expect("the key");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a name");
        list.iter().map(text).collect()
    };
    let rotated = [
        names("prism.hadamard.weight_names"),
        names("prism.hadamard.inverse_weight_names"),
    ]
    .concat();
    let numbers = |key: &str| file.i32s(key).expect("a list").expect("the key");
    let widths = numbers("prism.hadamard.sign_widths");
    let signs = numbers("prism.hadamard.sign_values");
    let signs_of = |width: usize| {
        let at = widths
            .iter()
            .position(|w| *w as usize == width)
            .expect("signs");
        let before: i32 = widths[..at].iter().sum();
        &signs[before as usize..][..width]
    };
    let block = file
        .usize("prism.hadamard.block_size")
        .expect("a number")
        .expect("the key");
    let of_tensor = |tensor: &bitnet::file::GgufTensor| {
        let format = tensor.format(I2sLayout::A, "golden").expect("a format");
        let (cols, data) = (tensor.cols(), tensor.row_data());
        let mut all = Vec::new();
        for bytes in data.chunks_exact(format.row_bytes(cols).expect("whole blocks")) {
            let mut row = vec![0.0; cols];
            format.decode_row(bytes, 1.0, &mut row).expect("numbers");
            if rotated.contains(&tensor.name) {
                row = hadamard(&row, block);
                let signs = signs_of(cols).iter();
                row.iter_mut()
                    .zip(signs)
                    .for_each(|(x, sign)| *x *= *sign as f32);
            }
            if tensor.name.ends_with("ssm_out.weight") {
                // Rotated in the order of the checkpoint.
                let mut here = row.clone();
                (0..cols).for_each(|index| here[values(index)] = row[index]);
                row = here;
            }
            all.extend(row);
        }
        Plain {
            name: tensor.name.clone(),
            ne: tensor.ne.clone(),
            numbers: all,
        }
    };
    file.tensors().iter().map(of_tensor).collect()
}

/// The name of a tensor in a checkpoint, and its numbers there.
fn in_checkpoint(tensor: &Plain) -> (String, Vec<usize>, Vec<f32>) {
    let same: Order = |index| index;
    let (name, rows, columns) = match tensor.part() {
        "token_embd.weight" => ("embed_tokens.weight", same, same),
        "output_norm.weight" => ("norm.weight", same, same),
        "attn_norm.weight" => ("input_layernorm.weight", same, same),
        "post_attention_norm.weight" => ("post_attention_layernorm.weight", same, same),
        "attn_q.weight" => ("self_attn.q_proj.weight", same, same),
        "attn_k.weight" => ("self_attn.k_proj.weight", same, same),
        "attn_v.weight" => ("self_attn.v_proj.weight", same, same),
        "attn_output.weight" => ("self_attn.o_proj.weight", same, same),
        "attn_q_norm.weight" => ("self_attn.q_norm.weight", same, same),
        "attn_k_norm.weight" => ("self_attn.k_norm.weight", same, same),
        "ffn_gate.weight" => ("mlp.gate_proj.weight", same, same),
        "ffn_up.weight" => ("mlp.up_proj.weight", same, same),
        "ffn_down.weight" => ("mlp.down_proj.weight", same, same),
        "attn_qkv.weight" => ("linear_attn.in_proj_qkv.weight", behind_keys as Order, same),
        "attn_gate.weight" => ("linear_attn.in_proj_z.weight", values as Order, same),
        "ssm_beta.weight" => ("linear_attn.in_proj_b.weight", of_heads as Order, same),
        "ssm_alpha.weight" => ("linear_attn.in_proj_a.weight", of_heads as Order, same),
        "ssm_out.weight" => ("linear_attn.out_proj.weight", same, values as Order),
        "ssm_norm.weight" => ("linear_attn.norm.weight", same, same),
        "ssm_a" => ("linear_attn.A_log", same, of_heads as Order),
        "ssm_dt.bias" => ("linear_attn.dt_bias", same, of_heads as Order),
        "ssm_conv1d.weight" => ("linear_attn.conv1d.weight", behind_keys as Order, same),
        other => panic!("no name for {other}"),
    };
    let layer = tensor
        .name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next());
    let name = match layer {
        Some(layer) => format!("model.layers.{layer}.{name}"),
        None => format!("model.{name}"),
    };
    let cols = tensor.cols();
    let count = tensor.numbers.len() / cols;
    let mut numbers = Vec::new();
    for row in 0..count {
        let row = &tensor.numbers[rows(row) * cols..][..cols];
        numbers.extend((0..cols).map(|column| row[columns(column)]));
    }
    for number in &mut numbers {
        *number = match tensor.part() {
            "ssm_a" => (-f64::from(*number)).ln() as f32,
            "ssm_norm.weight" => *number,
            part if part.ends_with("norm.weight") => *number - 1.0,
            _ => *number,
        };
    }
    let shape = match tensor.part() {
        "ssm_conv1d.weight" => vec![count, 1, cols],
        _ if tensor.ne.len() == 1 => vec![cols],
        _ => vec![count, cols],
    };
    (name, shape, numbers)
}

/// The part of the configuration that is about text.
fn text_config() -> Json {
    json!({
        "model_type": "qwen3_5_text", "num_hidden_layers": 4, "hidden_size": 128, "intermediate_size": 256,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "attn_output_gate": true,
        "tie_word_embeddings": true, "full_attention_interval": 4,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 32,
        "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4, "mtp_num_hidden_layers": 1,
        "rope_parameters": {"rope_theta": 1e7, "rope_type": "default", "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2], "mrope_interleaved": true},
    })
}

fn whole_config() -> Json {
    let mut config = text_config();
    config["architectures"] = json!(["Qwen3_5ForCausalLM"]);
    config
}

/// A tensor of a checkpoint: its name, type, shape and bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

fn floats((name, shape, numbers): (String, Vec<usize>, Vec<f32>)) -> Stored {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    (name, Dtype::F32, shape, bytes.collect())
}

/// A checkpoint in memory, with the tokenizer of the golden file.
fn files(config: &Json, tensors: &[Stored]) -> ModelFiles {
    let mut writer = SafeTensorsWriter::new("checkpoint");
    for (name, dtype, shape, _) in tensors {
        writer.tensor(name, *dtype, shape).expect("a tensor");
    }
    let mut data = writer.begin(Vec::new()).expect("a description");
    for (name, _, _, bytes) in tensors {
        data.push(name, bytes).expect("its data");
    }
    let tokenizer = super::model(&ModelOptions::default()).tokenizer().to_json();
    ModelFiles::new("checkpoint")
        .with("model.safetensors", data.finish().expect("a file"))
        .with("config.json", config.to_string())
        .with("tokenizer.json", tokenizer.expect("a tokenizer"))
}

fn open(config: &Json, tensors: &[Stored], options: &ModelOptions) -> bitnet::Result<Model> {
    Model::from_files(files(config, tensors), options, |_, _| ())
}

/// The golden file as a checkpoint.
fn stored() -> Vec<Stored> {
    let file = Gguf::parse("golden", BYTES.into()).expect("a file");
    unrotated(&file)
        .iter()
        .map(|tensor| floats(in_checkpoint(tensor)))
        .collect()
}

/// Logits of the golden tokens.
fn bits(model: &Model) -> Vec<u32> {
    let (tokens, _) = steady::golden(&golden());
    let logits = steady::logits(&mut model.session().expect("a session"), &tokens);
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_checkpoint_has_the_golden_logits() {
    let tensors = stored();
    let config = whole_config();
    let open = |options: &ModelOptions| open(&config, &tensors, options).expect("a model");
    steady::has_golden_logits(&open, &golden());
}

/// With names and numbers one level further down, drafts of next tokens, a part that sees, and a head that is the embedding.
#[test]
fn what_is_not_read_is_left_out_by_its_name() {
    let tensors = stored();
    let alone = open(&whole_config(), &tensors, &ModelOptions::default()).expect("a model");
    let mut within: Vec<Stored> = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| {
            let name = name.replacen("model.", "model.language_model.", 1);
            (name, dtype, shape, bytes)
        })
        .collect();
    for name in [
        "mtp.fc.weight",
        "mtp.layers.0.self_attn.q_proj.weight",
        "mtp.norm.weight",
        "model.visual.blocks.0.attn.qkv.weight",
        "model.visual.patch_embed.proj.bias",
        "lm_head.weight",
    ] {
        within.push(floats((name.into(), vec![2, 2], vec![0.5; 4])));
    }
    let config = json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5",
        "text_config": text_config(), "vision_config": {"depth": 1}, "image_token_id": 7,
    });
    let model = open(&config, &within, &ModelOptions::default()).expect("a model");
    assert!(bits(&model) == bits(&alone));
    // Another name is not.
    for name in [
        "model.audio.weight",
        "mtpx.weight",
        "model.language_model.layers.4.mlp.up_proj.weight",
    ] {
        let mut more = within.clone();
        more.push(floats((name.into(), vec![2, 2], vec![0.5; 4])));
        let error = open(&config, &more, &ModelOptions::default())
            .expect_err(name)
            .to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// Ternary projections have the same bits packed, as floats, and in GGUF.
#[test]
fn ternary_weights_are_the_same_in_every_container() {
    const SCALE: f32 = 0.0625;
    let file = Gguf::parse("golden", BYTES.into()).expect("a file");
    let mut tensors = unrotated(&file);
    for tensor in tensors.iter_mut().filter(|tensor| tensor.is_projection()) {
        for number in &mut tensor.numbers {
            *number = (*number / 0.02).round().clamp(-1.0, 1.0) * SCALE;
        }
    }
    let mut writer = GgufWriter::new("plain");
    for (key, value) in file.metadata() {
        if !key.starts_with("prism.") {
            writer.entry(key, value.clone());
        }
    }
    for tensor in &tensors {
        let declared = writer.tensor(&tensor.name, &tensor.ne, Format::F32);
        declared.expect("a tensor");
    }
    let mut data = writer.begin(Vec::new()).expect("a description");
    for tensor in &tensors {
        let bytes: Vec<u8> = tensor
            .numbers
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        data.push(&tensor.name, &bytes).expect("its data");
    }
    let gguf = data.finish().expect("a file");
    let gguf = Model::from_bytes("plain", gguf, &ModelOptions::default()).expect("a model");
    let expected = bits(&gguf);

    let plain: Vec<Stored> = tensors
        .iter()
        .map(|tensor| floats(in_checkpoint(tensor)))
        .collect();
    let model = open(&whole_config(), &plain, &ModelOptions::default()).expect("a model");
    assert!(bits(&model) == expected, "floats");

    let mut packed = Vec::new();
    for tensor in &tensors {
        let (name, shape, numbers) = in_checkpoint(tensor);
        if !tensor.is_projection() {
            packed.push(floats((name, shape, numbers)));
            continue;
        }
        let codes: Vec<i8> = numbers
            .iter()
            .map(|number| (number / SCALE) as i8)
            .collect();
        let bytes = hf_packed::pack(&codes, shape[0], shape[1]).expect("codes");
        packed.push(floats((format!("{name}_scale"), vec![1], vec![SCALE])));
        packed.push((name, Dtype::U8, vec![shape[0] / 4, shape[1]], bytes));
    }
    let mut config = whole_config();
    config["quantization_config"] = json!({
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head", ".*in_proj_a", ".*in_proj_b"],
    });
    let model = open(&config, &packed, &ModelOptions::default()).expect("a model");
    assert!(bits(&model) == expected, "packed");
}

/// Refuses that a checkpoint opens, and an error that does not say `expected`.
fn refused(config: &Json, tensors: &[Stored], expected: &[&str]) {
    let error = open(config, tensors, &ModelOptions::default())
        .expect_err(expected[0])
        .to_string();
    for expected in expected {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn wrong_numbers_are_refused_by_key_and_value() {
    let tensors = stored();
    let not_numbers = [
        json!(-1),
        json!(1.5),
        json!("four"),
        json!(true),
        json!([4]),
        json!({}),
    ];
    for key in [
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    ] {
        let mut config = whole_config();
        for value in not_numbers.iter().chain(&[json!(0), json!(1u64 << 40)]) {
            config[key] = value.clone();
            refused(&config, &tensors, &[key, &value.to_string()]);
            // And one level further down.
            let nested = json!({"architectures": ["Qwen3_5ForConditionalGeneration"], "text_config": config});
            refused(&nested, &tensors, &[key, &value.to_string()]);
        }
    }
    for (key, value) in [
        ("linear_num_key_heads", json!(3)),
        ("linear_num_value_heads", json!(6)),
        ("linear_conv_kernel_dim", json!(65)),
        ("num_key_value_heads", json!(4)),
        ("rms_norm_eps", json!("small")),
        ("rms_norm_eps", json!(-1.5)),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!("no")),
        ("attn_output_gate", json!(false)),
        ("attn_output_gate", json!(1)),
        ("tie_word_embeddings", json!("yes")),
        ("layer_types", json!("linear_attention")),
        (
            "layer_types",
            json!(["linear_attention", "linear_attention", "full_attention", 4]),
        ),
        (
            "layer_types",
            json!([
                "linear_attention",
                "linear_attention",
                "full_attention",
                "sliding_attention"
            ]),
        ),
        ("rope_parameters", json!([1e7])),
    ] {
        let mut config = whole_config();
        config[key] = value.clone();
        let shown = match &value {
            Json::Array(list) => list.last().unwrap_or(&value).to_string(),
            other => other.to_string(),
        };
        refused(&config, &tensors, &[key, shown.trim_matches('"')]);
    }
    let mut config = whole_config();
    config["rope_parameters"]["rope_type"] = json!("spiral");
    refused(&config, &tensors, &["rotary scaling of kind", "spiral"]);
    let mut config = whole_config();
    config["layer_types"] = json!(["linear_attention"]);
    refused(
        &config,
        &tensors,
        &["layer_types: expected 4 names", "found 1"],
    );
    config["layer_types"] = Json::Null;
    config["full_attention_interval"] = json!(0);
    refused(&config, &tensors, &["full_attention_interval", "0"]);
    for (key, value) in [
        ("mrope_section", json!([3, 3])),
        ("mrope_section", json!([3, 3, -2])),
        ("mrope_section", json!("thirds")),
        ("mrope_interleaved", json!(1)),
        ("rope_theta", json!("1e7")),
        ("rope_theta", json!(0)),
        ("partial_rotary_factor", json!(1.5)),
        ("partial_rotary_factor", json!(0.27)),
    ] {
        let mut config = whole_config();
        config["rope_parameters"][key] = value.clone();
        let shown = value.to_string();
        let shown = shown.trim_matches('"').trim_end_matches(".0");
        refused(&config, &tensors, &[key, shown]);
    }
}

#[test]
fn configurations_of_other_kinds_are_refused() {
    let tensors = stored();
    for text in [json!(7), json!("config"), json!([]), json!(true)] {
        let config =
            json!({"architectures": ["Qwen3_5ForConditionalGeneration"], "text_config": text});
        refused(
            &config,
            &tensors,
            &["text_config: expected an object", &text.to_string()],
        );
    }
    let mut config = whole_config();
    config["architectures"] = json!(["Qwen3_5MoeForCausalLM"]);
    refused(&config, &tensors, &["Qwen3_5MoeForCausalLM"]);
    config["model_type"] = json!("prism_hadamard_qwen35");
    refused(
        &config,
        &tensors,
        &["rotated weights", "prism_hadamard_qwen35"],
    );
    let with_contract = files(&whole_config(), &tensors).with("hadamard.json", "{}");
    let error = Model::from_files(with_contract, &ModelOptions::default(), |_, _| ());
    let error = error.expect_err("rotated").to_string();
    assert!(error.contains("hadamard.json"), "{error}");
}

#[test]
fn missing_and_misshapen_tensors_are_refused_by_name() {
    let tensors = stored();
    for index in 0..tensors.len() {
        let mut fewer = tensors.clone();
        let (name, ..) = fewer.remove(index);
        refused(&whole_config(), &fewer, &[&name]);
        let mut other = tensors.clone();
        let (_, _, shape, bytes) = &mut other[index];
        // A row more, or an element.
        let row: usize = shape[1..].iter().product();
        shape[0] += 1;
        bytes.extend(std::iter::repeat_n(0, 4 * row));
        if !name.ends_with("embed_tokens.weight") {
            refused(&whole_config(), &other, &[&name, "expected"]);
        }
    }
    for part in [
        "A_log",
        "dt_bias",
        "conv1d.weight",
        "linear_attn.norm.weight",
        "input_layernorm.weight",
    ] {
        let mut broken = tensors.clone();
        let found = broken.iter_mut().find(|(name, ..)| name.ends_with(part));
        let (name, _, _, bytes) = found.expect("such a tensor");
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let name = name.clone();
        refused(&whole_config(), &broken, &[&name, "NaN"]);
    }
}

/// Where nothing says otherwise, numbers are those of the class.
#[test]
fn an_empty_configuration_is_that_of_its_class() {
    for class in ["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"] {
        let config = json!({"architectures": [class], "text_config": {}});
        let empty = bitnet::file::Bytes::from_static(b"\x08\0\0\0\0\0\0\0{}      ");
        let file = bitnet::file::SafeTensorsModel::parse("config", empty, config).expect("a file");
        let shape = bitnet::Architecture::from_config(&file).expect("a shape");
        let numbers = [
            shape.hidden,
            shape.feed_forward,
            shape.layers,
            shape.context,
        ];
        assert_eq!(numbers, [4096, 12288, 32, 32768]);
        assert_eq!(
            (shape.heads.query, shape.heads.kv, shape.heads.dim),
            (16, 4, 256)
        );
        assert_eq!((shape.rope.dims, shape.rope.base), (64, 10_000.0));
        let hybrid = shape.hybrid.expect("delta nets");
        assert_eq!(
            hybrid
                .recurrent
                .iter()
                .filter(|recurrent| !**recurrent)
                .count(),
            8
        );
        assert_eq!(
            (hybrid.delta.key, hybrid.delta.value, hybrid.delta.taps),
            (16, 32, 4)
        );
    }
}
