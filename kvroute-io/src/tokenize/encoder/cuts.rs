//! Places within a piece where it can be cut before it is encoded.
//!
//! # The argument
//!
//! A byte-level pre-tokenizer splits a text into pre-tokens with a regular expression: it takes the first match from
//! the left, goes on behind it, and what no match covers stays as it is between. A *cut* is a place between a letter and
//! one of a few characters that follow it: a space, a newline, or the two commonest marks of Chinese. Letters are those
//! of ASCII and of the first block of Chinese characters, which every version of Unicode has as letters. Assume
//!
//! (a) no match contains a letter and one of those characters behind it,\
//! (b) a letter by itself is a match,\
//! (c) the expression looks around nowhere but in `\s+(?!\S)`.
//!
//! Then splitting a text that is cut is splitting its two parts. Take the matches of the whole text that end at or
//! before the cut. None goes across (a). Of what the expression tries at a place before the cut, the same attempts
//! succeed in the first part as in the whole text: an attempt that succeeds in the whole text ends at or before the cut,
//! so it reads nothing behind it; the only look-around (c) is made behind white space, and before the cut is a letter.
//! So the first successful attempt is the same, and the matches are. The letter before the cut is in a match, by (b) at
//! the latest in its own, so that match ends at the cut, and behind it the search begins anew, without a look back (c),
//! as it does in the second part.
//!
//! Where pre-tokenizers follow each other, each splits what those before it left. One that fulfils (a) and (c) but not
//! (b) may leave a text uncut; then one that fulfils (b) cuts it, and at least one must. Those that put a space before
//! their text (`add_prefix_space`) do not if the text begins with one, so then only cuts before spaces count. ByteLevel
//! itself maps bytes one by one.
//!
//! Normalizing comes first. Unicode's forms change nothing across a place before one of those characters: none of them
//! ever combines with what stands before it (all are starters that begin no second half of a composition), nor do the
//! letters change. The model sees one pre-token at a time.
//!
//! # The check
//!
//! (a) and (b) are checked on the expression's syntax tree: [`Shape`] of each node says which of the letters and of the
//! other characters it can begin and end with, and whether it can contain a pair. It errs on the side of refusing. The
//! tree is that of the `regex-syntax` crate. Where its dialect differs from Oniguruma's, which does the splitting, it is
//! about what white space is, about Unicode's versions or about possessive quantifiers, which only take matches away;
//! about the letters and the other characters here they agree.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// Letters before a cut.
const LETTERS: [(char, char); 3] = [('A', 'Z'), ('a', 'z'), ('\u{4e00}', '\u{9fa5}')];
/// What may stand behind one.
const BEHIND: [char; 4] = [' ', '\n', '\u{ff0c}', '\u{3002}'];
/// Bytes a chunk has at least, unless the piece ends.
const CHUNK: usize = 256;

/// The cuts that are sound for a pre-tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cuts {
    /// Whether only spaces count.
    pub(super) before_spaces_only: bool,
}

impl Cuts {
    /// A piece in chunks. Where they begin depends on what stands before only, so a text that grows keeps its chunks.
    pub(super) fn chunks(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (chunk, after) = rest.split_at(self.first(rest).unwrap_or(rest.len()));
            rest = after;
            Some(chunk)
        })
    }

    /// The first cut that leaves a chunk of a certain size.
    fn first(self, text: &str) -> Option<usize> {
        let mut from = CHUNK.min(text.len());
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let mut before = text[..from].chars().next_back();
        for (at, c) in text[from..].char_indices() {
            if before.is_some_and(is_letter)
                && (c == ' ' || (!self.before_spaces_only && BEHIND.contains(&c)))
            {
                return Some(from + at);
            }
            before = Some(c);
        }
        None
    }
}

fn is_letter(c: char) -> bool {
    LETTERS.iter().any(|&(first, last)| (first..=last).contains(&c))
}

/// What the argument needs to know of a regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Splitter {
    /// (b): a letter by itself is a match.
    pub(super) matches_letters: bool,
}

/// Looks whether an expression fulfils (a) and (c).
pub(super) fn look(expression: &str) -> Option<Splitter> {
    // The one look-around that is allowed; without it, more matches.
    let plain = expression.replace("\\s+(?!\\S)", "\\s+");
    let tree = regex_syntax::parse(&plain).ok()?;
    let shape = Shape::of(&tree)?;
    let mut missing = letters();
    missing.difference(&alone(&tree));
    (!shape.pair).then(|| Splitter { matches_letters: missing.ranges().is_empty() })
}

/// What a node can match, as far as letters and characters behind a cut go. `true` means "perhaps".
#[derive(Clone, Copy)]
struct Shape {
    empty: bool,
    /// Begins with a character that may stand behind a cut.
    begins_behind: bool,
    /// Ends with a letter.
    ends_letter: bool,
    /// Contains a letter with such a character behind it.
    pair: bool,
}

impl Shape {
    const EMPTY: Self = Self { empty: true, begins_behind: false, ends_letter: false, pair: false };

    /// `None` for what looks around.
    fn of(node: &Hir) -> Option<Self> {
        match node.kind() {
            HirKind::Empty => Some(Self::EMPTY),
            HirKind::Look(_) => None,
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                Some(text.chars().fold(Self::EMPTY, |shape, c| {
                    shape.then(Self::character(is_letter(c), BEHIND.contains(&c)))
                }))
            }
            HirKind::Class(class) => {
                let class = unicode(class)?;
                let letter = meets(&class, &letters());
                Some(Self::character(letter, meets(&class, &behind())))
            }
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let one = Self::of(&repetition.sub)?;
                let many = if repetition.max == Some(1) { one } else { one.then(one) };
                Some(Self { empty: one.empty || repetition.min == 0, ..many })
            }
            HirKind::Concat(nodes) => {
                nodes.iter().try_fold(Self::EMPTY, |shape, node| Some(shape.then(Self::of(node)?)))
            }
            HirKind::Alternation(nodes) => {
                let mut shapes = nodes.iter().map(Self::of);
                let first = shapes.next()??;
                shapes.try_fold(first, |shape, next| Some(shape.or(next?)))
            }
        }
    }

    fn character(letter: bool, behind: bool) -> Self {
        Self { empty: false, begins_behind: behind, ends_letter: letter, pair: false }
    }

    fn then(self, next: Self) -> Self {
        Self {
            empty: self.empty && next.empty,
            begins_behind: self.begins_behind || (self.empty && next.begins_behind),
            ends_letter: next.ends_letter || (next.empty && self.ends_letter),
            pair: self.pair || next.pair || (self.ends_letter && next.begins_behind),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            empty: self.empty || other.empty,
            begins_behind: self.begins_behind || other.begins_behind,
            ends_letter: self.ends_letter || other.ends_letter,
            pair: self.pair || other.pair,
        }
    }
}

/// Characters that a node matches by themselves; perhaps not all.
fn alone(node: &Hir) -> ClassUnicode {
    match node.kind() {
        HirKind::Class(class) => unicode(class).unwrap_or_else(ClassUnicode::empty),
        HirKind::Capture(capture) => alone(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min <= 1 && repetition.max != Some(0) => {
            alone(&repetition.sub)
        }
        HirKind::Alternation(nodes) => united(nodes.iter()),
        HirKind::Concat(nodes) => {
            let empty = |node: &Hir| node.properties().minimum_len() == Some(0);
            united(nodes.iter().enumerate().filter_map(|(at, node)| {
                let others = nodes.iter().enumerate().all(|(other, node)| other == at || empty(node));
                others.then_some(node)
            }))
        }
        _ => ClassUnicode::empty(),
    }
}

fn united<'a>(nodes: impl Iterator<Item = &'a Hir>) -> ClassUnicode {
    nodes.fold(ClassUnicode::empty(), |mut all, node| {
        all.union(&alone(node));
        all
    })
}

fn unicode(class: &Class) -> Option<ClassUnicode> {
    match class {
        Class::Unicode(class) => Some(class.clone()),
        Class::Bytes(class) => class.to_unicode_class(),
    }
}

fn letters() -> ClassUnicode {
    ClassUnicode::new(LETTERS.map(|(first, last)| ClassUnicodeRange::new(first, last)))
}

fn behind() -> ClassUnicode {
    ClassUnicode::new(BEHIND.map(|c| ClassUnicodeRange::new(c, c)))
}

fn meets(class: &ClassUnicode, other: &ClassUnicode) -> bool {
    let mut both = class.clone();
    both.intersect(other);
    !both.ranges().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    #[test]
    fn expressions_of_published_models_are_sound() {
        let cutting = Some(Splitter { matches_letters: true });
        for expression in [
            LLAMA3,
            // GPT-2, built into ByteLevel
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            // o200k and what derives from it
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ] {
            assert_eq!(look(expression), cutting, "{expression}");
        }
    }

    #[test]
    fn expressions_that_do_not_cut_letters_need_one_that_does() {
        for expression in [r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", r"\d"] {
            assert_eq!(look(expression), Some(Splitter { matches_letters: false }), "{expression}");
        }
    }

    #[test]
    fn expressions_that_reach_across_or_look_around_are_refused() {
        for expression in [
            r"\w+ ?",
            r"\p{L}+\s?",
            r"(?:\p{L}|\s)+",
            r".+",
            r"\p{L}+(?= )",
            r"(?<=\p{L}) |\p{L}+",
            r"\bx",
            r"[a-z]+\n",
            "a b",
            r"\p{L}*(?:x|\s)",
            "(unclosed",
        ] {
            assert_eq!(look(expression), None, "{expression}");
        }
    }

    #[test]
    fn chunks_are_the_text_and_stay_where_it_grows() {
        let cuts = Cuts { before_spaces_only: false };
        let text = "word and 汉字，123 ...\n".repeat(500);
        let chunks: Vec<&str> = cuts.chunks(&text).collect();
        assert!(chunks.len() > 5);
        assert_eq!(chunks.concat(), text);
        assert!(chunks[1..].iter().all(|chunk| chunk.starts_with(BEHIND)));
        let shorter: Vec<&str> = cuts.chunks(&text[..text.floor_char_boundary(text.len() - 3000)]).collect();
        assert_eq!(shorter[..shorter.len() - 1], chunks[..shorter.len() - 1]);
        assert_eq!(cuts.chunks(&"x".repeat(10_000)).count(), 1);
        assert_eq!(cuts.chunks("").count(), 0);
    }
}
