//! Requests with patience: what may pass is tried again, what will not is said at once.

use super::{HubOptions, refused};
use crate::{Error, Result};
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, StatusCode};

/// Why an attempt ended early.
pub(super) enum Failure {
    /// Another attempt may do better.
    Broken(String),
    /// No attempt will.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// The client for all requests of one call.
pub(super) fn agent(options: &HubOptions) -> Agent {
    Agent::config_builder()
        .user_agent(concat!("bitnet-rust/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(options.silence))
        .timeout_connect(Some(options.silence))
        .timeout_per_read(Some(options.silence))
        .timeout_per_write(Some(options.silence))
        .build()
        .new_agent()
}

/// Repeats `attempt` after failures that may pass, with growing pauses, until `options.retries` in a row bring nothing new.
///
/// `attempt` returns how far it has come beside its failure.
pub(super) fn persist<T>(
    options: &HubOptions,
    what: impl Fn(&str) -> Error,
    mut attempt: impl FnMut() -> (u64, Result<T, Failure>),
) -> Result<T> {
    let mut fruitless = 0;
    let mut farthest = 0;
    loop {
        options.check_cancelled()?;
        let (reached, outcome) = attempt();
        let reason = match outcome {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Broken(reason)) => reason,
        };
        // Only new ground counts: a server that always begins over and always breaks must not keep us for ever.
        if reached > farthest {
            farthest = reached;
            fruitless = 0;
        } else {
            fruitless += 1;
        }
        if fruitless >= options.retries {
            return Err(what(&reason));
        }
        tracing::warn!("{reason}; trying again");
        options.sleep(options.pause * 2_u32.pow(fruitless.min(4)))?;
    }
}

/// A small answer as text, with the same patience as a file.
pub(super) fn text(
    model: &str,
    address: &str,
    agent: &Agent,
    options: &HubOptions,
) -> Result<String> {
    let token = options.token.as_deref();
    const LIMIT: u64 = 16 << 20;
    let give_up = |reason: &str| refused(model, format!("{address}: {reason}"));
    persist(options, give_up, || {
        let outcome = request(model, agent, address, token, &[]).and_then(|response| {
            check_status(model, address, response.status())?;
            response
                .into_body()
                .into_with_config()
                .limit(LIMIT)
                .read_to_string()
                .map_err(|error| Failure::Broken(error.to_string()))
        });
        (0, outcome)
    })
}

/// The headers of the answer for `address`, without following redirects to other hosts.
///
/// Returns one map per answer on the way, the last one last.
pub(super) fn headers(
    model: &str,
    address: &str,
    agent: &Agent,
    options: &HubOptions,
) -> Result<Vec<HeaderMap>> {
    let token = options.token.as_deref();
    const REDIRECTS: usize = 5;
    let give_up = |reason: &str| refused(model, format!("{address}: {reason}"));
    persist(options, give_up, || {
        let outcome = (|| {
            let mut at = address.to_owned();
            let mut seen = Vec::new();
            for _ in 0..=REDIRECTS {
                let mut head = agent.head(&at);
                if let Some(token) = token {
                    head = head.header("authorization", format!("Bearer {token}"));
                }
                let response = head
                    .config()
                    .max_redirects(0)
                    .max_redirects_will_error(false)
                    .build()
                    .call()
                    .map_err(|error| sort(model, address, error))?;
                let status = response.status();
                let onward = text_header(response.headers(), "location");
                seen.push(response.headers().clone());
                match onward {
                    // A path on the same host: the hub's way of saying which commit it means.
                    Some(path)
                        if status.is_redirection()
                            && path.starts_with('/')
                            && !path.starts_with("//") =>
                    {
                        at = format!("{}{path}", origin(&at));
                    }
                    Some(_) if status.is_redirection() => return Ok(seen),
                    _ => {
                        check_status(model, address, status)?;
                        return Ok(seen);
                    }
                }
            }
            Err(Failure::Final(give_up("too many redirects")))
        })();
        (0, outcome)
    })
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> &str {
    let after = address.find("://").map_or(0, |at| at + 3);
    let end = address[after..]
        .find('/')
        .map_or(address.len(), |at| after + at);
    &address[..end]
}

/// A header as text, if it is there and is text.
pub(super) fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// Sends a GET; the status of the answer is for the caller to check.
pub(super) fn request(
    model: &str,
    agent: &Agent,
    address: &str,
    token: Option<&str>,
    extra: &[(&str, &str)],
) -> Result<Response<ureq::Body>, Failure> {
    let mut get = agent.get(address);
    if let Some(token) = token {
        get = get.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in extra {
        get = get.header(*name, *value);
    }
    get.call().map_err(|error| sort(model, address, error))
}

/// Whether a failed request may do better the next time.
fn sort(model: &str, address: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::Protocol(_)
        | ureq::Error::ConnectionFailed => Failure::Broken(error.to_string()),
        ureq::Error::HostNotFound => Failure::Final(refused(
            model,
            format!("{address}: host not found; is this machine online?"),
        )),
        other => Failure::Final(refused(model, format!("{address}: {other}"))),
    }
}

/// Nothing for an answer that is a success, and for any other what it means.
pub(super) fn check_status(model: &str, address: &str, status: StatusCode) -> Result<(), Failure> {
    let say = |what: &str| {
        Failure::Final(refused(
            model,
            format!("{address}: the server answered {status}: {what}"),
        ))
    };
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 => Err(say(
            "access is refused; a private or gated repository needs HF_TOKEN and its terms accepted",
        )),
        404 | 410 => Err(say("there is no such repository, revision or file")),
        408 | 425 | 429 | 500..=599 => {
            Err(Failure::Broken(format!("the server answered {status}")))
        }
        _ => Err(say("the file cannot be had from there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert_eq!(origin("http://h:1/a/b"), "http://h:1");
        assert_eq!(origin("https://h"), "https://h");
    }
}
