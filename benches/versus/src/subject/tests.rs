use super::*;
use crate::change::{removals, stores};

const SETUP: Setup = Setup { pods: 3, block_size: 16, feed: Feed::Tokens, writers: 1, as_set: false };

/// Stores, a removed tail and a pod that leaves: what every subject must answer alike.
fn tells_the_truth<S: Subject>(feed: Feed) {
    let setup = Setup { feed, ..SETUP };
    let mut subject = S::new(&setup);
    let chain = Chain::new((0..640).collect(), 16);
    let changes: Vec<Change<'_>> = [0, 1].into_iter().flat_map(|pod| stores(pod, &chain, 0..40, 7)).collect();
    let events = changes.iter().map(|change| subject.event(change)).collect();
    subject.apply(events);
    let query = subject.query(&chain);
    assert_eq!(subject.answer(&query), [(0, 40), (1, 40)]);
    let gone = removals(1, &chain, 25..40, 4);
    let events = gone.iter().map(|change| subject.event(change)).collect();
    subject.apply(events);
    subject.tidy();
    assert_eq!(subject.answer(&query), [(0, 40), (1, 25)]);
    assert_eq!(subject.find(&query, &mut S::Scratch::default()), 2);
    let hashed = subject.hash(&chain.token_ids, &mut S::Scratch::default());
    if feed == Feed::Tokens {
        assert_eq!(subject.answer(&hashed), [(0, 40), (1, 25)], "its own hashes find what was stored");
    }
    let other = subject.query(&Chain::new((9..649).collect(), 16));
    assert_eq!(subject.answer(&other), []);
}

macro_rules! each {
    ($($name:ident: $subject:ty;)*) => {$(
        #[test]
        fn $name() {
            tells_the_truth::<$subject>(Feed::Tokens);
            tells_the_truth::<$subject>(Feed::Hashes);
        }
    )*};
}

each! {
    kvroute_tells_the_truth: KvrouteSubject;
    chain_index_tells_the_truth: ChainIndexSubject;
    radix_tree_tells_the_truth: RadixTreeSubject;
    crtc_tells_the_truth: CrtcSubject;
    dynamo_tree_tells_the_truth: DynamoTreeSubject;
    dashmap_tells_the_truth: DashMapSubject;
    the_oracle_tells_the_truth: OracleSubject;
}

#[test]
fn every_subject_has_a_name_of_its_own_and_says_what_it_is() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.name()), Some(kind));
        assert!(DIFFERENCES.iter().any(|(described, _)| *described == kind));
    }
}
