//! The head and the likeliest tokens.

use crate::beside::head;
use crate::harness::*;

#[test]
fn logits_are_close() {
    head::logits_are_close(&others_and_split());
}

#[test]
fn no_row_has_no_logits() {
    head::no_row_has_no_logits(&others());
}

#[test]
fn the_likeliest_are_those_of_the_logits() {
    head::the_likeliest_are_those_of_the_logits(&others_and_split());
}

#[test]
fn a_screened_head_finds_the_likeliest() {
    head::a_screened_head_finds_the_likeliest(&others_and_split());
}

#[test]
fn both_zeros_are_equal() {
    head::both_zeros_are_equal(&others_and_split());
}

#[test]
fn what_is_not_finite_is_told_first() {
    head::what_is_not_finite_is_told_first(&others_and_split());
}
