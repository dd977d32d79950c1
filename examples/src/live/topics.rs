//! What is asked: topics with long prefixes, as token ids, as text and as chats, and conversations about them.

use serde::Serialize;
use serde_json::{Value, json};

/// How a prompt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A completion of token ids.
    TokenIds,
    /// A completion of a text.
    Text,
    /// A chat.
    Chat,
}

impl Form {
    /// All of them; topics take them in turn.
    pub const ALL: [Self; 3] = [Self::TokenIds, Self::Text, Self::Chat];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenIds => "token ids",
            Self::Text => "text",
            Self::Chat => "chat",
        }
    }

    /// Where it is asked.
    pub(super) fn endpoint(self) -> &'static str {
        match self {
            Self::TokenIds | Self::Text => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
        }
    }
}

/// Token ids that every byte-level vocabulary has, and none of them is special.
const TOKEN_IDS: std::ops::Range<u64> = 300..1000;

/// Tokens to answer with: more than any engine's block, so that answers fill blocks too.
const ANSWER_TOKENS: u32 = 72;

/// Tokens of a question, about.
const QUESTION_TOKENS: usize = 24;

/// What texts are made of.
const WORDS: [&str; 32] = [
    "bearing", "shaft", "grease", "torque", "valve", "every", "second", "check", "between", "under", "pump",
    "filter", "pressure", "remove", "cover", "before", "bolts", "slowly", "until", "level", "signal",
    "cable", "north", "panel", "write", "number", "report", "spare", "motor", "clean", "turn", "hours",
];

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64 (Steele, Lea and Flood, 2014), by which a number below `bound` is drawn.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn token_ids(&mut self, tokens: usize) -> Vec<u32> {
        (0..tokens).map(|_| (TOKEN_IDS.start + self.below(TOKEN_IDS.end - TOKEN_IDS.start)) as u32).collect()
    }

    /// A text of about so many tokens: few words are one token and many are two.
    fn text(&mut self, tokens: usize) -> String {
        let words: Vec<_> =
            (0..tokens * 2 / 3).map(|_| WORDS[self.below(WORDS.len() as u64) as usize]).collect();
        words.join(" ") + "."
    }
}

/// What was said so far, in one of the forms.
#[derive(Clone, Debug)]
enum Said {
    TokenIds(Vec<u32>),
    Text(String),
    Chat(Vec<Value>),
}

/// A topic: a prefix that all its requests share, and where it was asked about.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    form: Form,
    prefix: Said,
    /// Pods that answered about it, the last one last.
    pub(super) pods: Vec<String>,
    /// The conversation that goes on.
    pub(super) conversation: Option<Conversation>,
}

impl Topic {
    pub(super) fn new(form: Form, tokens: usize, random: &mut Random) -> Self {
        let prefix = match form {
            Form::TokenIds => Said::TokenIds(random.token_ids(tokens)),
            Form::Text => Said::Text(random.text(tokens)),
            Form::Chat => Said::Chat(vec![json!({"role": "system", "content": random.text(tokens)})]),
        };
        Self { form, prefix, pods: Vec::new(), conversation: None }
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// A question nobody asked before.
    pub(super) fn question(&self, random: &mut Random) -> Conversation {
        Conversation { said: self.prefix.clone() }.asked(random)
    }
}

/// A prompt, and what it was made of.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    said: Said,
}

impl Conversation {
    fn asked(mut self, random: &mut Random) -> Self {
        match &mut self.said {
            Said::TokenIds(ids) => ids.extend(random.token_ids(QUESTION_TOKENS)),
            Said::Text(text) => *text = format!("{text}\n{}\n", random.text(QUESTION_TOKENS)),
            Said::Chat(messages) => {
                messages.push(json!({"role": "user", "content": random.text(QUESTION_TOKENS)}));
            }
        }
        self
    }

    /// Goes on with what was answered, and the next question.
    pub(super) fn follow_up(mut self, text: &str, token_ids: &[u32], random: &mut Random) -> Self {
        match &mut self.said {
            Said::TokenIds(ids) => ids.extend(token_ids),
            Said::Text(said) => said.push_str(text),
            Said::Chat(messages) => messages.push(json!({"role": "assistant", "content": text})),
        }
        self.asked(random)
    }

    /// The request: a stream with its usage at the end.
    pub(super) fn request(&self, model: &str) -> Value {
        let mut request = json!({
            "model": model, "max_tokens": ANSWER_TOKENS, "temperature": 0, "stream": true,
            "stream_options": {"include_usage": true},
        });
        match &self.said {
            Said::TokenIds(ids) => {
                request["prompt"] = json!(ids);
                // vLLM tells the answer's ids then, and others pass over it: follow-ups are without the answer.
                request["return_token_ids"] = json!(true);
            }
            Said::Text(text) => request["prompt"] = json!(text),
            Said::Chat(messages) => request["messages"] = json!(messages),
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_share_their_topics_prefix_and_nothing_else() {
        let mut random = Random::new(1);
        for form in Form::ALL {
            let topic = Topic::new(form, 100, &mut random);
            let [first, second] = [(); 2].map(|()| topic.question(&mut random));
            let texts = [&first, &second].map(|c| c.request("m").to_string());
            assert_ne!(texts[0], texts[1]);
            let next = first.clone().follow_up("answer", &[5, 6], &mut random);
            match (&topic.prefix, &first.said, &next.said) {
                (Said::TokenIds(prefix), Said::TokenIds(first), Said::TokenIds(next)) => {
                    assert!(prefix.len() == 100 && first.starts_with(prefix));
                    assert!(next.starts_with(first) && next[first.len()..].starts_with(&[5, 6]));
                }
                (Said::Text(prefix), Said::Text(first), Said::Text(next)) => {
                    assert!(first.starts_with(&**prefix) && next.starts_with(&format!("{first}answer\n")));
                }
                (Said::Chat(prefix), Said::Chat(first), Said::Chat(next)) => {
                    assert!(first.starts_with(prefix) && next.starts_with(first));
                    assert_eq!((first.len(), next.len()), (2, 4));
                }
                _ => panic!("{form:?} became another form"),
            }
        }
    }
}
