//! Which requests run: `Scheduler.schedule` and `update_from_output` of vLLM 0.32
//! (`vllm/v1/core/sched/scheduler.py`), first come first served, without asynchronous scheduling.

use std::collections::{BTreeMap, VecDeque};

use super::cache::{Demand, KvCache};
use super::request::{Requests, State};
use super::step::{Admitted, Loading, Scheduled, Step, StepResult, Token};
use super::{Counters, EngineOptions};

/// The queues, and the step under way.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    max_tokens: usize,
    max_running: usize,
    model_len: usize,
    watermark: usize,
    /// In order of arrival, preempted ones in front.
    pub(super) waiting: VecDeque<u32>,
    /// Requests that wait and hold blocks (`kv_holding_waiting`).
    pub(super) holding: usize,
    /// Those of them whose transfer is done, in the order in which they began to load. The others would
    /// only be skipped.
    pub(super) loaded: BTreeMap<u64, u32>,
    next_order: u64,
    pub(super) running: Vec<u32>,
    /// A request was finished since the last step: vLLM takes one more, to tell its workers.
    pub(super) has_finished: bool,
    pub(super) counters: Counters,
    step: Step,
    /// Slots of `step.scheduled`.
    slots: Vec<u32>,
    is_step_under_way: bool,
    hits: Vec<u32>,
}

impl Scheduler {
    pub(super) fn new(options: &EngineOptions) -> Self {
        Self {
            max_tokens: options.max_num_batched_tokens as usize,
            max_running: options.max_num_seqs as usize,
            model_len: options.model_len(),
            watermark: options.watermark_blocks(),
            ..Self::default()
        }
    }

    /// `Scheduler.schedule`.
    pub(super) fn begin(&mut self, requests: &mut Requests, cache: &mut KvCache) -> Option<&Step> {
        let has_requests = requests.len() > 0 || self.has_finished;
        if self.is_step_under_way || !has_requests {
            return None;
        }
        self.has_finished = false;
        self.step.clear();
        self.slots.clear();
        let mut budget = self.max_tokens;
        let was_preempted = self.schedule_running(&mut budget, requests, cache);
        if !was_preempted {
            self.schedule_waiting(&mut budget, requests, cache);
        }
        for (scheduled, &slot) in self.step.scheduled.iter().zip(&self.slots) {
            requests[slot].computed += scheduled.new_tokens as usize;
        }
        let has_step =
            !self.step.scheduled.is_empty() || !self.step.loading.is_empty() || cache.log.is_pending();
        self.is_step_under_way = has_step;
        has_step.then_some(&self.step)
    }

    /// Every running request goes on, the oldest first; without free blocks the youngest is preempted
    /// until there are. Says whether one was.
    fn schedule_running(&mut self, budget: &mut usize, requests: &mut Requests, cache: &mut KvCache) -> bool {
        let mut was_preempted = false;
        let mut index = 0;
        while index < self.running.len() && *budget > 0 {
            let slot = self.running[index];
            let request = &mut requests[slot];
            let room = self.model_len.saturating_sub(request.computed + 1);
            let new_tokens = (request.tokens.len() - request.computed).min(*budget).min(room);
            let demand = Demand { new_tokens, ..Demand::default() };
            while !cache.allocate(&mut requests[slot], demand) {
                was_preempted = true;
                let Some(youngest) = self.running.pop() else { return true };
                self.preempt(youngest, requests, cache);
                if youngest == slot {
                    return true;
                }
            }
            self.schedule(slot, new_tokens, requests);
            *budget -= new_tokens;
            index += 1;
        }
        was_preempted
    }

    /// `_preempt_request`: all it has computed is given up, though it may find it cached when it comes
    /// back.
    fn preempt(&mut self, slot: u32, requests: &mut Requests, cache: &mut KvCache) {
        let request = &mut requests[slot];
        cache.release(request);
        request.state = State::Waiting;
        request.computed = 0;
        request.preemptions += 1;
        self.waiting.push_front(slot);
        self.counters.preemptions += 1;
    }

    /// Admits requests as long as there are tokens, places and blocks: first those that hold blocks, then
    /// the waiting ones in order. The first that does not fit ends it.
    fn schedule_waiting(&mut self, budget: &mut usize, requests: &mut Requests, cache: &mut KvCache) {
        let mut hits = std::mem::take(&mut self.hits);
        while *budget > 0 && self.running.len() < self.max_running {
            let next = self.loaded.first_key_value().map(|(_, slot)| slot);
            let Some(&slot) = next.or_else(|| self.waiting.front()) else { break };
            let request = &mut requests[slot];
            if let State::Loading { order, .. } = request.state {
                // `_update_waiting_for_remote_kv`: what has come is cached, and the last token computed
                // again.
                cache.cache(request, request.computed);
                request.computed = request.computed.min(request.tokens.len() - 1);
                request.state = State::Loaded { order };
            }
            hits.clear();
            let is_lookup = request.computed == 0;
            if is_lookup {
                cache.lookup(request, &mut hits);
                request.cached_tokens = hits.len() * cache.hasher().block_size() as usize;
                request.transferred_tokens = 0;
            }
            let local = request.computed + hits.len() * cache.hasher().block_size() as usize;
            let watermark = if self.running.is_empty() { 0 } else { self.watermark };
            let mut demand = Demand { hits: &hits, is_admission: true, watermark, ..Demand::default() };
            if request.wants_transfer {
                // `NixlPullConnectorScheduler.get_num_new_matched_tokens`: all of the prompt that is not
                // here. vLLM admits a transfer only beside what prompts in progress will yet need
                // (`_inflight_prefill_reserved_blocks`); that is nothing here, because a prompt that a step
                // does not finish takes all its tokens, and then none is admitted.
                demand.transferred_tokens = request.prompt_len - local;
            } else {
                demand.new_tokens = (request.tokens.len() - local).min(*budget);
            }
            let Demand { new_tokens, transferred_tokens, .. } = demand;
            if !cache.allocate(request, demand) {
                break;
            }
            if is_lookup && request.preemptions == 0 {
                self.counters.prefix_queries += request.tokens.len() as u64;
                self.counters.prefix_hits += request.cached_tokens as u64;
            }
            if request.wants_transfer {
                request.wants_transfer = false;
                request.computed = local + transferred_tokens;
                request.transferred_tokens = transferred_tokens;
                request.state = State::Loading { order: self.next_order, is_ready: false };
                self.next_order += 1;
                self.waiting.pop_front();
                self.holding += 1;
                self.step.loading.push(Loading {
                    id: request.id,
                    cached_tokens: local as u32,
                    transferred_tokens: transferred_tokens as u32,
                });
                continue;
            }
            if let State::Loaded { order } = request.state {
                self.loaded.remove(&order);
                self.holding -= 1;
            } else {
                self.waiting.pop_front();
            }
            self.running.push(slot);
            request.state = State::Running;
            request.computed = local;
            if request.preemptions == 0 {
                self.step.admitted.push(Admitted {
                    id: request.id,
                    cached_tokens: request.cached_tokens as u32,
                    transferred_tokens: request.transferred_tokens as u32,
                });
            }
            self.schedule(slot, new_tokens, requests);
            *budget -= new_tokens;
        }
        self.hits = hits;
    }

    fn schedule(&mut self, slot: u32, new_tokens: usize, requests: &Requests) {
        let request = &requests[slot];
        let is_newest = request.computed + 1 == request.tokens.len();
        self.slots.push(slot);
        self.step.scheduled.push(Scheduled {
            id: request.id,
            new_tokens: new_tokens as u32,
            computed_tokens: request.computed as u32,
            is_decode: is_newest && request.tokens.len() > request.prompt_len,
        });
    }

    /// `Scheduler.update_from_output`: every request that has computed all its tokens gets one more.
    pub(super) fn end(
        &mut self,
        requests: &mut Requests,
        cache: &mut KvCache,
        timestamp: f64,
        mut sample: impl FnMut(u64) -> u32,
    ) -> StepResult {
        let mut result = StepResult::default();
        if !std::mem::take(&mut self.is_step_under_way) {
            return result;
        }
        let mut has_stopped = false;
        for (scheduled, &slot) in self.step.scheduled.iter().zip(&self.slots) {
            let id = scheduled.id;
            // Otherwise it was aborted meanwhile.
            let Some(request) = requests.running(slot, id) else { continue };
            if request.computed < request.tokens.len() {
                continue;
            }
            let token = sample(id);
            request.tokens.push(token);
            let answer = request.tokens.len() - request.prompt_len;
            let is_last = answer >= request.max_tokens || request.tokens.len() >= self.model_len;
            result.produced.push(Token { id, token, is_first: answer == 1, is_last });
            if is_last {
                cache.release(request);
                requests.remove(slot);
                has_stopped = true;
            }
        }
        if has_stopped {
            self.running.retain(|&slot| requests.contains(slot));
            self.has_finished = true;
        }
        result.batch = cache.log.take(timestamp);
        result
    }
}
