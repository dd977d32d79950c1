//! One call each, with arguments of the fuzzer's choice: which there are, what they are given, and those about
//! neither requests nor pods.

use std::ptr;

use kvroute::domain::{kvroute_domain, kvroute_domain_free, kvroute_domain_new};
use kvroute::error::kvroute_error;
use kvroute::hasher::{
    kvroute_hasher, kvroute_hasher_free, kvroute_hasher_hash, kvroute_hasher_new, kvroute_hasher_options,
};
use kvroute::options::{
    kvroute_config_check, kvroute_config_from_endpoint_picker, kvroute_config_from_env,
    kvroute_router_options,
};
use kvroute::router::{
    kvroute_router, kvroute_router_add_domain, kvroute_router_domain, kvroute_router_free,
    kvroute_router_new, kvroute_router_recover, kvroute_router_set_policy,
};
use kvroute::workspace::kvroute_workspace;

use super::input::{Grown, Input};
use super::{ROOM, UNTOUCHED, World};

/// Policies that may follow each other.
pub(super) const POLICIES: &[&str] = &[
    "{}",
    r#"{"policy": {"preset": "cost", "decode": {"fallbacks": 3}}}"#,
    "policy: {preset: affinity, prefill: {max_uncached_tokens: 4, min_prompt_tokens: 8, max_prefill_load: 40}}",
    r#"{"policy": {"decode": {"scorers": {"lora-affinity": {"weight": 1}, "no-hit-lru": {"weight": 1}},
        "picker": {"softmax": {"temperature": 0.5}}, "warm_up": {"divert": {"share": 1, "tokens": 40}}}}}"#,
    r#"{"policy": {"sampling": {"above": 2, "holders": 1, "others": 1}, "decode": {"picker": "power-of-two"}}}"#,
    super::CONFIG,
    // The last two are none.
    r#"{"policy": {"preset": "cheapest"}}"#,
    r#"{"pods": [{"name": "a", "domain": "n"}]}"#,
];

/// The place of `CONFIG`, whose policy is the first.
pub(super) const FIRST_POLICY: usize = 5;

/// llm-d's configurations; the last two are none.
const ENDPOINT_PICKERS: &[&str] = &[
    r#"{"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": [{"type": "queue-scorer"},
        {"type": "openai-parser"}], "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "queue-scorer"}]}]}"#,
    r#"{"kind": "Pod"}"#,
    "apiVersion: [",
];

type Step = fn(&mut World, &mut Input<'_>);

/// Calls; those that make up a router's day come more than once.
const STEPS: &[Step] = &[
    |world, input| world.request(input, false),
    |world, input| world.request(input, true),
    |world, input| world.request(input, true),
    World::first_token,
    World::end,
    World::end,
    World::expire,
    World::apply,
    World::apply_events,
    World::apply_events,
    World::apply_topic,
    World::apply_trtllm,
    World::add_pod,
    World::remove_pod,
    World::name_pod,
    World::look_after_pod,
    World::lookup,
    World::held,
    World::explain,
    World::seal,
    World::hash,
    World::domains,
    World::make_router,
    World::configure,
    World::recover,
    World::go_on_with_snapshot,
    World::carry_over,
];

impl World {
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let step = input.below(STEPS.len());
        STEPS[step](self, input);
    }

    /// The error object, or none.
    pub(super) fn told(&self, input: &mut Input<'_>) -> *mut kvroute_error {
        if input.rarely() { ptr::null_mut() } else { self.error }
    }

    /// The router, or a handle of another kind, or none.
    pub(super) fn router(&self, input: &mut Input<'_>) -> *mut kvroute_router {
        match input.byte() {
            255 => self.workspaces[0].cast(),
            254 => ptr::null_mut(),
            _ => self.router,
        }
    }

    pub(super) fn workspace(&self, input: &mut Input<'_>) -> *mut kvroute_workspace {
        match input.byte() {
            255 => self.router.cast(),
            254 => ptr::null_mut(),
            at => self.workspaces[usize::from(at & 1)],
        }
    }

    pub(super) fn domain(&self, input: &mut Input<'_>) -> *mut kvroute_domain {
        match input.byte() {
            255 => self.hasher.cast(),
            254 => ptr::null_mut(),
            _ => self.domain,
        }
    }

    pub(super) fn pod(&self, input: &mut Input<'_>) -> u64 {
        let known: Vec<u64> = self.pods.iter().chain(&self.gone).copied().collect();
        // There are always some: what there was in the beginning is in one of the two.
        let at = input.byte();
        if at > 250 { u64::from(at - 251) } else { known[usize::from(at) % known.len()] }
    }

    pub(super) fn ticket(&self, input: &mut Input<'_>) -> u64 {
        let known: Vec<u64> = self.in_flight.keys().chain(&self.ended).copied().collect();
        let at = input.below(known.len() + 1);
        known.get(at).copied().unwrap_or_else(|| input.number())
    }

    fn hash(&mut self, input: &mut Input<'_>) {
        let mut options = Grown::<kvroute_hasher_options>::new(input);
        (options.value.scheme, options.value.block_size) = (input.choice(), input.number() as u32);
        (options.value.seed, options.value.has_seed) = (input.text(), i32::from(input.byte() & 1));
        options.value.algorithm = input.text();
        options.value.version = input.text();
        if input.rarely() {
            (options.value.none_hash, options.value.model) = (input.bytes(), input.text());
            (options.value.lookahead, options.value.multimodal) = (u32::from(input.byte()), input.choice());
        }
        let error = self.told(input);
        let mut hasher = ptr::null_mut();
        // SAFETY: places that are there.
        let status = unsafe { kvroute_hasher_new(options.place(), &mut hasher, error) };
        assert_eq!(self.judge(status, error), !hasher.is_null());
        let hasher = if hasher.is_null() { self.hasher } else { std::mem::replace(&mut self.hasher, hasher) };
        let tokens = input.tokens();
        let (place, len) = input.array(&tokens);
        let (mut hashes, mut written, capacity) = ([0; 256], UNTOUCHED, input.below(256));
        // SAFETY: handles that live, and places that are there.
        unsafe {
            let answers = hashes.as_mut_ptr();
            let status = kvroute_hasher_hash(
                self.hasher,
                place,
                len,
                ptr::null(),
                answers,
                capacity,
                &mut written,
                error,
            );
            self.judge_written(status, error, written, capacity);
            if hasher != self.hasher {
                kvroute_hasher_free(hasher);
            }
        }
    }

    fn domains(&mut self, input: &mut Input<'_>) {
        let (name, model, error) = (input.text(), [input.text()], self.told(input));
        let many = input.below(2);
        let (models, len) = input.array(&model[..many]);
        let mut domain: *mut kvroute_domain = ptr::null_mut();
        let hasher: *mut kvroute_hasher = if input.rarely() { self.domain.cast() } else { self.hasher };
        let router = self.router(input);
        // SAFETY: handles that live, and places that are there.
        unsafe {
            let status = kvroute_domain_new(name.data, name.len, hasher, models, len, &mut domain, error);
            assert_eq!(self.judge(status, error), !domain.is_null());
            self.judge(kvroute_router_add_domain(router, domain, error), error);
            kvroute_domain_free(domain);
            domain = ptr::null_mut();
            let status = kvroute_router_domain(router, name.data, name.len, &mut domain, error);
            assert_eq!(self.judge(status, error), !domain.is_null());
            kvroute_domain_free(domain);
        }
    }

    fn make_router(&mut self, input: &mut Input<'_>) {
        let mut options = Grown::<kvroute_router_options>::new(input);
        options.value.preset = input.text();
        options.value.has_prefill = i32::from(input.byte() & 1);
        options.value.text_block_bytes = u32::from(input.byte()) * 4;
        options.value.shards = input.number();
        options.value.max_bytes = input.number();
        options.value.max_predicted = input.number() as i64;
        options.value.max_sessions = input.number() as i64;
        options.value.session_key = input.bytes();
        options.value.session_ttl_ns = input.number();
        options.value.max_requests = input.number() as i64;
        options.value.prefill_min_prompt_tokens = u64::from(input.byte() / 128);
        options.value.prefill_max_load = i64::from(input.byte() / 128);
        options.value.speculation_ttl_ns = input.number() as i64;
        options.value.overload_waiting = input.number() as i64;
        options.value.overload_kv_usage = f64::from(input.byte()) / 128.0 - 0.5;
        let (place, error) = (input.pointer(options.place()), self.told(input));
        let mut router = ptr::null_mut();
        // SAFETY: places that are there.
        unsafe {
            let status = kvroute_router_new(place, &mut router, error);
            assert_eq!(self.judge(status, error), !router.is_null());
            kvroute_router_free(router);
        }
    }

    fn configure(&mut self, input: &mut Input<'_>) {
        let (document, error) = (input.text(), self.told(input));
        let (names, values) = ([input.text()], [input.text()]);
        let (mut buffer, mut written, mut notes_written) = (vec![0; ROOM], UNTOUCHED, UNTOUCHED);
        let capacity = if input.rarely() { 16 } else { ROOM / 2 };
        // SAFETY: places that are there.
        unsafe {
            self.judge(kvroute_config_check(document.data, document.len, error), error);
            let (place, notes) = (buffer.as_mut_ptr(), buffer.as_mut_ptr().add(ROOM / 2));
            let (to, notes_to) = (&raw mut written, &raw mut notes_written);
            let status = kvroute_config_from_env(
                names.as_ptr(),
                values.as_ptr(),
                1,
                place,
                capacity,
                to,
                notes,
                capacity,
                notes_to,
                error,
            );
            self.judge(status, error);
            let of = ENDPOINT_PICKERS[input.below(ENDPOINT_PICKERS.len())];
            let (of, len) = input.array(of.as_bytes());
            let (to, notes_to) = (&raw mut written, &raw mut notes_written);
            let status = kvroute_config_from_endpoint_picker(
                of.cast(),
                len,
                place,
                capacity,
                to,
                notes,
                capacity,
                notes_to,
                error,
            );
            self.judge(status, error);
            let next = input.below(POLICIES.len());
            let (policy, len) = input.array(POLICIES[next].as_bytes());
            let router = self.router(input);
            if self.judge(kvroute_router_set_policy(router, policy.cast(), len, error), error) {
                self.policy = next;
            }
        }
    }

    fn recover(&mut self, input: &mut Input<'_>) {
        let (router, error) = (self.router(input), self.told(input));
        // SAFETY: handles that live, and nobody else uses them.
        let status = unsafe { kvroute_router_recover(router, error) };
        if self.judge(status, error) {
            self.ended.extend(std::mem::take(&mut self.in_flight).into_keys());
            let before = std::mem::take(&mut self.pods);
            self.pods = self.pod_ids();
            assert_eq!(self.pods.len(), before.len());
            assert!(!before.iter().any(|pod| self.pods.contains(pod)), "an id that names a pod again");
            self.gone.extend(before);
        }
    }
}
