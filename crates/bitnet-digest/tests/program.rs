//! The program as it is called: one digest for a type of keys and values whatever the kernels, threads and batches, and refusals that name the cause.

use std::process::{Command, Output};

fn digest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitnet-digest"))
        .args(arguments)
        .output()
        .expect("the program")
}

#[test]
fn every_combination_has_a_line_and_the_same_digest() {
    let output = digest(&["5,6,7", "1,2", "1,2,3", "f16,int8", "demo"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let kernels = lines.iter().filter(|line| line[1] == "scalar");
    assert_eq!(kernels.count(), 12);
    assert_eq!(lines[0][..5], ["demo", "scalar", "1", "1", "f16"]);
    let int8 = lines.iter().find(|line| line[4] == "int8").expect("int8");
    assert_ne!(int8[5], lines[0][5]);
    for line in &lines {
        let expected = if line[4] == "int8" { int8 } else { &lines[0] };
        assert_eq!(line[5], expected[5], "{line:?}");
    }
    // Other tokens, another digest.
    let other = digest(&["5,6,8", "1", "3", "f16", "demo"]);
    assert!(!String::from_utf8_lossy(&other.stdout).contains(lines[0][5]));
}

#[test]
fn refusals_name_their_cause() {
    for (arguments, cause) in [
        (&["1", "1"][..], "usage"),
        (&["1,x", "1", "1", "f16", "demo"], "tokens"),
        (&["1", "0", "1", "f16", "demo"], "threads"),
        (&["1", "1", "0", "f16", "demo"], "batches"),
        (&["1", "1", "1", "f64", "demo"], "keys and values"),
        (&["1", "1", "1", "f16", "missing.gguf"], "missing.gguf"),
    ] {
        let output = digest(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(cause), "{arguments:?}: {said}");
    }
}
