//! A tokenizer with more tokens than the embedding has rows: the model runs, as in transformers, and a text that holds one of these
//! tokens is refused by name. Converted to GGUF, where there is a row for each token, they are left out.

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::synth::{self, SynthOptions};
use bitnet::tokenizer::EncodeOptions;
use bitnet::{LogitsFor, Model};
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn they_are_refused_in_a_prompt_and_left_out_of_gguf() -> Outcome {
    let directory = tempfile::tempdir()?;
    let gguf = directory.path().join("model.gguf");
    synth::write(&SynthOptions::default(), &gguf, &mut |_, _| ())?;
    let folder = directory.path().join("folder");
    convert(&gguf, &folder, ConvertType::SafeTensors, &mut |_, _| ())?;
    let rows = Model::open(&folder)?.vocabulary();

    let path = folder.join("tokenizer.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let added = document["added_tokens"]
        .as_array_mut()
        .ok_or("no added tokens")?;
    added.push(json!({
        "id": rows + 3, "content": "<|extra|>", "special": true, "normalized": false,
        "lstrip": false, "rstrip": false, "single_word": false,
    }));
    std::fs::write(&path, document.to_string())?;

    let model = Model::open(&folder)?;
    assert_eq!(model.tokenizer().vocab_size(), rows + 4);
    assert_eq!(model.vocabulary(), rows);
    let options = EncodeOptions {
        add_bos: true,
        parse_special: true,
    };
    let mut session = model.session()?;
    let good = model.tokenizer().encode("the tea", options)?;
    assert_eq!(session.forward(&good, LogitsFor::Last)?.len(), rows);
    let bad = model.tokenizer().encode("the tea<|extra|>", options)?;
    let message = session
        .forward(&bad, LogitsFor::Last)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("<|extra|>") && message.contains(&rows.to_string()),
        "{message}"
    );

    let back = directory.path().join("back.gguf");
    convert(&folder, &back, ConvertType::TQ2_0, &mut |_, _| ())?;
    let back = Model::open(&back)?;
    assert_eq!(back.tokenizer().vocab_size(), rows);
    assert_eq!(back.tokenizer().encode("the tea", options)?, good);
    Ok(())
}
