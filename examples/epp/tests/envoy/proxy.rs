//! An Envoy for a test: with a configuration of its own, ended with the test by its own process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::get;
use crate::program::{Folder, free_address, wait_until};

/// What differs between the tests' Envoys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Requests go on where the picker does not answer.
    pub(crate) fails_open: bool,
    /// Only these pods may be picked.
    pub(crate) subset: Option<Vec<String>>,
}

/// A running Envoy.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    /// Its files, and what it said.
    folder: Folder,
}

impl Proxy {
    /// Before these pods, asking that picker.
    pub(crate) async fn start(
        name: &str,
        picker: SocketAddr,
        pods: &[SocketAddr],
        options: &Options,
    ) -> Self {
        let program = std::env::var_os("KVROUTE_ENVOY").map(PathBuf::from);
        let program =
            program.expect("KVROUTE_ENVOY names Envoy's program; `cargo xtask test --only envoy` sets it");
        let folder = Folder::new(name);
        let (address, admin) = (free_address(), free_address());
        let path = folder.0.join("envoy.json");
        let bootstrap = bootstrap(address, admin, picker, pods, options);
        fs::write(&path, format!("{bootstrap:#}")).expect("it can be written");
        let log = File::create(folder.0.join("envoy.log")).expect("it can be made");
        let child = Command::new(program)
            .arg("--config-path")
            .arg(&path)
            .args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("it can be shared"))
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        let mut proxy = Self { address, admin, child, folder };
        wait_until("Envoy is ready", Duration::from_secs(60), async || {
            if let Some(status) = proxy.child.try_wait().expect("it is ours") {
                panic!("Envoy ended with {status}:\n{}", proxy.log());
            }
            tokio::net::TcpStream::connect(admin).await.is_ok() && get(admin, "/ready").await.status == 200
        })
        .await;
        proxy.until_picker_is("health_flags::healthy").await;
        proxy
    }

    /// Waits until its health checks have found out that the picker is gone.
    pub(crate) async fn until_picker_is_known_dead(&self) {
        self.until_picker_is("/failed_active_hc").await;
    }

    async fn until_picker_is(&self, flag: &str) {
        wait_until(flag, Duration::from_secs(60), async || {
            let clusters = get(self.admin, "/clusters").await.body;
            let clusters = String::from_utf8_lossy(&clusters).into_owned();
            clusters.lines().any(|line| line.starts_with("picker::") && line.contains(flag))
        })
        .await;
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.0.join("envoy.log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("Envoy said:\n{}", self.log());
        }
    }
}

fn at(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    json!({ "name": name, "typed_config": config })
}

fn endpoints(cluster: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<_> =
        addresses.iter().map(|address| json!({ "endpoint": { "address": at(*address) } })).collect();
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": endpoints }] })
}

/// The configuration that the README of the example describes.
fn bootstrap(
    address: SocketAddr,
    admin: SocketAddr,
    picker: SocketAddr,
    pods: &[SocketAddr],
    options: &Options,
) -> Value {
    let mut filters = Vec::new();
    if let Some(subset) = &options.subset {
        let hint = json!({ "metadata_namespace": "envoy.lb.subset_hint", "allow_overwrite": true,
                           "value": { "x-gateway-destination-endpoint-subset": subset } });
        filters.push(typed(
            "envoy.filters.http.set_metadata",
            "extensions.filters.http.set_metadata.v3.Config",
            json!({ "metadata": [hint] }),
        ));
    }
    filters.push(typed(
        "envoy.filters.http.ext_proc",
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        json!({
            "grpc_service": { "envoy_grpc": { "cluster_name": "picker" } },
            "failure_mode_allow": options.fails_open,
            "message_timeout": "60s",
            "processing_mode": {
                "request_header_mode": "SEND", "request_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND", "response_header_mode": "SEND",
                "response_body_mode": "FULL_DUPLEX_STREAMED", "response_trailer_mode": "SEND",
            },
            "metadata_options": {
                "forwarding_namespaces": { "untyped": ["envoy.lb", "envoy.lb.subset_hint"] },
                "receiving_namespaces": { "untyped": ["envoy.lb"] },
            },
        }),
    ));
    filters.push(typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", json!({})));
    let connections = json!({
        "stat_prefix": "front",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "route": { "cluster": "pods", "timeout": "120s" } },
        ] }] },
        "http_filters": filters,
    });
    let manager = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        connections,
    );
    let destination =
        json!({ "metadata": { "key": "envoy.lb", "path": [{ "key": "x-gateway-destination-endpoint" }] } });
    let in_turn = typed(
        "envoy.load_balancing_policies.round_robin",
        "extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        json!({}),
    );
    let override_host = typed(
        "envoy.load_balancing_policies.override_host",
        "extensions.load_balancing_policies.override_host.v3.OverrideHost",
        json!({
            "override_host_sources": [destination, { "header": "x-gateway-destination-endpoint" }],
            "selected_host_key": { "key": "envoy.lb", "path": [{ "key": "x-gateway-destination-endpoint-served" }] },
            "fallback_policy": { "policies": [{ "typed_extension_config": in_turn }] },
        }),
    );
    let mut http2 = json!({ "explicit_http_config": { "http2_protocol_options": {} } });
    http2["@type"] = json!("type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    json!({
        "admin": { "address": at(admin) },
        "static_resources": {
            "listeners": [{ "name": "front", "address": at(address),
                            "filter_chains": [{ "filters": [manager] }] }],
            "clusters": [
                { "name": "picker", "type": "STATIC", "connect_timeout": "5s",
                  "load_assignment": endpoints("picker", &[picker]),
                  // Where no picker is well, streams fail at once, before any of a body was sent.
                  "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
                  "health_checks": [{ "timeout": "5s", "interval": "1s", "no_traffic_interval": "1s",
                                      "unhealthy_threshold": 1, "healthy_threshold": 1,
                                      "grpc_health_check": {
                                          "service_name": "envoy.service.ext_proc.v3.ExternalProcessor" } }],
                  "typed_extension_protocol_options": {
                      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 } },
                { "name": "pods", "type": "STATIC", "connect_timeout": "5s",
                  "load_assignment": endpoints("pods", pods),
                  "load_balancing_policy": { "policies": [{ "typed_extension_config": override_host }] } },
            ],
        },
    })
}
