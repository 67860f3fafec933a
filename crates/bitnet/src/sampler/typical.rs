//! Locally typical sampling (Meister et al., 2022): tokens about as surprising as the model expects the next one to be.

use bitnet_core::Candidate;

/// Keeps the candidates whose surprise is nearest to the entropy, as many as together reach `mass`; their order stays. There is at
/// least one.
pub(super) fn keep(candidates: &mut Vec<Candidate>, probabilities: &[f64], mass: f32) {
    let surprise = |probability: f64| -libm::log(probability);
    let terms = probabilities.iter().filter(|p| **p > 0.0);
    let entropy: f64 = terms.map(|p| p * surprise(*p)).sum();
    let distance = |index: usize| (surprise(probabilities[index]) - entropy).abs();
    let mut nearest: Vec<usize> = (0..candidates.len()).collect();
    nearest.sort_by(|a, b| {
        let by_distance = distance(*a).total_cmp(&distance(*b));
        by_distance.then_with(|| candidates[*a].by_likelihood(&candidates[*b]))
    });
    let mut sum = 0.0;
    let enough = nearest.iter().position(|index| {
        sum += probabilities[*index];
        sum >= f64::from(mass)
    });
    nearest.truncate(enough.map_or(nearest.len(), |last| last + 1));
    nearest.sort_unstable();
    *candidates = nearest.into_iter().map(|index| candidates[index]).collect();
}
