//! One pod: the API server, the engine, and the step under way.

use kvroute_core::{LoadReport, Role};

use crate::engine::{Admitted, Engine, EngineError, EngineOptions, EngineRequest, Loading, StepResult};
use crate::timing::Timing;

/// What a pod is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Its engine.
    pub engine: EngineOptions,
    /// How long its work takes.
    pub timing: Timing,
    /// Names of the models it serves: its own, aliases, adapters. It refuses requests for others; without names it
    /// serves any.
    pub models: Vec<String>,
}

/// What beginning a step says: when it ends, and what its plan is.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) ends: f64,
    pub(super) admitted: Vec<Admitted>,
    pub(super) loading: Vec<Loading>,
}

/// A pod as it is.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) spec: PodSpec,
    /// How often it was started; what belongs to an earlier life is void.
    pub(super) life: u32,
    /// `None` while the pod is not there.
    engine: Option<Engine>,
    /// When the API server will have parsed all it was sent.
    parsed_at: f64,
    /// Requests that are parsed and not yet the engine's, with the time they were parsed.
    inbox: Vec<(f64, EngineRequest)>,
    /// When the step under way began.
    step_began: Option<f64>,
    /// Seconds of all steps that were begun.
    pub(super) busy: f64,
}

impl Pod {
    /// A pod that is there, with an empty cache.
    pub(super) fn start(spec: PodSpec) -> Result<Self, EngineError> {
        let engine = Some(Engine::new(spec.engine.clone())?);
        Ok(Self { spec, life: 0, engine, parsed_at: 0.0, inbox: Vec::new(), step_began: None, busy: 0.0 })
    }

    /// All of it is lost.
    pub(super) fn die(&mut self) {
        self.engine = None;
        self.inbox.clear();
        self.step_began = None;
    }

    /// A pod that died starts anew.
    pub(super) fn restart(&mut self, now: f64) -> Result<(), EngineError> {
        self.engine = Some(Engine::new(self.spec.engine.clone())?);
        self.life += 1;
        self.parsed_at = now;
        Ok(())
    }

    /// Its engine, if it is there.
    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// Drops a request, whatever became of it.
    pub(super) fn abort(&mut self, leg: u64) {
        self.inbox.retain(|(_, request)| request.id != leg);
        if let Some(engine) = &mut self.engine {
            engine.abort(leg);
            engine.transfer_finished(leg);
        }
    }

    /// The KV of a request has come.
    pub(super) fn transferred(&mut self, leg: u64) {
        if let Some(engine) = &mut self.engine {
            engine.transfer_finished(leg);
        }
    }

    /// What it says of its load, if it is there.
    pub(super) fn report(&self) -> Option<LoadReport> {
        self.engine.as_ref().map(|engine| LoadReport {
            running: engine.running() as u32,
            waiting: (engine.waiting() + self.inbox.len()) as u32,
            kv_usage: engine.kv_usage() as f32,
        })
    }

    /// The gateway sends a request; says when the API server will have it ready for the engine.
    pub(super) fn send(&mut self, prompt_tokens: usize, now: f64) -> f64 {
        let timing = &self.spec.timing;
        self.parsed_at = self.parsed_at.max(now) + timing.parse(prompt_tokens);
        self.parsed_at + timing.request
    }

    /// A request is ready for the engine.
    pub(super) fn enter(&mut self, request: EngineRequest, now: f64) {
        self.inbox.push((now, request));
    }

    /// Begins a step, if none is under way and there is something to do. Requests that the engine
    /// refuses come back in `refused`.
    ///
    /// The engine plans one step ahead: what came after the last step began (`previous`) is not in this
    /// one, unless there is nothing else.
    pub(super) fn begin(&mut self, previous: Option<f64>, now: f64, refused: &mut Vec<u64>) -> Option<Begun> {
        if self.step_began.is_some() {
            return None;
        }
        let engine = self.engine.as_mut()?;
        let planned = previous.unwrap_or(now);
        for until in [planned, now] {
            for (_, request) in self.inbox.extract_if(.., |(entered, _)| *entered <= until) {
                let id = request.id;
                if engine.add_request(request).is_err() {
                    refused.push(id);
                }
            }
            if let Some(step) = engine.begin_step() {
                self.step_began = Some(now);
                let duration = self.spec.timing.step(step);
                self.busy += duration;
                return Some(Begun {
                    ends: now + duration,
                    admitted: step.admitted.clone(),
                    loading: step.loading.clone(),
                });
            }
        }
        None
    }

    /// Ends the step under way, in which each request gets the token that `sample` says; says also when
    /// it began.
    pub(super) fn end(&mut self, now: f64, sample: impl FnMut(u64) -> u32) -> Option<(f64, StepResult)> {
        let began = self.step_began.take()?;
        Some((began, self.engine.as_mut()?.end_step(now, sample)))
    }
}
