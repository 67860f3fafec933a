//! "Exclude top choices": of several tokens that would all do, only the least likely one stays.

use bitnet_core::Candidate;

/// Removes the candidates of at least the probability `threshold`, but for the least likely of them; the order of the rest stays.
pub(super) fn exclude(candidates: &mut Vec<Candidate>, probabilities: &[f64], threshold: f32) {
    let pairs = candidates.iter().zip(probabilities);
    let good = pairs.filter(|(_, probability)| **probability >= f64::from(threshold));
    let last = good
        .map(|(candidate, _)| *candidate)
        .max_by(Candidate::by_likelihood);
    if let Some(last) = last {
        candidates.retain(|candidate| candidate.by_likelihood(&last).is_ge());
    }
}
