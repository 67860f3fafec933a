//! `bitnet run`, of a file and of the demo model.

use super::{bitnet, failure, json, piped, run, tiny};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn the_same_seed_gives_the_same_text() {
    let run_json = |seed: &str, threads: &str| {
        json(&[
            "run",
            "-m",
            tiny(),
            "abc",
            "-n",
            "20",
            "--seed",
            seed,
            "-t",
            threads,
            "--json",
        ])
    };
    let report = run_json("5", "1");
    assert_eq!(report["text"], run_json("5", "2")["text"]);
    assert_ne!(report["text"], run_json("6", "1")["text"]);
    assert_eq!(report["seed"], 5);
    assert_eq!(report["prompt"], "abc");

    let output = run(&["run", "-m", tiny(), "abc", "-n", "20", "--seed", "5"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        format!("abc{}\n", report["text"].as_str().unwrap())
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("tok/s") && stderr.contains("seed 5"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\x1b'),
        "colour belongs on a terminal only"
    );
}

#[test]
fn the_prompt_may_come_from_stdin() {
    let mut command = bitnet(&["run", "-m", tiny(), "-", "-n", "3", "--json"]);
    let output = piped(&mut command, b"from a pipe");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["prompt"], "from a pipe");
}

/// A pipe gets the text, byte for byte, and no colours.
#[test]
fn a_pipe_gets_the_text_unchanged() {
    for text in [
        "a\x02b",
        "a\x7fb",
        "a\x1b[31mred",
        "a\x1bb",
        "a\x1b]0;the rest of the answer",
        "a\r\n\u{9b}2J\u{202e}b\0",
    ] {
        let mut command = bitnet(&["run", "-", "-n", "0"]);
        let output = piped(command.env("CLICOLOR_FORCE", "1"), text.as_bytes());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{text}\n")
        );
    }
}

#[test]
fn a_truncated_text_says_so_and_what_allows_more() {
    let stderr = |arguments: &[&str], code: i32| {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        stderr
    };
    let prompt = "hello there my friend";
    assert!(
        stderr(&["run", prompt, "-n", "3", "--ignore-end"], 0).contains("truncated after 3 tokens")
    );
    let full = stderr(&["run", prompt, "-c", "8", "--ignore-end"], 0);
    assert!(
        full.contains("context of 8 tokens is full") && full.contains("--context"),
        "{full}"
    );
    let ids = json(&["tokenize", prompt, "--json"]);
    let length = ids["ids"].as_array().unwrap().len();
    // Too short for the prompt, and for the prompt alone.
    for context in [length - 1, length] {
        let full = stderr(&["run", prompt, "-c", &context.to_string()], 1);
        assert!(
            full.contains(&format!("ask for at least {}", length + 1))
                && full.contains("own length is 1024"),
            "{full}"
        );
    }
}

#[test]
fn the_demo_model_needs_nothing() {
    let output = run(&["run", "-n", "24", "--temp", "0"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8(output.stdout).unwrap().len() > 40);
    let alone = run(&[]);
    assert!(alone.status.success());
    assert!(alone.stdout.len() > 80);
    // The story is told to its end, unless it is told how long to be.
    let report = json(&["run", "--json", "--seed", "26"]);
    assert_eq!(report["stop"], "end");
    assert!(report["generated_tokens"].as_u64().unwrap() > 128);
    let report = json(&[
        "run",
        "Once upon a time",
        "--ignore-end",
        "--json",
        "-t",
        "1",
    ]);
    assert_eq!(report["generated_tokens"], 128);
}

#[test]
fn stats_tell_where_memory_went() {
    let output = run(&["run", "-n", "4", "--temp", "0", "--stats"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in [
        "activations",
        "scratch",
        "KV cache",
        "peak",
        "zero-copy share",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let output = run(&["run", "-n", "4", "--temp", "0", "--stats", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let memory = &report["memory"];
    assert!(memory["peak_bytes"].as_u64() >= memory["in_use_bytes"].as_u64());
    assert!(memory["zero_copy"]["share_of_bytes"].as_f64().unwrap() > 0.5);
}

#[test]
fn a_memory_limit_is_kept_and_named() {
    let words = "once upon a time ".repeat(40);
    let within = run(&["run", "--memory-limit", "64MiB", &words, "-n", "2"]);
    assert!(within.status.success());
    let output = bitnet(&["run", "--memory-limit", "700kB", &words, "-n", "2"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("out of memory") && stderr.contains("the limit is 700000"),
        "{stderr}"
    );
    let wrong = bitnet(&["run", "--memory-limit", "much"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_text_keeps_the_form_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let schema = file(
        "schema.json",
        r#"{"type": "object", "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["legs"], "additionalProperties": false}"#,
    );
    let grammar = file("grammar.lark", "start: \"x\" | \"y\" start\n");
    let text = |form: &[&str]| {
        let seed = ["run", "Once upon a time", "--seed", "3", "--json"];
        let texts = ["off", "ngram"].map(|drafts| {
            let report = json(&[&seed[..], &["--speculate", drafts], form].concat());
            assert_eq!(report["stop"], "end", "{report}");
            report["text"].as_str().unwrap().to_owned()
        });
        assert_eq!(texts[0], texts[1]);
        texts.into_iter().next().unwrap()
    };
    let digits = text(&["--regex", "[0-9]{3}(-[0-9]{3}){4}"]);
    assert_eq!(
        digits.split('-').map(str::len).collect::<Vec<_>>(),
        [3; 5],
        "{digits}"
    );
    assert!(["a dog", "a cat"].contains(&text(&["--choices", "a dog,a cat"]).as_str()));
    let value: Value = serde_json::from_str(&text(&["--json-schema", &schema])).unwrap();
    assert!(
        (0..=9).contains(&value["legs"].as_i64().unwrap()),
        "{value}"
    );
    assert_eq!(text(&["--grammar", &grammar]).trim_start_matches('y'), "x");

    let refused = |form: &[&str], code: i32, says: &str| {
        let error = failure(&[&["run", "Once"], form].concat(), code);
        assert!(error.contains(says), "{error}");
    };
    refused(
        &["--regex", "a", "--choices", "b"],
        2,
        "cannot be used with",
    );
    refused(&["--regex", "(a"], 2, "grammar");
    refused(&["--grammar", &schema], 2, "grammar");
    refused(&["--json-schema", &grammar], 1, "grammar.lark");
    refused(&["--json-schema", "none.json"], 1, "none.json");
}
