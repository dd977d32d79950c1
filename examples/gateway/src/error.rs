//! Errors as clients see them: OpenAI's form, with a status.

use std::fmt;

use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::answer::AnswerBody;

/// Why a request was not answered by a pod: `{"error":{"message","type","param","code"}}` with a status, as OpenAI's
/// API and vLLM's (`ErrorResponse`, vLLM 0.32) have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    /// The rest of the request was not read, so the connection cannot be used again.
    closes: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None, closes: false }
    }

    /// 400: the request cannot be understood; `param` names the field that is wrong, if it is one.
    pub fn bad_request(message: impl Into<String>, param: Option<&str>) -> Self {
        let param = param.map(str::to_owned);
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message) }
    }

    /// 404: no pod serves the model.
    pub fn unknown_model(model: &str) -> Self {
        let model: String = model.chars().take(256).collect();
        let message = format!("The model `{model}` does not exist.");
        Self {
            param: Some("model".to_owned()),
            code: Some("model_not_found"),
            ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
        }
    }

    /// 404: no such path.
    pub fn unknown_path(path: &str) -> Self {
        let path: String = path.chars().take(256).collect();
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("Unknown path {path}"))
    }

    /// 405: the path is there, but not for this method.
    pub fn wrong_method(expected: &str) -> Self {
        let message = format!("Method not allowed; use {expected}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// 408: the client took too long to send its request.
    pub fn slow_request(limit_ms: u64) -> Self {
        let message = format!("The request's body did not arrive within {limit_ms} ms");
        Self { closes: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message) }
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The request's body is longer than {limit} bytes");
        Self { closes: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message) }
    }

    /// 429: there is too much to do for this request to be taken as well.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self { code: Some("overloaded"), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "server_error", message) }
    }

    /// 502: no pod answered, for this reason.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self { code: Some("pod_failed"), ..Self::new(StatusCode::BAD_GATEWAY, "server_error", message) }
    }

    /// 503: there is nobody to ask now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: Some("unavailable"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    /// 504: a pod did not answer in time.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self {
            code: Some("pod_timed_out"),
            ..Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message)
        }
    }

    /// 500: a fault of the gateway's own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The same, after which the connection is closed: the rest of the request was not read.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body of the answer, JSON.
    #[must_use]
    pub fn body(&self) -> String {
        let Self { message, kind, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } }).to_string()
    }

    /// The answer to the client.
    #[must_use]
    pub fn into_response(self) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::Whole(Full::from(self.body())));
        let Self { status, closes, .. } = self;
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
