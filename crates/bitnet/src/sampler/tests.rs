use super::*;
use proptest::prelude::*;

/// Everything off: draws from the model's own distribution.
const OPEN: SamplingOptions = SamplingOptions {
    repetition_penalty: 1.0,
    repetition_window: 64,
    top_k: 0,
    typical_p: 1.0,
    top_p: 1.0,
    min_p: 0.0,
    xtc_threshold: 0.1,
    xtc_probability: 0.0,
    temperature: 1.0,
    seed: 1,
};

/// How often each token is drawn.
fn counts(options: SamplingOptions, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = Sampler::new(options).unwrap();
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits, &[]).unwrap() as usize] += 1;
    }
    counts
}

fn drawn(options: SamplingOptions, logits: &[f32]) -> Vec<usize> {
    let counts = counts(options, logits, 2000);
    (0..logits.len()).filter(|id| counts[*id] > 0).collect()
}

#[test]
fn greedy_takes_the_lowest_id_of_equals() {
    let mut sampler = Sampler::new(SamplingOptions::greedy()).unwrap();
    assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, -1.0], &[]).unwrap(), 1);
    assert_eq!(sampler.sample(&[-0.0, 0.0], &[]).unwrap(), 0);
    assert_eq!(sampler.sample(&[f32::MIN], &[]).unwrap(), 0);
}

/// The logits of probabilities.
#[cfg(feature = "samplers")]
fn logits_of<const N: usize>(probabilities: [f32; N]) -> [f32; N] {
    probabilities.map(f32::ln)
}

#[cfg(feature = "samplers")]
#[test]
fn typical_tokens_are_about_as_surprising_as_expected() {
    // The entropy is 1.33: the surprises are 0.69, 1.39, 2.08 and 2.77 and 2.77.
    let logits = logits_of([0.5, 0.25, 0.125, 0.0625, 0.0625]);
    let typical = |typical_p| SamplingOptions { typical_p, ..OPEN };
    assert_eq!(drawn(typical(0.2), &logits), [1]);
    assert_eq!(drawn(typical(0.7), &logits), [0, 1]);
    assert_eq!(drawn(typical(0.8), &logits), [0, 1, 2]);
    assert_eq!(drawn(typical(1.0), &logits).len(), 5);
    assert_eq!(drawn(typical(0.0), &logits), [1], "one is always left");
    // What min_p compares with is the likeliest that is left.
    let both = SamplingOptions {
        min_p: 0.9,
        ..typical(0.2)
    };
    assert_eq!(drawn(both, &logits), [1]);
    // The likeliest of equals comes first.
    assert_eq!(drawn(typical(0.1), &[1.0; 4]), [0]);
}

#[cfg(feature = "samplers")]
#[test]
fn the_top_choices_are_excluded_in_some_draws() {
    let logits = logits_of([0.1, 0.3, 0.4, 0.15, 0.05]);
    let xtc = |xtc_threshold, xtc_probability| SamplingOptions {
        xtc_threshold,
        xtc_probability,
        ..OPEN
    };
    assert_eq!(drawn(xtc(0.12, 1.0), &logits), [0, 3, 4]);
    assert_eq!(
        drawn(xtc(0.35, 1.0), &logits).len(),
        5,
        "a single choice stays"
    );
    assert_eq!(drawn(xtc(0.9, 1.0), &logits).len(), 5);
    // 0.7 of the draws would be of the two that are excluded in half of them.
    let draws = counts(xtc(0.12, 0.5), &logits, 20_000);
    let share = (draws[1] + draws[2]) as f64 / 20_000.0;
    assert!((share - 0.35).abs() < 0.02, "{share}");
}

#[cfg(feature = "samplers")]
proptest! {
    /// The draws from the likeliest alone, which a screened head gives, are those from all logits.
    #[test]
    fn filters_see_the_same_in_the_likeliest_alone(
        logits in prop::collection::vec(-5.0f32..5.0, 1..60),
        typical_p in 0.0f32..=1.0,
        xtc_probability in 0.0f32..=1.0,
        xtc_threshold in 0.0f32..=0.5,
        seed: u64,
    ) {
        let options = SamplingOptions { top_k: 8, typical_p, xtc_threshold, xtc_probability, seed, ..OPEN };
        let [mut all, mut few] = [(); 2].map(|_| Sampler::new(options).unwrap());
        let mut sorted: Vec<_> = logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }).collect();
        sorted.sort_by(Candidate::by_likelihood);
        sorted.truncate(8);
        for _ in 0..4 {
            prop_assert_eq!(all.sample(&logits, &[]).unwrap(), few.sample_top(&sorted, &[]).unwrap());
        }
    }
}

#[test]
fn the_generator_is_the_published_one() {
    // Reference: SplitMix64 from 0 begins with these.
    let random = Random::new(0);
    assert_eq!(random.state[0], 0xe220_a839_7b1d_cdaf);
    assert_eq!(random.state[1], 0x6e78_9e6a_a1b9_65f4);
    // Reference: xoshiro256** from the state 1, 2, 3, 4.
    let mut random = Random {
        state: [1, 2, 3, 4],
    };
    let first: Vec<u64> = (0..5).map(|_| random.next()).collect();
    assert_eq!(
        first,
        [
            11520,
            0,
            1_509_978_240,
            1_215_971_899_390_074_240,
            1_216_172_134_540_287_360
        ]
    );
}

#[test]
fn a_seed_gives_the_same_ids_everywhere() {
    let logits: Vec<f32> = (0..1000)
        .map(|id| ((id * 37) % 101) as f32 / 16.0)
        .collect();
    let ids = |options| {
        let mut sampler = Sampler::new(options).unwrap();
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(sampler.sample(&logits, &ids).unwrap());
        }
        ids
    };
    let seeded = SamplingOptions {
        seed: 42,
        ..SamplingOptions::default()
    };
    assert_eq!(ids(seeded), GOLDEN_DEFAULT);
    assert_eq!(ids(OPEN), GOLDEN_OPEN);
    assert_ne!(ids(SamplingOptions { seed: 43, ..seeded }), GOLDEN_DEFAULT);
}
// Computed by a program in another language from the description above.
const GOLDEN_DEFAULT: [u32; 8] = [232, 363, 494, 423, 726, 898, 696, 120];
const GOLDEN_OPEN: [u32; 8] = [704, 524, 573, 393, 696, 144, 68, 382];

#[test]
fn frequencies_follow_the_distribution() {
    let logits = [0.0, 1.0, 2.0, -1.0];
    for temperature in [0.5, 1.0, 2.0] {
        let options = SamplingOptions {
            temperature,
            ..OPEN
        };
        let draws = 40_000;
        let counts = counts(options, &logits, draws);
        let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
        for (id, count) in counts.iter().enumerate() {
            let expected = libm::exp(log_softmax_at(&scaled, id as u32));
            let found = *count as f64 / draws as f64;
            // Five standard deviations.
            let tolerance = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!(
                (found - expected).abs() < tolerance,
                "{id}: {found} {expected}"
            );
        }
    }
}

#[test]
fn filters_keep_the_sets_they_should() {
    // Probabilities 0.5, 0.25, 0.125, 0.125 in another order.
    let logits = [0.125f32, 0.5, 0.125, 0.25].map(f32::ln);
    let top_k = |top_k| drawn(SamplingOptions { top_k, ..OPEN }, &logits);
    assert_eq!(top_k(1), [1]);
    assert_eq!(top_k(2), [1, 3]);
    assert_eq!(top_k(3), [0, 1, 3], "of equals the lower id");
    assert_eq!(top_k(0), [0, 1, 2, 3]);
    assert_eq!(top_k(9), [0, 1, 2, 3]);
    let top_p = |top_p| drawn(SamplingOptions { top_p, ..OPEN }, &logits);
    assert_eq!(top_p(0.0), [1]);
    assert_eq!(top_p(0.49), [1]);
    assert_eq!(top_p(0.6), [1, 3]);
    assert_eq!(top_p(0.8), [0, 1, 3]);
    assert_eq!(top_p(1.0), [0, 1, 2, 3]);
    let min_p = |min_p| drawn(SamplingOptions { min_p, ..OPEN }, &logits);
    assert_eq!(min_p(1.0), [1]);
    assert_eq!(min_p(0.3), [1, 3]);
    assert_eq!(min_p(0.2), [0, 1, 2, 3]);
    let both = SamplingOptions {
        top_k: 2,
        top_p: 0.6,
        ..OPEN
    };
    assert_eq!(drawn(both, &logits), [1], "top_p counts within top_k");
}

#[test]
fn the_penalty_looks_at_recent_tokens_once_each() {
    let options = SamplingOptions {
        repetition_penalty: 2.0,
        repetition_window: 2,
        ..SamplingOptions::greedy()
    };
    let mut sampler = Sampler::new(options).unwrap();
    let logits = [3.0, 2.0, 1.0];
    assert_eq!(sampler.sample(&logits, &[]).unwrap(), 0);
    assert_eq!(sampler.sample(&logits, &[0]).unwrap(), 1);
    assert_eq!(sampler.sample(&logits, &[0, 0]).unwrap(), 1);
    assert_eq!(sampler.sample(&logits, &[0, 1]).unwrap(), 0, "1.5, 1, 1");
    assert_eq!(
        sampler.sample(&logits, &[0, 9, 9]).unwrap(),
        0,
        "out of sight"
    );
    assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap(), 1);
    let mut off = Sampler::new(SamplingOptions {
        repetition_window: 0,
        ..options
    })
    .unwrap();
    assert_eq!(off.sample(&logits, &[0]).unwrap(), 0);
}

#[test]
fn wrong_options_and_logits_give_errors() {
    let wrong = [
        SamplingOptions {
            temperature: -1.0,
            ..OPEN
        },
        SamplingOptions {
            temperature: f32::NAN,
            ..OPEN
        },
        SamplingOptions {
            temperature: f32::INFINITY,
            ..OPEN
        },
        SamplingOptions { top_p: 1.5, ..OPEN },
        SamplingOptions {
            min_p: -0.1,
            ..OPEN
        },
        SamplingOptions {
            repetition_penalty: 0.0,
            ..OPEN
        },
    ];
    for options in wrong {
        assert!(matches!(Sampler::new(options), Err(Error::Argument { .. })));
    }
    let mut sampler = Sampler::new(OPEN).unwrap();
    for logits in [
        &[][..],
        &[f32::NAN],
        &[1.0, f32::INFINITY],
        &[f32::NEG_INFINITY],
    ] {
        assert!(sampler.sample(logits, &[]).is_err());
    }
}

#[test]
fn log_probabilities_sum_to_one() {
    let logits = [1.0, -2.0, 30.5, 30.0];
    let total: f64 = (0..4)
        .map(|id| libm::exp(log_softmax_at(&logits, id)))
        .sum();
    assert!((total - 1.0).abs() < 1e-12);
    assert_eq!(log_softmax_at(&[5.0], 0), 0.0);
    assert_eq!(log_softmax_at(&logits, 4), f64::NEG_INFINITY);
}

proptest! {
    #[test]
    fn any_finite_logits_give_a_token(
        logits in proptest::collection::vec(prop_oneof![-20.0f32..20.0, proptest::num::f32::NORMAL, Just(f32::MAX), Just(f32::MIN)], 1..300),
        recent in proptest::collection::vec(0u32..400, 0..10),
        temperature in prop_oneof![Just(0.0f32), 1e-30f32..1e-20, 0.1f32..4.0, Just(f32::MAX)],
        top_k in 0usize..400,
        top_p in 0.0f32..=1.0,
        min_p in 0.0f32..=1.0,
        repetition_penalty in 0.1f32..4.0,
        seed: u64,
    ) {
        let options = SamplingOptions { repetition_penalty, repetition_window: 5, top_k, top_p, min_p, temperature, seed, ..OPEN };
        let id = Sampler::new(options).unwrap().sample(&logits, &recent).unwrap() as usize;
        prop_assert!(id < logits.len());
        if repetition_penalty == 1.0 && top_k > 0 {
            let better = logits.iter().filter(|other| **other > logits[id]).count();
            prop_assert!(better < top_k);
        }
    }

    #[test]
    fn the_sorted_front_of_top_p_is_what_sorting_all_gives(
        logits in proptest::collection::vec((-40i8..40).prop_map(|logit| f32::from(logit) / 8.0), 1..1200),
        top_p in 0.0f32..1.0,
    ) {
        let mut sampler = Sampler::new(SamplingOptions { top_p, ..OPEN }).unwrap();
        sampler.sample(&logits, &[]).unwrap();
        let mut all: Vec<u32> = (0..logits.len() as u32).collect();
        all.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let kept: Vec<u32> = sampler.candidates.iter().map(|candidate| candidate.id).collect();
        prop_assert_eq!(&kept[..], &all[..kept.len()]);
        let kept = kept.len();
        let highest = logits[all[0] as usize];
        let weight = |id: &u32| f64::from(exp(logits[*id as usize] - highest));
        let total: f64 = all.iter().map(weight).sum();
        let share = |count: usize| all[..count].iter().map(weight).sum::<f64>() / total;
        prop_assert!(share(kept) >= f64::from(top_p) - 1e-6);
        prop_assert!(kept == 1 || share(kept - 1) < f64::from(top_p) + 1e-6);
    }

    /// Draws from the tokens of `top` are those from all logits, equals and penalties included.
    #[test]
    fn the_top_is_enough(
        logits in proptest::collection::vec((-40i8..40).prop_map(|logit| f32::from(logit) / 8.0), 1..300),
        recent in proptest::collection::vec(0u32..310, 0..12),
        top_k in 0usize..60,
        top_p in 0.0f32..1.1,
        min_p in prop_oneof![Just(0.0f32), 0.0f32..0.5],
        penalty in prop_oneof![Just(1.0f32), 0.5f32..3.0],
        greedy in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let options = SamplingOptions {
            repetition_penalty: penalty,
            repetition_window: 9,
            top_k,
            top_p: top_p.min(1.0),
            min_p,
            temperature: if greedy { 0.0 } else { 0.9 },
            seed,
            ..OPEN
        };
        let (mut full, mut screened) = (Sampler::new(options).unwrap(), Sampler::new(options).unwrap());
        for _ in 0..8 {
            let Some(top) = screened.top(&recent) else {
                prop_assert!(top_k == 0 && !greedy);
                return Ok(());
            };
            let candidates = top.of_logits(&logits);
            let expected = full.sample(&logits, &recent).unwrap();
            prop_assert_eq!(screened.sample_top(&candidates, &recent).unwrap(), expected);
        }
    }
}
