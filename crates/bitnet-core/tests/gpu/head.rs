//! The head and the likeliest tokens.

use crate::harness::*;
use crate::parity::head;

#[test]
fn logits() {
    head::logits_are_close(&others_and_split());
}

#[test]
fn nothing_requested() {
    head::nothing_requested(&others());
}

#[test]
fn top_of_logits() {
    head::top_of_logits(&others_and_split());
}

#[test]
fn screened() {
    head::screened(&others_and_split());
}

#[test]
fn zeros() {
    head::zeros(&others_and_split());
}

#[test]
fn not_finite() {
    head::not_finite(&others_and_split());
}
