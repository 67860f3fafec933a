//! What programs that measure models print.

use crate::figures::Test;
use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One object of `llama-bench -o json`: a test of prompt or generation tokens.
#[derive(Deserialize)]
struct LlamaTest {
    n_prompt: usize,
    n_gen: usize,
    #[serde(default)]
    n_depth: usize,
    avg_ts: f64,
}

/// One object of `llama-batched-bench --output-format jsonl`: so many sequences at once.
#[derive(Deserialize)]
struct LlamaBatch {
    pl: usize,
    speed_tg: f64,
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
        .map(|test| match (test.n_prompt, test.n_gen, test.n_depth) {
            (prompt, 0, 0) if prompt > 0 => Ok((Test::Prefill(prompt), test.avg_ts)),
            (0, tokens, 0) if tokens > 0 => Ok((Test::Decode(tokens), test.avg_ts)),
            (0, tokens, depth) if tokens > 0 => {
                Ok((Test::DecodeAfter(tokens, depth), test.avg_ts))
            }
            (prompt, tokens, depth) => bail!(
                "llama-bench reports a test of {prompt} + {tokens} tokens behind {depth}, which nobody asked for"
            ),
        })
        .collect()
}

/// Tokens per second of all sequences together, for each test that `llama-batched-bench --output-format jsonl` reports
/// among lines of other kinds.
///
/// # Errors
/// If it reports no test.
pub fn parse_llama_batched(lines: &[u8]) -> Result<Vec<(Test, f64)>> {
    let lines = String::from_utf8_lossy(lines);
    let tests: Vec<(Test, f64)> = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|test: LlamaBatch| (Test::Parallel(test.pl), test.speed_tg))
        .collect();
    if tests.is_empty() {
        bail!("llama-batched-bench reports no test");
    }
    Ok(tests)
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
    load_seconds: f64,
    tokens_per_second: f64,
    parallel: Option<BitnetTexts>,
}

/// Figures of texts that were written together.
#[derive(Deserialize)]
struct BitnetTexts {
    texts: usize,
}

impl BitnetReport {
    /// Tokens per second of each test.
    pub fn tests(&self) -> Vec<(Test, f64)> {
        let tests = self.results.iter().map(|result| {
            // tg64@d2048: behind so many others.
            let depth = result.test.split_once("@d").map(|(_, depth)| depth.parse());
            let test = match (&result.parallel, depth) {
                (Some(together), _) => Test::Parallel(together.texts),
                (None, Some(Ok(depth))) => Test::DecodeAfter(result.tokens, depth),
                _ if result.test.starts_with("pp") => Test::Prefill(result.tokens),
                _ => Test::Decode(result.tokens),
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
          {"n_prompt": 0, "n_gen": 64, "avg_ts": 11.08},
          {"n_prompt": 0, "n_gen": 64, "n_depth": 4000, "avg_ts": 7.5}
        ]"#;
        let tests = parse_llama(json).unwrap();
        let expected = [
            (Test::Prefill(128), 45.625),
            (Test::Decode(64), 11.08),
            (Test::DecodeAfter(64, 4000), 7.5),
        ];
        assert_eq!(tests, expected);
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
    fn llama_batched_bench_is_read_between_other_lines() {
        let lines = br#"
{"n_kv_max": 2048, "n_threads": 2, "pp": 32, "tg": 32, "pl": 8, "t_tg": 4.0, "speed_tg": 64.0, "t": 8.0, "speed": 64.0}
llama_perf_context_print: load time = 1 ms
{"pp": 32, "tg": 32, "pl": 16, "speed_tg": 70.5}
"#;
        let tests = parse_llama_batched(lines).unwrap();
        assert_eq!(
            tests,
            [(Test::Parallel(8), 64.0), (Test::Parallel(16), 70.5)]
        );
        assert!(parse_llama_batched(b"{}").is_err());
    }

    #[test]
    fn bitnet_bench_is_read() {
        let json = br#"{"model": "m", "weight_bytes": 90, "bytes_per_token": 100, "results": [
          {"device": "cpu", "test": "pp8", "tokens": 8, "load_seconds": 0.1, "tokens_per_second": 80.0, "samples": [80.0]},
          {"device": "cpu", "test": "tg4", "tokens": 4, "load_seconds": 0.1, "tokens_per_second": 15.0, "samples": [15.0]},
          {"test": "tg4@d9", "tokens": 4, "load_seconds": 0.1, "tokens_per_second": 14.0},
          {"test": "tg4x8@p32", "tokens": 32, "load_seconds": 0.1, "tokens_per_second": 60.0, "parallel": {"texts": 8}}
        ]}"#;
        let report = parse_bitnet(json).unwrap();
        let tests = report.tests();
        let expected = [
            (Test::Prefill(8), 80.0),
            (Test::Decode(4), 15.0),
            (Test::DecodeAfter(4, 9), 14.0),
            (Test::Parallel(8), 60.0),
        ];
        assert_eq!(tests, expected);
        assert_eq!(report.bytes_per_token, 100);
        assert_eq!(report.open_to_first(), Some(0.2));
        assert!(parse_bitnet(b"no").is_err());
    }
}
