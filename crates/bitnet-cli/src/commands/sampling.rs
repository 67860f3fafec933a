//! The arguments that say how each token is chosen, shared by `run`, `chat`, `batch` and `serve`.

use bitnet::{SamplingOptions, Speculation};
use std::hash::{BuildHasher, RandomState};

/// How each token is chosen.
#[derive(clap::Args)]
pub(super) struct SamplingArguments {
    /// Temperature: 0 takes the likeliest token, more is livelier
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temp: f32,

    /// Choose among the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,

    /// Choose among the likeliest tokens that together have this probability; 1 for all
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,

    /// Leave out tokens less likely than this share of the likeliest; 0 for none
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,

    /// Choose among the tokens about as surprising as is to be expected that together have this probability; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    typical_p: f32,

    /// In this share of the draws leave out the likeliest tokens, but for the least likely of those with --xtc-threshold; 0 for never
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    xtc_probability: f32,

    /// The probability from which a token counts as one of the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    xtc_threshold: f32,

    /// Make tokens that occurred less likely; 1 for no difference
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    repeat_penalty: f32,

    /// Where the random numbers begin: the same seed gives the same text; without it, another each time (for batch 0)
    #[arg(long)]
    seed: Option<u64>,

    /// Try several tokens at once where the text repeats itself; the text is the same either way
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    speculate: Speculate,
}

/// [`Speculation`] as an argument.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Speculate {
    /// With --temp 0, while it pays
    #[default]
    Auto,
    /// Never
    Off,
    /// With any temperature, while it pays
    Ngram,
}

impl SamplingArguments {
    /// Whether tokens are drafted.
    pub(super) fn speculation(&self) -> Speculation {
        match self.speculate {
            Speculate::Auto => Speculation::Auto,
            Speculate::Off => Speculation::Off,
            Speculate::Ngram => Speculation::Ngram,
        }
    }

    /// The seed, if one was given.
    pub(super) fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The options, and the seed in them.
    ///
    /// # Errors
    /// If one is outside its range: before a model is opened, or downloaded.
    pub(super) fn options(&self) -> bitnet::Result<(SamplingOptions, u64)> {
        // A fresh hasher's keys are random; 32 bits are easy to type again.
        self.options_from(RandomState::new().hash_one(0) & u64::from(u32::MAX))
    }

    /// [`options`](Self::options), with `seed` if none was given.
    pub(super) fn options_from(&self, seed: u64) -> bitnet::Result<(SamplingOptions, u64)> {
        let seed = self.seed.unwrap_or(seed);
        let options = SamplingOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            repetition_penalty: self.repeat_penalty,
            seed,
            ..SamplingOptions::default()
        };
        options.validate()?;
        Ok((options, seed))
    }
}
