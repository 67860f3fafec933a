//! How many texts take part in a step: a histogram that the engine itself counts, since it makes more steps than anybody asks about.

use bitnet::engine::{Gauges, STEP_SIZES};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "bitnet_batch_size_texts";
const HELP: &str = "Texts that take part in a step of the engine";
const LABEL: &str = "model_name";

/// The histogram of each model. Clones share it.
#[derive(Clone)]
pub(super) struct Batches {
    desc: Arc<Desc>,
    models: Arc<Mutex<BTreeMap<String, Sizes>>>,
}

/// The steps of one model.
#[derive(Default)]
struct Sizes {
    steps: [u64; STEP_SIZES],
    texts: u64,
}

impl Batches {
    /// # Errors
    /// If the name is none, which tests would show.
    pub(super) fn new() -> prometheus::Result<Self> {
        let labels = vec![LABEL.to_owned()];
        Ok(Self {
            desc: Arc::new(Desc::new(NAME.into(), HELP.into(), labels, HashMap::new())?),
            models: Arc::default(),
        })
    }

    /// Adds the steps that the engine of `model` made between two looks.
    pub(super) fn add(&self, model: &str, before: &Gauges, now: &Gauges) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = models.entry(model.to_owned()).or_default();
        let kinds = before.steps_by_texts.iter().zip(&now.steps_by_texts);
        for (steps, (before, now)) in sizes.steps.iter_mut().zip(kinds) {
            *steps += now.saturating_sub(*before);
        }
        sizes.texts += now.texts_in_steps.saturating_sub(before.texts_in_steps);
    }
}

impl Collector for Batches {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = models.iter().map(|(name, sizes)| sizes.metric(name));
        let mut family = MetricFamily::default();
        family.set_name(NAME.into());
        family.set_help(HELP.into());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

impl Sizes {
    fn metric(&self, model: &str) -> Metric {
        let mut so_far = 0;
        // The last kind has no bound; all steps are below infinity, which is written for the count.
        let bounded = self.steps[..STEP_SIZES - 1].iter().enumerate();
        let buckets = bounded.map(|(kind, steps)| {
            so_far += steps;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(f64::from(1_u32 << kind));
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.steps.iter().sum());
        histogram.set_sample_sum(self.texts as f64);
        let mut label = LabelPair::default();
        label.set_name(LABEL.into());
        label.set_value(model.into());
        let mut metric = Metric::from_label(vec![label]);
        metric.set_histogram(histogram);
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, Registry, TextEncoder};

    #[test]
    fn steps_of_a_model_add_up_when_it_is_opened_again() {
        let batches = Batches::new().expect("a name");
        let registry = Registry::new();
        registry.register(Box::new(batches.clone())).expect("once");
        let mut first = Gauges::default();
        (
            first.steps_by_texts[0],
            first.steps_by_texts[2],
            first.texts_in_steps,
        ) = (3, 2, 10);
        batches.add("demo", &Gauges::default(), &first);
        batches.add("demo", &first, &first);
        batches.add("demo", &Gauges::default(), &first);
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder.encode(&registry.gather(), &mut text).expect("text");
        let text = String::from_utf8(text).expect("UTF-8");
        for line in [
            "bitnet_batch_size_texts_bucket{model_name=\"demo\",le=\"1\"} 6",
            "bitnet_batch_size_texts_bucket{model_name=\"demo\",le=\"4\"} 10",
            "bitnet_batch_size_texts_bucket{model_name=\"demo\",le=\"+Inf\"} 10",
            "bitnet_batch_size_texts_sum{model_name=\"demo\"} 20",
            "bitnet_batch_size_texts_count{model_name=\"demo\"} 10",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
