//! How pods are named between Envoy and picker (Endpoint Picker Protocol 1.0.0): `ip:port`, in dynamic metadata and in a
//! header.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kvroute_gateway::gateway::Gateway;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::proto::Metadata;

/// Header, and key in the metadata: where a request goes, one address or several.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";
/// Namespace of the destination and of what was served.
pub const NAMESPACE: &str = "envoy.lb";
/// Key in the metadata: the address of the pod that answered.
pub const SERVED: &str = "x-gateway-destination-endpoint-served";
/// Namespace of the subset.
pub const SUBSET_NAMESPACE: &str = "envoy.lb.subset_hint";
/// Key in the metadata: addresses of the pods that may be chosen.
pub const SUBSET: &str = "x-gateway-destination-endpoint-subset";

/// The metadata that tells Envoy the destination.
#[must_use]
pub fn destination(addresses: &str) -> Struct {
    let text = Value { kind: Some(Kind::StringValue(addresses.to_owned())) };
    let inner = Struct { fields: BTreeMap::from([(DESTINATION.to_owned(), text)]) };
    let inner = Value { kind: Some(Kind::StructValue(inner)) };
    Struct { fields: BTreeMap::from([(NAMESPACE.to_owned(), inner)]) }
}

/// The addresses that a request may go to; `None`: any. A value that is no list and no text has none of them, so that a
/// hint that cannot be read never widens the choice.
#[must_use]
pub fn subset(metadata: Option<&Metadata>) -> Option<Vec<String>> {
    let value = entry(metadata?, SUBSET_NAMESPACE, SUBSET)?;
    let mut addresses = Vec::new();
    gather(value, &mut addresses);
    Some(addresses)
}

/// The address of the pod that answered, where Envoy tells.
#[must_use]
pub fn served(metadata: Option<&Metadata>) -> Option<String> {
    match entry(metadata?, NAMESPACE, SERVED)? {
        Value { kind: Some(Kind::StringValue(address)) } if !address.is_empty() => Some(plain(address)),
        _ => None,
    }
}

/// Names of the pods at these addresses.
#[must_use]
pub fn pods_at(gateway: &Gateway, addresses: &[String]) -> Vec<String> {
    let targets = gateway.fleet().targets();
    let is_meant = |authority: &str| addresses.iter().any(|address| address == authority);
    let mut names: Vec<String> = targets
        .iter()
        .filter(|target| is_meant(&target.url.authority()))
        .map(|target| target.name.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn entry<'a>(metadata: &'a Metadata, namespace: &str, key: &str) -> Option<&'a Value> {
    metadata.filter_metadata.get(namespace)?.fields.get(key)
}

/// Addresses of a text, separated by commas, or of a list of such texts.
fn gather(value: &Value, addresses: &mut Vec<String>) {
    match &value.kind {
        Some(Kind::StringValue(text)) => {
            addresses.extend(text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(plain));
        }
        Some(Kind::ListValue(list)) => {
            for value in list.values.iter().filter(|value| matches!(value.kind, Some(Kind::StringValue(_)))) {
                gather(value, addresses);
            }
        }
        _ => {}
    }
}

/// An address as pods have it: `[::0:1]:80` and `[::1]:80` are one.
fn plain(address: &str) -> String {
    address.parse::<SocketAddr>().map_or_else(|_| address.to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(namespace: &str, key: &str, kind: Option<Kind>) -> Metadata {
        let fields = BTreeMap::from([(key.to_owned(), Value { kind })]);
        Metadata { filter_metadata: [(namespace.to_owned(), Struct { fields })].into() }
    }

    fn list(texts: &[&str]) -> Option<Kind> {
        let values = texts.iter().map(|text| Value { kind: Some(Kind::StringValue((*text).into())) });
        Some(Kind::ListValue(prost_types::ListValue { values: values.collect() }))
    }

    #[test]
    fn subsets_are_lists_or_texts_and_what_cannot_be_read_has_nobody() {
        let read = |kind| subset(Some(&with(SUBSET_NAMESPACE, SUBSET, kind)));
        assert_eq!(subset(None), None);
        assert_eq!(subset(Some(&Metadata::default())), None);
        assert_eq!(subset(Some(&with(NAMESPACE, SUBSET, list(&["10.0.0.1:80"])))), None);
        assert_eq!(read(list(&["10.0.0.1:80", "[::0:1]:80"])).unwrap(), ["10.0.0.1:80", "[::1]:80"]);
        let text = Some(Kind::StringValue("10.0.0.1:80, 10.0.0.2:80,".into()));
        assert_eq!(read(text).unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
        for nothing in [None, list(&[]), Some(Kind::NumberValue(1.0)), Some(Kind::StringValue(String::new()))]
        {
            assert_eq!(read(nothing), Some(Vec::new()));
        }
    }

    #[test]
    fn what_was_served_is_an_address_or_unknown() {
        let read = |kind| served(Some(&with(NAMESPACE, SERVED, kind)));
        assert_eq!(read(Some(Kind::StringValue("10.0.0.1:80".into()))).as_deref(), Some("10.0.0.1:80"));
        assert_eq!(read(Some(Kind::StringValue(String::new()))), None);
        assert_eq!(read(Some(Kind::BoolValue(true))), None);
        assert_eq!(served(None), None);
    }
}
