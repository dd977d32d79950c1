//! Reports of peers, whoever made them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kvroute_core::{BlockHasher, CacheDomain, OwnScheme, PeerOptions, PodSpec, Router};

static DOMAIN: LazyLock<Arc<CacheDomain>> = LazyLock::new(|| {
    let hasher = BlockHasher::new(OwnScheme::default(), 16).expect("a block size");
    Arc::new(CacheDomain::new("model", hasher).expect("a scheme of engines"))
});

/// Several reports, each after its length in two bytes: whatever they say is refused or taken in, in memory that their
/// length bounds, and is gone without a rest once their senders are forgotten.
pub fn peers(data: &[u8]) {
    let router = Router::default();
    for name in ["a", "b"] {
        router.add_pod(PodSpec::new(name, Arc::clone(&DOMAIN))).expect("it is new");
    }
    router.join_peers(7, "fuzzed", PeerOptions::default()).expect("a short name");
    let (mut rest, mut now) = (data, Duration::from_secs(1000));
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (report, more) = more.split_at(more.len().min(usize::from(u16::from_le_bytes(*length))));
        let age = Duration::from_millis(u64::from(length[0]) * 50);
        if router.apply_peer_report(report, age, now).is_ok() {
            let in_flight: usize = router.peers(now).iter().map(|peer| peer.in_flight).sum();
            assert!(in_flight <= data.len(), "{in_flight} requests of {} bytes", data.len());
            let booked: u32 = router.pods().iter().map(|pod| pod.peer_bookings().requests).sum();
            assert!(booked as usize <= 2 * in_flight, "{booked} bookings of {in_flight} requests");
        }
        now += Duration::from_millis(100);
        rest = more;
    }
    router.expire_peers(now + Duration::from_secs(3600));
    assert_eq!(router.peers(now).len(), 0);
    for pod in router.pods() {
        let left = pod.peer_bookings();
        assert_eq!((left.requests, left.prefill_tokens), (0, 0), "something is booked for nobody");
    }
}
