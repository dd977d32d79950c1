//! Rust source as a list of tokens, without comments, literals and test-only items: enough to ask which
//! modules a file names, without a parser.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// An identifier or one character of punctuation, and its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// One source file of a crate.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// Its place in the module tree: `["hash", "chain"]`; empty for `lib.rs`.
    pub(crate) module: Vec<String>,
    /// Its tokens, test-only items left out.
    pub(crate) tokens: Vec<Token>,
}

/// Reads the `.rs` files below `folder` (a crate's `src`), sorted; files of test-only modules are left out.
///
/// # Errors
/// The file or folder that cannot be read.
pub(crate) fn read(folder: &Path) -> Result<Vec<File>, String> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    let mut test_modules = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let module = module_of(path.strip_prefix(folder).unwrap_or(&path));
        let (tokens, tests) = without_tests(&tokens(&text));
        for test in tests {
            test_modules.insert([module.clone(), vec![test]].concat());
        }
        files.push(File { path, module, tokens });
    }
    files.retain(|file| !test_modules.iter().any(|test| file.module.starts_with(test)));
    Ok(files)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// `hash/mod.rs` and `hash.rs` are `[hash]`, `lib.rs` is `[]`.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// The tokens of a text; comments and literals are dropped, a lifetime is its name.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens: Vec<Token> = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'/' if rest.starts_with(b"//") => until(rest, b"\n"),
            b'/' if rest.starts_with(b"/*") => block_comment(rest),
            b'"' => string(rest),
            b'r' | b'b' | b'c' if literal_prefix(rest).is_some() => literal_prefix(rest).unwrap_or(1),
            b'\'' => quote(rest),
            byte if is_word(byte) => {
                let length = rest.iter().take_while(|&&byte| is_word(byte)).count();
                tokens.push(Token { text: text[at..at + length].to_owned(), line });
                length
            }
            byte if byte.is_ascii_whitespace() => 1,
            byte => {
                tokens.push(Token { text: char::from(byte).to_string(), line });
                1
            }
        };
        line += rest[..length].iter().filter(|&&byte| byte == b'\n').count();
        at += length;
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn until(rest: &[u8], end: &[u8]) -> usize {
    rest.windows(end.len()).position(|window| window == end).unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a literal with a prefix: `b"..."`, `br#"..."#`, `r"..."`, `c"..."`, `b'x'`. Not `r#name`.
fn literal_prefix(rest: &[u8]) -> Option<usize> {
    let letters = rest.iter().take_while(|&&byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = rest[letters..].iter().take_while(|&&byte| byte == b'#').count();
    let raw = rest[..letters].contains(&b'r');
    let start = letters + hashes;
    match rest.get(start)? {
        b'"' if letters <= 2 && raw => {
            let end = [b"\"".as_slice(), &rest[letters..start]].concat();
            Some((start + 1 + until(&rest[start + 1..], &end) + end.len()).min(rest.len()))
        }
        b'"' if letters == 1 && hashes == 0 => Some(1 + string(&rest[1..])),
        b'\'' if letters == 1 && hashes == 0 && rest[0] == b'b' => Some(1 + quote(&rest[1..])),
        _ => None,
    }
}

/// Length of a character literal, or 1 for the quote of a lifetime.
fn quote(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return (3 + until(rest.get(3..).unwrap_or(&[]), b"'") + 1).min(rest.len());
    }
    let first = 1 + rest[1..].iter().skip(1).take_while(|&&byte| byte & 0xC0 == 0x80).count();
    if rest.get(first + 1) == Some(&b'\'') { first + 2 } else { 1 }
}

/// The tokens without items under `#[cfg(test)]` or `#[cfg(all(test, ..))]`, and the names of the modules
/// among those items that live in files of their own.
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if starts_with(&tokens[at..], "# ! [ cfg ( test )") {
            break;
        }
        let rest = &tokens[at..];
        if starts_with(rest, "# [ cfg ( test )") || starts_with(rest, "# [ cfg ( all ( test") {
            let mut item = at;
            while starts_with(&tokens[item..], "# [") {
                item += 1 + group(&tokens[item + 1..]);
            }
            let length = item_length(&tokens[item..]);
            if let Some([keyword, name, end]) = tokens[item..item + length].last_chunk::<3>()
                && (keyword.text.as_str(), end.text.as_str()) == ("mod", ";")
            {
                modules.push(name.text.clone());
            }
            at = item + length;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, modules)
}

/// Whether the tokens begin with those of `pattern`, which are separated by spaces.
pub(crate) fn starts_with(tokens: &[Token], pattern: &str) -> bool {
    let mut tokens = tokens.iter();
    pattern.split(' ').all(|word| tokens.next().is_some_and(|token| token.text == word))
}

/// Length of the bracketed group that the tokens begin with.
pub(crate) fn group(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Length of the item that the tokens begin with: to its `;`, or past its `{ }`. A field or a match arm
/// ends at its comma.
fn item_length(tokens: &[Token]) -> usize {
    const ITEMS: &[&str] = &[
        "fn",
        "mod",
        "use",
        "struct",
        "enum",
        "union",
        "impl",
        "trait",
        "const",
        "static",
        "type",
        "extern",
        "unsafe",
        "async",
        "macro_rules",
        "let",
    ];
    let mut after = usize::from(starts_with(tokens, "pub"));
    if after == 1 && starts_with(&tokens[1..], "(") {
        after += group(&tokens[1..]);
    }
    let keyword = tokens.get(after).map_or("", |token| &token.text);
    let field = !ITEMS.contains(&keyword);
    let braces_end = match keyword {
        "use" | "let" | "static" | "type" => false,
        "const" => starts_with(&tokens[after..], "const fn"),
        _ => true,
    };
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "," if field => return at + 1,
            ")" | "]" | "}" => return at,
            "{" if braces_end => return at + group(&tokens[at..]),
            "(" | "[" | "{" => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tokens: &[Token]) -> String {
        tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_dropped() {
        let text = r####"a // crate::x
            /* b /* c */ d */ e "crate::\" f" r#"g " h"# b"i" 'j' '\'' '\u{1F600}' 'é' k<'l> br"m" r#fn b'n' "####;
        assert_eq!(words(&tokens(text)), "a e k < l > r # fn");
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let found = tokens("a /*\n*/ b \"\n\n\" c\nd");
        assert_eq!(found.iter().map(|token| token.line).collect::<Vec<_>>(), [1, 2, 4, 5]);
    }

    #[test]
    fn test_items_are_left_out() {
        let cases = [
            ("a; #[cfg(test)] extern crate std; b;", "a ; b ;"),
            ("#[cfg(test)] #[path = \"x\"] mod tests { use c::{d}; fn e() {} } f", "f"),
            ("#[cfg(test)] use a::{b, c}; d", "d"),
            ("#[cfg(test)] pub(crate) fn f<A, B>(a: [u8; 2]) -> A { a } g", "g"),
            ("#[cfg(all(test, not(miri)))] const A: [u8; 2] = [1; 2]; b", "b"),
            ("#[cfg(test)] pub const fn f() -> S { S {} } g", "g"),
            ("#[cfg(test)] pub(crate) static S: S = S { a: 1 }; g", "g"),
            ("struct S { #[cfg(test)] a: u8, b: u8 }", "struct S { b : u8 }"),
            ("struct S { #[cfg(test)] pub(crate) a: u8 } c", "struct S { } c"),
            (
                "#[cfg(any(test, feature = \"oracle\"))] mod oracle;",
                "# [ cfg ( any ( test , feature = ) ) ] mod oracle ;",
            ),
            ("#![cfg(test)] use a::b;", ""),
        ];
        for (text, kept) in cases {
            assert_eq!(words(&without_tests(&tokens(text)).0), kept, "{text}");
        }
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let (_, modules) =
            without_tests(&tokens("#[cfg(test)] mod tests; #[cfg(test)] pub(crate) mod util;"));
        assert_eq!(modules, ["tests", "util"]);
    }

    #[test]
    fn paths_become_modules() {
        for (path, module) in
            [("lib.rs", ""), ("id.rs", "id"), ("hash/mod.rs", "hash"), ("hash/chain.rs", "hash chain")]
        {
            assert_eq!(module_of(Path::new(path)).join(" "), module);
        }
    }
}
