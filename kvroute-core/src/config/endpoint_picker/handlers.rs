//! Profile handlers: which profile picks the pod that answers, which the one that prefills, and when.

use alloc::format;
use alloc::vec::Vec;

use super::super::problem::{Problem, shown, unknown};
use super::Translation;
use super::node::{Mapping, Node};
use super::plugins::Plugin;
use super::profile::Profile;
use super::types::Kind;

const HEADERS: &str = "the embedder tells the decode pod of the prefill pod (`x-prefiller-host-port`): a decision names \
                       both";

const NEVER: &str = "not mapped: no decider ever asks for a prefill pod";

/// Which profiles are asked; positions.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) decode: usize,
    pub(super) prefill: Option<(usize, Thresholds)>,
}

/// When a prompt goes to a prefill pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    /// The decode pod would have to compute more than this; tokens.
    pub(super) max_uncached_tokens: u64,
    /// The prompt is at least this long; tokens.
    pub(super) min_prompt_tokens: u64,
}

impl Thresholds {
    /// Always: an engine computes at least a prompt's last token.
    const ALWAYS: Self = Self { max_uncached_tokens: 0, min_prompt_tokens: 0 };
}

/// Finds out which profiles are asked.
pub(super) fn plan(
    t: &mut Translation<'_, '_>,
    root: &Node<'_>,
    profiles: &[Profile<'_>],
) -> Result<Plan, Problem> {
    let plugins = t.plugins;
    let mut handlers = plugins.of_kind(Kind::Handler);
    let handler = handlers.next();
    if let (Some(first), Some(second)) = (handler, handlers.next()) {
        let message = format!("found a second profile handler, the first is at {}", first.path());
        return Err(second.problem(&message));
    }
    let Some(handler) = handler else {
        return single(profiles, || {
            let message = "found several profiles, expected a profile handler among `plugins` that says what they are \
                           for, such as `disagg-profile-handler`";
            root.problem(message)
        });
    };
    t.used.insert(handler.at);
    match handler.is.name {
        "disagg-profile-handler" => disagg(t, handler, profiles),
        "pd-profile-handler" => pd(t, handler, profiles),
        "header-profile-handler" => header(t, handler, profiles),
        "data-parallel-profile-handler" => {
            let given = handler.parameters(&["primaryPort"])?;
            port(&given)?;
            t.note(
                handler,
                "data-parallel ranks are pods of their own here: a decision names the rank, and the embedder writes \
                 the port or the header",
            );
            only(handler, profiles)
        }
        _ => {
            handler.parameters(&[])?;
            only(handler, profiles)
        }
    }
}

/// The one profile there is.
fn single(profiles: &[Profile<'_>], problem: impl FnOnce() -> Problem) -> Result<Plan, Problem> {
    match profiles {
        [_] => Ok(Plan { decode: 0, prefill: None }),
        _ => Err(problem()),
    }
}

fn only(handler: &Plugin<'_>, profiles: &[Profile<'_>]) -> Result<Plan, Problem> {
    single(profiles, || {
        let message = format!("`{}` has one profile, found {}", handler.is.name, profiles.len());
        handler.problem(&message)
    })
}

fn port(given: &Mapping<'_>) -> Result<(), Problem> {
    let Some(port) = given.get("primaryPort") else { return Ok(()) };
    match port.whole()? {
        0..=65_535 => Ok(()),
        _ => Err(port.unexpected("a port, 1 to 65535")),
    }
}

/// The position of a profile that a handler asks for by name.
fn find(node: &Node<'_>, profiles: &[Profile<'_>], name: &str) -> Result<usize, Problem> {
    let found = profiles.iter().position(|profile| profile.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name).collect();
        node.problem(unknown("profile", name, &names))
    })
}

fn disagg(
    t: &mut Translation<'_, '_>,
    handler: &Plugin<'_>,
    profiles: &[Profile<'_>],
) -> Result<Plan, Problem> {
    let given = handler.parameters(&["stageOrder", "profiles", "deciders"])?;
    let none = || Mapping::none(given.node().clone());
    let names = given.mapping("profiles", &["decode", "prefill", "encode", "fallback"])?.unwrap_or_else(none);
    let deciders = given.mapping("deciders", &["prefill", "encode"])?.unwrap_or_else(none);
    let (decode, prefill) =
        (names.text("decode")?.unwrap_or("decode"), names.text("prefill")?.unwrap_or("prefill"));
    let (encode, fallback) = (names.text("encode")?.unwrap_or("encode"), names.text("fallback")?);
    let prefill_first = match given.text("stageOrder")? {
        None | Some("decode-first") => false,
        Some("prefill-first") => true,
        Some(_) => return Err(given.need("stageOrder")?.unexpected("`decode-first` or `prefill-first`")),
    };
    let decider = deciders.text("prefill")?.and_then(|_| deciders.get("prefill"));
    if prefill_first && let Some(decider) = &decider {
        return Err(decider.problem("found a decider, expected none with `prefill-first`"));
    }
    let thresholds = match decider {
        Some(decider) => decide(t, &decider)?,
        None if prefill_first => {
            t.note(
                handler,
                "`stageOrder` is not mapped: the decode pod is picked first, then the prefill pod",
            );
            profiles.iter().any(|profile| profile.name == prefill).then_some(Thresholds::ALWAYS)
        }
        None => None,
    };
    if let Some(encoder) = deciders.text("encode")?.and_then(|_| deciders.get("encode")) {
        let plugins = t.plugins;
        let decider = plugins.refer(&encoder)?;
        if decider.kind() != Kind::Decider {
            let message =
                format!("`{}` is a {}, which decides on nothing", shown(decider.name), decider.is.name);
            return Err(encoder.problem(message));
        }
        t.used.insert(decider.at);
        t.note(decider, "not mapped: kvroute knows no encode pods");
    }
    if thresholds.is_some() {
        t.note(handler, HEADERS);
    }
    for (at, profile) in profiles.iter().enumerate() {
        let path = profile.node.path();
        if profile.name == encode {
            t.notes.add(
                path,
                "",
                "not mapped: kvroute knows no encode pods; the embedder picks them by other means",
            );
        } else if Some(profile.name) == fallback {
            let note = "not mapped: where no pod is left the decision fails, and the embedder may decide by another \
                        policy";
            t.notes.add(path, "", note);
        } else if profile.name == prefill && thresholds.is_none() {
            t.notes.add(path, "", NEVER);
        } else if profile.name != decode && profile.name != prefill {
            return Err(unexplained(handler, &profiles[at]));
        }
    }
    let decode = find(given.node(), profiles, decode)?;
    let prefill = match thresholds {
        Some(thresholds) => Some((find(given.node(), profiles, prefill)?, thresholds)),
        None => None,
    };
    Ok(Plan { decode, prefill })
}

fn pd(t: &mut Translation<'_, '_>, handler: &Plugin<'_>, profiles: &[Profile<'_>]) -> Result<Plan, Problem> {
    let known = [
        "decodeProfile",
        "prefillProfile",
        "deciderPluginName",
        "primaryPort",
        "prefixPluginType",
        "prefixPluginName",
        "prefixMatchInfoProducerName",
    ];
    let given = handler.parameters(&known)?;
    t.reads(&given, &known[6..])?;
    port(&given)?;
    if given.get("primaryPort").is_some() {
        t.note(handler, "`primaryPort` is not mapped: data-parallel ranks are pods of their own here");
    }
    let decode = given.text("decodeProfile")?.unwrap_or("decode");
    let prefill = given.text("prefillProfile")?.unwrap_or("prefill");
    let thresholds = match given.get("deciderPluginName") {
        Some(decider) => decide(t, &decider)?,
        None => {
            let plugins = t.plugins;
            let Some(decider) = plugins.find("prefix-based-pd-decider") else {
                let message = "found no `deciderPluginName`, and no plugin `prefix-based-pd-decider`";
                return Err(handler.problem(message));
            };
            thresholds(t, decider)?
        }
    };
    if let Some(profile) = profiles.iter().find(|profile| ![decode, prefill].contains(&profile.name)) {
        return Err(unexplained(handler, profile));
    }
    let (decode, prefill) = (find(given.node(), profiles, decode)?, find(given.node(), profiles, prefill)?);
    match thresholds {
        Some(_) => t.note(handler, HEADERS),
        None => t.notes.add(profiles[prefill].node.path(), "", NEVER),
    }
    Ok(Plan { decode, prefill: thresholds.map(|thresholds| (prefill, thresholds)) })
}

fn header(
    t: &mut Translation<'_, '_>,
    handler: &Plugin<'_>,
    profiles: &[Profile<'_>],
) -> Result<Plan, Problem> {
    let given = handler.parameters(&["headerName", "defaultProfile"])?;
    given.text("headerName")?;
    let name = given.text("defaultProfile")?.unwrap_or("decode");
    let decode = if profiles.len() == 1 { 0 } else { find(given.node(), profiles, name)? };
    t.note(
        handler,
        "not mapped: one policy has one profile for all requests; for profiles that a header chooses the embedder \
         keeps a router each",
    );
    for profile in profiles.iter().enumerate().filter(|(at, _)| *at != decode).map(|(_, profile)| profile) {
        t.notes.add(profile.node.path(), "", "not mapped: only the default profile is");
    }
    Ok(Plan { decode, prefill: None })
}

fn unexplained(handler: &Plugin<'_>, profile: &Profile<'_>) -> Problem {
    let name = shown(profile.name);
    profile.node.problem(format!("found profile `{name}`, which `{}` never asks", handler.is.name))
}

/// The same of the decider that is referred to.
fn decide(t: &mut Translation<'_, '_>, reference: &Node<'_>) -> Result<Option<Thresholds>, Problem> {
    let plugins = t.plugins;
    let decider = plugins.refer(reference)?;
    if decider.kind() != Kind::Decider || !decider.is.missing.is_empty() {
        let message =
            format!("`{}` is a {}, which decides on no prefill", shown(decider.name), decider.is.name);
        return Err(reference.problem(message));
    }
    thresholds(t, decider)
}

/// What a decider decides by; `None` for never.
pub(super) fn thresholds(
    t: &mut Translation<'_, '_>,
    decider: &Plugin<'_>,
) -> Result<Option<Thresholds>, Problem> {
    t.used.insert(decider.at);
    if decider.is.name == "always-disagg-pd-decider" {
        decider.parameters(&[])?;
        return Ok(Some(Thresholds::ALWAYS));
    }
    let given = decider.parameters(&["nonCachedTokens", "promptTokens"])?;
    let tokens = |key: &str| given.get(key).map_or(Ok(0), |node| node.count(0));
    let (uncached, prompt) = (tokens("nonCachedTokens")?, tokens("promptTokens")?);
    // llm-d prefills elsewhere from so many tokens on, here it is beyond so many; 0 turns it off.
    let Some(max_uncached_tokens) = uncached.checked_sub(1) else {
        t.note(decider, "with `nonCachedTokens` 0, as in llm-d, no prompt goes to a prefill pod");
        return Ok(None);
    };
    Ok(Some(Thresholds { max_uncached_tokens, min_prompt_tokens: prompt }))
}
