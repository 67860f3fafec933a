//! The skin as JavaScript sees it, in a Worker of a real browser: `wasm-pack test --headless --chrome crates/bitnet-wasm`.

#![cfg(target_family = "wasm")]

use bitnet_wasm::{Engine, Hasher, Landing};
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Hands `file` over in chunks of `chunk` bytes.
fn landed(file: &[u8], announced: bool, chunk: usize) -> Landing {
    let bytes = announced.then_some(file.len() as f64);
    let mut landing = Landing::new("demo.gguf".into(), bytes, true).unwrap();
    for piece in file.chunks(chunk) {
        landing.push(&Uint8Array::from(piece)).unwrap();
    }
    landing
}

fn demo() -> Engine {
    Engine::open(landed(bitnet_demo::GGUF, true, 1 << 20), "{}").unwrap()
}

/// Begins with `tokens`, reads them in parts of `batch`, and writes to the end.
fn written(engine: &mut Engine, tokens: Vec<u32>, options: &str, batch: usize) -> String {
    engine.begin(tokens, options, None).unwrap();
    while engine.prefill(batch).unwrap() > 0 {}
    let mut text = String::new();
    while let Some(piece) = engine.step().unwrap() {
        text += &piece;
    }
    text
}

fn code(error: &JsValue) -> String {
    let read = |key: &str| Reflect::get(error, &key.into()).unwrap();
    assert_eq!(read("name").as_string().as_deref(), Some("BitNetError"));
    read("code").as_string().unwrap()
}

const GREEDY: &str = r#"{"maxTokens":40,"temperature":0}"#;

#[wasm_bindgen_test]
fn text_does_not_depend_on_how_file_and_prompt_were_cut() {
    let mut engine = demo();
    let prompt = engine.tokenize("Once upon a time", false, true).unwrap();
    let text = written(&mut engine, prompt.clone(), GREEDY, 256);
    assert!(text.starts_with(", there was a kind boy."), "{text}");
    let mut other = Engine::open(landed(bitnet_demo::GGUF, false, 777_777), "{}").unwrap();
    assert_eq!(written(&mut other, prompt, GREEDY, 2), text);
}

#[wasm_bindgen_test]
fn what_the_session_holds_is_not_run_again() {
    let mut engine = demo();
    let question = r#"[{"role":"user","content":"What is 47 + 38?"}]"#;
    let tokens = engine.chat_tokens(question, "{}").unwrap();
    assert_eq!(engine.begin(tokens.clone(), GREEDY, None).unwrap(), 0);
    assert_eq!(
        written(&mut engine, tokens.clone(), GREEDY, 8),
        "47 + 38 = 85."
    );
    engine.end().unwrap();
    assert_eq!(
        engine.begin(tokens.clone(), GREEDY, None).unwrap(),
        tokens.len() - 1
    );
    assert_eq!(written(&mut engine, tokens, GREEDY, 8), "47 + 38 = 85.");
}

#[wasm_bindgen_test]
fn looking_inside_changes_nothing() {
    let mut engine = demo();
    let prompt = engine.tokenize("Once upon a time", false, true).unwrap();
    let text = written(&mut engine, prompt.clone(), GREEDY, 256);
    let before = engine.tokens();
    assert!(engine.likeliest(5, 3).unwrap().contains("probability"));
    assert!(engine.attention(5, 7).unwrap().contains("weight"));
    assert_eq!(code(&engine.attention(99, 0).unwrap_err()), "argument");
    assert_eq!(engine.tokens(), before);
    assert_eq!(written(&mut engine, prompt, GREEDY, 256), text);
    assert!(engine.tensors().contains("blk.0.attn_q.weight"));
    let codes = engine
        .ternary_codes("blk.0.attn_q.weight", 510, 9, 0, 4)
        .unwrap();
    assert_eq!(codes.len(), 2 * 4, "two rows are left");
}

#[wasm_bindgen_test]
fn errors_carry_codes() {
    let cut = landed(&bitnet_demo::GGUF[..1000], false, 100);
    assert_eq!(code(&Engine::open(cut, "{}").err().unwrap()), "bad-file");
    let text = landed(b"this is no model", true, 100);
    assert_eq!(code(&Engine::open(text, "{}").err().unwrap()), "bad-file");
    let mut engine = demo();
    let unknown = engine
        .begin(vec![1], r#"{"temprature":1}"#, None)
        .unwrap_err();
    assert_eq!(code(&unknown), "argument");
    engine.begin(vec![1, 7], "{}", None).unwrap();
    engine.prefill(256).unwrap();
    let held = engine.tokens();
    for (tokens, expected) in [
        (vec![1; 5000], "context-full"),
        (Vec::new(), "argument"),
        (vec![1, 9_999_999], "argument"),
    ] {
        let error = engine.begin(tokens, "{}", None).unwrap_err();
        assert_eq!(code(&error), expected);
        assert_eq!(engine.tokens(), held, "refused, and nothing has changed");
    }
}

#[wasm_bindgen_test]
fn hashes_come_in_pieces() {
    let mut hasher = Hasher::new();
    hasher.update(b"abc");
    assert!(hasher.finish().starts_with("ba7816bf"));
}

#[wasm_bindgen_test]
fn a_saved_session_goes_on_with_the_same_bits() {
    let mut engine = demo();
    let prompt = engine.tokenize("Once upon a time", false, true).unwrap();
    written(&mut engine, prompt, GREEDY, 256);
    let file = js_sys::Array::new();
    let push = Closure::<dyn Fn(Uint8Array)>::new({
        let file = file.clone();
        move |piece: Uint8Array| {
            file.push(&piece);
        }
    });
    engine.save_session(push.as_ref().unchecked_ref()).unwrap();
    let shift = Closure::<dyn Fn(u32) -> Uint8Array>::new({
        let file = file.clone();
        move |most: u32| {
            let piece = file.shift();
            if piece.is_undefined() {
                return Uint8Array::new_with_length(0);
            }
            let piece = Uint8Array::from(piece);
            file.unshift(&piece.slice(most.min(piece.length()), piece.length()));
            if most >= piece.length() {
                file.shift();
            }
            piece.slice(0, most.min(piece.length()))
        }
    });
    let read: &js_sys::Function = shift.as_ref().unchecked_ref();
    let mut other = demo();
    let restored = other.restore_session(read).unwrap();
    assert_eq!(other.tokens(), engine.tokens());
    assert_eq!(restored, engine.tokens().len());
    assert_eq!(other.cache_bytes(), engine.cache_bytes());
    // All logits, as probabilities.
    let all = engine.likeliest(4096, 0).unwrap();
    assert_eq!(other.likeliest(4096, 0).unwrap(), all);
    // Nothing is left to read: the session stays what it was.
    assert_eq!(code(&other.restore_session(read).unwrap_err()), "bad-file");
    assert_eq!(other.tokens(), engine.tokens());
}
