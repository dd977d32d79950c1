//! What is replaced in a template's source before it is compiled; lines stay lines.
//!
//! - transformers' own tag `{% generation %}...{% endgeneration %}` marks what the model writes. For rendering it is a
//!   block with a scope of its own, so `with` stands in for it.
//! - What a `for` goes through passes a filter ([`LOOPED`]), because `none` is an error there in Python and nothing here.

use std::borrow::Cow;

use minijinja::Error;
use minijinja::machinery::{Span, Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

/// The filter's name.
pub(super) const LOOPED: &str = "kvroute_looped";

/// The template with all that replaced.
pub(super) fn prepared(source: &str) -> Result<Cow<'_, str>, Error> {
    let mut tokens = Tokenizer::new(source, "chat_template", false, SyntaxConfig::default());
    let mut edits = Edits { source, copied: 0, text: String::new() };
    let mut tag = Tag::Outside;
    let mut last = 0;
    while let Some((token, span)) = tokens.next_token()? {
        tag = match (tag, &token) {
            (_, Token::BlockStart) => Tag::Name,
            (Tag::Name, Token::Ident(name @ ("generation" | "endgeneration"))) => {
                edits.replace(span, if *name == "generation" { "with" } else { "endwith" });
                Tag::Outside
            }
            (Tag::Name, Token::Ident("for")) => Tag::Targets,
            (Tag::Targets, Token::Ident("in")) => Tag::Iterated { started: false, depth: 0 },
            (Tag::Targets, _) => Tag::Targets,
            (
                Tag::Iterated { started: true, depth: 0 },
                Token::BlockEnd | Token::Ident("if" | "recursive"),
            ) => {
                edits.insert(last, &format!(")|{LOOPED}"));
                Tag::Outside
            }
            (Tag::Iterated { started, depth }, token) => {
                if !started {
                    edits.insert(span.start_offset, "(");
                }
                Tag::Iterated { started: true, depth: depth + nesting(token) }
            }
            _ => Tag::Outside,
        };
        last = span.end_offset;
    }
    Ok(edits.finish())
}

/// Where in a tag the tokens are.
#[derive(Clone, Copy)]
enum Tag {
    Outside,
    /// Its name comes next.
    Name,
    /// In a `for`, before its `in`.
    Targets,
    /// In a `for`, behind it; brackets that are open.
    Iterated {
        started: bool,
        depth: i32,
    },
}

fn nesting(token: &Token<'_>) -> i32 {
    match token {
        Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => 1,
        Token::ParenClose | Token::BracketClose | Token::BraceClose => -1,
        _ => 0,
    }
}

/// A source that is copied, with changes.
struct Edits<'a> {
    source: &'a str,
    copied: usize,
    text: String,
}

impl<'a> Edits<'a> {
    fn insert(&mut self, at: u32, text: &str) {
        let at = at as usize;
        self.text.push_str(self.source.get(self.copied..at).unwrap_or_default());
        self.text.push_str(text);
        self.copied = at;
    }

    fn replace(&mut self, span: Span, text: &str) {
        self.insert(span.start_offset, text);
        self.copied = span.end_offset as usize;
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.text.is_empty() {
            return self.source.into();
        }
        self.text.push_str(self.source.get(self.copied..).unwrap_or_default());
        self.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_tag_becomes_a_block_and_nothing_else_changes() {
        let source = "{% if x %}{%- generation -%}a {{ generation }} '{% generation %}'{# {% generation %} #}{% endgeneration %}{% raw %}{% generation %}{% endraw %}{% endif %}";
        let expected = "{% if x %}{%- with -%}a {{ generation }} '{% with %}'{# {% generation %} #}{% endwith %}{% raw %}{% generation %}{% endraw %}{% endif %}";
        assert_eq!(prepared(source).unwrap(), expected);
        assert!(matches!(prepared("{{ add_generation_prompt }} in").unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_for_goes_through_passes_the_filter() {
        for (source, expected) in [
            ("{% for x in y %}a{% endfor %}", "{% for x in (y)|kvroute_looped %}a{% endfor %}"),
            (
                "{%- for k, v in d.items() if k in (1, 2) -%}{% endfor %}",
                "{%- for k, v in (d.items())|kvroute_looped if k in (1, 2) -%}{% endfor %}",
            ),
            (
                "{% for x in [a if b else c][1:] recursive %}{% endfor %}",
                "{% for x in ([a if b else c][1:])|kvroute_looped recursive %}{% endfor %}",
            ),
            ("{% set for = x in y %}", "{% set for = x in y %}"),
        ] {
            assert_eq!(prepared(source).unwrap(), expected);
        }
    }
}
