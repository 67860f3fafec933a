//! The demo model of BitNet-Rust as data: a small ternary transformer that tells stories, answers questions about them
//! and adds two-digit numbers. How it was made is in `train/`; what it can do is in its [`MODEL_CARD`].

/// The model: a GGUF file of architecture `bitnet-b1.58`, its projections in I2_S, with its tokenizer.
pub static GGUF: &[u8] = include_bytes!("../data/demo.gguf");

/// What the model is, how it was trained and what it scores on texts it never saw (Markdown).
pub static MODEL_CARD: &str = include_str!("../data/MODEL_CARD.md");

/// A prompt that the model continues with a story.
pub const STORY_PROMPT: &str = "Once upon a time";
