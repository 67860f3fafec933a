//! `bitnet tokenize`.

use super::{failure, json, stdout, tiny};

#[test]
fn tokens_spell_the_text() {
    let text = "Hello, wörld!";
    let report = json(&["tokenize", "-m", tiny(), text, "--no-bos", "--json"]);
    let ids = report["ids"].as_array().unwrap();
    assert_eq!(ids.len(), report["pieces"].as_array().unwrap().len());
    assert!(!ids.is_empty());
    // How the model would run is no question here.
    failure(&["tokenize", "-m", tiny(), text, "--device", "cpu"], 2);
    assert_eq!(
        stdout(&["tokenize", "-m", tiny(), text, "--no-bos"])
            .lines()
            .count(),
        ids.len()
    );
}
