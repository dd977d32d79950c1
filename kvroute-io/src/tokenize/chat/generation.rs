//! transformers' own tag: `{% generation %}...{% endgeneration %}` marks what the model writes. For rendering it is a
//! block with a scope of its own, so `with` stands in for it.

use std::borrow::Cow;

use minijinja::Error;
use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

/// The template with the tag replaced; the same length in lines.
pub(super) fn as_block(source: &str) -> Result<Cow<'_, str>, Error> {
    if !source.contains("generation") {
        return Ok(source.into());
    }
    let mut tokens = Tokenizer::new(source, "chat_template", false, SyntaxConfig::default());
    let mut replaced = String::new();
    let mut copied = 0;
    let mut in_tag = false;
    while let Some((token, span)) = tokens.next_token()? {
        if let (true, Token::Ident(name @ ("generation" | "endgeneration"))) = (in_tag, &token) {
            replaced.push_str(&source[copied..span.start_offset as usize]);
            replaced.push_str(if *name == "generation" { "with" } else { "endwith" });
            copied = span.end_offset as usize;
        }
        in_tag = matches!(token, Token::BlockStart);
    }
    if copied == 0 {
        return Ok(source.into());
    }
    replaced.push_str(&source[copied..]);
    Ok(replaced.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tag_is_replaced() {
        let source = "{% if x %}{%- generation -%}a {{ generation }} '{% generation %}'{# {% generation %} #}{% endgeneration %}{% raw %}{% generation %}{% endraw %}{% endif %}";
        let expected = "{% if x %}{%- with -%}a {{ generation }} '{% with %}'{# {% generation %} #}{% endwith %}{% raw %}{% generation %}{% endraw %}{% endif %}";
        assert_eq!(as_block(source).unwrap(), expected);
        assert_eq!(as_block("{{ add_generation_prompt }}").unwrap(), "{{ add_generation_prompt }}");
    }
}
