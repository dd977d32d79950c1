//! The status page: three files, and answers as browsers should take them.

use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::answer::AnswerBody;
use crate::error::ApiError;

pub(super) const JSON: &str = "application/json";

/// Nothing from elsewhere, nothing inline: what a pod's name holds can at worst be shown.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One of the page's files.
pub(super) fn asset(path: &str) -> Response<AnswerBody> {
    match path {
        "/" => shown("text/html; charset=utf-8", include_str!("page/index.html").into()),
        "/page.css" => shown("text/css; charset=utf-8", include_str!("page/page.css").into()),
        "/page.js" => shown("text/javascript; charset=utf-8", include_str!("page/page.js").into()),
        path => ApiError::unknown_path(path).into_response(),
    }
}

/// An answer that is kept nowhere.
pub(super) fn shown(kind: &'static str, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(Full::from(text)));
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
