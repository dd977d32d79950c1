//! Conversations whose prompts grow with every turn.

use core::ops::RangeInclusive;

use super::script::Draft;
use super::{Script, answer, text, text_of};
use crate::random::{self, Random};

/// Conversations that begin at Poisson times and are under way when the run begins. A prompt is all that was
/// said before, generated answers included, and new tokens; it is sent when its client has the answer before it
/// and has thought about it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationLoad {
    /// Texts that conversations begin with: system prompts, descriptions of tools. At least one; all equally
    /// likely.
    pub preambles: u64,
    /// Their length, tokens.
    pub preamble_tokens: u32,
    /// What the first turn adds: tokens, every factor equally likely.
    pub first_tokens: RangeInclusive<u32>,
    /// What each later turn adds to history and answer: tokens, every factor equally likely.
    pub own_tokens: RangeInclusive<u32>,
    /// Tokens to generate, uniform.
    pub output_tokens: RangeInclusive<u32>,
    /// Turns of a conversation, uniform.
    pub turns: RangeInclusive<u32>,
    /// Seconds from an answer to the next prompt: mean of an exponential distribution that is cut at five
    /// times that.
    pub think: f64,
    /// Prompts a second, about: as many as there would be if answers took 0.1 seconds and
    /// 0.008 more for each token. Slower pods get fewer.
    pub rate: f64,
    /// How many prompts there are, about.
    pub count: u64,
    /// Decides all that is random, texts included.
    pub seed: u64,
}

/// What an answer takes for which [`ConversationLoad::rate`] holds: seconds.
const ANSWER: f64 = 0.1;
/// The same for each of its tokens.
const ANSWER_TOKEN: f64 = 0.008;

/// Kinds of text.
const PREAMBLE: u64 = 0;
const OWN: u64 = 1;
const EARLIER_ANSWER: u64 = 2;

impl ConversationLoad {
    /// People who chat: a common system prompt, a question or a document, then follow-up questions.
    #[must_use]
    pub fn chat(rate: f64, count: u64, seed: u64) -> Self {
        Self {
            preambles: 1,
            preamble_tokens: 400,
            first_tokens: 200..=6000,
            own_tokens: 30..=600,
            output_tokens: 50..=350,
            turns: 2..=10,
            think: 8.0,
            rate,
            count,
            seed,
        }
    }

    /// Agents: one of three long preambles that describe tools, a task, then many quick calls, each with the
    /// result of a tool.
    #[must_use]
    pub fn agents(rate: f64, count: u64, seed: u64) -> Self {
        Self {
            preambles: 3,
            preamble_tokens: 5000,
            first_tokens: 200..=1500,
            own_tokens: 50..=2000,
            output_tokens: 20..=160,
            turns: 5..=20,
            think: 1.0,
            rate,
            count,
            seed,
        }
    }

    /// What its clients ask.
    #[must_use]
    pub fn script(&self) -> Script {
        let mut random = Random::new(self.seed);
        let mut script = Script::default();
        let duration = self.count as f64 / self.rate;
        let turns = f64::from(self.turns.start() + self.turns.end()) / 2.0;
        // Whoever began earlier than this is done.
        let longest = f64::from(*self.turns.end())
            * (ANSWER + ANSWER_TOKEN * f64::from(*self.output_tokens.end()) + 5.0 * self.think);
        let mut now = -longest;
        for session in 0.. {
            now += random.exponential(self.rate / turns);
            if now > duration {
                break;
            }
            self.converse(session, now, duration, &mut random, &mut script);
        }
        script.finished()
    }

    /// One conversation that began at `start`: those of its turns that fall into the run.
    fn converse(&self, session: u64, start: f64, duration: f64, random: &mut Random, script: &mut Script) {
        let preamble = random.below(self.preambles);
        let count = random.within(&self.turns);
        let mut history: Option<Vec<u32>> = None;
        let mut drafts = Vec::new();
        // What the turns before the run say is only made when there is one in it.
        let mut earlier = Vec::new();
        let (mut time, mut opening) = (start, start);
        for turn in 0..count {
            let own_tokens = random.scattered(if turn == 0 { &self.first_tokens } else { &self.own_tokens });
            let output_tokens = random.within(&self.output_tokens);
            let think = random.exponential(1.0 / self.think).min(5.0 * self.think);
            if time > duration {
                break;
            }
            if time < 0.0 {
                earlier.push((own_tokens, output_tokens));
            } else {
                let text = history.get_or_insert_with(|| {
                    opening = time;
                    self.history(session, preamble, &earlier)
                });
                text.extend(self.own(session, turn, own_tokens));
                let id = script.next_id() + drafts.len() as u64;
                drafts.push(Draft { think, token_ids: text.clone(), output_tokens });
                text.extend((0..output_tokens).map(|position| answer(id, position)));
            }
            time += think + ANSWER + ANSWER_TOKEN * f64::from(output_tokens);
        }
        // A draft carries the pause before it, and above is the one after it.
        let mut before = 0.0;
        for draft in &mut drafts {
            before = std::mem::replace(&mut draft.think, before);
        }
        script.converse(session, opening, drafts);
    }

    /// What was said before the run: preamble, then own tokens and an answer a turn.
    fn history(&self, session: u64, preamble: u64, earlier: &[(u32, u32)]) -> Vec<u32> {
        let mut history = text_of(self.seed, PREAMBLE, preamble, self.preamble_tokens);
        for (turn, &(own_tokens, output_tokens)) in (0..).zip(earlier) {
            history.extend(self.own(session, turn, own_tokens));
            history.extend(text_of(
                self.seed,
                EARLIER_ANSWER,
                session << 16 | u64::from(turn),
                output_tokens,
            ));
        }
        history
    }

    fn own(&self, session: u64, turn: u32, tokens: u32) -> Vec<u32> {
        let session = random::at(random::at(self.seed, OWN), session);
        text(random::at(session, u64::from(turn)), tokens as usize)
    }
}
