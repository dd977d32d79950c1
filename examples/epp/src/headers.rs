//! Headers as Envoy has them, and as all else here does.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::proto;
use crate::proto::{HeaderAppendAction, HeaderMutation, HeaderValueOption};

/// The head of a request or answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Without those that begin with a colon. What HTTP does not allow is left out.
    pub(crate) headers: HeaderMap,
}

impl Head {
    pub(crate) fn read(headers: Option<proto::HeaderMap>) -> Self {
        let mut head = Self::default();
        for header in headers.unwrap_or_default().headers {
            let value =
                if header.raw_value.is_empty() { Bytes::from(header.value) } else { header.raw_value };
            match header.key.as_str() {
                ":path" => head.path = String::from_utf8_lossy(&value).into_owned(),
                ":status" => {
                    head.status = str::from_utf8(&value).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
                }
                key => {
                    let name = HeaderName::from_bytes(key.as_bytes());
                    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
                        head.headers.append(name, value);
                    }
                }
            }
        }
        head
    }

    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// Changes of headers, being put together.
#[derive(Debug, Default)]
pub(crate) struct Changes(HeaderMutation);

impl Changes {
    /// In place of one that is there.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.with(name, value.as_ref(), HeaderAppendAction::OverwriteIfExistsOrAdd);
    }

    /// Beside those that are there.
    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.with(name, value.as_ref(), HeaderAppendAction::AppendIfExistsOrAdd);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove_headers.push(name.to_owned());
    }

    fn with(&mut self, name: &str, value: &[u8], action: HeaderAppendAction) {
        let header = proto::HeaderValue {
            key: name.to_owned(),
            value: String::new(),
            raw_value: Bytes::copy_from_slice(value),
        };
        self.0.set_headers.push(HeaderValueOption { header: Some(header), append_action: action.into() });
    }

    pub(crate) fn into_mutation(self) -> HeaderMutation {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: &str, raw: &[u8]) -> proto::HeaderValue {
        proto::HeaderValue { key: key.into(), value: value.into(), raw_value: Bytes::copy_from_slice(raw) }
    }

    #[test]
    fn heads_are_read_raw_or_as_text_and_what_http_does_not_allow_is_left_out() {
        let headers = vec![
            header(":path", "", b"/v1/completions?x=1"),
            header(":status", "204", b""),
            header("x-session-id", "", b"a"),
            header("x-session-id", "b", b""),
            header("not allowed", "", b"a"),
            header("x-bad", "", b"a\nb"),
            header("", "", b"a"),
        ];
        let head = Head::read(Some(proto::HeaderMap { headers }));
        assert_eq!((head.path(), head.status), ("/v1/completions", 204));
        assert_eq!(head.headers.get_all("x-session-id").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(head.headers.len(), 2);
        assert_eq!(Head::read(None).path(), "");
    }
}
