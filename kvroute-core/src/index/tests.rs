//! The index against the oracle, and the rules that no history checks by itself.

use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use crate::oracle::history::{Setting, run};

fn histories(setting: Setting) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..480);
    let result = runner.run(&bytes, |bytes: Vec<u8>| {
        run(setting, &bytes).map_err(|difference| TestCaseError::fail(difference.to_string()))
    });
    if let Err(error) = result {
        let text = error.to_string().replace("\n", " ").replace("    ", "");
        panic!("{setting:?}: {text}");
    }
}

#[test]
fn native_histories_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: false, replay: false });
}

#[test]
fn native_histories_with_replay_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: false, replay: true });
}

#[test]
fn native_hybrid_histories_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: true, replay: true });
}

#[test]
fn translated_histories_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: false, replay: false });
}

#[test]
fn translated_histories_with_replay_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: false, replay: true });
}

#[test]
fn translated_hybrid_histories_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: true, replay: false });
}
