//! `bitnet logits`.

use super::{bitnet, failure, json, piped, stdout, tiny};

#[test]
fn logits_do_not_depend_on_threads_batches_or_mapping() {
    let base = [
        "logits",
        "-m",
        tiny(),
        "--tokens",
        "1,2,3,4,5,6,7",
        "--digest",
    ];
    let digest = |more: &[&str]| stdout(&[&base[..], more].concat());
    let expected = digest(&["-t", "1"]);
    assert_eq!(expected.trim().len(), 64);
    for more in [
        &["-t", "2"][..],
        &["--batch", "1"],
        &["--batch", "3"],
        &["--no-mmap"],
    ] {
        assert_eq!(digest(more), expected, "{more:?}");
    }
    let scalar = bitnet(&base).env("BITNET_ISA", "scalar").output().unwrap();
    assert_eq!(String::from_utf8(scalar.stdout).unwrap(), expected);
    assert_ne!(digest(&["--activations", "f32"]), expected);

    let report = json(&["logits", "-m", tiny(), "--tokens", "1,2,3", "--json"]);
    let rows = report["logits"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let width = rows[0].as_array().unwrap().len();
    assert!(
        rows.iter()
            .all(|row| row.as_array().unwrap().len() == width && width >= 256)
    );
    let plain = stdout(&["logits", "-m", tiny(), "--tokens", "1,2,3"]);
    let first: Vec<f32> = plain
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .map(|v| v.parse().unwrap())
        .collect();
    assert_eq!(first[0], rows[0][0].as_f64().unwrap() as f32);

    let line = failure(&["logits", "-m", tiny(), "--tokens", "4000000000"], 2);
    assert!(line.contains("4000000000"), "{line}");
}

#[test]
fn the_text_may_come_from_stdin() {
    let text = "Once upon";
    let mut command = bitnet(&["logits", "-m", tiny(), "--text", "-", "--digest"]);
    let output = piped(&mut command, text.as_bytes());
    let expected = stdout(&["logits", "-m", tiny(), "--text", text, "--digest"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
