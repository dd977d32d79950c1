//! Pods: their events, and themselves.

use kvroute::apply::{
    kvroute_apply_report, kvroute_router_abandon_gap, kvroute_router_apply, kvroute_router_apply_events,
    kvroute_router_apply_topic, kvroute_router_apply_trtllm, kvroute_router_forget_predictions,
};
use kvroute::counters::{kvroute_pod_counters, kvroute_router_read_pod_counters};
use kvroute::error::kvroute_error;
use kvroute::event::{kvroute_extra_key, kvroute_kv_event};
use kvroute::pod::{
    kvroute_adapter, kvroute_group, kvroute_label, kvroute_pod_options, kvroute_router_add_pod,
    kvroute_router_find_pod, kvroute_router_forget_load, kvroute_router_pod_name, kvroute_router_remove_pod,
    kvroute_router_report_adapters, kvroute_router_report_load, kvroute_router_set_accepting,
};
use kvroute::router::kvroute_router;

use super::input::{Grown, Input};
use super::{UNTOUCHED, World};

impl World {
    /// A place for a report, and what it is judged by.
    fn with_report(
        &mut self,
        input: &mut Input<'_>,
        call: impl FnOnce(*const kvroute_router, u64, *mut kvroute_apply_report, *mut kvroute_error) -> i32,
    ) {
        let mut report = Grown::<kvroute_apply_report>::new(input);
        report.value.outcome = -1;
        let (router, pod, error) = (self.router(input), self.pod(input), self.told(input));
        let place = input.pointer(report.place());
        let status = call(router, pod, place, error);
        let is_told = self.judge(status, error) && !place.is_null();
        assert_eq!((0..=3).contains(&report.value.outcome), is_told, "outcome {}", report.value.outcome);
        if is_told {
            assert!((0..32).contains(&report.value.reason) && report.value.detail[255] == 0);
        }
    }

    pub(super) fn apply(&mut self, input: &mut Input<'_>) {
        let sequence = input.number();
        let payload = input.raw();
        let (payload, len) = input.array(payload);
        // SAFETY: handles that live, and places that are there.
        self.with_report(input, |router, pod, report, error| unsafe {
            kvroute_router_apply(router, pod, sequence, payload, len, report, error)
        });
    }

    pub(super) fn apply_topic(&mut self, input: &mut Input<'_>) {
        let (topic, rank, sequence) = (input.text(), u32::from(input.byte() / 128), input.number());
        let payload = input.raw();
        let (payload, len) = input.array(payload);
        // SAFETY: as above.
        self.with_report(input, |router, _, report, error| unsafe {
            kvroute_router_apply_topic(
                router, topic.data, topic.len, rank, sequence, payload, len, report, error,
            )
        });
    }

    pub(super) fn apply_trtllm(&mut self, input: &mut Input<'_>) {
        let window = input.number();
        let json = input.raw();
        let (json, len) = input.array(json);
        // SAFETY: as above.
        self.with_report(input, |router, pod, report, error| unsafe {
            kvroute_router_apply_trtllm(router, pod, json, len, window, report, error)
        });
    }

    pub(super) fn apply_events(&mut self, input: &mut Input<'_>) {
        let names = input.numbers();
        let tokens: Vec<u32> =
            if input.rarely() { input.tokens() } else { (0..4 * names.len() as u32).collect() };
        let keys = [kvroute_extra_key {
            block: u32::from(input.byte() / 64),
            kind: input.choice(),
            key: input.text(),
            offset: input.number() as i64,
        }];
        let mut event = Grown::<kvroute_kv_event>::new(input);
        event.value.kind = input.choice();
        event.value.tier = if input.rarely() { input.choice() } else { 0 };
        (event.value.block_hashes, event.value.block_hashes_len) = input.array(&names);
        (event.value.token_ids, event.value.token_ids_len) = input.array(&tokens);
        event.value.block_size = if input.rarely() { u32::from(input.byte()) } else { 4 };
        (event.value.parent, event.value.has_parent) = (input.number(), i32::from(input.byte() & 1));
        if input.rarely() {
            (event.value.group, event.value.has_group_kind) = (u32::from(input.byte()), 1);
            (event.value.group_kind, event.value.group_window) = (input.choice(), u32::from(input.byte()));
            (event.value.lora_id, event.value.has_lora_id) =
                (input.number() as i64, i32::from(input.byte() & 1));
            (event.value.lora_name, event.value.cache_salt) = (input.text(), input.text());
            (event.value.extra_keys, event.value.extra_keys_len) = input.array(&keys);
        }
        let (place, many) = (input.pointer(event.place()), input.below(2));
        // SAFETY: as above.
        self.with_report(input, |router, pod, report, error| unsafe {
            kvroute_router_apply_events(router, pod, place, many, report, error)
        });
    }

    pub(super) fn add_pod(&mut self, input: &mut Input<'_>) {
        if self.pods.len() >= 8 {
            return;
        }
        let labels = [kvroute_label { key: input.text(), value: input.text() }; 2];
        let groups =
            [kvroute_group { group: 0, kind: input.choice(), window: u32::from(input.byte()), reserved: 0 }];
        let adapters = [kvroute_adapter { id: 1, name: input.text() }];
        let mut options = Grown::<kvroute_pod_options>::new(input);
        options.value.name = input.text();
        options.value.domain = self.domain(input);
        (options.value.dp_rank, options.value.role) = (u32::from(input.byte() % 3), input.choice());
        (options.value.copies, options.value.on_gap) = (input.choice(), input.choice());
        if input.rarely() {
            let many = input.below(3);
            (options.value.labels, options.value.labels_len) = input.array(&labels[..many]);
            (options.value.groups, options.value.groups_len) = input.array(&groups);
            (options.value.adapters, options.value.adapters_len) = input.array(&adapters);
            options.value.max_parked = input.number() as i64;
            options.value.max_parked_bytes = input.number() as i64;
            options.value.max_retired = input.number() as i64;
            options.value.domain_name = input.text();
            options.value.capacity = f64::from(input.byte()) / 16.0 - 1.0;
        }
        let (router, place, error) = (self.router(input), input.pointer(options.place()), self.told(input));
        let mut pod = UNTOUCHED as u64;
        // SAFETY: handles that live, and places that are there.
        let status = unsafe { kvroute_router_add_pod(router, place, &mut pod, error) };
        if self.judge(status, error) {
            assert!(pod != 0 && !self.pods.contains(&pod) && !self.gone.contains(&pod), "id {pod} again");
            self.pods.push(pod);
        } else {
            assert_eq!(pod, UNTOUCHED as u64);
        }
    }

    pub(super) fn remove_pod(&mut self, input: &mut Input<'_>) {
        let (router, pod, error) = (self.router(input), self.pod(input), self.told(input));
        // SAFETY: handles that live.
        let status = unsafe { kvroute_router_remove_pod(router, pod, error) };
        if self.judge(status, error) {
            let at = self.pods.iter().position(|&known| known == pod).expect("a pod that was there");
            self.gone.push(self.pods.swap_remove(at));
        }
    }

    pub(super) fn name_pod(&mut self, input: &mut Input<'_>) {
        let (pod, name, rank) = (self.pod(input), input.text(), u32::from(input.byte() % 3));
        let (router, error, capacity) = (self.router(input), self.told(input), input.below(20));
        let (mut buffer, mut written, mut of_rank, mut found) = ([0; 20], UNTOUCHED, 0, 0);
        // SAFETY: handles that live, and places that are there.
        unsafe {
            let place = buffer.as_mut_ptr();
            let status =
                kvroute_router_pod_name(router, pod, place, capacity, &mut written, &mut of_rank, error);
            self.judge_written(status, error, written, capacity);
            let status = kvroute_router_find_pod(router, name.data, name.len, rank, &mut found, error);
            if self.judge(status, error) {
                assert!(self.pods.contains(&found));
            }
        }
    }

    pub(super) fn look_after_pod(&mut self, input: &mut Input<'_>) {
        let (router, pod, error) = (self.router(input), self.pod(input), self.told(input));
        let mut counters = Grown::<kvroute_pod_counters>::new(input);
        // SAFETY: handles that live, and places that are there.
        let status = unsafe {
            match input.byte() % 7 {
                0 => kvroute_router_set_accepting(router, pod, i32::from(input.byte() & 3), error),
                1 => kvroute_router_abandon_gap(router, pod, input.number(), error),
                2 => kvroute_router_forget_predictions(router, pod, error),
                3 => {
                    let usage = if input.rarely() { f32::NAN } else { f32::from(input.byte()) / 200.0 };
                    kvroute_router_report_load(router, pod, 3, u32::from(input.byte()), usage, error)
                }
                4 => {
                    let (names, many, max) = ([input.text(), input.text()], input.below(3), input.number());
                    let (running, running_len) = input.array(&names[..many]);
                    let (waiting, waiting_len) = input.array(&names[many..]);
                    let max = max as u32;
                    kvroute_router_report_adapters(
                        router,
                        pod,
                        max,
                        running,
                        running_len,
                        waiting,
                        waiting_len,
                        error,
                    )
                }
                5 => kvroute_router_forget_load(router, pod, error),
                _ => kvroute_router_read_pod_counters(router, pod, counters.place(), error),
            }
        };
        if self.judge(status, error) {
            assert!(self.pods.contains(&pod));
        }
    }
}
