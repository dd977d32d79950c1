//! Prompts computed on one pod and answered by another: how the two are told of each other.
//!
//! - llm-d's way: the decode pod's routing sidecar does it, told by a header (llm-d-inference-scheduler,
//!   `pkg/sidecar/proxy`, 0.4).
//! - vLLM's way: the gateway asks the prefill pod for one token, with `kv_transfer_params` that say that another pod
//!   will decode, and puts the `kv_transfer_params` of its answer, which say where the KV is, into the request for the
//!   decode pod (vLLM, `tests/v1/kv_connector/nixl_integration/toy_proxy_server.py`; fields as in llm-d's
//!   `connector_nixlv2.go`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::client::{Answer, Client, Outgoing};
use crate::forward::{Failure, send};
use crate::headers::{PREFILLER, REQUEST_ID, request_id};
use crate::request::Endpoint;
use crate::route::Destination;

/// Longest answer of a prefill pod that is read, bytes; it lists the prompt's blocks.
const MAX_ANSWER: usize = 8 << 20;

/// What asks the prefill pod to keep the KV for another one.
const ASK: &str = r#"{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#;

/// The request for a decode pod with a routing sidecar, which is told the prefill pod.
pub(crate) fn for_sidecar(outgoing: &Outgoing, prefill: &Destination) -> Outgoing {
    let mut outgoing = outgoing.clone();
    if let Ok(address) = HeaderValue::try_from(prefill.url.authority()) {
        outgoing.headers.insert(PREFILLER, address);
    }
    outgoing
}

/// Lets a pod compute the prompt. Answers the request for the decode pod, or the pod's answer if it refused the
/// request.
///
/// # Errors
///
/// If the pod did not do it.
pub(crate) async fn prefill(
    client: &Client,
    endpoint: Endpoint,
    outgoing: &Outgoing,
    pod: &Destination,
    deadline: Instant,
) -> Result<Result<Outgoing, Answer>, Failure> {
    let mut decode = outgoing.clone();
    // Both pods' logs name the request alike.
    decode.headers.entry(REQUEST_ID).or_insert_with(request_id);
    let fields = Fields::read(&outgoing.body).map_err(|error| Failure::new(pod, error))?;
    let request = Outgoing { body: fields.for_prefill(endpoint), ..decode.clone() };
    let answer = send(client, pod, &request, deadline).await?;
    let status = answer.status();
    if status.is_client_error() {
        return Ok(Err(answer));
    }
    if !status.is_success() {
        return Err(Failure::new(pod, status));
    }
    let body = timeout_at(deadline, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
    let body = body.map_err(|_| Failure::new(pod, "its answer to the prefill request took too long"))?;
    let body = body.map_err(|error| Failure::new(pod, error))?.to_bytes();
    let transfer: Transfer<'_> = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(pod, format!("its answer to the prefill request cannot be read: {error}"))
    })?;
    match transfer.kv_transfer_params {
        Some(params) if params.get() != "null" => decode.body = fields.with_transfer(params),
        // Then the decode pod computes the prompt itself.
        _ => tracing::warn!(pod = &*pod.name, "the prefill pod's answer has no kv_transfer_params"),
    }
    Ok(Ok(decode))
}

#[derive(Deserialize)]
struct Transfer<'a> {
    #[serde(borrow)]
    kv_transfer_params: Option<&'a RawValue>,
}

/// The fields of a request, each as it was written.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Fields<'a> {
    #[serde(borrow)]
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The request for the prefill pod: one token and no stream.
    fn for_prefill(&self, endpoint: Endpoint) -> Bytes {
        let limits: &[&str] = match endpoint {
            Endpoint::Chat => &["max_tokens", "max_completion_tokens"],
            Endpoint::Responses => &["max_output_tokens"],
            _ => &["max_tokens"],
        };
        let mut changes = vec![("kv_transfer_params", Some(ASK)), ("stream", Some("false"))];
        changes.extend(limits.iter().map(|&limit| (limit, Some("1"))));
        // Of a stream only; more than one token.
        changes.extend([("stream_options", None), ("min_tokens", None)]);
        self.changed(&changes)
    }

    /// The request for the decode pod.
    fn with_transfer(&self, params: &RawValue) -> Bytes {
        self.changed(&[("kv_transfer_params", Some(params.get()))])
    }

    fn changed(&self, changes: &[(&str, Option<&str>)]) -> Bytes {
        let mut fields: BTreeMap<&str, &str> =
            self.fields.iter().map(|(name, value)| (&**name, value.get())).collect();
        for &(name, value) in changes {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(name),
            };
        }
        let mut body = String::from("{");
        for (at, (name, value)) in fields.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(&serde_json::Value::from(*name).to_string());
            body.push(':');
            body.push_str(value);
        }
        body.push('}');
        Bytes::from(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,
        "stream_options":{"include_usage":true},"max_completion_tokens":50,"min_tokens":3,"seed":18446744073709551616}"#;

    #[test]
    fn the_prefill_pod_is_asked_for_one_token_and_to_keep_the_kv() {
        let fields = Fields::read(BODY.as_bytes()).unwrap();
        let body = fields.for_prefill(Endpoint::Chat);
        assert!(
            String::from_utf8_lossy(&body).contains("18446744073709551616"),
            "other fields stay as written"
        );
        let asked: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(asked["kv_transfer_params"]["do_remote_decode"], json!(true));
        assert_eq!((&asked["max_tokens"], &asked["max_completion_tokens"]), (&json!(1), &json!(1)));
        assert_eq!(
            (&asked["stream"], asked.get("stream_options"), asked.get("min_tokens")),
            (&json!(false), None, None)
        );
        let response: Value = serde_json::from_slice(&fields.for_prefill(Endpoint::Responses)).unwrap();
        assert_eq!((&response["max_output_tokens"], response.get("max_tokens")), (&json!(1), None));
    }

    #[test]
    fn the_decode_pod_gets_the_request_as_it_was_with_where_the_kv_is() {
        let params: Box<RawValue> =
            serde_json::from_str(r#"{"remote_block_ids":[1,2],"remote_port":5600}"#).unwrap();
        let fields = Fields::read(BODY.as_bytes()).unwrap();
        let asked: Value = serde_json::from_slice(&fields.with_transfer(&params)).unwrap();
        let mut expected: Value = serde_json::from_str(BODY).unwrap();
        expected["kv_transfer_params"] = json!({ "remote_block_ids": [1, 2], "remote_port": 5600 });
        assert_eq!(asked, expected);
    }
}
