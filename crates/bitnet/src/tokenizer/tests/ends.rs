//! Tokens that end an answer, and what is lost or refused between GGUF and `tokenizer.json`.

use super::*;
use crate::tokenizer::json as document;
use crate::tokenizer::patterns::Pattern;
use serde_json::{Value, json};

/// A `tokenizer.json` whose ends have names that nobody knows.
fn unknown_ends() -> String {
    let json = sample().to_json().unwrap();
    json.replace("<|end_of_text|>", "<fin>")
        .replace("<|eot_id|>", "<turn-end>")
        .replace("<|im_end|>", "<message-end>")
}

fn with(files: &RoleFiles) -> Result<Tokenizer> {
    let inner = document::read("tokenizer.json", unknown_ends().as_bytes(), files)?;
    Ok(Tokenizer(Arc::new(inner)))
}

/// The description of a GGUF tokenizer, to be read back.
pub(super) fn spec_of(gguf: &GgufTokenizer) -> TokenizerSpec<'_> {
    TokenizerSpec {
        file: "again.gguf",
        model: gguf.model,
        pre: Some(gguf.pre),
        architecture: "",
        tokens: gguf.tokens.iter().map(Vec::as_slice).collect(),
        scores: gguf.scores.clone(),
        token_types: Some(gguf.token_types.clone()),
        merges: Some(gguf.merges.iter().map(String::as_bytes).collect()),
        bos: gguf.bos,
        eos: gguf.eos,
        eot: gguf.eot,
        eom: gguf.eom,
        pad: gguf.pad,
        unk: gguf.unk,
        add_bos: Some(gguf.add_bos),
        add_eos: Some(gguf.add_eos),
        add_space_prefix: gguf.add_space_prefix,
    }
}

/// The tokenizer that GGUF metadata describe.
pub(super) fn from_gguf(gguf: &GgufTokenizer) -> Tokenizer {
    Tokenizer::from_spec(spec_of(gguf)).unwrap()
}

/// transformers ends generation at generation_config.json's eos_token_id, a number or a list, or else at that of config.json
/// (`GenerationConfig.from_pretrained`, `from_model_config`).
#[test]
fn a_checkpoint_ends_where_its_files_say() {
    let bare = with(&RoleFiles::default()).unwrap();
    assert_eq!(bare.stops(), [0u32; 0]);
    let [fin, turn, message] =
        ["<fin>", "<turn-end>", "<message-end>"].map(|text| bare.token_id(text).unwrap());
    let stops = |files: RoleFiles| texts(&bare, with(&files).unwrap().stops());

    let file = Some(json!({"eos_token": "<fin>"}));
    let list = Some(json!({"eos_token_id": [fin, turn]}));
    let generation = RoleFiles {
        generation: list.clone(),
        ..RoleFiles::default()
    };
    assert_eq!(stops(generation), ["<fin>", "<turn-end>"]);
    let number = Some(json!({"eos_token_id": message}));
    let model = RoleFiles {
        model: number.clone(),
        ..RoleFiles::default()
    };
    assert_eq!(stops(model), ["<message-end>"]);
    let both = RoleFiles {
        generation: list,
        model: number,
        tokenizer: file.clone(),
        special: None,
    };
    let both = with(&both).unwrap();
    assert_eq!(texts(&both, both.stops()), ["<fin>", "<turn-end>"]);
    assert_eq!(both.eos(), Some(fin));
    let map = Some(
        json!({"eos_token": {"content": "<turn-end>"}, "bos_token": "<|begin_of_text|>", "pad_token": "<fin>"}),
    );
    let special = with(&RoleFiles {
        special: map.clone(),
        ..RoleFiles::default()
    })
    .unwrap();
    assert_eq!(texts(&special, special.stops()), ["<turn-end>"]);
    assert_eq!(special.pad(), Some(fin));
    let first = RoleFiles {
        tokenizer: file,
        special: map,
        ..RoleFiles::default()
    };
    assert_eq!(stops(first), ["<fin>"], "tokenizer_config.json goes first");

    let wrong = RoleFiles {
        generation: Some(json!({"eos_token_id": "</s>"})),
        ..RoleFiles::default()
    };
    let message = with(&wrong).unwrap_err().to_string();
    assert!(message.contains("generation_config.json"), "{message}");
}

#[test]
fn ends_of_turns_survive_conversion() {
    let sample = Sample::new();
    let tool = sample.id("<tool>");
    let start = sample.id("<|im_start|>");
    let mut spec = sample.spec();
    (spec.eot, spec.eom) = (Some(tool), Some(start));
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert!(tokenizer.stops().contains(&tool) && tokenizer.stops().contains(&start));
    let by_role = tokenizer.stops_by_role();
    assert_eq!(by_role[..3], [tokenizer.eos().unwrap(), tool, start]);

    // As the converter writes it.
    let files = RoleFiles {
        tokenizer: Some(json!({"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"})),
        generation: Some(json!({"eos_token_id": by_role})),
        ..RoleFiles::default()
    };
    let json = tokenizer.to_json().unwrap();
    let again = Tokenizer(Arc::new(
        document::read("again", json.as_bytes(), &files).unwrap(),
    ));
    assert_eq!(again.stops(), tokenizer.stops());
    let gguf = again.to_gguf().unwrap();
    assert_eq!(
        (gguf.eos, gguf.eot, gguf.eom),
        (tokenizer.eos(), Some(tool), Some(start))
    );
    let back = from_gguf(&gguf);
    assert_eq!(back.stops(), tokenizer.stops());
}

#[test]
fn control_tokens_by_text_are_no_text() {
    let mut sample = Sample::new();
    let end = sample.id("<|im_end|>") as usize;
    for kind in [1, 4] {
        sample.types[end] = kind;
        let tokenizer = Tokenizer::from_spec(sample.spec()).unwrap();
        assert_eq!(tokenizer.token_kind(end as u32), Some(TokenKind::Control));
        assert!(tokenizer.stops().contains(&(end as u32)));
        assert!(
            !tokenizer
                .encode("<|im_end|>", PLAIN)
                .unwrap()
                .contains(&(end as u32))
        );
    }
}

/// llama.cpp refuses a file without `tokenizer.ggml.merges`, "cannot find tokenizer merges in model file".
#[test]
fn a_byte_level_vocabulary_without_merges_is_refused() {
    let sample = Sample::new();
    for merges in [None, Some(Vec::new()), Some(vec![&b"(t, h)"[..]; 20])] {
        let mut spec = sample.spec();
        spec.merges = merges;
        let message = Tokenizer::from_spec(spec).unwrap_err().to_string();
        assert!(message.contains("tokenizer.ggml.merges"), "{message}");
    }
    // Nothing but bytes needs no merges.
    let bytes: Vec<String> = (0..=255u8)
        .map(|byte| byte_alphabet::byte_to_char(byte).to_string())
        .collect();
    let spec = TokenizerSpec {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: bytes.iter().map(String::as_bytes).collect(),
        merges: Some(Vec::new()),
        ..TokenizerSpec::default()
    };
    assert_eq!(
        Tokenizer::from_spec(spec)
            .unwrap()
            .encode("ab", PLAIN)
            .unwrap(),
        [97, 98]
    );
}

/// llama.cpp's defaults for "llama" are bos 1, eos 2 and unknown 0.
#[test]
fn sentencepiece_files_without_ids_have_the_usual_ones() {
    let storage = score_storage();
    let mut spec = score_spec(&storage);
    (spec.bos, spec.eos, spec.unk) = (None, None, None);
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert!(tokenizer.add_bos());
    assert_eq!(tokenizer.stops(), [2]);
}

#[test]
fn every_pattern_comes_back_from_tokenizer_json() {
    let sample = Sample::new();
    let texts = [
        "in the  12345 Caper'S",
        " whole//\n\n\tHelloWorld",
        "e\u{301}\u{939}\u{93f}!?",
        "a+b=c\u{2026}",
    ];
    for pre in Pattern::names() {
        let mut spec = sample.spec();
        spec.pre = Some(pre);
        let tokenizer = Tokenizer::from_spec(spec).unwrap();
        let config = json!({"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"});
        let json = tokenizer.to_json().unwrap();
        let read = Tokenizer::from_json("tokenizer.json", json.as_bytes(), Some(&config)).unwrap();
        let gguf = read.to_gguf().unwrap();
        let known = Pattern::named(pre).unwrap();
        let written = Pattern::named(gguf.pre).unwrap();
        assert_eq!(
            (written.splitter, written.ignore_merges, written.nfc),
            (known.splitter, known.ignore_merges, known.nfc),
            "{pre}"
        );
        let back = from_gguf(&gguf);
        let reference = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        for text in texts {
            let ids = tokenizer.encode(text, PLAIN).unwrap();
            assert_eq!(read.encode(text, PLAIN).unwrap(), ids, "{pre}: {text:?}");
            assert_eq!(back.encode(text, PLAIN).unwrap(), ids, "{pre}: {text:?}");
            let expected = reference.encode(text, false).unwrap();
            assert_eq!(expected.get_ids(), ids, "{pre}: {text:?}");
        }
    }
}

#[test]
fn what_gguf_cannot_say_is_refused() {
    let good: Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    let gguf = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        Tokenizer::from_json("odd", document.to_string().as_bytes(), None)
            .unwrap()
            .to_gguf()
    };
    assert_eq!(gguf(&|_| ()).unwrap().pre, "llama-bpe");
    assert_eq!(
        gguf(&|json| json["model"]["ignore_merges"] = false.into())
            .unwrap()
            .pre,
        "smaug-bpe"
    );
    assert!(gguf(&|json| json["normalizer"] = json!({"type": "Lowercase"})).is_err());
    // The sample has a token that no merges make: with the rules of Qwen 2, only `ignore_merges` would find it.
    let qwen2 = patterns::pre_tokenizer(Splitter::QWEN2);
    assert!(gguf(&|json| json["pre_tokenizer"] = qwen2.clone()).is_err());
    let without = |json: &mut Value| {
        json["pre_tokenizer"] = qwen2.clone();
        json["model"]["ignore_merges"] = false.into();
    };
    assert_eq!(gguf(&without).unwrap().pre, "qwen2");

    let storage = score_storage();
    let scores: Value = serde_json::from_str(
        &Tokenizer::from_spec(score_spec(&storage))
            .unwrap()
            .to_json()
            .unwrap(),
    )
    .unwrap();
    let mut upper = scores.clone();
    upper["normalizer"]["normalizers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"type": "NFKC"}));
    let of = |json: &Value| {
        Tokenizer::from_json("odd", json.to_string().as_bytes(), None)
            .unwrap()
            .to_gguf()
    };
    assert_eq!(of(&scores).unwrap().model, "llama");
    assert!(of(&upper).is_err());
}

#[test]
fn tokens_beyond_the_embedding_leave_gguf_without_their_merges() {
    let tokenizer = sample();
    let mut gguf = tokenizer.to_gguf().unwrap();
    let count = gguf.merges.len();
    let last = tokenizer.token_id("er").unwrap();
    gguf.truncate(last as usize);
    assert_eq!(gguf.tokens.len(), last as usize);
    assert_eq!(gguf.token_types.len(), last as usize);
    assert_eq!(gguf.merges.len(), count - 1);
    assert_eq!((gguf.bos, gguf.eos), (None, None));
}
