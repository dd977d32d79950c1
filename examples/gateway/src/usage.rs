//! What the engine says a request used, read from its answer as it passes by.
//!
//! The answer is neither changed nor held up: [`UsageReader`] sees every byte once, keeps a few words of state, and
//! copies only the value of `usage`, up to [`UsageReader::LIMIT`] bytes.
//!
//! Where `usage` is (vLLM 0.32, and OpenAI's API): at the top of a completion or chat completion and of each chunk of
//! their streams, where it is null until the last one but `[DONE]`; at the top of a response, and under `response` in
//! the event `response.completed` of its stream.

use std::mem;

use serde::Deserialize;

/// Tokens, as the engine counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Of the prompt, those taken from the cache. vLLM tells with `--enable-prompt-tokens-details` only.
    pub cached_tokens: Option<usize>,
    /// Generated.
    pub completion_tokens: Option<usize>,
}

impl Usage {
    fn read(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(alias = "input_tokens")]
            prompt_tokens: Option<usize>,
            #[serde(alias = "output_tokens")]
            completion_tokens: Option<usize>,
            #[serde(alias = "input_tokens_details")]
            prompt_tokens_details: Option<Details>,
        }
        #[derive(Deserialize)]
        struct Details {
            cached_tokens: Option<usize>,
        }
        let raw: Raw = serde_json::from_slice(json).ok()?;
        Some(Self {
            prompt_tokens: raw.prompt_tokens,
            cached_tokens: raw.prompt_tokens_details.and_then(|details| details.cached_tokens),
            completion_tokens: raw.completion_tokens,
        })
    }
}

/// How an answer is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON document.
    Document,
    /// Server-sent events: lines, those with data hold a JSON document each.
    Events,
}

/// Where in a JSON document the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between texts.
    Outside,
    /// In a text.
    Text,
    /// In a text, behind a backslash.
    Escape,
}

/// Longest key that matters, `response`, with its quotation marks.
const KEY: usize = 10;

/// Reads an answer as it passes by.
#[derive(Debug)]
pub struct UsageReader {
    form: Form,
    place: Place,
    /// Objects and arrays that are open.
    depth: usize,
    /// Whether the value at depth 1 is that of `response`.
    in_response: bool,
    /// The text that was read last at a depth that matters, or its beginning.
    key: [u8; KEY],
    key_len: usize,
    /// At what depth the value that is being kept was opened.
    keeping: Option<usize>,
    kept: Vec<u8>,
    /// The last whole value of `usage`.
    last: Vec<u8>,
}

impl UsageReader {
    /// Longest value of `usage` that is read, bytes; a longer one is passed over.
    pub const LIMIT: usize = 4096;

    /// Reads an answer of this form.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self {
            form,
            place: Place::Outside,
            depth: 0,
            in_response: false,
            key: [0; KEY],
            key_len: 0,
            keeping: None,
            kept: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Takes in what comes next, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            // Most of an answer is text of no interest: skipped at the speed of a search.
            if self.place == Place::Text && !self.notes() {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n'));
                let plain = plain.unwrap_or(rest.len());
                if plain > 0 {
                    rest = &rest[plain..];
                    continue;
                }
            }
            self.take(byte);
            rest = &rest[1..];
        }
    }

    /// What the engine used, as far as it said so.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Usage::read(&self.last)
    }

    /// Whether what is read is kept, as a value or as a key.
    fn notes(&self) -> bool {
        self.keeping.is_some() || self.is_key_place()
    }

    /// Keys that matter are those of the document and of what is under its `response`.
    fn is_key_place(&self) -> bool {
        self.depth == 1 || (self.depth == 2 && self.in_response)
    }

    fn take(&mut self, byte: u8) {
        if byte == b'\n' && self.form == Form::Events {
            // A line ends: whatever was wrong with it, the next one stands alone.
            *self = Self {
                last: mem::take(&mut self.last),
                kept: mem::take(&mut self.kept),
                ..Self::new(self.form)
            };
            return;
        }
        if self.keeping.is_some() {
            self.keep(byte);
        }
        match (self.place, byte) {
            (Place::Escape, _) => {
                self.note_key(byte);
                self.place = Place::Text;
            }
            (Place::Text, b'\\') => {
                self.note_key(byte);
                self.place = Place::Escape;
            }
            (Place::Text, b'"') => {
                self.note_key(byte);
                self.place = Place::Outside;
            }
            (Place::Text, _) => self.note_key(byte),
            // Before the document of an event stands its field's name only; a text there is none of ours.
            (Place::Outside, b'"') if self.depth > 0 => {
                self.key_len = 0;
                self.note_key(byte);
                self.place = Place::Text;
            }
            (Place::Outside, b'{' | b'[') => self.open(byte),
            (Place::Outside, b'}' | b']') => self.close(),
            (Place::Outside, b',') if self.is_key_place() => self.key_len = 0,
            (Place::Outside, _) => {}
        }
    }

    /// Notes a byte of a text that may be a key; of a longer one than matters, that it is longer.
    fn note_key(&mut self, byte: u8) {
        if self.is_key_place() && self.keeping.is_none() {
            if let Some(place) = self.key.get_mut(self.key_len) {
                *place = byte;
            }
            self.key_len = (self.key_len + 1).min(KEY + 1);
        }
    }

    fn key_is(&self, key: &[u8]) -> bool {
        self.key.get(..self.key_len) == Some(key)
    }

    fn open(&mut self, byte: u8) {
        if byte == b'{' && self.keeping.is_none() && self.is_key_place() {
            if self.key_is(b"\"usage\"") {
                self.kept.clear();
                self.kept.push(byte);
                self.keeping = Some(self.depth);
            } else if self.depth == 1 {
                self.in_response = self.key_is(b"\"response\"");
            }
        }
        self.key_len = 0;
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.key_len = 0;
        if self.keeping == Some(self.depth) {
            self.keeping = None;
            mem::swap(&mut self.kept, &mut self.last);
        }
        if self.depth == 1 {
            self.in_response = false;
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.kept.len() == Self::LIMIT {
            self.keeping = None;
        } else {
            self.kept.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"id":"chat-1","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1} \\"},
        "usage":{"prompt_tokens":2}}],"usage":{"prompt_tokens":270,"total_tokens":278,"completion_tokens":8,
        "prompt_tokens_details":{"cached_tokens":256,"audio":{"a":[1]}}},"kv_transfer_params":null}"#;

    const STREAM: &str = concat!(
        ": \"a comment\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"text\":\"}\\\"usage\"}],\"usage\":null}\n\n",
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":64,\"completion_tokens\":9,",
        "\"prompt_tokens_details\":{\"cached_tokens\":32}}}\r\n\r\n",
        "data: [DONE]\n\n",
    );

    fn read(form: Form, text: &str) -> Option<Usage> {
        let mut reader = UsageReader::new(form);
        reader.push(text.as_bytes());
        reader.usage()
    }

    fn usage(prompt: usize, cached: Option<usize>, completion: usize) -> Option<Usage> {
        Some(Usage {
            prompt_tokens: Some(prompt),
            cached_tokens: cached,
            completion_tokens: Some(completion),
        })
    }

    #[test]
    fn usage_of_a_document_is_that_at_its_top() {
        assert_eq!(read(Form::Document, CHAT), usage(270, Some(256), 8));
        assert_eq!(read(Form::Document, r#"{"a":{"usage":{"prompt_tokens":3}}}"#), None);
        assert_eq!(read(Form::Document, r#"{"a":"usage","b":{"prompt_tokens":3}}"#), None);
        assert_eq!(read(Form::Document, r#"{"usage":null,"b":{"prompt_tokens":3}}"#), None);
        assert_eq!(read(Form::Document, r#"{"usages":{"prompt_tokens":3}}"#), None);
    }

    #[test]
    fn usage_of_a_stream_is_the_last_one_that_is_not_null() {
        assert_eq!(read(Form::Events, STREAM), usage(64, Some(32), 9));
    }

    #[test]
    fn usage_of_a_response_is_at_its_top_or_in_the_event_that_completes_it() {
        let response = r#"{"object":"response","usage":{"input_tokens":40,"input_tokens_details":{"cached_tokens":32},
            "output_tokens":7}}"#;
        assert_eq!(read(Form::Document, response), usage(40, Some(32), 7));
        let event = format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{},\"n\":1}}\n\n",
            response.replace('\n', "")
        );
        assert_eq!(read(Form::Events, &event), usage(40, Some(32), 7));
    }

    #[test]
    fn details_may_be_null_or_missing() {
        let document = r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":null}}"#;
        assert_eq!(read(Form::Document, document), usage(5, None, 1));
    }

    #[test]
    fn pieces_of_any_size_read_as_the_whole() {
        for (form, text) in [(Form::Document, CHAT), (Form::Events, STREAM)] {
            for size in 1..text.len() {
                let mut reader = UsageReader::new(form);
                text.as_bytes().chunks(size).for_each(|piece| reader.push(piece));
                assert_eq!(reader.usage(), read(form, text), "pieces of {size} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_usage_is_passed_over_within_bounds() {
        let long = format!(r#"{{"usage":{{"prompt_tokens":1,"x":"{}"}}}}"#, "y".repeat(UsageReader::LIMIT));
        let mut reader = UsageReader::new(Form::Document);
        reader.push(long.as_bytes());
        assert_eq!(reader.usage(), None);
        assert!(reader.kept.capacity() <= 2 * UsageReader::LIMIT);
        for garbage in
            ["}}}]]]{{{", "\"", "{\"usage\":{\"prompt_tokens\":-1}}", "{\"usage\":{\"prompt_tokens\":{}}}"]
        {
            assert_eq!(read(Form::Document, garbage), None, "{garbage}");
        }
        // A line that ends within a text does not take the next one with it.
        assert_eq!(read(Form::Events, &format!("data: {{\"a\":\"\n{STREAM}")), usage(64, Some(32), 9));
    }
}
