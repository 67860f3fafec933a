//! `bitnet batch`.

use super::{bitnet, failure, run};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with requests, and where their texts go.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(lines: &[Value]) -> Self {
        let files = Self {
            folder: TempDir::new().unwrap(),
        };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(files.path("in.jsonl"), text).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        let mut arguments = vec!["batch".to_owned(), path("in.jsonl"), path("out.jsonl")];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    /// The results of a run that must succeed, and what it said on stderr.
    fn run(&self, more: &[&str]) -> (Vec<Value>, String) {
        let arguments = self.arguments(more);
        let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert!(!self.path("out.jsonl.journal").exists());
        (results(&self.path("out.jsonl")), stderr)
    }

    fn failure(&self, more: &[&str]) -> String {
        let arguments = self.arguments(more);
        failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), 1)
    }
}

fn results(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn stories(count: usize) -> Vec<Value> {
    let names = ["Tom", "Lily", "Max", "Mia", "Ben"];
    (0..count)
        .map(|index| {
            json!({
                "id": index,
                "prompt": format!("One day, {} found {index} stones", names[index % names.len()]),
                // Short and long ones, so that they do not end in their order.
                "max_tokens": 5 + index * 7 % 40,
            })
        })
        .collect()
}

#[test]
fn all_texts_keep_the_form_that_is_asked_for() {
    let mut lines = stories(4);
    lines.push(json!({"messages": [{"role": "user", "content": "What is 20 + 22?"}]}));
    let files = Files::new(&lines);
    let (texts, _) = files.run(&["--regex", "[0-9]{3}", "--parallel", "2"]);
    for text in &texts {
        let text = text["text"].as_str().unwrap();
        assert!(text.len() == 3 && text.parse::<u16>().is_ok(), "{text}");
    }
    // Texts of another form are other texts.
    let (words, _) = files.run(&["--choices", "yes,no", "--restart"]);
    assert!(
        words
            .iter()
            .all(|word| word["text"] == "yes" || word["text"] == "no")
    );
}

#[test]
fn texts_are_those_of_single_runs_in_the_order_of_the_input() {
    let mut lines = stories(9);
    lines.push(json!({"tokens": [1, 2, 3], "temperature": 0.0, "ignore_end": true}));
    let files = Files::new(&lines);
    let (results, stderr) = files.run(&["--parallel", "4", "--seed", "5"]);
    assert!(stderr.contains("10 lines |"), "{stderr}");
    assert_eq!(results.len(), 10);
    for (index, result) in results.iter().enumerate().take(9) {
        assert_eq!(result["line"], index + 1);
        assert_eq!(result["id"], index);
        assert_eq!(result["seed"], 5 + index + 1);
        let single = super::json(&[
            "run",
            lines[index]["prompt"].as_str().unwrap(),
            "-n",
            &lines[index]["max_tokens"].to_string(),
            "--seed",
            &result["seed"].to_string(),
            "--json",
        ]);
        assert_eq!(result["text"], single["text"]);
        assert_eq!(result["finish_reason"], single["stop"]);
        assert_eq!(result["generated_tokens"], single["generated_tokens"]);
    }
    assert_eq!(results[9]["generated_tokens"], 128);

    // Nothing is left to do; then only what was added.
    let before = fs::read(files.path("out.jsonl")).unwrap();
    let (_, stderr) = files.run(&["--parallel", "2", "--seed", "5"]);
    assert!(
        stderr.contains("10 from before | 0 prompt tokens"),
        "{stderr}"
    );
    assert!(fs::read(files.path("out.jsonl")).unwrap() == before);
    let more: String = lines
        .iter()
        .chain(&stories(2))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(files.path("in.jsonl"), more).unwrap();
    let (results, stderr) = files.run(&["--seed", "5"]);
    assert!(stderr.contains("12 lines, 10 from before"), "{stderr}");
    assert_eq!(results.len(), 12);
}

#[test]
fn a_line_that_cannot_run_has_an_error_and_the_others_run() {
    let lines = [
        (
            "{\"id\": \"a\", \"prompt\": \"Once\", \"max_tokens\": 3}",
            None,
        ),
        (
            "{\"id\": \"b\", \"prompt\": \"Once\", \"max_tokns\": 3}",
            Some("max_tokns"),
        ),
        ("", None),
        ("{\"prompt\": \"Once", Some("EOF while parsing")),
        ("[1]", Some("expected a JSON object, found \"[1]\"")),
        (
            "{}",
            Some("expected one of prompt, messages and tokens, found none"),
        ),
        (
            "{\"prompt\": \"a\", \"tokens\": [1]}",
            Some("found several"),
        ),
        (
            "{\"prompt\": \"a\", \"temperature\": -1}",
            Some("temperature"),
        ),
        ("{\"tokens\": [4000000000]}", Some("4000000000")),
        ("{\"tokens\": []}", Some("at least one token")),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}",
            Some("invalid type"),
        ),
    ];
    let files = Files::new(&[]);
    let mut text: Vec<u8> = lines
        .iter()
        .map(|(line, _)| format!("{line}\n"))
        .collect::<String>()
        .into();
    text.extend(b"{\"prompt\": \"\xff\"}\n");
    text.extend(b"{\"prompt\": \"no newline\", \"max_tokens\": 1}");
    fs::write(files.path("in.jsonl"), text).unwrap();
    let (results, stderr) = files.run(&[]);
    assert!(
        stderr.contains("12 lines, 10 of them with errors"),
        "{stderr}"
    );
    assert_eq!(results[0]["generated_tokens"], 3);
    assert_eq!(results[1]["id"], "b");
    let expected = lines
        .iter()
        .enumerate()
        .filter(|(_, (line, _))| !line.is_empty());
    for ((index, (_, error)), result) in expected.zip(&results) {
        assert_eq!(result["line"], index + 1);
        match error {
            Some(error) => assert!(
                result["error"].as_str().unwrap().contains(error),
                "{result}"
            ),
            None => assert!(result["error"].is_null(), "{result}"),
        }
    }
    assert!(results[10]["error"].as_str().unwrap().contains("UTF-8"));
    assert_eq!(results[11]["generated_tokens"], 1);
}

#[test]
fn a_killed_run_goes_on_and_the_output_has_the_same_bytes() {
    let lines = stories(200);
    let whole = Files::new(&lines);
    whole.run(&[]);
    let files = Files::new(&lines);
    let arguments = files.arguments(&["--parallel", "3"]);
    let journal = files.path("out.jsonl.journal");
    let mut child = bitnet(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while fs::metadata(&journal).map_or(0, |journal| journal.len()) < 2000 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!files.path("out.jsonl").exists());
    // As if it had been killed while it wrote.
    let mut half = fs::read(&journal).unwrap();
    half.extend(b"{\"line\":99,\"inp");
    fs::write(&journal, half).unwrap();
    let (_, stderr) = files.run(&[]);
    assert!(stderr.contains(" from before"), "{stderr}");
    let read = |files: &Files| fs::read(files.path("out.jsonl")).unwrap();
    assert!(read(&files) == read(&whole));
}

#[test]
fn results_of_something_else_are_not_touched() {
    let files = Files::new(&stories(2));
    files.run(&[]);
    let error = files.failure(&["--temp", "0.1"]);
    assert!(error.contains("line 1 of the input"), "{error}");
    assert!(error.contains("--restart"), "{error}");
    let (_, stderr) = files.run(&["--temp", "0.1", "--restart"]);
    assert!(!stderr.contains("from before"), "{stderr}");

    fs::write(files.path("in.jsonl"), "{\"prompt\": \"a\"}\n").unwrap();
    assert!(
        files
            .failure(&["--temp", "0.1"])
            .contains("line 1 of the input")
    );

    let files = Files::new(&stories(1));
    fs::write(files.path("out.jsonl"), "my diary\n").unwrap();
    let error = files.failure(&[]);
    assert!(
        error.contains("expected a result of this command"),
        "{error}"
    );
    assert_eq!(fs::read(files.path("out.jsonl")).unwrap(), b"my diary\n");
    assert!(!files.path("out.jsonl.journal").exists());

    let input = files.path("in.jsonl");
    let input = input.to_str().unwrap();
    assert!(failure(&["batch", input, input], 1).contains("it is the input"));
    assert!(failure(&["batch", "/nowhere/in.jsonl", input], 1).contains("/nowhere/in.jsonl"));
}
