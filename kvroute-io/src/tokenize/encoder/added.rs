//! Where the added tokens of a text are: what `AddedVocabulary::extract_and_normalize` of tokenizers 0.23 finds.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use tokenizers::AddedToken;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// An added token.
    Token(u32),
    /// Text between added tokens; not empty.
    Piece {
        /// Where it begins, in bytes.
        start: usize,
        /// The text.
        text: &'a str,
    },
}

/// The added tokens of a tokenizer.
#[derive(Debug)]
pub(super) struct AddedTokens {
    /// Those that are looked for first, in the text, and those that are looked for in what is between.
    searches: [Option<Search>; 2],
}

#[derive(Debug)]
struct Search {
    automaton: AhoCorasick,
    /// By number of pattern.
    tokens: Vec<(u32, AddedToken)>,
}

impl AddedTokens {
    /// Those that are not normalized, and, where the tokenizer has no normalizer, those that are.
    pub(super) fn new(
        not_normalized: Vec<(u32, AddedToken)>,
        normalized: Vec<(u32, AddedToken)>,
    ) -> Result<Self, String> {
        Ok(Self { searches: [Search::new(not_normalized)?, Search::new(normalized)?] })
    }

    /// The segments of a text, in order.
    pub(super) fn segments<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        self.split(0, 0, text, &mut segments);
        segments
    }

    fn split<'a>(&self, search: usize, at: usize, text: &'a str, segments: &mut Vec<Segment<'a>>) {
        let Some(searches) = self.searches.get(search) else {
            segments.push(Segment::Piece { start: at, text });
            return;
        };
        let Some(found) = searches else { return self.split(search + 1, at, text, segments) };
        let mut done = 0;
        for matched in found.automaton.find_iter(text) {
            let (id, token) = &found.tokens[matched.pattern().as_usize()];
            let (mut start, mut end) = (matched.start(), matched.end());
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                self.split(search + 1, at + done, &text[done..start], segments);
            }
            segments.push(Segment::Token(*id));
            // As in the library: a token found within the white space that the one before it took along moves the
            // end back.
            done = end;
        }
        if done < text.len() {
            self.split(search + 1, at + done, &text[done..], segments);
        }
    }
}

impl Search {
    fn new(tokens: Vec<(u32, AddedToken)>) -> Result<Option<Self>, String> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .build(tokens.iter().map(|(_, token)| &token.content))
            .map_err(|error| format!("added tokens: {error}"))?;
        Ok(Some(Self { automaton, tokens }))
    }
}
