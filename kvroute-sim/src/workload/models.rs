//! The same texts asked of several models, under several names, with adapters and salts.

use core::ops::RangeInclusive;
use std::sync::Arc;

use kvroute_core::HashContext;

use super::{FleetRequest, text_of};
use crate::random::Random;

/// What is asked for: a served model, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name: a base model's, an alias, or an adapter's.
    pub model: Arc<str>,
    /// The adapter and the salt.
    pub context: Arc<HashContext>,
}

/// Requests that all begin with one system prompt and one of a few documents, whatever they are asked of: models that
/// hash alike compute equal block hashes for them, so that any leak between models, adapters or salts would be a hit.
///
/// Arrivals are evenly spaced: at a low rate each request is alone, and what a router expects of a pod can be compared
/// with what the engine finds, request by request.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelLoad {
    /// What is asked for, all equally likely; at least one.
    pub targets: Vec<Target>,
    /// Length of the system prompt, tokens.
    pub system_tokens: u32,
    /// How many documents there are, all equally likely; at least one.
    pub documents: u64,
    /// Their lengths: tokens, every factor equally likely.
    pub document_tokens: RangeInclusive<u32>,
    /// What a prompt has of its own: tokens, every factor equally likely.
    pub own_tokens: RangeInclusive<u32>,
    /// Tokens to generate for each.
    pub output_tokens: u32,
    /// Arrivals a second.
    pub rate: f64,
    /// How many requests there are.
    pub count: u64,
    /// Decides all that is random, texts included.
    pub seed: u64,
}

/// Kinds of text.
const SYSTEM: u64 = 0;
const DOCUMENT: u64 = 1;
const OWN: u64 = 2;

impl ModelLoad {
    /// Four documents of 1k to 5k tokens under a system prompt of 800, short questions and answers.
    #[must_use]
    pub fn new(targets: Vec<Target>, rate: f64, count: u64, seed: u64) -> Self {
        Self {
            targets,
            system_tokens: 800,
            documents: 4,
            document_tokens: 1000..=5000,
            own_tokens: 50..=200,
            output_tokens: 16,
            rate,
            count,
            seed,
        }
    }

    /// The requests, in order of arrival. The session of each is its target's place in the list.
    pub fn requests(&self) -> impl Iterator<Item = FleetRequest> + use<> {
        let load = self.clone();
        let mut random = Random::new(load.seed);
        let system = text_of(load.seed, SYSTEM, 0, load.system_tokens);
        let document = |number| {
            let tokens = random.scattered(&load.document_tokens);
            [system.clone(), text_of(load.seed, DOCUMENT, number, tokens)].concat()
        };
        let beginnings: Vec<Vec<u32>> = (0..load.documents).map(document).collect();
        (0..load.count).map(move |id| {
            let session = random.below(load.targets.len() as u64);
            let Target { model, context } = load.targets[session as usize].clone();
            let mut token_ids = beginnings[random.below(load.documents) as usize].clone();
            token_ids.extend(text_of(load.seed, OWN, id, random.scattered(&load.own_tokens)));
            FleetRequest {
                id,
                arrival: id as f64 / load.rate,
                token_ids: token_ids.into(),
                output_tokens: load.output_tokens,
                model: Some(model),
                context,
                session,
            }
        })
    }
}
