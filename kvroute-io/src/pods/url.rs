//! Where a pod's HTTP interface is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::Uri;
use kvroute_core::config::value::text;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Scheme, host and port of a pod's HTTP interface: `http://10.0.0.7:8000`. No path, no user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct PodUrl {
    is_https: bool,
    /// Without brackets.
    host: String,
    port: u16,
}

impl PodUrl {
    /// Of parts: a host without brackets.
    pub(crate) fn of(host: &str, port: u16, is_https: bool) -> Self {
        Self { is_https, host: host.to_owned(), port }
    }

    /// The host: a name or an address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The same at another host, for a name's addresses.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { host: address.to_string(), ..self.clone() }
    }

    /// Host and port, an IPv6 address in brackets: what pods are called that have no other name.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// Whether the host is the one this process runs on, as far as its name tells.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// A host as it stands before a port.
pub(super) fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.into() }
}

/// Whether a host, without brackets, is the machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for PodUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl FromStr for PodUrl {
    type Err = String;

    /// Reads `http://host:port` or `https://host:port`; without a port it is the scheme's.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |what: &str| format!("found {what}, expected a URL such as http://10.0.0.7:8000");
        let uri: Uri = text.parse().map_err(|_| expected("something else"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(expected("no http:// or https:// in front")),
        };
        let authority = uri.authority().ok_or_else(|| expected("no host"))?;
        if authority.as_str().contains('@') {
            return Err(expected("a user"));
        }
        // A path of "/" is none.
        if uri.path() != "/" || uri.query().is_some() {
            return Err(expected("a path"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_string();
        if host.is_empty() {
            return Err(expected("no host"));
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match uri.port_u16() {
            Some(0) => return Err(expected("port 0")),
            Some(port) => port,
            None if has_port => return Err(expected("a port that is none")),
            None => {
                if is_https {
                    443
                } else {
                    80
                }
            }
        };
        Ok(Self { is_https, host, port })
    }
}

impl Serialize for PodUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PodUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_scheme_host_and_port() {
        for (text, shown, authority) in [
            ("http://10.0.0.7:8000", "http://10.0.0.7:8000", "10.0.0.7:8000"),
            ("http://pod-a:8000/", "http://pod-a:8000", "pod-a:8000"),
            ("https://pod-a", "https://pod-a:443", "pod-a:443"),
            ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
        ] {
            let url: PodUrl = text.parse().expect(text);
            assert_eq!((url.to_string(), url.authority()), (shown.to_string(), authority.to_string()));
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for text in [
            "",
            "10.0.0.7:8000",
            "pod-a",
            "ftp://pod-a",
            "http://",
            "http://a:b@pod-a",
            "http://pod-a/v1",
            "http://pod-a?x",
            "http://pod-a:0",
            "http://pod-a:99999",
            "http://pod a",
        ] {
            assert!(text.parse::<PodUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_elsewhere() {
        for (url, is_loopback) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9:1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1:1", false),
            ("http://pod-a:1", false),
        ] {
            assert_eq!(url.parse::<PodUrl>().map(|url| url.is_loopback()), Ok(is_loopback), "{url}");
        }
    }
}
