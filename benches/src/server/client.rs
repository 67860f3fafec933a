//! A user of a server: sends a prompt of token ids to `/v1/completions` and notes when each event of the stream comes.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Token ids.
    pub(crate) prompt: Vec<u32>,
    /// Tokens of the answer.
    pub(crate) tokens: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// When the request was sent.
    pub(crate) sent: Instant,
    /// When each part of the text came. Servers send one for a token, or none where a character is not whole yet.
    pub(crate) parts: Vec<Instant>,
    /// Tokens, as the server counts them.
    pub(crate) tokens: usize,
    pub(crate) text: String,
}

impl Answer {
    /// From the request to the first part.
    pub(crate) fn first(&self) -> Option<Duration> {
        Some(*self.parts.first()? - self.sent)
    }

    /// When the last part came.
    pub(crate) fn end(&self) -> Instant {
        self.parts.last().copied().unwrap_or(self.sent)
    }

    /// The times between parts, each with the moment at which it ended.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = (Instant, Duration)> + '_ {
        let pairs = self.parts.iter().zip(self.parts.iter().skip(1));
        pairs.map(|(before, after)| (*after, *after - *before))
    }
}

/// Sends a request and reads its stream to the end, or until `leave` is set: then the client goes away.
pub(crate) fn ask(address: &str, request: &Ask, leave: &AtomicBool) -> Result<Answer> {
    let body = json!({
        "prompt": request.prompt,
        "max_tokens": request.tokens,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let sent = Instant::now();
    let mut answer = agent
        .post(format!("{address}/v1/completions"))
        .content_type("application/json")
        .send(body.to_string())
        .context("the request cannot be sent")?;
    if answer.status() != 200 {
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        bail!("the server answered {}: {said}", answer.status());
    }
    let (mut parts, mut text, mut tokens) = (Vec::new(), String::new(), None);
    for line in BufReader::new(answer.body_mut().as_reader()).lines() {
        let line = line.context("the stream broke off")?;
        if leave.load(Ordering::Relaxed) {
            break;
        }
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(data).context("an event is not JSON")?;
        if let Some(error) = event.get("error") {
            bail!("the server says: {error}");
        }
        let count = event.pointer("/usage/completion_tokens");
        tokens = count.and_then(Value::as_u64).or(tokens);
        let part = event.pointer("/choices/0/text").and_then(Value::as_str);
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            parts.push(Instant::now());
            text.push_str(part);
        }
    }
    let tokens = tokens.map_or(parts.len(), |tokens| tokens as usize);
    Ok(Answer {
        sent,
        parts,
        tokens,
        text,
    })
}

/// All requests at the same moment, each by a user of its own.
pub(crate) fn together(address: &str, requests: &[Ask]) -> Result<Vec<Answer>> {
    let (begin, leave) = (Barrier::new(requests.len()), AtomicBool::new(false));
    thread::scope(|scope| {
        let users: Vec<_> = requests
            .iter()
            .map(|request| {
                scope.spawn(|| {
                    begin.wait();
                    ask(address, request, &leave)
                })
            })
            .collect();
        users.into_iter().map(joined).collect()
    })
}

/// The result of a user's thread.
pub(crate) fn joined<T>(user: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    user.join()
        .unwrap_or_else(|_| bail!("the thread of a user panicked"))
}
