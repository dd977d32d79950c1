//! The phases.

use std::time::Instant;

use serde::Deserialize;

use super::client::{Answer, Client, KnownAsText};
use super::gateway::{Status, until, until_ready, until_settled};
use super::topics::{Conversation, Form, Random, Topic};
use super::{Audience, Exempt, Loss, Options, Outcome, Phase, Row};
use crate::capture::Result;

/// Questions a topic in the hit phase, and turns a conversation goes on for.
const QUESTIONS: usize = 2;

/// Most requests that overfill caches: where they have room for more, that takes too long to show.
const MAX_OVERFILL: usize = 400;

/// Most new topics until a pod that came back gets two of them.
const MAX_NEW: usize = 24;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Plays all phases.
///
/// # Errors
///
/// A gateway that does not answer or is not ready in time, a request that is not answered. Expectations that are wrong
/// are no errors but [`Outcome::failures`].
pub async fn play(options: &Options, audience: &mut dyn Audience) -> Result<Outcome> {
    let client = Client::new(&options.url)?;
    let status = until_ready(&client, options.patience).await?;
    let model = match &options.model {
        Some(model) => model.clone(),
        None => {
            let models: Models = client.get("/v1/models").await?;
            models.data.into_iter().next().ok_or("/v1/models: the gateway names no model")?.id
        }
    };
    let gateway = format!("kvroute-gateway {}", status.gateway.version);
    let names: Vec<_> = status.pods().iter().map(|pod| pod.name.clone()).collect();
    audience.begins(&gateway, &status.engines(), &names);

    let mut stage = Stage {
        client,
        options,
        model,
        without_events: names.into_iter().filter(|name| !status.has_events(name)).collect(),
        audience,
        random: Random::new(options.seed),
        topics: Vec::new(),
        rows: Vec::new(),
    };
    stage.phases().await?;
    let loss = if options.loses_a_pod { Some(stage.loss().await?) } else { None };
    let evicted = if options.overfills { Some(stage.overfill(status.capacity()).await?) } else { None };
    let outcome = Outcome::of(&stage.rows, gateway, status.engines(), stage.model);
    Ok(Outcome { loss, evicted, ..outcome })
}

struct Stage<'a> {
    client: Client,
    options: &'a Options,
    model: String,
    /// Pods that publish no events.
    without_events: Vec<String>,
    audience: &'a mut dyn Audience,
    random: Random,
    topics: Vec<Topic>,
    rows: Vec<Row>,
}

impl Stage<'_> {
    async fn phases(&mut self) -> Result<()> {
        self.audience.phase(Phase::Populate);
        for _ in 0..self.options.topics {
            self.new_topic(Phase::Populate).await?;
        }
        let again = self.topics.len();
        self.audience.phase(Phase::Hit);
        for _ in 0..QUESTIONS {
            for topic in 0..again {
                self.question(Phase::Hit, topic).await?;
            }
        }
        self.audience.phase(Phase::Miss);
        for _ in 0..again.div_ceil(2) {
            self.new_topic(Phase::Miss).await?;
        }
        self.audience.phase(Phase::FollowUp);
        for _ in 0..QUESTIONS {
            for topic in 0..self.topics.len() {
                self.follow_up(topic).await?;
            }
        }
        Ok(())
    }

    /// Asks about a topic nobody asked about before; answers its number.
    async fn new_topic(&mut self, phase: Phase) -> Result<usize> {
        let form = Form::ALL[self.topics.len() % Form::ALL.len()];
        self.topics.push(Topic::new(form, self.options.prefix_tokens, &mut self.random));
        let topic = self.topics.len() - 1;
        self.question(phase, topic).await?;
        Ok(topic)
    }

    async fn question(&mut self, phase: Phase, topic: usize) -> Result<()> {
        let conversation = self.topics[topic].question(&mut self.random);
        self.ask(phase, topic, conversation, None).await
    }

    async fn follow_up(&mut self, topic: usize) -> Result<()> {
        let Some(conversation) = self.topics[topic].conversation.take() else { return Ok(()) };
        let before = self.topics[topic].pods.last().cloned();
        self.ask(Phase::FollowUp, topic, conversation, before).await
    }

    /// Waits until events have settled, asks, and shows what came of it.
    async fn ask(
        &mut self,
        phase: Phase,
        topic: usize,
        conversation: Conversation,
        before: Option<String>,
    ) -> Result<()> {
        let settled = until_settled(&self.client, self.options.quiet).await?;
        let form = self.topics[topic].form();
        let answer = self.client.ask(form.endpoint(), &conversation.request(&self.model)).await?;
        let exempt = self.exempt(&answer, settled);
        let Topic { pods, conversation: next, .. } = &mut self.topics[topic];
        let row = Row {
            phase,
            form,
            prompt_tokens: answer.prompt_tokens,
            told_tokens: answer.told_tokens,
            expected: answer.expected,
            cached: answer.cached_tokens,
            reason: answer.reason.clone(),
            overhead_us: answer.overhead_us,
            ttft_ms: answer.first_token.as_secs_f64() * 1e3,
            is_on_right_pod: (!pods.is_empty()).then(|| pods.contains(&answer.pod)),
            is_on_same_pod: before.map(|before| before == answer.pod),
            exempt,
            pod: answer.pod.clone(),
        };
        self.audience.request(&row);
        self.rows.push(row);
        pods.retain(|pod| *pod != answer.pod);
        pods.push(answer.pod);
        *next = Some(conversation.follow_up(&answer.text, &answer.token_ids, &mut self.random));
        Ok(())
    }

    /// Loses the pod that holds most topics; its requests go elsewhere. Then it comes back.
    async fn loss(&mut self) -> Result<Loss> {
        until_settled(&self.client, self.options.quiet).await?;
        let status = Status::of(&self.client).await?;
        let only_on = |pod: &str| {
            let is_there = |topic: &Topic| topic.pods.iter().all(|of| is_of(of, pod));
            (0..self.topics.len()).filter(|&topic| is_there(&self.topics[topic])).collect::<Vec<_>>()
        };
        let lost = status.pods().iter().max_by_key(|pod| only_on(&pod.name).len()).ok_or("no pod to lose")?;
        let (pod, lost_topics) = (lost.name.clone(), only_on(&lost.name));
        let blocks_before = status.blocks(&pod);
        if lost_topics.len() < 2 {
            return Err(format!("no pod holds two topics alone, {pod} {}", lost_topics.len()).into());
        }
        // Those that are asked about while it is gone, and those that it would be asked for when it is back.
        let (now, later) = lost_topics.split_at(lost_topics.len() / 2);

        self.audience.phase(Phase::Gone);
        self.audience.stop(&pod, &lost.url)?;
        let mut first_answer_by = String::new();
        for &topic in now {
            self.question(Phase::Gone, topic).await?;
            if first_answer_by.is_empty() {
                first_answer_by = self.rows.last().map_or_else(String::new, |row| row.pod.clone());
            }
        }
        let others: Vec<_> = (0..self.topics.len()).filter(|topic| !lost_topics.contains(topic)).collect();
        for &topic in now.iter().chain(&others) {
            self.question(Phase::Gone, topic).await?;
        }
        let is_gone = |status: &Status| !status.is_ready(&pod);
        if !until(&self.client, self.options.patience, is_gone).await? {
            return Err(format!("{pod} was stopped, and the gateway still takes it to be ready").into());
        }

        self.audience.phase(Phase::Back);
        self.audience.start(&pod, &lost.url)?;
        let begin = Instant::now();
        until_ready(&self.client, self.options.patience).await?;
        let back_after_seconds = begin.elapsed().as_secs_f64();
        until_settled(&self.client, self.options.quiet).await?;
        let is_emptied = Status::of(&self.client).await?.blocks(&pod) == 0;
        for topic in &mut self.topics {
            topic.pods.retain(|of| !is_of(of, &pod));
        }
        for &topic in later {
            self.question(Phase::Back, topic).await?;
        }
        let mut its_topics = Vec::new();
        for _ in 0..MAX_NEW {
            let topic = self.new_topic(Phase::Back).await?;
            its_topics.extend(
                Some(topic).filter(|&topic| self.topics[topic].pods.iter().any(|of| is_of(of, &pod))),
            );
            if its_topics.len() == 2 {
                break;
            }
        }
        let first = self.rows.len();
        for topic in its_topics {
            self.question(Phase::Back, topic).await?;
        }
        let is_hit = |row: &&Row| is_of(&row.pod, &pod) && row.cached.is_some_and(|cached| cached > 0);
        let hits_after = self.rows[first..].iter().filter(is_hit).count();
        let topics = lost_topics.len();
        Ok(Loss { pod, topics, blocks_before, first_answer_by, back_after_seconds, is_emptied, hits_after })
    }

    /// Asks about new topics until the pods' caches have overflowed, then again about every second one, the newest first:
    /// asked the other way round each would evict the next. Answers how many of these had lost blocks, and how many
    /// there were.
    async fn overfill(&mut self, capacity: Option<usize>) -> Result<(usize, usize)> {
        let capacity = capacity.ok_or("--overfill: a pod does not tell how much its cache holds")?;
        if capacity / self.options.prefix_tokens.max(1) > MAX_OVERFILL {
            let prefix = self.options.prefix_tokens;
            return Err(format!(
                "--overfill: the pods have room for {capacity} tokens, which takes more than {MAX_OVERFILL} topics of \
                 {prefix}"
            )
            .into());
        }
        self.audience.phase(Phase::Overfill);
        let first = self.rows.len();
        while self.rows[first..].iter().map(|row| row.prompt_tokens).sum::<usize>() < capacity {
            self.new_topic(Phase::Overfill).await?;
        }
        let first = self.rows.len();
        for topic in (0..self.topics.len()).rev().step_by(2) {
            self.question(Phase::Overfill, topic).await?;
        }
        let rows = &self.rows[first..];
        let held = self.options.prefix_tokens * 3 / 4;
        let lost = rows.iter().filter(|row| row.cached.is_some_and(|cached| cached < held));
        Ok((lost.count(), rows.len()))
    }

    /// Why what was expected of this answer need not be what the engine counts.
    fn exempt(&self, answer: &Answer, settled: bool) -> Option<Exempt> {
        let has_events = !self.without_events.iter().any(|pod| is_of(&answer.pod, pod));
        let reasons = [
            (answer.told_tokens.is_none(), Exempt::Undecided),
            (answer.known_as_text == Some(KnownAsText::Overloaded), Exempt::Overloaded),
            (answer.known_as_text == Some(KnownAsText::Untokenized), Exempt::KnownAsText),
            (!has_events, Exempt::NoEvents),
            (answer.was_prefilled, Exempt::Prefilled),
            (answer.cached_tokens.is_none(), Exempt::Untold),
            (!settled, Exempt::Unsettled),
        ];
        reasons.into_iter().find_map(|(holds, why)| holds.then_some(why))
    }
}

/// Whether what answered, a pod or one of its data-parallel ranks (`pod/3`), is this pod.
fn is_of(answered: &str, pod: &str) -> bool {
    answered.strip_prefix(pod).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
