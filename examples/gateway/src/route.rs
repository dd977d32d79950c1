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
pub struct Destination {
    /// Its name.
    pub name: Arc<str>,
    /// Where its HTTP interface is.
    pub url: PodUrl,
    /// The data-parallel rank that was picked.
    pub rank: u32,
    /// Several ranks answer at this URL, so that the request has to say which is meant.
    pub names_rank: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Route {
    /// The pod that answers.
    pub pod: Destination,
    /// The pod that computes the prompt, where that is another one.
    pub prefill: Option<Destination>,
    /// The next best pods, best first, as many as the policy asks for.
    pub fallbacks: Vec<Destination>,
    /// What was booked; `None` where nobody decided.
    pub ticket: Option<Ticket>,
    /// Why it goes there; `None` where nobody decided.
    pub decision: Option<Decision>,
    /// Length of the prompt, tokens; of a text, estimated.
    pub prompt_tokens: usize,
    /// How far the best pod was ahead of the next best.
    pub margin: Option<f64>,
    /// All about it, where somebody wants to know.
    pub explanation: Option<Box<Explanation>>,
}

/// The pods that a request may go to, by name.
#[derive(Clone, Copy, Debug)]
pub enum Among<'a> {
    /// Any.
    All,
    /// Any but those that failed it already.
    Not(&'a [Arc<str>]),
    /// Only these.
    Only(&'a [String]),
}

impl Among<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Not(names) => names.iter().all(|tried| **tried != *name),
            Self::Only(names) => names.iter().any(|only| only == name),
        }
    }
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
    /// Chooses among these pods, and books it.
    ///
    /// # Errors
    ///
    /// 404 if no pod serves the model, 503 if none can take the request now, 400 if it cannot be routed at all.
    pub fn route(
        &self,
        asked: &Asked,
        session: Option<Session<'_>>,
        among: Among<'_>,
    ) -> Result<Route, ApiError> {
        let told = self.told(asked, among)?;
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
    pub fn decide(
        &self,
        asked: &Asked,
        session: Option<Session<'_>>,
    ) -> Result<(Option<Decision>, Explanation), ApiError> {
        let told = self.told(asked, Among::All)?;
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

    /// The cookie that brings the conversation back to the pods of a route, as the value of `set-cookie`; `None` where
    /// none is configured, or nobody decided.
    #[must_use]
    pub fn session_cookie(&self, route: &Route) -> Option<String> {
        let settings = self.settings();
        let name = settings.session.token_cookie.as_ref()?;
        let decision = route.decision.as_ref()?;
        let prefill = decision.prefill.map(|prefill| prefill.pod);
        let token = self.router().session_token(decision.pod, prefill, self.now()).ok()?;
        let secure = if settings.tls.is_some() { "; Secure" } else { "" };
        Some(format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax{secure}"))
    }

    /// Asks the shared index what pods hold of the prompt, and takes the answer to the request.
    pub async fn ask_index(&self, asked: &mut Asked) {
        let Some(index) = self.index().filter(|index| index.reads()) else { return };
        let PromptForm::TokenIds(token_ids) = &asked.prompt else { return };
        // What is wrong with the request shows when it is routed.
        let Ok(told) = self.told(asked, Among::All) else { return };
        let begun = Instant::now();
        let known = index.known(told.served.as_deref(), token_ids, &told.context).await;
        self.watch().looked_up(begun.elapsed());
        match known {
            Ok(known) => asked.known = known,
            Err(error) => tracing::debug!(%error, "the shared index did not answer"),
        }
    }

    fn told(&self, asked: &Asked, among: Among<'_>) -> Result<Told, ApiError> {
        let model = asked.model.as_deref().map(|name| self.model(name)).transpose()?;
        let lora = model.as_ref().and_then(|model| model.lora.clone());
        let context = HashContext { lora, cache_salt: asked.cache_salt.clone(), ..HashContext::default() };
        let only = model.as_ref().filter(|model| model.is_partial).map(|model| model.pods.clone());
        let subset = match (only, among) {
            (None, Among::All | Among::Not([])) => None,
            (None, Among::Only(names)) => Some(names.to_vec()),
            (Some(names), _) => Some(names.into_iter().filter(|name| among.has(name)).collect()),
            (None, Among::Not(_)) => {
                let pods = self.router().pods();
                let names = pods.iter().map(|pod| pod.name()).filter(|name| among.has(name));
                Some(names.map(str::to_owned).collect())
            }
        };
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
            // One that has left meanwhile is none.
            fallbacks: workspace.fallbacks().iter().filter_map(|pod| self.destination(*pod).ok()).collect(),
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
            fallbacks: Vec::new(),
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
