//! Loads of conversations, tenants, bursts and the like: as described, the same every time, and with the sharing
//! that they promise.

use kvroute_sim::fleet::InfiniteCache;
use kvroute_sim::workload::{
    BurstLoad, ConversationLoad, FleetRequest, HotPrefixLoad, Script, TenantLoad, UniqueLoad, answer,
};

/// All requests, as if answers took some time.
fn requests(script: &Script) -> Vec<FleetRequest> {
    script.requests_if(0.1, 0.008)
}

/// Share of the prompt tokens that an unlimited cache would have.
fn bound(script: &Script) -> f64 {
    InfiniteCache::new(16).expect("a block size").share(&requests(script), 0)
}

/// One script of each kind.
fn scripts(seed: u64) -> [Script; 6] {
    [
        ConversationLoad::chat(20.0, 300, seed).script(),
        ConversationLoad::agents(20.0, 300, seed).script(),
        TenantLoad::new(20.0, 300, seed).script(),
        HotPrefixLoad::new(20.0, 300, seed).script(),
        BurstLoad::new(20.0, 300, seed).script(),
        UniqueLoad::new(20.0, 300, seed).script(),
    ]
}

#[test]
fn a_seed_is_one_script_and_another_seed_another() {
    let (once, again, other) = (scripts(1), scripts(1), scripts(2));
    assert_eq!(once, again);
    for (one, other) in once.iter().zip(&other) {
        let first = |script: &Script| requests(script)[0].token_ids.clone();
        assert_ne!(first(one), first(other));
    }
}

#[test]
fn ids_are_all_numbers_from_0_on_and_arrivals_are_in_order() {
    for script in scripts(3) {
        let requests = requests(&script);
        assert_eq!(requests.len(), script.len());
        assert!(requests.is_sorted_by(|one, next| one.arrival <= next.arrival));
        let mut ids: Vec<u64> = requests.iter().map(|request| request.id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..script.len() as u64));
        assert!(requests.iter().all(|request| request.arrival >= 0.0 && request.output_tokens > 0));
    }
}

#[test]
fn about_as_many_requests_come_as_were_asked_for_and_as_often() {
    let loads = [
        ConversationLoad::chat(20.0, 3000, 4).script(),
        ConversationLoad::agents(20.0, 3000, 4).script(),
        TenantLoad::new(20.0, 3000, 4).script(),
        BurstLoad::new(20.0, 3000, 4).script(),
    ];
    for script in loads {
        let requests = requests(&script);
        assert!((2500..3500).contains(&requests.len()), "{}", requests.len());
        let rate = requests.len() as f64 / requests.last().map_or(1.0, |last| last.arrival);
        assert!((rate / 20.0 - 1.0).abs() < 0.2, "{rate}");
        // Conversations are under way from the beginning.
        let early = requests.iter().filter(|request| request.arrival < 15.0).count();
        assert!(early > 150, "{early}");
    }
}

#[test]
fn a_prompt_begins_with_the_prompt_before_it_and_its_answer() {
    for script in [ConversationLoad::chat(10.0, 400, 5), ConversationLoad::agents(10.0, 400, 5)] {
        let requests = requests(&script.script());
        let mut followed = 0;
        for (place, request) in requests.iter().enumerate() {
            let mut earlier = requests[..place].iter().rev();
            let Some(previous) = earlier.find(|other| other.session == request.session) else {
                continue;
            };
            assert_eq!(previous.id + 1, request.id);
            let (before, rest) = request.token_ids.split_at(previous.token_ids.len());
            assert_eq!(before, &previous.token_ids[..]);
            let said: Vec<u32> = (0..previous.output_tokens).map(|n| answer(previous.id, n)).collect();
            assert!(rest.starts_with(&said) && rest.len() > said.len());
            followed += 1;
        }
        assert!(followed > requests.len() / 2, "{followed}");
    }
}

#[test]
fn an_unlimited_cache_finds_the_sharing_that_each_load_promises() {
    let chat = ConversationLoad::chat(20.0, 1500, 6);
    assert!((0.7..0.95).contains(&bound(&chat.script())));
    // Without conversations under way, all that a chat shares is its system prompt.
    let single = ConversationLoad { turns: 1..=1, ..chat };
    let tokens: usize = requests(&single.script()).iter().map(|request| request.token_ids.len()).sum();
    let system = single.preamble_tokens as f64 * single.script().len() as f64 / tokens as f64;
    assert!((bound(&single.script()) / system - 1.0).abs() < 0.02, "{system}");

    assert!(bound(&ConversationLoad::agents(20.0, 1500, 6).script()) > 0.9);
    assert!((0.7..0.95).contains(&bound(&TenantLoad::new(20.0, 3000, 6).script())));
    assert!(bound(&BurstLoad::new(20.0, 1500, 6).script()) > 0.85);
    assert_eq!(bound(&UniqueLoad::new(20.0, 300, 6).script()), 0.0);

    let hot = HotPrefixLoad {
        own_tokens: 100..=100,
        other_tokens: 1000..=1000,
        ..HotPrefixLoad::new(20.0, 2000, 6)
    };
    let expected = 0.8 * 8000.0 / (0.8 * 8100.0 + 0.2 * 1000.0);
    assert!((bound(&hot.script()) - expected).abs() < 0.01);
}

#[test]
fn tenants_are_as_unequal_as_zipfs_law() {
    let script = TenantLoad { tenants: 10, ..TenantLoad::new(20.0, 20_000, 7) }.script();
    let requests = requests(&script);
    let of = |tenant: u64| requests.iter().filter(|request| request.session == tenant).count() as f64;
    for tenant in 1..10 {
        let ratio = of(0) / of(tenant) / (tenant as f64 + 1.0);
        assert!((0.85..1.15).contains(&ratio), "{tenant}: {ratio}");
    }
    let same = TenantLoad { tenants: 10, ..TenantLoad::new(20.0, 20_000, 8) }.script();
    assert!((bound(&script) - bound(&same)).abs() < 0.01, "seeds do not change how much work there is");
}

#[test]
fn the_last_token_is_never_cached() {
    let mut cache = InfiniteCache::new(16).expect("a block size");
    let request = |id, tokens: u32| FleetRequest {
        id,
        token_ids: (0..tokens).collect(),
        output_tokens: 1,
        ..FleetRequest::default()
    };
    assert_eq!(cache.arrive(&request(0, 64)), 0);
    assert_eq!(cache.arrive(&request(1, 64)), 48);
    assert_eq!(cache.arrive(&request(2, 65)), 64);
}
