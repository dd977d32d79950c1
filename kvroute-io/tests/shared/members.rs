//! Routers of one fleet that share a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::load::Bookings;
use kvroute_core::{
    BlockHasher, CacheDomain, Finish, HashContext, OwnScheme, PodSpec, Request, Router, Session, Ticket,
    Workspace,
};
use kvroute_io::fleet::Clock;
use kvroute_io::shared::{SharedConfig, SharedState, SharedTrust};

pub(crate) const PODS: [&str; 4] = ["a", "b", "c", "d"];

/// Generous: the machine may be busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// No dispatch may take as long as this, whatever the server does. Busy machines stop programs for tens of milliseconds;
/// any wait for the server is longer.
pub(crate) const BOUND: Duration = Duration::from_millis(250);

pub(crate) struct Member {
    pub(crate) router: Arc<Router>,
    pub(crate) shared: SharedState,
    pub(crate) clock: Clock,
    pub(crate) slowest: Duration,
    workspace: Workspace,
}

pub(crate) fn config(url: &str) -> SharedConfig {
    let mut config = SharedConfig { urls: vec![url.to_owned()], ..SharedConfig::default() };
    config.reports.statement_ms = 1000;
    config
}

pub(crate) fn router() -> Arc<Router> {
    let router = Router::default();
    let hasher = BlockHasher::new(OwnScheme::default(), 16).unwrap();
    let domain = Arc::new(CacheDomain::new("model", hasher).unwrap());
    for pod in PODS {
        router.add_pod(PodSpec::new(pod, Arc::clone(&domain))).unwrap();
    }
    Arc::new(router)
}

impl Member {
    pub(crate) fn join(config: &SharedConfig) -> Self {
        let (router, clock) = (router(), Clock::new());
        let shared = SharedState::start(Arc::clone(&router), clock, config).unwrap();
        Self { router, shared, clock, slowest: Duration::ZERO, workspace: Workspace::default() }
    }

    /// Sends a request, and checks that nothing was waited for.
    pub(crate) fn dispatch(&mut self, seed: u32, session: Option<&str>) -> Ticket {
        let token_ids: Vec<u32> = (0..200).map(|at| seed * 1000 + at).collect();
        let context = HashContext::default();
        let request = Request { session: session.map(Session::Id), ..Request::new(&token_ids, &context) };
        let begun = Instant::now();
        let dispatch = self.router.dispatch(&request, self.clock.now(), &mut self.workspace).unwrap();
        self.slowest = self.slowest.max(begun.elapsed());
        assert!(self.slowest < BOUND, "a dispatch took {:?}", self.slowest);
        dispatch.ticket
    }

    pub(crate) fn finish(&self, ticket: Ticket) {
        self.router.finish(ticket, Finish::Completed, None);
    }

    pub(crate) fn trust(&self) -> SharedTrust {
        self.shared.status().trust
    }

    fn own(&self) -> Vec<Bookings> {
        self.router.pods().iter().map(|pod| pod.bookings()).collect()
    }

    pub(crate) fn of_peers(&self) -> Vec<Bookings> {
        self.router.pods().iter().map(|pod| pod.peer_bookings()).collect()
    }

    pub(crate) fn requests_of_peers(&self) -> u32 {
        self.of_peers().iter().map(|booked| booked.requests).sum()
    }
}

/// Whether each sees exactly what the others have.
pub(crate) fn agree(members: &[&Member]) -> bool {
    let own: Vec<_> = members.iter().map(|member| member.own()).collect();
    members.iter().enumerate().all(|(at, member)| {
        let others = || own.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, own)| own);
        member.of_peers().iter().enumerate().all(|(pod, seen)| {
            seen.requests == others().map(|own| own[pod].requests).sum::<u32>()
                && seen.prefill_tokens == others().map(|own| own[pod].prefill_tokens).sum::<u64>()
        })
    })
}

/// Waits until this is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until all are connected and hear each other, and everything that was there is known.
pub(crate) async fn until_shared(members: &[&Member]) {
    until("all share", || {
        members.iter().all(|member| {
            let status = member.shared.status();
            status.trust == SharedTrust::Shared
                && status.peers.len() == members.len() - 1
                && status.lag.is_some()
        })
    })
    .await;
}
