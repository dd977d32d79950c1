//! The shared test table, `testdata/bindings/cases.txt`: what Rust answers is what every binding must. The format is
//! described beside it. `BLESS=1` writes the answers anew. One file though it is long: each step is a few lines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use kvroute_core::decision::Reason;
use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, EventLora, KvEvent};
use kvroute_core::hash::Lora;
use kvroute_core::index::{ApplyReport, HeldCursor, IgnoreReason, MatchTable, Outcome, ResyncReason};
use kvroute_core::record::{LogLine, OutcomeRecord, RecordOptions};
use kvroute_core::router::Replay;
use kvroute_core::{
    AdapterReport, CacheDomain, Config, Decision, Dispatch, EngineHash, Error, ErrorKind, Finish,
    HashContext, KnownPrefix, LoadReport, PodId, PodSpec, Request, Restore, Role, Router, ScoreColumn,
    Session, Ticket, Tier, Workspace,
};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/bindings/cases.txt");

#[test]
fn every_case_of_the_shared_table_is_answered_as_it_says() {
    let text = fs::read_to_string(TABLE).unwrap();
    let mut case = Case::default();
    let (mut blessed, mut wrong, mut steps) = (String::new(), Vec::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let (step, expected) = match line.split_once(" => ") {
            Some((step, expected)) => (step, Some(expected)),
            None => (line, None),
        };
        if step.is_empty() || step.starts_with('#') {
            writeln!(blessed, "{line}").unwrap();
            continue;
        }
        steps += 1;
        let answer = case.step(step).unwrap_or_else(|error| format!("error {} {error}", status(&error)));
        let shown = if answer.is_empty() { String::new() } else { format!(" => {answer}") };
        writeln!(blessed, "{step}{shown}").unwrap();
        let is_right = match expected {
            Some(expected) => answer == expected,
            None => answer.is_empty(),
        };
        if !is_right {
            wrong.push(format!("line {}: {step}\n  expected {expected:?}\n  answered {answer}", number + 1));
        }
    }
    if env::var_os("BLESS").is_some() {
        fs::write(TABLE, blessed).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(steps > 200, "only {steps} steps");
}

fn status(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidInput => "invalid-input",
        ErrorKind::Decode => "decode",
        ErrorKind::NotReproducible => "not-reproducible",
        ErrorKind::UnknownPod => "unknown-pod",
        ErrorKind::NoCandidate => "no-candidate",
        ErrorKind::Limit => "limit",
        other => panic!("a status without a name: {other:?}"),
    }
}

/// What a case has made so far.
#[derive(Default)]
struct Case {
    router: Option<Router>,
    pods: HashMap<String, PodId>,
    tickets: HashMap<String, Ticket>,
    tokens: HashMap<String, String>,
    last: Option<Decision>,
    /// Of the decision log, about the last decision for which it was asked.
    line: String,
    /// What a router knew when it was asked.
    snapshot: Vec<u8>,
    workspace: Workspace,
}

/// The arguments of a step: positional ones, then `key=value`.
struct Arguments<'a> {
    positional: Vec<&'a str>,
    named: HashMap<&'a str, &'a str>,
}

impl<'a> Arguments<'a> {
    fn read(rest: &'a str) -> Self {
        let words = rest.split(' ').filter(|word| !word.is_empty());
        let (named, positional): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
        let named = named.into_iter().filter_map(|word| word.split_once('=')).collect();
        Self { positional, named }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.named.get(name).copied()
    }

    fn need(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_else(|| panic!("{name}= is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> T {
        self.need(name).parse().unwrap_or_else(|_| panic!("{name}= is no such number"))
    }

    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.get("now").map_or(0.0, |now| now.parse().unwrap()))
    }

    fn context(&self) -> HashContext {
        HashContext {
            lora: self.get("lora").map(|name| Lora { name: name.into(), ..Lora::default() }),
            cache_salt: self.get("salt").map(Into::into),
            ..HashContext::default()
        }
    }
}

fn token_ids(text: &str) -> Vec<u32> {
    if text == "-" {
        return Vec::new();
    }
    let part = |part: &str| match part.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => part.parse().unwrap()..part.parse::<u32>().unwrap() + 1,
    };
    text.split('+').flat_map(part).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    if text == "-" { Vec::new() } else { digits.map(byte).collect() }
}

/// Names separated by commas; `-` is none.
fn list(names: Option<&str>) -> Vec<&str> {
    names.filter(|names| *names != "-").map_or(Vec::new(), |names| names.split(',').collect())
}

fn finish(how: &str) -> Finish {
    match how {
        "completed" => Finish::Completed,
        "failed" => Finish::Failed,
        "cancelled" => Finish::Cancelled,
        other => panic!("no outcome is called {other}"),
    }
}

fn hashes(text: &str) -> Vec<EngineHash> {
    text.split(',').map(|hash| EngineHash(hash.parse().unwrap())).collect()
}

fn tier(name: Option<&str>) -> Option<Tier> {
    Tier::from_medium(name.unwrap_or("gpu"))
}

fn outcome(report: &ApplyReport) -> String {
    let outcome = match report.outcome {
        Outcome::Applied => "applied".to_owned(),
        Outcome::Parked => "parked".to_owned(),
        Outcome::Ignored(reason) => format!("ignored:{}", reason.name()),
        Outcome::NeedsResync(ResyncReason::Gap { replay_from }) => format!("resync:gap:{replay_from}"),
        Outcome::NeedsResync(ResyncReason::Restarted) => "resync:restarted".to_owned(),
        Outcome::NeedsResync(ResyncReason::Undecodable) => "resync:undecodable".to_owned(),
        other => panic!("an outcome without a name: {other:?}"),
    };
    let ApplyReport { events, blocks_stored, blocks_removed, .. } = report;
    format!("{outcome} events={events} stored={blocks_stored} removed={blocks_removed}")
}

impl Case {
    fn router(&self) -> &Router {
        self.router.as_ref().expect("the case has a router")
    }

    fn pod(&self, name: &str) -> PodId {
        match name {
            "?" => PodId::from_u64(u64::MAX),
            name => *self.pods.get(name).unwrap_or_else(|| panic!("no pod is called {name}")),
        }
    }

    fn name(&self, pod: PodId) -> &str {
        self.pods.iter().find(|(_, id)| **id == pod).map_or("?", |(name, _)| name)
    }

    /// Learns the names of the router's pods.
    fn learn(&mut self) {
        for pod in self.router().pods() {
            let name = match pod.dp_rank() {
                0 => pod.name().to_owned(),
                rank => format!("{}/{rank}", pod.name()),
            };
            self.pods.insert(name, pod.id());
        }
    }

    fn domain(&self, name: &str) -> Arc<CacheDomain> {
        self.router().domain(name).unwrap_or_else(|| panic!("no domain is called {name}"))
    }

    fn step(&mut self, step: &str) -> Result<String, Error> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let a = Arguments::read(rest);
        let pod = |at: usize| self.pod(a.positional[at]);
        match verb {
            "case" => *self = Self::default(),
            "router" => {
                self.router = Some(Config::parse(rest)?.build()?);
                self.learn();
            }
            "policy" => self.router().set_policy(Config::parse(rest)?.policy()?),
            "llm-d" => {
                let (config, notes) = Config::from_endpoint_picker(rest)?;
                self.router().set_policy(config.policy()?);
                return Ok(serde_json::to_string(&notes).unwrap());
            }
            "pod" => {
                let (name, rank) = a.positional[0].split_once('/').unwrap_or((a.positional[0], "0"));
                let role = match a.get("role") {
                    None | Some("both") => Role::Both,
                    Some("decode") => Role::Decode,
                    Some("prefill") => Role::Prefill,
                    Some(other) => panic!("no role is called {other}"),
                };
                let label = a.get("label").and_then(|label| label.split_once(':'));
                let labels = label.map(|(key, value)| (key.to_owned(), value.to_owned()));
                let (dp_rank, labels) = (rank.parse().unwrap(), labels.into_iter().collect());
                let spec = PodSpec::new(name, self.domain(a.need("domain")));
                let capacity = a.get("capacity").map_or(1.0, |capacity| capacity.parse().unwrap());
                self.router().add_pod(PodSpec { dp_rank, role, labels, capacity, ..spec })?;
                self.learn();
            }
            "remove" => self.router().remove_pod(pod(0))?,
            "accept" => self.router().set_accepting(pod(0), a.positional[1] == "true")?,
            "load" => {
                let (running, waiting) = (a.number("running"), a.number("waiting"));
                let report = LoadReport { running, waiting, kv_usage: a.number("kv_usage") };
                self.router().report_load(pod(0), report)?;
            }
            "unload" => self.router().forget_load(pod(0))?,
            "adapters" => {
                let (running, waiting) = (list(a.get("running")), list(a.get("waiting")));
                let report = AdapterReport { max: a.number("max"), running: &running, waiting: &waiting };
                self.router().report_adapters(pod(0), &report)?;
            }
            "apply" => {
                let payload = bytes(a.need("payload"));
                return Ok(outcome(&self.router().apply(pod(0), a.number("sequence"), &payload)?));
            }
            "topic" => {
                let (rank, sequence, payload) =
                    (a.number("rank"), a.number("sequence"), bytes(a.need("payload")));
                let report = self.router().apply_topic(a.positional[0], rank, sequence, &payload)?;
                return Ok(outcome(&report));
            }
            "stored" | "removed" | "cleared" => {
                let batch = EventBatch { events: vec![event(verb, &a)], ..EventBatch::default() };
                return Ok(outcome(&self.router().apply_events(pod(0), &batch)?));
            }
            "abandon" => self.router().index().abandon_gap(pod(0), a.number("sequence"))?,
            "forget" => self.router().index().forget_predictions(pod(0))?,
            "hash" => {
                let domain = self.domain(a.positional[0]);
                let blocks = domain.hasher().hash(&token_ids(a.need("tokens")), &a.context())?;
                let blocks: Vec<String> = blocks.iter().map(|hash| hash.0.to_string()).collect();
                return Ok(blocks.join(" "));
            }
            "lookup" => return Ok(self.lookup(a.positional[0], &token_ids(a.need("tokens")))),
            "journal" => self.router().index().journal_held(pod(0), a.number("most"))?,
            "take" => return self.take(pod(0), a.number("most")),
            "held" => return self.held(pod(0), a.number("most")),
            "decide" => return self.decide(&a),
            "dispatch" => return self.dispatch(&a),
            "first_token" => return Ok(self.router().first_token(self.tickets[a.positional[0]]).to_string()),
            "finish" => {
                let how = finish(a.positional[1]);
                let cached = a.get("cached").map(|cached| cached.parse().unwrap());
                return Ok(self.router().finish(self.tickets[a.positional[0]], how, cached).to_string());
            }
            "recorded" => return Ok(self.line.clone()),
            "outcome" => {
                let (ticket, how) = (self.tickets[a.positional[0]], finish(a.positional[1]));
                let cached = a.get("cached").map(|cached| cached.parse().unwrap());
                return Ok(OutcomeRecord::new(ticket, how, cached, a.now()).to_json());
            }
            "replay" => {
                let LogLine::Decision(record) = LogLine::parse(&self.line)? else {
                    panic!("a decision was recorded")
                };
                let mut replay = Replay::new(&record)?;
                let policy = Config::parse(rest)?.policy()?;
                return Ok(replay.choose(&policy)?.is_as_recorded(&record).to_string());
            }
            "snapshot" => {
                let mut snapshot = self.router().snapshot(a.now());
                let mut bytes = Vec::new();
                while let Some(chunk) = snapshot.next_chunk(self.router())? {
                    bytes.extend_from_slice(chunk);
                }
                self.snapshot = bytes;
            }
            "restore" => {
                let mut restore = Restore::default();
                let keep = a.get("keep").map_or(self.snapshot.len(), |keep| keep.parse().unwrap());
                restore.push(&self.snapshot[..keep])?;
                let report = restore.finish(self.router(), a.now())?;
                self.learn();
                return Ok(serde_json::to_string(&report).unwrap());
            }
            "expire" => return Ok(self.router().expire(a.now()).to_string()),
            "token" => {
                let last = self.last.expect("a decision");
                let token = self.router().session_token(last.pod, last.prefill.map(|p| p.pod), a.now())?;
                self.tokens.insert(a.positional[0].to_owned(), token);
            }
            "counters" => {
                let c = self.router().counters();
                return Ok(format!(
                    "in_flight={} sessions={} expired={} untracked={}",
                    c.in_flight, c.sessions, c.expired, c.untracked
                ));
            }
            "stream" => return self.stream(pod(0)),
            "trust" => return Ok(self.router().pod_by_id(pod(0))?.trust().name().to_owned()),
            "says" => {
                let explanation = self.router().explain(&self.workspace).to_string();
                assert!(explanation.contains(rest), "{rest:?} is not in:\n{explanation}");
            }
            "reset" => {
                self.router.as_mut().expect("the case has a router").reset();
                self.learn();
            }
            other => panic!("no step is called {other}"),
        }
        Ok(String::new())
    }

    fn lookup(&self, domain: &str, token_ids: &[u32]) -> String {
        let domain = self.domain(domain);
        let blocks = domain.hasher().hash(token_ids, &HashContext::default()).unwrap();
        let mut table = MatchTable::default();
        self.router().index().lookup(
            &domain,
            &blocks[..domain.searchable_blocks(token_ids.len())],
            &mut table,
        );
        let mut found = table.matches().to_vec();
        found.sort_by_key(|found| found.pod);
        let shown = found.iter().map(|found| {
            let [gpu, cpu, disk, external] = Tier::ALL.map(|tier| found.blocks.in_tier(tier));
            let (name, predicted, speculative) = (self.name(found.pod), found.predicted, found.speculative);
            format!("{name}={gpu},{cpu},{disk},{external},{predicted},{speculative}")
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// What the pod's journal has, and what came before it.
    fn take(&self, pod: PodId, most: usize) -> Result<String, Error> {
        let mut changes = Vec::new();
        let since = self.router().index().take_held(pod, most, &mut changes)?;
        let flags = [
            ("cleared", since.cleared),
            ("list-again", since.list_again),
            ("plain", since.is_plain),
            ("more", since.has_more),
        ];
        let flags = flags.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned());
        let changes = changes.iter().map(|change| {
            let (block, sign) = (change.block, if change.is_held { '+' } else { '-' });
            format!("{sign}{}:{}:{}", block.group, block.tier.name(), block.hash.0)
        });
        Ok(flags.chain(changes).collect::<Vec<_>>().join(" "))
    }

    /// All that the pod holds, asked for page by page.
    fn held(&self, pod: PodId, most: usize) -> Result<String, Error> {
        let (mut all, mut page, mut next) = (Vec::new(), Vec::new(), Some(HeldCursor::default()));
        while let Some(from) = next {
            next = self.router().index().list_held(pod, from, most, &mut page)?;
            all.extend(page.iter().map(|b| format!("{}:{}:{}", b.group, b.tier.name(), b.hash.0)));
        }
        all.sort();
        Ok(all.join(" "))
    }

    /// Calls `act` with the request that the arguments describe.
    fn with_request<R>(
        &mut self,
        a: &Arguments<'_>,
        act: impl FnOnce(&Router, &Request<'_>, Duration, &mut Workspace) -> R,
    ) -> R {
        let (context, text) = (a.context(), a.get("text").map(bytes));
        let subset = a.get("subset").map(|names| list(Some(names)));
        let token_ids = a.get("tokens").map(token_ids).unwrap_or_default();
        let scores = a.get("scores").map(|scores| {
            let (scorer, pairs) = scores.split_once(':').unwrap();
            let pairs = pairs.split(',').map(|pair| pair.rsplit_once(':').unwrap());
            let (pods, values): (Vec<PodId>, Vec<f64>) =
                pairs.map(|(pod, value)| (self.pod(pod), value.parse::<f64>().unwrap())).unzip();
            (scorer, pods, values)
        });
        let columns = scores.as_ref().map(|(scorer, pods, values)| ScoreColumn { scorer, pods, values });
        let known = list(a.get("known")).into_iter().map(|known| {
            let mut parts = known.rsplitn(3, ':');
            let (blocks, tier) = (parts.next().unwrap().parse().unwrap(), parts.next());
            KnownPrefix { pod: self.pod(parts.next().unwrap()), tier: self::tier(tier).unwrap(), blocks }
        });
        let known: Vec<_> = known.collect();
        let token = a.get("token").map(|name| Session::Token(self.tokens[name].as_str()));
        let request = match &text {
            Some(text) => Request::from_text(text, &context),
            None => Request::new(&token_ids, &context),
        };
        let request = Request {
            model: a.get("model"),
            session: a.get("session").map(Session::Id).or(token),
            subset: subset.as_deref(),
            nonce: a.get("nonce").map(|nonce| nonce.parse().unwrap()),
            scores: columns.as_slice(),
            known: &known,
            ..request
        };
        act(self.router.as_ref().expect("the case has a router"), &request, a.now(), &mut self.workspace)
    }

    fn shown(&mut self, decision: Decision) -> String {
        self.last = Some(decision);
        let [gpu, cpu, disk, external] = Tier::ALL.map(|tier| decision.matched.in_tier(tier));
        let Decision { total, matched_tokens, uncached_tokens, candidates, .. } = decision;
        let mut shown = format!(
            "pod={} total={total:.3} matched={gpu},{cpu},{disk},{external} matched_tokens={matched_tokens} \
             uncached_tokens={uncached_tokens} candidates={candidates}",
            self.name(decision.pod)
        );
        if let Some(prefill) = decision.prefill {
            write!(
                shown,
                " prefill={} prefill_total={:.3} prefill_matched_tokens={} prefill_uncached_tokens={}",
                self.name(prefill.pod),
                prefill.total,
                prefill.matched_tokens,
                prefill.uncached_tokens
            )
            .unwrap();
        }
        if decision.reason != Reason::Picked {
            write!(shown, " reason={}", decision.reason.name()).unwrap();
        }
        if let Some(prefill) = decision.prefill.filter(|prefill| prefill.reason != Reason::Picked) {
            write!(shown, " prefill_reason={}", prefill.reason.name()).unwrap();
        }
        let fallbacks: Vec<&str> = self.workspace.fallbacks().iter().map(|pod| self.name(*pod)).collect();
        if !fallbacks.is_empty() {
            write!(shown, " fallbacks={}", fallbacks.join(",")).unwrap();
        }
        shown
    }

    /// Keeps the line of a decision, if there is one.
    fn noted<R>(&mut self, (answer, line): (R, Option<String>)) -> R {
        self.line = line.unwrap_or(std::mem::take(&mut self.line));
        answer
    }

    fn decide(&mut self, a: &Arguments<'_>) -> Result<String, Error> {
        let decision = self.with_request(a, |router, request, now, workspace| {
            let decision = router.decide(request, now, workspace);
            (decision, line(a, router, request, workspace, None))
        });
        let decision = self.noted(decision)?;
        Ok(self.shown(decision))
    }

    fn dispatch(&mut self, a: &Arguments<'_>) -> Result<String, Error> {
        let dispatch = self.with_request(a, |router, request, now, workspace| {
            let dispatch = router.dispatch(request, now, workspace);
            let line = line(a, router, request, workspace, dispatch.as_ref().ok());
            (dispatch, line)
        });
        let dispatch = self.noted(dispatch)?;
        self.tickets.insert(a.positional[0].to_owned(), dispatch.ticket);
        let shown = self.shown(dispatch.decision);
        Ok(format!("{shown} retries={} contended={}", dispatch.retries, dispatch.contended))
    }

    fn stream(&self, pod: PodId) -> Result<String, Error> {
        let c = self.router().index().counters(pod)?;
        let mut shown = format!(
            "batches={} events={} stored={} removed={} gaps={} restarts={} resyncs={}",
            c.batches, c.events, c.blocks_stored, c.blocks_removed, c.gaps, c.restarts, c.resyncs
        );
        for reason in IgnoreReason::ALL.into_iter().filter(|reason| c.ignored_for(*reason) > 0) {
            write!(shown, " ignored.{}={}", reason.name(), c.ignored_for(reason)).unwrap();
        }
        Ok(shown)
    }
}

/// The line of the decision log that `record=` asks for; `record=prompt` with the prompt in it.
fn line(
    a: &Arguments<'_>,
    router: &Router,
    request: &Request<'_>,
    workspace: &Workspace,
    dispatch: Option<&Dispatch>,
) -> Option<String> {
    let options = RecordOptions { prompt: a.get("record")? == "prompt" };
    let record = router.record(request, workspace, dispatch, options);
    Some(record.map(|record| record.to_json()).unwrap_or_default())
}

fn event(verb: &str, a: &Arguments<'_>) -> KvEvent {
    match verb {
        "stored" => KvEvent::Stored(BlockStored {
            block_hashes: hashes(a.need("hashes")),
            parent: a.get("parent").map(|parent| hashes(parent)[0]),
            token_ids: token_ids(a.need("tokens")),
            block_size: a.number("block_size"),
            tier: tier(a.get("tier")),
            lora: a.get("lora").map(|name| EventLora { name: Some(name.into()), id: None }),
            cache_salt: a.get("salt").map(Into::into),
            ..BlockStored::default()
        }),
        "removed" => KvEvent::Removed(BlockRemoved {
            block_hashes: hashes(a.need("hashes")),
            tier: tier(a.get("tier")),
            ..BlockRemoved::default()
        }),
        _ => KvEvent::Cleared,
    }
}
