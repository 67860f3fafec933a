//! Windows of attention in `gemma3`, of which the golden file has none.

use super::rewrite::{refused, with_key};
use super::{Golden, Model, ModelOptions, Pooling, embed, pooled};
use bitnet::file::Value;
use bitnet::file::gguf::Array;
use bitnet::{Isa, WindowRotation};

const WINDOW: &str = "gemma3.attention.sliding_window";
const PATTERN: &str = "gemma3.attention.sliding_window_pattern";
const BASE: &str = "gemma3.rope.freq_base";
const OWN_BASE: &str = "gemma3.rope.freq_base_swa";

/// The golden file with other keys.
fn with(keys: &[(&str, Value)]) -> Vec<u8> {
    let [_, gemma3] = Golden::all();
    let bytes = gemma3.bytes.to_vec();
    keys.iter().fold(bytes, |bytes, (key, value)| {
        with_key(&bytes, key, Some(value.clone()))
    })
}

fn open(keys: &[(&str, Value)]) -> Model {
    Model::from_bytes("windows", with(keys), &ModelOptions::default()).expect("a model")
}

/// Tokens of a text, the first of which can be told.
fn text(first: u32, len: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| if i == 0 { first } else { 7 + i * 13 % 200 })
        .collect()
}

fn vector(model: &Model, text: &[u32]) -> Vec<f32> {
    embed(model, &[text.to_vec()], &pooled(Pooling::Last)).remove(0)
}

/// With windows of `w` in each of three layers, a row sees 3 · (w − 1) positions behind it, and not one more.
#[test]
fn a_window_ends_where_it_says() {
    let model = open(&[
        (WINDOW, 5u32.into()),
        (PATTERN, Array::from_bools(&[true; 3]).into()),
    ]);
    let seen = 3 * 4 + 1;
    assert_ne!(
        vector(&model, &text(3, seen)),
        vector(&model, &text(4, seen))
    );
    assert_eq!(
        vector(&model, &text(3, seen + 1)),
        vector(&model, &text(4, seen + 1))
    );
    // The golden file's layers see all; so does a layer that is left out of the pattern.
    let [_, gemma3] = Golden::all();
    for model in [
        gemma3.model(&ModelOptions::default()),
        open(&[
            (WINDOW, 5u32.into()),
            (PATTERN, Array::from_bools(&[true, true, false]).into()),
        ]),
    ] {
        assert_ne!(vector(&model, &text(3, 40)), vector(&model, &text(4, 40)));
    }
}

/// Where windows hold the whole text, only the base of their layers counts.
#[test]
fn layers_with_a_window_have_a_base_of_their_own() {
    let wide = || (WINDOW, Value::from(4096u32));
    let text = text(3, 60);
    let expected = vector(&open(&[(BASE, 10_000.0f32.into())]), &text);
    // The usual base, and all of the three layers within the usual period of six.
    let model = open(&[wide(), (BASE, 1e6f32.into())]);
    assert_eq!(vector(&model, &text), expected);
    let windows = model.architecture().windows.clone().expect("windows");
    assert_eq!((windows.positions, windows.slides), (4096, vec![true; 3]));
    assert_eq!(windows.rotation, WindowRotation::OwnBase(10_000.0));
    // Scaling is not theirs.
    let scaled = [
        wide(),
        ("gemma3.rope.scaling.type", "linear".into()),
        ("gemma3.rope.scaling.factor", 8.0f32.into()),
    ];
    assert_eq!(vector(&open(&scaled), &text), expected);
    // One layer of two sees all positions, by the other base.
    let with_own = |own: f32, pattern: Value| {
        vector(
            &open(&[
                wide(),
                (BASE, 10_000.0f32.into()),
                (OWN_BASE, own.into()),
                (PATTERN, pattern),
            ]),
            &text,
        )
    };
    let listed = Array::from_bools(&[true, false, true]);
    assert_eq!(with_own(500.0, 2u32.into()), with_own(500.0, listed.into()));
    assert_ne!(with_own(500.0, 2u32.into()), with_own(500.0, 3u32.into()));
    assert_eq!(with_own(10_000.0, 2u32.into()), expected);
    assert_eq!(with_own(500.0, 1u32.into()), expected);
}

#[test]
fn vectors_depend_on_nothing_but_their_texts() {
    let keys = [(WINDOW, 70u32.into()), (PATTERN, Value::from(2u32))];
    let bytes = with(&keys);
    let texts: Vec<Vec<u32>> = [3, 700, 64, 65, 71, 1, 530]
        .map(|len| text(9, len))
        .to_vec();
    let together = embed(&open(&keys), &texts, &pooled(Pooling::Mean));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 3] {
            let options = ModelOptions {
                isa: Some(isa),
                threads: Some(threads),
                ..ModelOptions::default()
            };
            let model = Model::from_bytes("windows", bytes.clone(), &options).expect("a model");
            for (text, expected) in texts.iter().zip(&together) {
                let alone = embed(&model, std::slice::from_ref(text), &pooled(Pooling::Mean));
                assert_eq!(alone[0], *expected, "{isa:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn wrong_windows_are_refused_by_key_and_value() {
    let file = with(&[(WINDOW, 5u32.into())]);
    for value in [
        Value::from(-1i32),
        1.5f32.into(),
        "five".into(),
        true.into(),
    ] {
        refused(&file, WINDOW, Some(value));
    }
    let floats = Array::from_f32s(&[1.0; 3]).into();
    let short = Array::from_bools(&[true; 2]).into();
    let others = Array::from_i32s(&[1, 2, 0]).into();
    for value in [
        0u32.into(),
        (-6i32).into(),
        0.5f32.into(),
        "six".into(),
        floats,
        short,
        others,
    ] {
        refused(&file, PATTERN, Some(value));
    }
    for value in [
        Value::from(0.0f32),
        f32::NAN.into(),
        (-1.0f32).into(),
        "large".into(),
        7u32.into(),
    ] {
        refused(&file, OWN_BASE, Some(value));
    }
    // Without a window the others say nothing.
    let plain = with(&[(WINDOW, 0u32.into()), (PATTERN, 0u32.into())]);
    let model = Model::from_bytes("plain", plain, &ModelOptions::default()).expect("a model");
    assert!(model.architecture().windows.is_none());
}
