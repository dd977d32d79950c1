//! Requests to the gateway, and what its answers tell.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::capture::Result;

/// How long a whole answer may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How many bytes of an answer are read.
const MAX_BYTES: usize = 64 << 20;

/// Asks a gateway, over plain HTTP.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
}

/// What came of a request that generates.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The pod that answered.
    pub(super) pod: String,
    /// Whether another pod computed the prompt.
    pub(super) was_prefilled: bool,
    /// Why the gateway knows the prompt as text only, if so.
    pub(super) known_as_text: Option<KnownAsText>,
    /// Length of the prompt as the gateway knows it, tokens; `None` if nobody decided where it goes.
    pub(super) told_tokens: Option<usize>,
    /// Tokens of it that were expected to be cached.
    pub(super) expected: usize,
    /// Why that pod.
    pub(super) reason: String,
    /// What reading, tokenizing and routing took, microseconds.
    pub(super) overhead_us: f64,
    /// From the request to the first token.
    pub(super) first_token: Duration,
    /// What was generated, as text.
    pub(super) text: String,
    /// The same as token ids, from engines that tell.
    pub(super) token_ids: Vec<u32>,
    /// Length of the prompt as the engine counts.
    pub(super) prompt_tokens: usize,
    /// Tokens of it that the engine took from its cache; `None` if it does not tell.
    pub(super) cached_tokens: Option<usize>,
}

/// Why the gateway knows a prompt as text only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownAsText {
    /// Its tokenizer was too busy at that moment.
    Overloaded,
    /// It has no tokenizer for the model, or none that can tell what the engine computes.
    Untokenized,
}

impl Client {
    /// # Errors
    ///
    /// A URL that is not `http://HOST[:PORT]`.
    pub(super) fn new(url: &str) -> Result<Self> {
        let base = url.trim_end_matches('/');
        match base.strip_prefix("http://") {
            Some(host) if !host.is_empty() && !host.contains('/') => {}
            _ => return Err(format!("{url:?}: a URL such as http://127.0.0.1:8080 is needed").into()),
        }
        Ok(Self { http: legacy::Client::builder(TokioExecutor::new()).build_http(), base: base.to_owned() })
    }

    /// The JSON at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.whole(Request::get(format!("{}{path}", self.base)).body(Full::default())?, path).await
    }

    fn post(&self, path: &str, body: &Value) -> Result<Request<Full<Bytes>>> {
        let request = Request::post(format!("{}{path}", self.base)).header(CONTENT_TYPE, "application/json");
        Ok(request.body(Full::from(serde_json::to_vec(body)?))?)
    }

    async fn whole<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>, path: &str) -> Result<T> {
        let body = tokio::time::timeout(TIMEOUT, async { read(self.send(request, path).await?).await });
        let body = body.await.map_err(|_| format!("{path}: no answer within {TIMEOUT:?}"))??;
        serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}").into())
    }

    /// The answer's head, if it is good.
    async fn send(&self, request: Request<Full<Bytes>>, path: &str) -> Result<Response<Incoming>> {
        let response = self.http.request(request).await;
        let response = response.map_err(|error| format!("{}{path}: {}", self.base, with_causes(&error)))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let body = read(response).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
        Err(format!("{path}: status {status}: {said}").into())
    }

    /// Sends a request that asks for a stream with its usage.
    pub(super) async fn ask(&self, endpoint: &str, body: &Value) -> Result<Answer> {
        let begin = Instant::now();
        let answer = async {
            let response = self.send(self.post(endpoint, body)?, endpoint).await?;
            let mut answer = Answer::of(response.headers())?;
            let mut body = Limited::new(response.into_body(), MAX_BYTES);
            let mut events = Events::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| format!("{endpoint}: the answer broke off: {error}"))?;
                let Ok(piece) = frame.into_data() else { continue };
                events.push(&piece, |event| answer.take(event, begin.elapsed()))?;
            }
            if answer.prompt_tokens == 0 {
                return Err(format!("{endpoint}: the answer came without usage").into());
            }
            Ok(answer)
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(format!("{endpoint}: no answer within {TIMEOUT:?}").into()))
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes> {
    Ok(Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The part of a stream's event that is looked at.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<usize>,
}

impl Answer {
    /// What the answer's head tells.
    fn of(headers: &HeaderMap) -> Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|text| text.parse::<usize>().ok());
        let pod = text("x-kvroute-pod").ok_or(
            "the answer has no x-kvroute-pod: this is no kvroute-gateway, or it has `answer_headers: false`",
        )?;
        let known_as_text = match (text("x-kvroute-prompt"), text("x-kvroute-untokenized")) {
            (Some("token-ids"), _) => None,
            (_, Some("overloaded")) => Some(KnownAsText::Overloaded),
            _ => Some(KnownAsText::Untokenized),
        };
        let rank = text("x-kvroute-dp-rank").map_or_else(String::new, |rank| format!("/{rank}"));
        Ok(Self {
            pod: format!("{pod}{rank}"),
            was_prefilled: headers.contains_key("x-kvroute-prefill-pod"),
            known_as_text,
            told_tokens: number("x-kvroute-prompt-tokens"),
            expected: number("x-kvroute-expected-cached-tokens").unwrap_or(0),
            reason: text("x-kvroute-reason").unwrap_or("").to_owned(),
            overhead_us: number("x-kvroute-overhead-us").unwrap_or(0) as f64,
            first_token: Duration::ZERO,
            text: String::new(),
            token_ids: Vec::new(),
            prompt_tokens: 0,
            cached_tokens: None,
        })
    }

    /// What an event of the stream tells, that came so long after the request.
    fn take(&mut self, event: &[u8], after: Duration) -> Result<()> {
        let event: Event = serde_json::from_slice(event).map_err(|error| format!("in a stream: {error}"))?;
        if let Some(error) = event.error {
            return Err(format!("the stream ends with {error}").into());
        }
        if let Some(choice) = event.choices.into_iter().next() {
            if self.first_token.is_zero() {
                self.first_token = after;
            }
            let text = choice.text.or_else(|| choice.delta?.content).unwrap_or_default();
            self.text.push_str(&text);
            self.token_ids.extend(choice.token_ids.unwrap_or_default());
        }
        if let Some(usage) = event.usage {
            self.prompt_tokens = usage.prompt_tokens;
            self.cached_tokens = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        }
        Ok(())
    }
}

/// Server-sent events, piece by piece.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
}

impl Events {
    /// Tells `each` of the data of every event that is whole now, but for the closing `[DONE]`.
    fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for &byte in piece {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            match line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) {
                None | Some(b"[DONE]") => {}
                Some(data) => each(data)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_however_they_are_cut() {
        let stream = "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"token_ids\":[7]}]}\r\n\r\n: a comment\n\n\
            data:{\"choices\":[{\"delta\":{\"content\":\"\u{fc}\"}}],\"usage\":null}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n\
            data: [DONE]\n\n";
        for size in [1, 2, 7, 1000] {
            let mut headers = HeaderMap::new();
            headers.insert("x-kvroute-pod", "p".parse().unwrap());
            headers.insert("x-kvroute-expected-cached-tokens", "3".parse().unwrap());
            let mut answer = Answer::of(&headers).unwrap();
            let mut events = Events::default();
            for (at, piece) in stream.as_bytes().chunks(size).enumerate() {
                let after = Duration::from_millis(at as u64 + 1);
                events.push(piece, |event| answer.take(event, after)).unwrap();
            }
            assert_eq!((answer.text.as_str(), &*answer.token_ids), ("a\u{fc}", &[7][..]), "{size}");
            assert_eq!((answer.prompt_tokens, answer.expected, answer.cached_tokens), (9, 3, Some(3)));
            assert!(!answer.first_token.is_zero());
        }
    }

    #[test]
    fn what_is_no_gateways_answer_is_refused() {
        let error = Answer::of(&HeaderMap::new()).unwrap_err().to_string();
        assert!(error.contains("answer_headers"), "{error}");
        let mut headers = HeaderMap::new();
        headers.insert("x-kvroute-pod", "p".parse().unwrap());
        let mut answer = Answer::of(&headers).unwrap();
        for bad in ["{\"error\":{\"message\":\"no\"}}", "{\"choices\":7}", "not JSON"] {
            assert!(answer.take(bad.as_bytes(), Duration::ZERO).is_err(), "{bad}");
        }
        for url in ["https://x", "127.0.0.1:80", "http://", "http://x/v1"] {
            assert!(Client::new(url).is_err(), "{url}");
        }
        assert_eq!(Client::new("http://x:1/").unwrap().base, "http://x:1");
    }
}
