//! The Prometheus text format, as far as single samples go.
//!
//! A line is `name{label="value",...} number [timestamp]`; lines that begin with `#` describe families. Source: the
//! exposition formats page of the Prometheus documentation, format 0.0.4.

use std::borrow::Cow;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    pub(super) value: f64,
}

impl<'a> Sample<'a> {
    /// Takes a line apart; `None` if it is no sample. Labels are read when they are asked for.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let name_end = line.find(['{', ' ', '\t'])?;
        let (name, rest) = line.split_at(name_end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => {
                let end = labels_end(inside)?;
                (&inside[..end], &inside[end + 1..])
            }
            None => ("", rest),
        };
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        (!name.is_empty()).then_some(Self { name, labels, value })
    }

    /// The value of a label; the first one, should there be several.
    pub(super) fn label(&self, wanted: &str) -> Option<Cow<'a, str>> {
        self.labels().find(|(name, _)| *name == wanted).map(|(_, value)| unescaped(value))
    }

    /// All labels, their values as they are written.
    fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.labels;
        std::iter::from_fn(move || {
            let (name, after) = rest.split_once("=\"")?;
            let end = quote_end(after)?;
            rest = &after[end + 1..];
            Some((name.trim_start_matches([',', ' ']).trim_end(), &after[..end]))
        })
    }
}

/// Where the closing brace is, which may stand inside of values too.
fn labels_end(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + text[at..].find(['"', '}'])?;
        if text.as_bytes()[next] == b'}' {
            return Some(next);
        }
        at = next + 1 + quote_end(&text[next + 1..])? + 1;
    }
}

/// Where the closing quote of a value is, which may stand in it behind a backslash.
fn quote_end(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + text[at..].find(['"', '\\'])?;
        if text.as_bytes()[next] == b'"' {
            return Some(next);
        }
        // The escaped character may be of several bytes.
        at = next + 1 + text[next + 1..].chars().next()?.len_utf8();
    }
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            letter => text.push(letter),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: &str) -> Sample<'_> {
        Sample::parse(line).expect(line)
    }

    #[test]
    fn samples_have_a_name_labels_and_a_value() {
        let plain = sample("process_start_time_seconds 1.79533560102e+09");
        assert_eq!((plain.name, plain.value), ("process_start_time_seconds", 1_795_335_601.02));
        let labelled = sample("a{engine=\"0\", model=\"x\",} 3 1395066363000");
        assert_eq!((labelled.name, labelled.value), ("a", 3.0));
        assert_eq!(labelled.label("engine").as_deref(), Some("0"));
        assert_eq!(labelled.label("model").as_deref(), Some("x"));
        assert_eq!(labelled.label("gine"), None);
        assert!(sample("a NaN").value.is_nan());
        assert_eq!(sample("a +Inf").value, f64::INFINITY);
    }

    #[test]
    fn braces_quotes_and_escapes_inside_of_values_are_text() {
        let odd = sample(r#"a{x="}",y="a\"b\\",z="\n\u00e4é"} 1"#);
        assert_eq!(odd.label("x").as_deref(), Some("}"));
        assert_eq!(odd.label("y").as_deref(), Some("a\"b\\"));
        assert_eq!(odd.label("z").as_deref(), Some("\nu00e4é"));
        assert_eq!(sample("a{x=\"\\é\"} 1").label("x").as_deref(), Some("é"));
    }

    #[test]
    fn what_is_no_sample_is_none() {
        for line in
            ["", "a", "{} 1", "a{", "a{x=\"", "a{x=\"\\", "a{x=\"y\"", "a{x=\"y\"}", "a x", "a{} ", " 1"]
        {
            assert_eq!(Sample::parse(line), None, "{line:?}");
        }
    }
}
