//! Where a redirect leads, and whether the same server answers there.

use ureq::http::Uri;

/// The address that `location`, the header of an answer from `from`, stands for; the error says what it is instead.
pub(super) fn target(from: &Uri, location: &str) -> Result<Uri, String> {
    // What follows # is for browsers.
    let location = location.split('#').next().unwrap_or_default();
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let is_absolute = |location: &str| {
        let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{authority}{}{location}", from.path())
    } else if is_absolute(location) {
        location.to_owned()
    } else {
        let (folder, _) = from.path().rsplit_once('/').unwrap_or_default();
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target: Uri = absolute
        .parse()
        .map_err(|error| format!("{location:?} ({error})"))?;
    match target.scheme_str() {
        Some("http" | "https") if target.host().is_some_and(|host| !host.is_empty()) => Ok(target),
        _ => Err(format!("{location:?}, which is no http(s) address")),
    }
}

/// Whether two addresses have scheme, host and port in common: who may be told a secret of the one may be told it at the other.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme()
        && port(one) == port(other)
        && match (one.host(), other.host()) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
}

fn port(address: &Uri) -> u16 {
    let usual = if is_https(address) { 443 } else { 80 };
    address.port_u16().unwrap_or(usual)
}

/// Whether somebody on the way could read and change what nobody could before.
pub(super) fn is_downgrade(from: &Uri, to: &Uri) -> bool {
    is_https(from) && !is_https(to)
}

fn is_https(address: &Uri) -> bool {
    address.scheme_str() == Some("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations_are_relative_to_the_address() {
        let from = uri("https://h.org:8443/a/b?c=d");
        for (location, expected) in [
            ("/x/y?z", "https://h.org:8443/x/y?z"),
            ("//other/x", "https://other/x"),
            ("http://other:1/x#part", "http://other:1/x"),
            ("c", "https://h.org:8443/a/c"),
            ("c/d:e", "https://h.org:8443/a/c/d:e"),
            ("?e", "https://h.org:8443/a/b?e"),
        ] {
            assert_eq!(
                target(&from, location).unwrap(),
                uri(expected),
                "{location}"
            );
        }
        for location in ["ftp://h.org/x", "file:///etc/passwd", "http:///x", "/a b"] {
            assert!(target(&from, location).is_err(), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = uri("https://hub.org/a");
        for same in ["https://hub.org/b", "https://HUB.org:443/"] {
            assert!(same_origin(&hub, &uri(same)), "{same}");
        }
        for other in [
            "http://hub.org/a",
            "https://hub.org:8443/a",
            "https://cdn.hub.org/a",
            "https://hub.org.evil/a",
            "https://hub.org@evil/a",
        ] {
            assert!(!same_origin(&hub, &uri(other)), "{other}");
        }
        let insecure = uri("http://hub.org/a");
        assert!(is_downgrade(&hub, &insecure));
        assert!(!is_downgrade(&insecure, &hub) && !is_downgrade(&insecure, &insecure));
    }
}
