//! Counts and times for Prometheus: under names of our own, and under those that inference gateways read.

mod batches;

use crate::models::{Models, Served};
use batches::Batches;
use bitnet::engine::{Finish, Gauges};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};
use std::sync::{Mutex, PoisonError};

/// Bounds of times in seconds: from a token of a small model to a prompt in a long queue.
const SECONDS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0,
];

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    first_token: HistogramVec,
    next_token: HistogramVec,
    queued: HistogramVec,
    gauges: Vec<(GaugeVec, fn(&Gauges) -> f64)>,
    totals: Vec<(IntCounterVec, fn(&Gauges) -> u64)>,
    batches: Batches,
    cache: GaugeVec,
}

impl Metrics {
    /// # Errors
    /// If two have one name, which tests would show.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let histogram = HistogramVec::new(options, &["model"])?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        let first_token = histogram(
            "bitnet_time_to_first_token_seconds",
            "From a request to the first token of its text",
        )?;
        let next_token = histogram(
            "bitnet_time_per_output_token_seconds",
            "From one token of a text to the next, the mean of each text",
        )?;
        let queued = histogram("bitnet_queue_seconds", "From a request to its first step")?;
        let requests = IntCounterVec::new(
            Opts::new(
                "bitnet_requests_total",
                "Texts that ended, by how they ended",
            ),
            &["model", "finish_reason"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let mut gauges = Vec::new();
        for (name, help, read) in GAUGES {
            let gauge = GaugeVec::new(Opts::new(name, help), &["model_name"])?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push((gauge, read));
        }
        let mut totals = Vec::new();
        for (name, help, read) in TOTALS {
            let total = IntCounterVec::new(Opts::new(name, help), &["model_name"])?;
            registry.register(Box::new(total.clone()))?;
            totals.push((total, read));
        }
        let batches = Batches::new()?;
        registry.register(Box::new(batches.clone()))?;
        let cache = GaugeVec::new(
            Opts::new("vllm:cache_config_info", "Blocks of keys and values"),
            &["model_name", "block_size", "num_gpu_blocks"],
        )?;
        registry.register(Box::new(cache.clone()))?;
        Ok(Self {
            registry,
            requests,
            first_token,
            next_token,
            queued,
            gauges,
            totals,
            batches,
            cache,
        })
    }

    /// Notes how a text ended.
    pub(crate) fn finished(&self, model: &str, finish: &Finish) {
        let reason = finish.reason.name();
        self.requests.with_label_values(&[model, reason]).inc();
        let timings = finish.timings;
        let first = finish.queued + timings.prompt_time;
        let observe = |histogram: &HistogramVec, seconds| {
            histogram.with_label_values(&[model]).observe(seconds);
        };
        observe(&self.queued, finish.queued.as_secs_f64());
        if timings.generated_tokens > 0 {
            observe(&self.first_token, first.as_secs_f64());
        }
        if timings.decode_rate() > 0.0 {
            observe(&self.next_token, 1.0 / timings.decode_rate());
        }
    }

    /// Notes a text that ended by an error, or because its client went away.
    pub(crate) fn failed(&self, model: &str, how: &str) {
        self.requests.with_label_values(&[model, how]).inc();
    }

    /// All of them in Prometheus' text format.
    ///
    /// # Errors
    /// If they cannot be written, which no value brings about.
    pub(crate) async fn text(&self, models: &Models) -> prometheus::Result<Vec<u8>> {
        for served in models.opened().await {
            self.read(&served);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Reads what the engine of a model says about itself.
    fn read(&self, served: &Served) {
        let name = [served.name.as_str()];
        // Two who read must not count the same twice.
        let counted = served.counted.0.lock();
        let mut counted = counted.unwrap_or_else(PoisonError::into_inner);
        let gauges = served.engine.gauges();
        for (gauge, read) in &self.gauges {
            gauge.with_label_values(&name).set(read(&gauges));
        }
        for (total, read) in &self.totals {
            let new = read(&gauges).saturating_sub(read(&counted));
            total.with_label_values(&name).inc_by(new);
        }
        self.batches.add(&served.name, &counted, &gauges);
        *counted = gauges;
        let blocks = blocks(&gauges);
        let labels = [served.name.as_str(), "64", &blocks];
        self.cache.with_label_values(&labels).set(1.0);
    }

    /// Reads a model for the last time: it is closed. Its totals stay.
    pub(crate) fn closed(&self, served: &Served) {
        self.read(served);
        for (gauge, _) in &self.gauges {
            // One that nobody has read is not there.
            let _ = gauge.remove_label_values(&[&served.name]);
        }
        let blocks = blocks(&served.engine.gauges());
        let labels = [served.name.as_str(), "64", &blocks];
        let _ = self.cache.remove_label_values(&labels);
    }
}

/// How many blocks of keys and values there may be.
fn blocks(gauges: &Gauges) -> String {
    (gauges.kv_budget_bytes / gauges.kv_block_bytes.max(1)).to_string()
}

/// The gauges of an engine when it was last asked: those are counted already. An engine counts from nothing when its model is opened again;
/// counters go on.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Gauges>);

/// Name, help and value of each gauge.
const GAUGES: [(&str, &str, fn(&Gauges) -> f64); 7] = [
    ("bitnet_texts_running", "Texts that run", |r| {
        r.running as f64
    }),
    ("bitnet_requests_waiting", "Requests that wait", |r| {
        r.waiting as f64
    }),
    (
        "bitnet_kv_running_bytes",
        "Keys and values that running texts hold",
        |r| r.kv_running_bytes as f64,
    ),
    (
        "bitnet_kv_cached_bytes",
        "Keys and values kept for later prompts",
        |r| r.kv_cached_bytes as f64,
    ),
    ("vllm:num_requests_running", "Texts that run", |r| {
        r.running as f64
    }),
    ("vllm:num_requests_waiting", "Requests that wait", |r| {
        r.waiting as f64
    }),
    (
        "vllm:kv_cache_usage_perc",
        "Share of the bytes for keys and values that running texts hold, from 0 to 1",
        |r| r.kv_running_bytes as f64 / r.kv_budget_bytes.max(1) as f64,
    ),
];

/// Name, help and value of each total.
const TOTALS: [(&str, &str, fn(&Gauges) -> u64); 5] = [
    ("bitnet_steps_total", "Steps of the engine", |r| r.steps),
    ("bitnet_generated_tokens_total", "Tokens generated", |r| {
        r.generated_tokens
    }),
    (
        "bitnet_prompt_tokens_total",
        "Tokens of prompts that ran",
        |r| r.prompt_tokens,
    ),
    (
        "bitnet_cached_tokens_total",
        "Tokens of prompts whose keys and values were there",
        |r| r.cached_tokens,
    ),
    (
        "bitnet_preemptions_total",
        "How often a text made room for another",
        |r| r.preemptions,
    ),
];
