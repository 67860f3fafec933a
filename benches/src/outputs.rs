//! What programs that measure models print.

use crate::figures::Test;
use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One object of `llama-bench -o json`: a test of prompt or generation tokens.
#[derive(Deserialize)]
struct LlamaTest {
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
}

/// Tokens per second of each test that `llama-bench -o json` reports.
///
/// # Errors
/// If it is no such report, or one of no tests.
pub fn parse_llama(json: &[u8]) -> Result<Vec<(Test, f64)>> {
    let tests: Vec<LlamaTest> =
        serde_json::from_slice(json).context("llama-bench -o json printed something else")?;
    if tests.is_empty() {
        bail!("llama-bench reports no test");
    }
    tests
        .into_iter()
        .map(|test| match (test.n_prompt, test.n_gen) {
            (prompt, 0) if prompt > 0 => Ok((Test::Prefill(prompt), test.avg_ts)),
            (0, tokens) if tokens > 0 => Ok((Test::Decode(tokens), test.avg_ts)),
            (prompt, tokens) => {
                bail!("llama-bench reports a test of {prompt} + {tokens} tokens, which nobody asked for")
            }
        })
        .collect()
}

/// What `bitnet bench --json` reports.
#[derive(Deserialize)]
pub struct BitnetReport {
    /// Bytes that it reads for one decoded token.
    pub bytes_per_token: u64,
    results: Vec<BitnetTest>,
}

#[derive(Deserialize)]
struct BitnetTest {
    #[serde(default)]
    device: String,
    test: String,
    tokens: usize,
    /// Tokens before those of the test.
    #[serde(default)]
    depth: usize,
    load_seconds: f64,
    tokens_per_second: f64,
}

impl BitnetReport {
    /// Tokens per second of each test.
    pub fn tests(&self) -> Vec<(Test, f64)> {
        let tests = self.results.iter().map(|result| {
            let test = match (result.test.starts_with("pp"), result.depth) {
                (true, _) => Test::Prefill(result.tokens),
                (false, 0) => Test::Decode(result.tokens),
                (false, depth) => Test::DecodeAfter(result.tokens, depth),
            };
            (test, result.tokens_per_second)
        });
        tests.collect()
    }

    /// The device, as the program describes it.
    pub fn device(&self) -> Option<&str> {
        Some(self.results.first()?.device.as_str())
    }

    /// Seconds of opening the file and of the one prompt that followed.
    pub fn open_to_first(&self) -> Option<f64> {
        let prompt = self.results.first()?;
        Some(prompt.load_seconds + prompt.tokens as f64 / prompt.tokens_per_second)
    }
}

/// Reads what `bitnet bench --json` printed.
///
/// # Errors
/// If it is something else.
pub fn parse_bitnet(json: &[u8]) -> Result<BitnetReport> {
    serde_json::from_slice(json).context("bitnet bench --json printed something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_bench_is_read() {
        let json = br#"[
          {"build_commit": "0c1e570", "n_threads": 2, "n_prompt": 128, "n_gen": 0, "avg_ns": 1, "avg_ts": 45.625,
           "stddev_ts": 0.0, "samples_ns": [2805480], "samples_ts": [45.625]},
          {"n_prompt": 0, "n_gen": 64, "avg_ts": 11.08}
        ]"#;
        let tests = parse_llama(json).unwrap();
        assert_eq!(
            tests,
            [(Test::Prefill(128), 45.625), (Test::Decode(64), 11.08)]
        );
        for wrong in [
            &b"error: failed to load model"[..],
            b"[]",
            br#"[{"n_prompt": 8, "n_gen": 8, "avg_ts": 1.0}]"#,
            br#"[{"n_prompt": 8, "n_gen": 0}]"#,
        ] {
            assert!(parse_llama(wrong).is_err());
        }
    }

    #[test]
    fn bitnet_bench_is_read() {
        let json = br#"{"model": "m", "weight_bytes": 90, "bytes_per_token": 100, "results": [
          {"device": "cpu", "test": "pp8", "tokens": 8, "load_seconds": 0.1, "tokens_per_second": 80.0, "samples": [80.0]},
          {"device": "cpu", "test": "tg4", "tokens": 4, "load_seconds": 0.1, "tokens_per_second": 15.0, "samples": [15.0]},
          {"test": "tg4@9", "tokens": 4, "depth": 9, "load_seconds": 0.1, "tokens_per_second": 14.0}
        ]}"#;
        let report = parse_bitnet(json).unwrap();
        let tests = report.tests();
        let expected = [
            (Test::Prefill(8), 80.0),
            (Test::Decode(4), 15.0),
            (Test::DecodeAfter(4, 9), 14.0),
        ];
        assert_eq!(tests, expected);
        assert_eq!(report.bytes_per_token, 100);
        assert_eq!(report.open_to_first(), Some(0.2));
        assert!(parse_bitnet(b"no").is_err());
    }
}
