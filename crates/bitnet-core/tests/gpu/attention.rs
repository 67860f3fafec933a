//! Rotation, the cache and attention.

use crate::beside::attention;
use crate::harness::*;
use bitnet_core::Backend;

#[test]
fn attention_is_close() {
    attention::attention_is_close(&others());
}

#[test]
fn a_wide_head_is_close() {
    attention::a_wide_head_is_close(&others()[0]);
}

#[test]
fn attention_that_is_multiplied_is_close() {
    attention::attention_that_is_multiplied_is_close(&others());
}

#[test]
fn weights_of_attention_are_close() {
    attention::weights_of_attention_are_close(&others());
}

#[test]
fn a_cache_that_is_full_or_too_large_says_so() {
    attention::a_full_cache_says_so(gpus()[0].1);
    let (_, small) = split();
    let weights = small
        .table(table(&[1.0; 64], 64, bitnet_quant::Format::F32))
        .expect("a table");
    let cache = small.cache(1, attention::FEW_HEADS, 4096).expect("a cache");
    let error = small
        .embed(&weights, bitnet_core::Input::Tokens(&[0; 200]), &cache)
        .expect_err("a small binding");
    assert!(error.to_string().contains("binds at most"), "{error}");
}
