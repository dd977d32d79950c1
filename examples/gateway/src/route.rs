//! From a request to the pod, or the two pods, that it goes to.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kvroute_core::decision::Explanation;
use kvroute_core::router::Dispatch;
use kvroute_core::{
    Decision, Error, ErrorKind, Finish, HashContext, PodId, Prompt, RecordOptions, Request, Session, Ticket,
    Workspace,
};
use kvroute_io::pods::PodUrl;

use crate::config::Routing;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::request::{Asked, PromptForm};
use kvroute_io::fleet::Model;

/// A pod as requests are sent to it.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) name: Arc<str>,
    pub(crate) url: PodUrl,
    pub(crate) rank: u32,
    /// Several ranks answer at this URL, so that the request has to say which is meant.
    pub(crate) names_rank: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) pod: Destination,
    pub(crate) prefill: Option<Destination>,
    /// What was booked; `None` where nobody decided.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) decision: Option<Decision>,
    /// Length of the prompt, tokens; of a text, estimated.
    pub(crate) prompt_tokens: usize,
    /// How far the best pod was ahead of the next best.
    pub(crate) margin: Option<f64>,
    pub(crate) explanation: Option<Box<Explanation>>,
}

thread_local! {
    /// What a decision is made in; with it the router allocates nothing. No decision waits for anything.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// What the router is told of a request, as far as it has to be put together.
struct Told {
    context: HashContext,
    served: Option<String>,
    /// Pods it may go to; `None`: any.
    subset: Option<Vec<String>>,
}

impl Gateway {
    /// Chooses, and books it. `tried` are names of pods that failed it already.
    ///
    /// # Errors
    ///
    /// 404 if no pod serves the model, 503 if none can take the request now, 400 if it cannot be routed at all.
    pub(crate) fn route(
        &self,
        asked: &Asked,
        session: Option<Session<'_>>,
        tried: &[Arc<str>],
    ) -> Result<Route, ApiError> {
        let told = self.told(asked, tried)?;
        if self.settings().routing == Routing::RoundRobin {
            return self.next_in_turn(&told);
        }
        told.with_request(asked, session, |request| {
            WORKSPACE.with_borrow_mut(|workspace| {
                let dispatch = self.router().dispatch(request, self.now(), workspace);
                let dispatch = dispatch.map_err(|error| refusal(&error))?;
                let route = self.route_of(request, &dispatch, workspace);
                if route.is_err() {
                    self.router().finish(dispatch.ticket, Finish::Cancelled, None);
                }
                route
            })
        })
    }

    /// Chooses and says why; changes nothing.
    ///
    /// # Errors
    ///
    /// As [`route`](Self::route), but that no pod can take it is an explanation without a decision.
    pub(crate) fn decide(
        &self,
        asked: &Asked,
        session: Option<Session<'_>>,
    ) -> Result<(Option<Decision>, Explanation), ApiError> {
        let told = self.told(asked, &[])?;
        told.with_request(asked, session, |request| {
            WORKSPACE.with_borrow_mut(|workspace| {
                let decision = match self.router().decide(request, self.now(), workspace) {
                    Ok(decision) => Some(decision),
                    Err(error) if error.kind() == ErrorKind::NoCandidate => None,
                    Err(error) => return Err(refusal(&error)),
                };
                Ok((decision, self.router().explain(workspace)))
            })
        })
    }

    /// A token that brings the conversation back to the pods of a route.
    pub(crate) fn session_token(&self, route: &Route) -> Option<String> {
        let decision = route.decision.as_ref()?;
        let prefill = decision.prefill.map(|prefill| prefill.pod);
        self.router().session_token(decision.pod, prefill, self.now()).ok()
    }

    /// Asks the shared index what pods hold of the prompt, and takes the answer to the request.
    pub(crate) async fn ask_index(&self, asked: &mut Asked) {
        let Some(index) = self.index().filter(|index| index.reads()) else { return };
        let PromptForm::TokenIds(token_ids) = &asked.prompt else { return };
        // What is wrong with the request shows when it is routed.
        let Ok(told) = self.told(asked, &[]) else { return };
        let begun = Instant::now();
        let known = index.known(told.served.as_deref(), token_ids, &told.context).await;
        self.watch().looked_up(begun.elapsed());
        match known {
            Ok(known) => asked.known = known,
            Err(error) => tracing::debug!(%error, "the shared index did not answer"),
        }
    }

    fn told(&self, asked: &Asked, tried: &[Arc<str>]) -> Result<Told, ApiError> {
        let model = asked.model.as_deref().map(|name| self.model(name)).transpose()?;
        let lora = model.as_ref().and_then(|model| model.lora.clone());
        let context = HashContext { lora, cache_salt: asked.cache_salt.clone(), ..HashContext::default() };
        let only = model.as_ref().filter(|model| model.is_partial).map(|model| model.pods.clone());
        let subset = match (only, tried) {
            (None, []) => None,
            (Some(names), _) => Some(names),
            (None, _) => Some(self.router().pods().iter().map(|pod| pod.name().to_owned()).collect()),
        };
        let is_left = |name: &String| tried.iter().all(|tried| **tried != **name);
        let subset = subset.map(|names| names.into_iter().filter(is_left).collect());
        Ok(Told { context, served: model.map(|model| model.served().to_owned()), subset })
    }

    fn model(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        self.fleet().model(name).ok_or_else(|| {
            if self.fleet().models().is_empty() {
                // Pods that have not said yet what they serve may well serve this.
                return ApiError::unavailable("No pod has answered yet");
            }
            ApiError::unknown_model(name)
        })
    }

    fn route_of(
        &self,
        request: &Request<'_>,
        dispatch: &Dispatch,
        workspace: &Workspace,
    ) -> Result<Route, ApiError> {
        if let Some(log) = self.decision_log()
            && let Some(record) =
                self.router().record(request, workspace, Some(dispatch), RecordOptions::default())
        {
            log.write(record.to_json());
        }
        let decision = dispatch.decision;
        let explains = self.wants_explanations();
        Ok(Route {
            pod: self.destination(decision.pod)?,
            prefill: decision.prefill.map(|prefill| self.destination(prefill.pod)).transpose()?,
            ticket: Some(dispatch.ticket),
            decision: Some(decision),
            prompt_tokens: request.prompt.tokens(),
            margin: workspace.margin(),
            explanation: explains.then(|| Box::new(self.router().explain(workspace))),
        })
    }

    fn destination(&self, pod: PodId) -> Result<Destination, ApiError> {
        let gone = || ApiError::unavailable("The pod left while it was chosen");
        let target = self.fleet().target(pod).ok_or_else(gone)?;
        Ok(Destination {
            name: target.name.as_str().into(),
            url: target.url.clone(),
            rank: target.rank,
            names_rank: target.ranks > 1,
        })
    }

    /// The next pod that takes requests and serves the model.
    fn next_in_turn(&self, told: &Told) -> Result<Route, ApiError> {
        let mut pods = self.router().pods();
        let may_go =
            |name: &str| told.subset.as_ref().is_none_or(|names| names.iter().any(|only| only == name));
        pods.retain(|pod| {
            pod.is_accepting() && pod.domain().serves(told.served.as_deref()) && may_go(pod.name())
        });
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let pod = turn.checked_rem(pods.len()).map(|at| pods[at].id());
        let pod = pod.ok_or_else(|| ApiError::unavailable("No pod takes requests now"))?;
        let pod = self.destination(pod)?;
        Ok(Route {
            pod,
            prefill: None,
            ticket: None,
            decision: None,
            prompt_tokens: 0,
            margin: None,
            explanation: None,
        })
    }
}

impl Told {
    fn with_request<R>(
        &self,
        asked: &Asked,
        session: Option<Session<'_>>,
        act: impl FnOnce(&Request<'_>) -> R,
    ) -> R {
        let subset: Option<Vec<&str>> =
            self.subset.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let prompt = match &asked.prompt {
            PromptForm::None => Prompt::TokenIds(&[]),
            PromptForm::TokenIds(token_ids) => Prompt::TokenIds(token_ids),
            PromptForm::Text(text) => Prompt::Text(text),
        };
        let request = Request::new(&[], &self.context);
        act(&Request {
            prompt,
            model: self.served.as_deref(),
            session,
            subset: subset.as_deref(),
            known: &asked.known,
            ..request
        })
    }
}

fn refusal(error: &Error) -> ApiError {
    match error.kind() {
        ErrorKind::NoCandidate => ApiError::unavailable(format!("No pod takes this request now: {error}")),
        _ => ApiError::bad_request(format!("The request cannot be routed: {error}"), None),
    }
}
