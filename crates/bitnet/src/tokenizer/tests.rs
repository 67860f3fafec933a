use super::*;
use proptest::prelude::*;

mod added;
mod ends;
mod json;
mod mutants;
mod real;

/// A byte-level vocabulary: the 256 bytes, the tokens that `merges` make, then the marks of Llama 3.
pub(crate) struct Sample {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

const SAMPLE_MERGES: [&str; 15] = [
    "Ġ U", "Ġ t", "h e", "Ġt he", "i n", "Ġ a", "Ġ Ġ", "1 2", "12 3", "c a", "ca p", "l l", "Ã ©",
    "Ċ Ċ", "e r",
];

impl Sample {
    pub(crate) fn new() -> Self {
        let mut tokens: Vec<String> = (0..=255u8)
            .map(|byte| byte_alphabet::byte_to_char(byte).to_string())
            .collect();
        tokens.extend(SAMPLE_MERGES.iter().map(|merge| merge.replace(' ', "")));
        let mut types = vec![1; tokens.len()];
        // A token that no merges lead to: only `ignore_merges` finds it.
        tokens.push("Ġwhole".into());
        types.push(1);
        for mark in [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|im_start|>",
            "<|im_end|>",
        ] {
            tokens.push(mark.into());
            types.push(3);
        }
        tokens.push("<tool>".into());
        types.push(4);
        Self {
            tokens,
            types,
            merges: SAMPLE_MERGES.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn spec(&self) -> TokenizerSpec<'_> {
        TokenizerSpec {
            file: "sample.gguf",
            model: "gpt2",
            architecture: "bitnet-b1.58",
            tokens: self.tokens.iter().map(String::as_bytes).collect(),
            token_types: Some(self.types.clone()),
            merges: Some(self.merges.iter().map(String::as_bytes).collect()),
            bos: Some(self.id("<|begin_of_text|>")),
            eos: Some(self.id("<|end_of_text|>")),
            ..TokenizerSpec::default()
        }
    }

    fn id(&self, text: &str) -> u32 {
        self.tokens.iter().position(|token| token == text).unwrap() as u32
    }
}

pub(crate) fn sample() -> Tokenizer {
    Tokenizer::from_spec(Sample::new().spec()).unwrap()
}

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos: false,
    parse_special: false,
};
const SPECIAL: EncodeOptions = EncodeOptions {
    add_bos: true,
    parse_special: true,
};

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter()
        .map(|id| tokenizer.token_text(*id).unwrap())
        .collect()
}

fn pieces(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Vec<String> {
    texts(tokenizer, &tokenizer.encode(text, options).unwrap())
}

#[test]
fn merges_go_by_rank_within_pieces() {
    let tokenizer = sample();
    assert_eq!(
        pieces(&tokenizer, "in the  1234 caper", PLAIN),
        ["in", "Ġthe", "Ġ", "Ġ", "123", "4", "Ġ", "cap", "er"]
    );
    assert_eq!(pieces(&tokenizer, "\u{e9}\n\n", PLAIN), ["Ã©", "ĊĊ"]);
    assert_eq!(pieces(&tokenizer, "", PLAIN), Vec::<String>::new());
}

#[test]
fn whole_pieces_go_before_merges_where_the_cut_is_llama_3() {
    let sample = Sample::new();
    assert_eq!(pieces(&super::tests::sample(), " whole", PLAIN), ["Ġwhole"]);
    let mut spec = sample.spec();
    spec.pre = Some("gpt-2");
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert_eq!(
        pieces(&tokenizer, " whole", PLAIN),
        ["Ġ", "w", "h", "o", "l", "e"]
    );
}

#[test]
fn control_tokens_count_only_with_leave() {
    let tokenizer = sample();
    assert_eq!(
        pieces(&tokenizer, "<|eot_id|>", SPECIAL),
        ["<|begin_of_text|>", "<|eot_id|>"]
    );
    assert!(!pieces(&tokenizer, "<|eot_id|>", PLAIN).contains(&"<|eot_id|>".into()));
    assert_eq!(
        pieces(&tokenizer, "a<tool>", PLAIN),
        ["a", "<tool>"],
        "user-defined tokens always count"
    );
}

#[test]
fn there_is_exactly_one_bos() {
    let tokenizer = sample();
    for text in [
        "in",
        "<|begin_of_text|>in",
        "<|begin_of_text|><|begin_of_text|>in",
    ] {
        assert_eq!(
            pieces(&tokenizer, text, SPECIAL),
            ["<|begin_of_text|>", "in"]
        );
    }
    let without = EncodeOptions {
        add_bos: false,
        ..SPECIAL
    };
    assert_eq!(pieces(&tokenizer, "in", without), ["in"]);
}

#[test]
fn stops_are_found_by_text() {
    let tokenizer = sample();
    let stops = texts(&tokenizer, tokenizer.stops());
    assert_eq!(stops, ["<|end_of_text|>", "<|eot_id|>", "<|im_end|>"]);
    assert!(tokenizer.add_bos());
    assert!(!tokenizer.add_eos());
}

#[test]
fn marks_print_as_nothing_and_ids_outside_are_passed_over() {
    let tokenizer = sample();
    let mut ids = tokenizer.encode("in the", SPECIAL).unwrap();
    ids.extend(tokenizer.stops());
    ids.extend([u32::MAX, tokenizer.vocab_size() as u32]);
    assert_eq!(tokenizer.decode(&ids), "in the");
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    assert_eq!(tokenizer.token_text(u32::MAX), None);
    let the = tokenizer.token_id("Ġthe").unwrap();
    assert_eq!(tokenizer.token_bytes(the).as_deref(), Some(&b" the"[..]));
    assert_eq!(tokenizer.token_id("no such token"), None);
}

#[test]
fn pre_is_known_or_refused() {
    let sample = Sample::new();
    for pre in [
        "llama-bpe",
        "falcon3",
        "falcon_e",
        "qwen2",
        "gpt-2",
        "default",
    ] {
        let mut spec = sample.spec();
        spec.pre = Some(pre);
        let tokenizer = Tokenizer::from_spec(spec).unwrap();
        assert_eq!(pieces(&tokenizer, "in the", PLAIN), ["in", "Ġthe"]);
    }
    let mut spec = sample.spec();
    spec.pre = Some("kimi-k2");
    let message = Tokenizer::from_spec(spec).unwrap_err().to_string();
    assert!(
        message.contains("kimi-k2") && message.contains("llama-bpe"),
        "{message}"
    );
    let mut spec = sample.spec();
    spec.model = "bert";
    assert!(matches!(
        Tokenizer::from_spec(spec),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn qwen2_normalizes_to_composed_characters() {
    let sample = Sample::new();
    let mut spec = sample.spec();
    spec.pre = Some("qwen2");
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert_eq!(pieces(&tokenizer, "e\u{301}", PLAIN), ["Ã©"]);
    assert_eq!(pieces(&tokenizer, "123", PLAIN), ["1", "2", "3"]);
}

#[test]
fn hostile_descriptions_give_errors_or_tokenizers() {
    let sample = Sample::new();
    let mut spec = sample.spec();
    spec.merges.as_mut().unwrap().extend([
        &b"no such"[..],
        b"nospace",
        b"",
        b" ",
        b"a ",
        b" a",
        b"\xff \xfe",
        b"a b c",
    ]);
    spec.bos = Some(1 << 30);
    spec.tokens[40] = b"\xff\xfe";
    spec.tokens[41] = b"";
    spec.tokens[43] = spec.tokens[42];
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert_eq!(tokenizer.bos(), None);
    assert_eq!(pieces(&tokenizer, "in", SPECIAL), ["in"]);
    assert_eq!(tokenizer.token_bytes(40).as_deref(), Some(&b"\xff\xfe"[..]));
    let error = tokenizer.encode(")", PLAIN).unwrap_err().to_string();
    assert!(error.contains("no token"), "{error}");

    let mut spec = sample.spec();
    spec.tokens.clear();
    spec.token_types = None;
    assert!(Tokenizer::from_spec(spec).is_err());
    let mut spec = sample.spec();
    spec.token_types = Some(vec![1; 3]);
    assert!(Tokenizer::from_spec(spec).is_err());
    let mut spec = sample.spec();
    spec.scores = Some(vec![0.0; 3]);
    assert!(Tokenizer::from_spec(spec).is_err());
    let mut spec = sample.spec();
    spec.model = "llama";
    assert!(Tokenizer::from_spec(spec).is_err(), "no scores");
    let mut spec = sample.spec();
    spec.model = "llama";
    spec.scores = Some(vec![f32::NAN; sample.tokens.len()]);
    assert!(
        Tokenizer::from_spec(spec).is_err(),
        "scores that are no numbers"
    );
}

#[test]
fn long_runs_are_encoded() {
    let tokenizer = sample();
    let text = format!("{}in", " ".repeat(1 << 18));
    let ids = tokenizer.encode(&text, PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids), text);
}

/// Sentencepiece in small: marks, bytes, characters and words.
fn score_spec<'a>(storage: &'a [(String, f32, i32)]) -> TokenizerSpec<'a> {
    TokenizerSpec {
        file: "scores.gguf",
        model: "llama",
        pre: Some("default"),
        architecture: "bitnet",
        tokens: storage.iter().map(|(text, _, _)| text.as_bytes()).collect(),
        scores: Some(storage.iter().map(|(_, score, _)| *score).collect()),
        token_types: Some(storage.iter().map(|(_, _, kind)| *kind).collect()),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        ..TokenizerSpec::default()
    }
}

fn score_storage() -> Vec<(String, f32, i32)> {
    let mut storage = vec![
        ("<unk>".into(), 0.0, 2),
        ("<s>".into(), 0.0, 3),
        ("</s>".into(), 0.0, 3),
    ];
    storage.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let words = [
        "▁t", "he", "▁the", "in", "▁a", "▁▁", "</", "s>", "er", "▁", "e", "t", "a", "i", "n", "s",
        "h", "r", "<", "/", ">",
    ];
    storage.extend(
        words
            .iter()
            .enumerate()
            .map(|(rank, word)| (word.to_string(), -(rank as f32), 1)),
    );
    storage
}

#[test]
fn scores_merge_and_spaces_are_marked() {
    let storage = score_storage();
    let tokenizer = Tokenizer::from_spec(score_spec(&storage)).unwrap();
    assert_eq!(pieces(&tokenizer, "the in", PLAIN), ["▁the", "▁", "in"]);
    assert_eq!(
        pieces(&tokenizer, "<s>the</s>in", SPECIAL),
        ["<s>", "▁the", "</s>", "▁", "in"]
    );
    // Text cannot spell a mark by merging.
    assert_eq!(pieces(&tokenizer, "</s>", PLAIN), ["▁", "</", "s>"]);
    assert_eq!(
        pieces(&tokenizer, "\u{e9}", PLAIN),
        ["▁", "<0xC3>", "<0xA9>"]
    );
    let ids = tokenizer.encode("  the\n\u{e9} in", SPECIAL).unwrap();
    assert_eq!(tokenizer.decode(&ids), "  the\n\u{e9} in");
    let the = tokenizer.encode("the", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&the), "the");
    let mut stream = tokenizer.detokenizer().continuing();
    assert_eq!(stream.push(the[0]), " the");
    assert!(tokenizer.add_bos());
    let mut spec = score_spec(&storage);
    spec.add_space_prefix = Some(false);
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    assert_eq!(pieces(&tokenizer, "the", PLAIN), ["t", "he"]);
}

#[test]
fn tokenizers_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Tokenizer>();
    crosses::<Detokenizer>();
    crosses::<crate::chat::ChatTemplate>();
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in any::<String>()) {
        let tokenizer = shared();
        let ids = tokenizer.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn streams_equal_the_whole_and_never_cut_characters(ids in proptest::collection::vec(0u32..300, 0..40)) {
        let tokenizer = shared();
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|id| tokenizer.token_bytes(*id))
            .flat_map(|bytes| bytes.into_owned())
            .collect();
        let mut stream = tokenizer.detokenizer();
        let mut text = String::new();
        for id in &ids {
            text.push_str(&stream.push(*id));
        }
        text.push_str(&stream.finish());
        prop_assert_eq!(&text, &tokenizer.decode(&ids));
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn whole_characters_come_out_whole(text in "[\u{e9}\u{4e2d}\u{1f600}a ]{0,12}") {
        let tokenizer = shared();
        let mut stream = tokenizer.detokenizer();
        let mut joined = String::new();
        for byte in text.bytes() {
            let piece = stream.push(u32::from(byte));
            prop_assert!(!piece.contains(char::REPLACEMENT_CHARACTER));
            joined.push_str(&piece);
        }
        prop_assert_eq!(joined, text);
        prop_assert_eq!(stream.finish(), "");
    }
}

fn shared() -> &'static Tokenizer {
    static SHARED: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    SHARED.get_or_init(sample)
}

#[test]
fn normal_form_c_is_the_librarys_or_the_hosts() {
    let sample = Sample::new();
    let spec = || TokenizerSpec {
        pre: Some("qwen2"),
        ..sample.spec()
    };
    let own = Tokenizer::from_spec(spec()).unwrap();
    assert_eq!(pieces(&own, "e\u{301}", PLAIN), ["Ã©"]);
    let host: Nfc = |text| text.replace("e\u{301}", "the");
    let hosted = Tokenizer::from_spec_with(spec(), Some(host)).unwrap();
    assert_eq!(pieces(&hosted, " e\u{301}", PLAIN), ["Ġthe"]);
    // Vocabularies of other text do not ask.
    let other = Tokenizer::from_spec_with(sample.spec(), Some(host)).unwrap();
    assert_ne!(pieces(&other, "e\u{301}", PLAIN), ["Ã©"]);
    assert_eq!(
        own.to_json().unwrap(),
        hosted.to_json().unwrap(),
        "both are written as NFC"
    );
}
