//! Requests: decided, booked, ended, explained.

use std::mem::zeroed;
use std::ptr;

use kvroute::context::{kvroute_hash_context, kvroute_multimodal_item};
use kvroute::decide::{
    kvroute_decision, kvroute_router_decide, kvroute_router_dispatch, kvroute_router_finish,
    kvroute_router_first_token, kvroute_router_session_token,
};
use kvroute::explain::kvroute_router_explain;
use kvroute::held::{
    kvroute_held_block, kvroute_held_change, kvroute_router_journal_held, kvroute_router_list_held,
    kvroute_router_take_held,
};
use kvroute::lookup::{kvroute_pod_match, kvroute_router_lookup};
use kvroute::memory::kvroute_str;
use kvroute::record::{kvroute_log_replay, kvroute_router_record};
use kvroute::request::{kvroute_known_prefix, kvroute_request, kvroute_score_column};
use kvroute::router::{kvroute_router_expire, kvroute_router_status};
use kvroute::workspace::{kvroute_workspace, kvroute_workspace_fallbacks, kvroute_workspace_pod_name};

use super::input::{Grown, Input};
use super::{MAX_REQUESTS, REQUEST_TTL_NS, ROOM, UNTOUCHED, World};

impl World {
    pub(super) fn request(&mut self, input: &mut Input<'_>, books: bool) {
        let (tokens, text) = (input.tokens(), if input.rarely() { input.raw() } else { &[] });
        let items = [kvroute_multimodal_item {
            identifier: input.text(),
            start: u32::from(input.byte()),
            length: u32::from(input.byte()),
        }];
        let (pods, values) = ([self.pod(input), self.pod(input)], [0.5, f64::from(input.byte()) / 200.0]);
        let columns = [kvroute_score_column {
            scorer: input.text(),
            pods: pods.as_ptr(),
            values: values.as_ptr(),
            len: input.below(3),
        }; 17];
        let mut context = Grown::<kvroute_hash_context>::new(input);
        context.value.lora_name = input.text();
        context.value.cache_salt = input.text();
        if input.rarely() {
            context.value.lora_path = input.text();
            (context.value.multimodal, context.value.multimodal_len) = input.array(&items);
        }
        let names: [kvroute_str; 2];
        let mut request = Grown::<kvroute_request>::new(input);
        (request.value.token_ids, request.value.token_ids_len) = input.array(&tokens);
        (request.value.text.data, request.value.text.len) = input.array(text);
        if input.rarely() {
            request.value.context = context.place();
        }
        if input.rarely() {
            request.value.model = input.text();
        }
        match input.byte() % 4 {
            0 => request.value.session_id = input.text(),
            1 => {
                (request.value.session_token.data, request.value.session_token.len) =
                    (self.token.as_ptr().cast(), self.token.len());
            }
            2 => {
                names = [input.text(), input.text()];
                let many = input.below(3);
                (request.value.subset, request.value.subset_len) = input.array(&names[..many]);
                request.value.has_subset = i32::from(input.byte() & 7 != 7);
            }
            _ => {}
        }
        if input.rarely() {
            let many = input.below(18);
            (request.value.scores, request.value.scores_len) = input.array(&columns[..many]);
        }
        let known = [self.pod(input), self.pod(input)].map(|pod| kvroute_known_prefix {
            pod,
            tier: i32::from(input.byte() % 6) - 1,
            blocks: u32::from(input.byte()),
        });
        if input.rarely() {
            let many = input.below(3);
            (request.value.known, request.value.known_len) = input.array(&known[..many]);
        }
        (request.value.nonce, request.value.has_nonce) = (input.number(), i32::from(input.byte() & 1));
        self.now_ns = self.now_ns.saturating_add(u64::from(input.byte()) * 50_000_000);
        let mut decision = Grown::<kvroute_decision>::new(input);
        decision.value.ticket = UNTOUCHED as u64;
        let (router, workspace, error) = (self.router(input), self.workspace(input), self.told(input));
        let (place, decision_place) = (input.pointer(request.place()), input.pointer(decision.place()));
        let call = if books { kvroute_router_dispatch } else { kvroute_router_decide };
        // SAFETY: handles that live, and places that are there.
        let status = unsafe { call(router, place, self.now_ns, workspace, decision_place, error) };
        if !self.judge(status, error) {
            assert_eq!(decision.value.ticket, UNTOUCHED as u64, "an answer, and status {status}");
            return;
        }
        // What an answer may have behind it that nobody knows, what goes in may not.
        let made = kvroute_decision { struct_size: size_of::<kvroute_decision>(), ..decision.value };
        self.take_down(place, workspace, if books { &made } else { ptr::null() });
        assert!(self.pods.contains(&made.pod), "pod {}", made.pod);
        assert!(made.prefill_pod == 0 || self.pods.contains(&made.prefill_pod));
        assert!(made.matched_tokens < (tokens.len().max(1)) as u64 && made.total.is_finite());
        self.judge_fallbacks(&made, workspace);
        if !books {
            assert_eq!(made.ticket, 0, "a decision with a ticket");
            return;
        }
        if self.in_flight.len() == MAX_REQUESTS {
            self.forget_overdue();
        }
        assert_eq!(made.ticket == 0, self.in_flight.len() == MAX_REQUESTS, "tracked, where there is room");
        if made.ticket != 0 {
            assert!(self.in_flight.insert(made.ticket, self.now_ns).is_none(), "a ticket that is taken");
        }
    }

    /// The line of a log about the decision that was just made: by the policy that made it, it is as recorded.
    fn take_down(
        &self,
        request: *const kvroute_request,
        workspace: *mut kvroute_workspace,
        dispatch: *const kvroute_decision,
    ) {
        let (mut line, mut written) = (vec![0; 4 * ROOM], UNTOUCHED);
        let (mut again, mut again_written) = (vec![0; 4 * ROOM], UNTOUCHED);
        // SAFETY: what a decision was just made with, and places that are there.
        unsafe {
            let place = line.as_mut_ptr();
            let status = kvroute_router_record(
                self.router,
                request,
                workspace,
                dispatch,
                0,
                place,
                line.len(),
                &mut written,
                self.error,
            );
            self.expect_ok(status);
            assert!(written > 0, "no line");
            let policy = super::steps::POLICIES[self.policy];
            let status = kvroute_log_replay(
                place,
                written,
                policy.as_ptr().cast(),
                policy.len(),
                again.as_mut_ptr(),
                again.len(),
                &mut again_written,
                self.error,
            );
            self.expect_ok(status);
        }
        let again: Vec<u8> = again[..again_written].iter().map(|&byte| byte as u8).collect();
        let again = String::from_utf8_lossy(&again);
        assert!(again.starts_with("{\"as_recorded\":true"), "{again}");
    }

    /// Those of the decision that was just made: pods that are there, none twice.
    fn judge_fallbacks(&self, made: &kvroute_decision, workspace: *mut kvroute_workspace) {
        assert!((0..=2).contains(&made.reason) && (0..=2).contains(&made.prefill_reason));
        let (mut ids, mut written) = ([0; 16], UNTOUCHED);
        // SAFETY: a workspace that a decision was made with, and places that are there.
        let status = unsafe {
            kvroute_workspace_fallbacks(workspace, ids.as_mut_ptr(), ids.len(), &mut written, self.error)
        };
        self.expect_ok(status);
        assert_eq!(written as u64, made.fallbacks_len);
        for (at, pod) in ids[..written].iter().enumerate() {
            assert!(self.pods.contains(pod) && *pod != made.pod && !ids[..at].contains(pod), "pod {pod}");
        }
    }

    /// As the router does when it is told to, or has no room for another request.
    fn forget_overdue(&mut self) {
        let now = self.now_ns;
        self.in_flight.retain(|_, began| began.saturating_add(REQUEST_TTL_NS) > now);
    }

    pub(super) fn first_token(&mut self, input: &mut Input<'_>) {
        let (ticket, error) = (self.ticket(input), self.told(input));
        let mut known = true;
        // SAFETY: a live handle, and a place for an answer.
        let status = unsafe { kvroute_router_first_token(self.router, ticket, &mut known, error) };
        assert!(self.judge(status, error));
        assert!(!known || self.in_flight.contains_key(&ticket), "ticket {ticket} is not in flight");
    }

    /// Finishes a request as completed; answers whether it was in flight.
    pub(super) fn finish(&self, ticket: u64) -> bool {
        let mut known = false;
        // SAFETY: a live handle, and a place for an answer.
        self.expect_ok(unsafe { kvroute_router_finish(self.router, ticket, 0, -1, &mut known, self.error) });
        known
    }

    pub(super) fn end(&mut self, input: &mut Input<'_>) {
        let (ticket, outcome, error) = (self.ticket(input), input.choice(), self.told(input));
        let cached = if input.rarely() { input.number() as i64 } else { -1 };
        let mut known = false;
        // SAFETY: a live handle, and a place for an answer.
        let status =
            unsafe { kvroute_router_finish(self.router, ticket, outcome, cached, &mut known, error) };
        if self.judge(status, error) {
            assert_eq!(known, self.in_flight.remove(&ticket).is_some(), "ticket {ticket}");
            self.ended.push(ticket);
        } else {
            assert!(!known);
        }
    }

    pub(super) fn expire(&mut self, input: &mut Input<'_>) {
        self.now_ns = self.now_ns.saturating_add(u64::from(input.byte()) * 100_000_000);
        let error = self.told(input);
        let mut expired = UNTOUCHED;
        // SAFETY: a live handle, and a place for an answer.
        let status = unsafe { kvroute_router_expire(self.router, self.now_ns, &mut expired, error) };
        assert!(self.judge(status, error));
        let before = self.in_flight.len();
        self.forget_overdue();
        assert_eq!(expired, before - self.in_flight.len(), "requests expired");
    }

    pub(super) fn explain(&mut self, input: &mut Input<'_>) {
        let (router, workspace) = (self.router(input), self.workspace(input));
        let (format, pod, error) = (input.choice(), self.pod(input), self.told(input));
        let capacity = if input.rarely() { input.below(256) } else { ROOM };
        let (mut buffer, mut written) = (vec![0; ROOM], UNTOUCHED);
        // SAFETY: handles that live, and places that are there.
        unsafe {
            let place = input.pointer(buffer.as_mut_ptr());
            let status =
                kvroute_router_explain(router, workspace, format, place, capacity, &mut written, error);
            self.judge_written(status, error, written, capacity);
            written = UNTOUCHED;
            let status = kvroute_workspace_pod_name(
                workspace,
                pod,
                place,
                capacity,
                &mut written,
                ptr::null_mut(),
                error,
            );
            self.judge_written(status, error, written, capacity);
            written = UNTOUCHED;
            let (mut ids, room) = ([0; 16], capacity.min(16));
            let status = kvroute_workspace_fallbacks(workspace, ids.as_mut_ptr(), room, &mut written, error);
            self.judge_written(status, error, written, room);
            written = UNTOUCHED;
            let status = kvroute_router_status(router, place, capacity, &mut written, error);
            self.judge_written(status, error, written, capacity);
        }
    }

    pub(super) fn seal(&mut self, input: &mut Input<'_>) {
        let (router, pod, prefill) = (self.router(input), self.pod(input), self.pod(input));
        let (error, capacity) = (self.told(input), if input.rarely() { input.below(64) } else { 512 });
        let (mut buffer, mut written) = ([0_u8; 512], UNTOUCHED);
        // SAFETY: handles that live, and places that are there.
        let status = unsafe {
            let place = buffer.as_mut_ptr().cast();
            kvroute_router_session_token(
                router,
                pod,
                prefill,
                self.now_ns,
                place,
                capacity,
                &mut written,
                error,
            )
        };
        self.judge_written(status, error, written, capacity);
        if status == 0 {
            self.token = buffer[..written].to_vec();
        }
    }

    pub(super) fn lookup(&mut self, input: &mut Input<'_>) {
        let hashes = if input.rarely() { input.numbers() } else { self.hashes.clone() };
        let (hashes, len) = input.array(&hashes);
        let (router, domain, workspace) = (self.router(input), self.domain(input), self.workspace(input));
        let (error, capacity) = (self.told(input), input.below(10));
        let mut written = UNTOUCHED;
        // SAFETY: zero is a value; handles that live, and places that are there.
        unsafe {
            let mut matches: [kvroute_pod_match; 10] = zeroed();
            let place = matches.as_mut_ptr();
            let status = kvroute_router_lookup(
                router,
                domain,
                hashes,
                len,
                workspace,
                place,
                capacity,
                &mut written,
                error,
            );
            self.judge_written(status, error, written, capacity);
            for found in matches.iter().take(if status == 0 { written } else { 0 }) {
                assert!(self.pods.contains(&found.pod), "pod {}", found.pod);
                assert!(found.blocks.iter().sum::<u32>() as usize <= len && found.predicted as usize <= len);
                assert!(found.speculative as usize <= len);
            }
        }
    }

    /// What a pod holds: its journal, what that has, or a page of all.
    pub(super) fn held(&mut self, input: &mut Input<'_>) {
        let (router, pod, error) = (self.router(input), self.pod(input), self.told(input));
        let (capacity, mut written) = (input.below(10), UNTOUCHED);
        // SAFETY: zero is a value; handles that live, and places that are there.
        unsafe {
            match input.byte() % 3 {
                0 => _ = kvroute_router_journal_held(router, pod, input.below(40), error),
                1 => {
                    let (mut changes, mut flags): ([kvroute_held_change; 10], u32) = (zeroed(), 0);
                    let place = changes.as_mut_ptr();
                    let status = kvroute_router_take_held(
                        router,
                        pod,
                        place,
                        capacity,
                        &mut written,
                        &mut flags,
                        error,
                    );
                    self.judge_written(status, error, written, capacity);
                    assert!(flags < 16 && changes.iter().all(|change| matches!(change.is_held, 0 | 1)));
                }
                _ => {
                    let (mut blocks, mut cursor): ([kvroute_held_block; 10], u64) =
                        (zeroed(), input.number());
                    let place = blocks.as_mut_ptr();
                    let status = kvroute_router_list_held(
                        router,
                        pod,
                        &mut cursor,
                        place,
                        capacity,
                        &mut written,
                        error,
                    );
                    self.judge_written(status, error, written, capacity);
                }
            }
        }
    }
}
