//! Speed of oxbitnet on one GGUF file, printed as llama-bench prints it: `[{"n_prompt", "n_gen", "avg_ts"}]`, `avg_ts` in
//! tokens per second.
//!
//! `oxbitnet-bench FILE PROMPTS TOKENS`: a prefill test for each of the comma-separated lengths, then a decode test of
//! TOKENS from an empty context, greedy as its own `generate` does it, tokenizer left out. Each runs once before it is timed.

use anyhow::{Context, Result, bail};
use oxbitnet::gpu::device::init_gpu;
use oxbitnet::model::loader::{LoadOptions, load_model};
use oxbitnet::nn::model::BitNetModel;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Positions that its own front end makes room for.
const CONTEXT: usize = 4096;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, prompts, tokens] = &arguments[..] else {
        bail!("usage: oxbitnet-bench FILE PROMPTS TOKENS");
    };
    let prompts: Vec<usize> = prompts
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("PROMPTS: expected lengths separated by commas")?;
    let tokens: usize = tokens.parse().context("TOKENS: expected a number")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let results = runtime.block_on(measure(file, &prompts, tokens))?;
    println!("{}", Value::Array(results));
    Ok(())
}

async fn measure(file: &str, prompts: &[usize], tokens: usize) -> Result<Vec<Value>> {
    let gpu = init_gpu().await?;
    let (device, queue) = (&gpu.device, &gpu.queue);
    let options = LoadOptions::default();
    let loaded = load_model(file, Arc::clone(device), Arc::clone(queue), options).await?;
    let (config, weights) = (loaded.config, &loaded.weights);
    let mut model =
        BitNetModel::build(Arc::clone(device), Arc::clone(queue), config, weights, CONTEXT)?;
    let mut results = Vec::new();
    for &length in prompts.iter().filter(|length| **length > 0) {
        let ids: Vec<u32> = (0..length as u32).map(|i| 1 + i * 7 % 1000).collect();
        let mut seconds = 0.0;
        for _ in 0..2 {
            model.reset_kv_cache();
            let start = Instant::now();
            let logits = model.forward(&ids);
            model.read_logits(&logits).await?;
            seconds = start.elapsed().as_secs_f64();
        }
        results.push(json!({"n_prompt": length, "n_gen": 0, "avg_ts": length as f64 / seconds}));
    }
    if tokens > 0 {
        let mut seconds = 0.0;
        for _ in 0..2 {
            model.reset_kv_cache();
            let mut next = 1;
            let start = Instant::now();
            for _ in 0..tokens {
                let logits = model.forward(&[next]);
                next = likeliest(&model.read_logits(&logits).await?);
            }
            seconds = start.elapsed().as_secs_f64();
        }
        results.push(json!({"n_prompt": 0, "n_gen": tokens, "avg_ts": tokens as f64 / seconds}));
    }
    Ok(results)
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}
