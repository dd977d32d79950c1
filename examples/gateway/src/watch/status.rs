//! `/status.json`: what gateway, router and fleet are at.

use std::sync::Arc;

use kvroute_core::router::RouterStatus;
use kvroute_io::fleet::FleetStatus;
use serde::{Serialize, Serializer};

use super::decisions::Decided;
use super::tallies::{PodKey, PodTally};
use crate::config::Routing;
use crate::gateway::Gateway;
use crate::shared::{IndexView, SharedView};

/// All of it. `router` and `fleet` are as the libraries have them; a pod of the fleet has a rank for each pod of the router,
/// named by the same `id`.
#[derive(Serialize)]
struct Status {
    gateway: GatewayStatus,
    router: RouterStatus,
    fleet: FleetStatus,
    /// What is shared with other gateways; null: nothing is.
    shared: Option<SharedView>,
    /// Its part in the index that gateways share; null: it has none.
    index: Option<IndexView>,
    /// The newest first, without their explanations: those are at `/decisions/NUMBER`.
    #[serde(serialize_with = "each")]
    decisions: Vec<Arc<Decided>>,
}

fn each<S: Serializer>(decisions: &[Arc<Decided>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(decisions.iter().map(|decided| &**decided))
}

#[derive(Serialize)]
struct GatewayStatus {
    version: &'static str,
    uptime_seconds: f64,
    draining: bool,
    routing: Routing,
    /// Name of the policy's decode profile.
    profile: String,
    in_flight: i64,
    buffered_bytes: usize,
    /// What pods answered so far, by name and rank.
    pods: Vec<PodTokens>,
}

#[derive(Serialize)]
struct PodTokens {
    name: String,
    dp_rank: u32,
    requests: u64,
    prompt_tokens: u64,
    expected_cached_tokens: u64,
    /// The same of requests of which the engine told what it had cached, and what it told.
    confirmed_prompt_tokens: u64,
    confirmed_expected_tokens: u64,
    confirmed_cached_tokens: u64,
}

/// As JSON.
pub(super) fn json(gateway: &Arc<Gateway>) -> String {
    let watch = gateway.watch();
    let tokens_of = |((name, rank), tally): (&PodKey, &PodTally)| PodTokens {
        name: name.to_string(),
        dp_rank: *rank,
        requests: tally.routed.values().sum(),
        prompt_tokens: tally.prompt_tokens,
        expected_cached_tokens: tally.expected_tokens,
        confirmed_prompt_tokens: tally.confirmed_prompt_tokens,
        confirmed_expected_tokens: tally.confirmed_expected_tokens,
        confirmed_cached_tokens: tally.confirmed_cached_tokens,
    };
    let pods = watch.tallies.counts.lock().pods.iter().map(tokens_of).collect();
    let status = Status {
        gateway: GatewayStatus {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: watch.begun.elapsed().as_secs_f64(),
            draining: gateway.is_draining(),
            routing: gateway.settings().routing,
            profile: gateway.router().policy().decode.name().to_owned(),
            in_flight: watch.tallies.in_flight(),
            buffered_bytes: gateway.buffered_bytes(),
            pods,
        },
        router: gateway.router().status(),
        fleet: gateway.fleet().status(),
        shared: gateway.shared().map(|shared| SharedView::of(&shared.status())),
        index: gateway.index().map(|index| IndexView::of(index.status())),
        decisions: watch.recent.all(),
    };
    // All of it are numbers and texts; a number that JSON does not know becomes null.
    serde_json::to_string(&status).unwrap_or_default()
}
