//! `bitnet bench`.

use super::{failure, json, stdout, tiny};

#[test]
fn bench_reports_every_test() {
    fn bench(options: &str) -> Vec<&str> {
        let options = options.split(' ');
        ["bench", "-m", tiny()].into_iter().chain(options).collect()
    }
    let report = json(&bench("-p 8 -n 4 -t 1,2 -r 2 --json"));
    let results = report["results"].as_array().unwrap();
    let tests: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result["test"].as_str().unwrap(),
                result["threads"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(tests, [("pp8", 1), ("tg4", 1), ("pp8", 2), ("tg4", 2)]);
    assert!(
        results
            .iter()
            .all(|result| result["samples"].as_array().unwrap().len() == 2)
    );
    let (weights, per_token) = (&report["weight_bytes"], &report["bytes_per_token"]);
    assert!(per_token.as_u64().unwrap() > weights.as_u64().unwrap());
    let deep = json(&bench("-p 0 -n 3 -d 0,20 -t 1 -r 1 --json"));
    let tests: Vec<_> = deep["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["test"])
        .collect();
    assert_eq!(tests, ["tg3", "tg3@d20"]);
    let table = stdout(&bench("-p 8,0,3 -n 0 -t 1 -r 1 --no-warmup"));
    assert!(
        table.contains("| pp8 |") && table.contains("| pp3 |"),
        "{table}"
    );
    assert!(!table.contains("| pp0 |"), "{table}");
}

#[test]
fn bench_measures_many_texts_at_once() {
    let arguments = |options: &'static str| {
        let options = options.split(' ');
        ["bench", "-m", tiny()]
            .into_iter()
            .chain(options)
            .collect::<Vec<_>>()
    };
    let report = json(&arguments(
        "-p 0 -n 2 --parallel 1,3 --parallel-prompt 5 -t 1 -r 1 --json",
    ));
    let results = report["results"].as_array().unwrap();
    let tests: Vec<_> = results.iter().map(|result| &result["test"]).collect();
    assert_eq!(tests, ["tg2", "tg2x1@p5", "tg2x3@p5"]);
    assert!(results[0].get("parallel").is_none());
    let waiting = &results[2]["parallel"];
    assert_eq!(waiting["texts"], 3);
    let seconds = |name: &str| waiting[name].as_f64().unwrap();
    assert!(seconds("first_token_p50") > 0.0);
    assert!(seconds("first_token_p95") >= seconds("first_token_p50"));
    let table = stdout(&arguments("-p 0 -n 2 --parallel 2 -t 1 -r 1"));
    assert!(table.contains("tokens/s for each"), "{table}");
    let error = failure(&arguments("-n 0 --parallel 2 -t 1"), 2);
    assert!(error.contains("--parallel"), "{error}");
}

#[test]
fn texts_are_embedded_together_and_one_by_one() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../bitnet/tests/vectors/tiny-gemma3.gguf"
    );
    let report = json(&["bench", "-m", model, "--embed", "20", "-t", "1", "--json"]);
    let results = report["results"].as_array().expect("results");
    // A model that generates no text has no other test.
    assert_eq!(results.len(), 1, "{report}");
    assert_eq!(results[0]["test"], "embed20");
    let embedding = &results[0]["embedding"];
    assert_eq!(embedding["texts"], 20);
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let ratio = number(&results[0]["tokens_per_second"]) / number(&embedding["alone"]);
    assert!(
        (ratio / number(&embedding["ratio"]) - 1.0).abs() < 1e-6,
        "{report}"
    );
    let text = stdout(&["bench", "-m", model, "--embed", "3", "-t", "1"]);
    assert!(
        text.contains("embed3: ") && text.contains(" times that together"),
        "{text}"
    );
    // One that does has.
    let report = json(&[
        "bench", "--embed", "3", "-p", "8", "-n", "2", "-r", "1", "-t", "1", "--json",
    ]);
    let names: Vec<&str> = report["results"]
        .as_array()
        .expect("results")
        .iter()
        .filter_map(|result| result["test"].as_str())
        .collect();
    assert_eq!(names, ["embed3", "pp8", "tg2"]);
}
