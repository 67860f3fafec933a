//! Requests with patience: what may pass is tried again, what will not is said at once.

use super::HubOptions;
use super::address::shown;
use super::redirect::{is_downgrade, same_origin, target};
use crate::{DownloadFault, Error, Result};
use std::fmt;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Response, Uri};

/// Redirects that are followed for one request.
const REDIRECTS: usize = 10;

/// Why an attempt ended early.
pub(super) enum Failure {
    /// Another attempt may do better.
    Broken(Trouble),
    /// Another attempt may do better, after so long.
    Busy(Trouble, Duration),
    /// No attempt will before the network or the server changes. What is in the cache may do.
    Unreachable(Trouble),
    /// No attempt will.
    Final(Error),
}

/// What the network or the server did, and where.
pub(super) struct Trouble {
    /// As it may be shown.
    address: String,
    why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.address, self.why)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(trouble) | Self::Busy(trouble, _) | Self::Unreachable(trouble) => {
                trouble.fmt(formatter)
            }
            Self::Final(error) => error.fmt(formatter),
        }
    }
}

impl Failure {
    /// As an error about `model`, of which `kept` bytes have arrived.
    pub(super) fn into_error(self, model: &str, kept: u64) -> Error {
        match self {
            Self::Final(error) => error,
            Self::Broken(trouble) | Self::Busy(trouble, _) | Self::Unreachable(trouble) => {
                Error::Download {
                    model: shown(model),
                    address: Some(trouble.address),
                    fault: DownloadFault::Network {
                        why: trouble.why,
                        kept,
                    },
                }
            }
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// The name the user gave, for errors.
    pub(super) model: &'a str,
    pub(super) address: &'a str,
    /// Whether it is the hub that is asked, and the token to ask with.
    pub(super) hub: bool,
    pub(super) token: Option<&'a str>,
}

impl Target<'_> {
    /// An error about the address.
    pub(super) fn refused(&self, fault: DownloadFault) -> Error {
        Error::Download {
            model: shown(self.model),
            address: Some(shown(self.address)),
            fault,
        }
    }

    /// An error about an answer that is not followed.
    pub(super) fn not_followed(&self, why: impl fmt::Display) -> Error {
        let why = why.to_string();
        self.refused(DownloadFault::Answer { why })
    }

    /// What went wrong there.
    pub(super) fn trouble(&self, why: impl fmt::Display) -> Trouble {
        Trouble {
            address: shown(self.address),
            why: why.to_string(),
        }
    }

    /// Sends a GET with the headers `extra`, and follows redirects; the status of the answer is for the caller to check.
    pub(super) fn get(
        &self,
        agent: &Agent,
        extra: &[(&str, &str)],
    ) -> Result<Response<ureq::Body>, Failure> {
        let (_, response) = self.send(agent, false, extra, |_, _| false)?;
        // Without a place to stop, the last answer is no redirect.
        Ok(response)
    }

    /// The headers of all answers on the way to the file, the last one last. Redirects are followed, to another server
    /// only until `enough` is known.
    pub(super) fn headers(
        &self,
        agent: &Agent,
        options: &HubOptions,
        enough: impl Fn(&[HeaderMap]) -> bool,
    ) -> Result<Vec<HeaderMap>, Failure> {
        persist(options, || {
            let outcome = self
                .send(agent, true, &[], |seen, elsewhere| {
                    elsewhere && enough(seen)
                })
                .and_then(|(seen, response)| {
                    if !response.status().is_redirection() {
                        self.check_status(&response)?;
                    }
                    Ok(seen)
                });
            (0, outcome)
        })
    }

    /// A small answer as text, with the same patience as a file.
    pub(super) fn text(&self, agent: &Agent, options: &HubOptions) -> Result<String, Failure> {
        const LIMIT: u64 = 16 << 20;
        persist(options, || {
            let outcome = self.get(agent, &[]).and_then(|response| {
                self.check_status(&response)?;
                response
                    .into_body()
                    .into_with_config()
                    .limit(LIMIT)
                    .read_to_string()
                    .map_err(|error| Failure::Broken(self.trouble(error)))
            });
            (0, outcome)
        })
    }

    /// Sends a HEAD or GET and follows redirects, until `stop` says so, given the headers so far and whether the next
    /// address is another server's. The token goes to the server that was named, and to no other: neither another host nor
    /// another port or scheme of the same, nor anybody after them.
    fn send(
        &self,
        agent: &Agent,
        head: bool,
        extra: &[(&str, &str)],
        stop: impl Fn(&[HeaderMap], bool) -> bool,
    ) -> Result<(Vec<HeaderMap>, Response<ureq::Body>), Failure> {
        let mut at: Uri = self.address.parse().map_err(|error| {
            let why = format!("not an address: {error}");
            self.refused(DownloadFault::Name { why })
        })?;
        let mut token = self.token;
        let mut seen = Vec::new();
        for _ in 0..=REDIRECTS {
            let mut request = if head {
                agent.head(at.clone())
            } else {
                agent.get(at.clone())
            };
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            for (name, value) in extra {
                request = request.header(*name, *value);
            }
            let response = request.call().map_err(|error| self.sort(&error))?;
            seen.push(response.headers().clone());
            let location = text_header(response.headers(), "location")
                .filter(|_| response.status().is_redirection());
            let Some(location) = location else {
                return Ok((seen, response));
            };
            let next = target(&at, &location)
                .map_err(|found| self.not_followed(format_args!("redirected to {found}")))?;
            let elsewhere = !same_origin(&at, &next);
            if stop(&seen, elsewhere) {
                return Ok((seen, response));
            }
            if is_downgrade(&at, &next) {
                return Err(Failure::Final(self.not_followed(format_args!(
                    "redirected from https to {}, where anybody on the way could change the file",
                    without_secrets(&next)
                ))));
            }
            if elsewhere {
                token = None;
            }
            at = next;
        }
        Err(Failure::Final(self.not_followed(format_args!(
            "redirected more than {REDIRECTS} times, the last time to {}",
            without_secrets(&at)
        ))))
    }

    /// Whether a failed request may do better the next time.
    fn sort(&self, error: &ureq::Error) -> Failure {
        let reason = || self.trouble(error);
        let online = || self.trouble(format_args!("{error}; is this machine online?"));
        match error {
            ureq::Error::HostNotFound => Failure::Unreachable(online()),
            // What the standard library says where a name has no address. That the name server gave no answer may pass.
            ureq::Error::Io(cause) if cause.to_string().contains("failed to lookup address") => {
                if cause.to_string().contains("Temporary") {
                    Failure::Broken(online())
                } else {
                    Failure::Unreachable(online())
                }
            }
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed => Failure::Broken(online()),
            ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Failure::Broken(reason()),
            // As behind a gate that reads what passes, until one has logged in.
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                Failure::Unreachable(self.trouble(format_args!(
                    "{error}; does this network want a login first, and is the clock right?"
                )))
            }
            // Its own message repeats the address as it was typed.
            ureq::Error::BadUri(_) => Failure::Final(self.refused(DownloadFault::Name {
                why: "not an http(s) address with a host".into(),
            })),
            _ => Failure::Final(self.not_followed(error)),
        }
    }

    /// Nothing for an answer that is a success, and for any other what it means and what to do.
    pub(super) fn check_status(&self, response: &Response<ureq::Body>) -> Result<(), Failure> {
        let status = response.status();
        let code = text_header(response.headers(), "x-error-code").unwrap_or_default();
        let found = status.to_string();
        let forbidden = |advice: &str| DownloadFault::Forbidden {
            found: found.clone(),
            advice: advice.into(),
        };
        let not_found = |advice: &str| DownloadFault::NotFound {
            found: found.clone(),
            advice: advice.into(),
        };
        let busy = |advice: &str| {
            let trouble = self.trouble(format_args!("the server answered {status}: {advice}"));
            Err(Failure::Busy(trouble, retry_after(response.headers())))
        };
        let fault = match (status.as_u16(), code.as_str(), self.token) {
            (200..=299, ..) => return Ok(()),
            (401 | 403, ..) if !self.hub => forbidden(
                "it wants a login, which this program has none for; download the file in a browser and give its path",
            ),
            (401 | 403, "GatedRepo", _) => forbidden(
                "the repository is gated; accept its terms on its page, and set HF_TOKEN to a token of that account",
            ),
            (401 | 403, "RepoNotFound", None) => forbidden(
                "there is no such repository, or it is private and needs HF_TOKEN; check the spelling",
            ),
            (401 | 403, _, None) => forbidden(
                "access is refused without a token; a private or gated repository needs HF_TOKEN and its terms accepted",
            ),
            (401 | 403, _, Some(_)) => forbidden(
                "access is refused with this token; check that HF_TOKEN is valid and that its account may read the repository (and has accepted its terms)",
            ),
            (404 | 410, "EntryNotFound", _) => {
                not_found("there is no such file in this revision of the repository")
            }
            (404 | 410, "RevisionNotFound", _) => {
                not_found("the repository has no such branch, tag or commit")
            }
            (404 | 410, ..) if self.hub => not_found(
                "there is no such repository, revision or file; check the spelling, and HF_TOKEN if it is private",
            ),
            (404 | 410, ..) => not_found("there is no such file; check the address"),
            (429, ..) => {
                return busy(if self.hub && self.token.is_none() {
                    "too many requests; wait some minutes, or set HF_TOKEN, which raises the limit"
                } else {
                    "too many requests; wait some minutes"
                });
            }
            (408 | 425 | 500..=599, ..) => {
                return busy("trouble on the server's side; try again later");
            }
            _ => DownloadFault::Answer {
                why: format!("the server answered {status}: the file cannot be had from there"),
            },
        };
        Err(Failure::Final(self.refused(fault)))
    }
}

/// An address that a server named: without what may be signed or secret in it.
fn without_secrets(address: &Uri) -> String {
    let text = address.to_string();
    match text.split_once('?') {
        Some((before, _)) => format!("{}?…", shown(before)),
        None => shown(&text),
    }
}

/// The client for all requests of one call.
pub(super) fn agent(options: &HubOptions) -> Agent {
    Agent::config_builder()
        .user_agent(concat!("bitnet-rust/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .http_status_as_error(false)
        // Redirects are followed here: who is told the token depends on them.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(options.silence))
        .timeout_connect(Some(options.silence))
        .timeout_per_read(Some(options.silence))
        .timeout_per_write(Some(options.silence))
        .build()
        .new_agent()
}

/// Repeats `attempt` after failures that may pass, with growing pauses, until `options.retries` in a row bring nothing new;
/// then they count as [`Failure::Unreachable`].
///
/// `attempt` returns how far it has come beside its failure.
pub(super) fn persist<T>(
    options: &HubOptions,
    mut attempt: impl FnMut() -> (u64, Result<T, Failure>),
) -> Result<T, Failure> {
    let mut fruitless = 0;
    let mut farthest = 0;
    loop {
        options.cancel.check()?;
        let (reached, outcome) = attempt();
        let (trouble, asked) = match outcome {
            Ok(value) => return Ok(value),
            Err(Failure::Broken(trouble)) => (trouble, Duration::ZERO),
            Err(Failure::Busy(trouble, pause)) => (trouble, pause),
            Err(failure) => return Err(failure),
        };
        // Only new ground counts: a server that always begins over and always breaks must not keep us for ever.
        if reached > farthest {
            farthest = reached;
            fruitless = 0;
        } else {
            fruitless += 1;
        }
        if fruitless >= options.retries {
            return Err(Failure::Unreachable(trouble));
        }
        tracing::warn!("{trouble}; trying again");
        options.sleep(asked.max(options.pause * 2_u32.pow(fruitless.min(4))))?;
    }
}

/// How long the server asks to be left alone (`Retry-After`, in seconds): at most a minute, as somebody may be waiting.
fn retry_after(headers: &HeaderMap) -> Duration {
    const MOST_SECONDS: u64 = 60;
    let seconds = text_header(headers, "retry-after").and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0).min(MOST_SECONDS))
}

/// A header as text, if it is there and is text.
pub(super) fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}
