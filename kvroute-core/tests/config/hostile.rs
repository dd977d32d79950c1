//! Documents that somebody made to hurt.

use allocation_counter::measure;
use kvroute_core::Config;

use super::EXAMPLE;

/// Most bytes that reading the document has at one time.
fn peak(document: &str) -> u64 {
    let mut result = None;
    let info = measure(|| result = Some(Config::parse(document).is_ok()));
    assert!(result.is_some());
    info.bytes_max
}

#[test]
fn aliases_of_aliases_do_not_multiply() {
    // 9 levels of 9 references each: 387 million texts.
    let mut laughs = String::from("a0: &a0 [lol]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", ")));
    }
    // The same where lists of texts are expected, so that it is read to its end.
    let mut models = String::from("domains:\n  d0: &a0 {block_size: 16, models: [&t x, *t, *t, *t, *t]}\n");
    for domain in 1..100_000 {
        models.push_str(&format!("  d{domain}: *a0\n"));
    }
    for document in [laughs, models] {
        Config::from_yaml(&document).unwrap_err();
        assert!(peak(&document) < 64 << 20, "{} bytes", peak(&document));
    }
}

#[test]
fn aliases_do_not_multiply_long_texts() {
    let labels = |length: usize| {
        let mut document =
            format!("domains: {{m: {{block_size: 16, models: [&t '{}']}}}}\npods:\n", "x".repeat(length));
        for pod in 0..99 {
            document.push_str(&format!("  - {{name: p{pod}, domain: m, labels: {{a: *t}}}}\n"));
        }
        document
    };
    assert_eq!(Config::from_yaml(&labels(1024)).unwrap().pods[98].labels["a"].len(), 1024);
    let error = Config::from_yaml(&labels(1025)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "domains.m.models[0]: found a text of 1025 bytes, expected 1024 at most (line 1, column 43)"
    );
    assert!(peak(&labels(10 << 20)) < 128 << 20);
}

#[test]
fn deep_nesting_is_refused() {
    let depth = 100_000;
    let indented: String = (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let documents = [
        "[".repeat(depth),
        "{a: ".repeat(depth),
        "- ".repeat(depth),
        "? ".repeat(depth),
        indented,
        format!("{{\"index\": {}", "[".repeat(depth)),
        format!("{{\"index\": {}", "{\"a\": ".repeat(depth)),
        // Where nothing is expected, and where it is looked for again.
        format!("pods: [{{name: p, domain: {}", "[".repeat(depth)),
        format!("domains: {{m: {{block_size: 16, scheme: {}", "{own: ".repeat(depth)),
    ];
    for document in documents {
        Config::parse(&document).unwrap_err();
        assert!(peak(&document) < 64 << 20, "{}", &document[..20]);
    }
}

#[test]
fn documents_have_a_longest_length() {
    let document = format!("# {}\n{{}}", "x".repeat(16 << 20));
    let error = Config::from_yaml(&document).unwrap_err();
    assert_eq!(error.to_string(), "a document of 16777221 bytes; at most 16777216");
    assert!(Config::from_yaml(&document[..1 << 20]).is_err(), "it is empty");
}

#[test]
fn long_names_are_cut_in_messages() {
    let name = "x".repeat(1 << 20);
    for document in
        [format!("? {name}\n: 1"), format!("{{\"{name}\": 1}}"), format!("policy: {{preset: {name}}}")]
    {
        let error = Config::parse(&document).unwrap_err().to_string();
        assert!(error.len() < 300, "{} bytes", error.len());
    }
}

#[test]
fn thousands_of_pods_are_read() {
    let mut document = String::from("domains: {m: {block_size: 16}}\npods:\n");
    for pod in 0..10_000 {
        document.push_str(&format!("  - {{name: 'p{pod}', domain: m, events: &e{pod} {{copies: set}}}}\n"));
    }
    let config = Config::from_yaml(&document).unwrap();
    assert_eq!(config.pod_specs().unwrap().len(), 10_000);
}

/// A small generator: the same documents every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

#[test]
fn changed_documents_give_a_configuration_or_an_error_that_says_where() {
    const PIECES: [&str; 32] = [
        "", " ", "\n", "\n  ", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", "'", "\"", "#", "&a ", "*a",
        "!!str ", "<<: ", "|\n", "~", "null", "-1", "1e999", ".nan", "\u{0}", "\u{feff}", "\u{e9}", "---\n",
        "scheme", "\\u0000",
    ];
    let json = serde_json::to_string_pretty(&super::example()).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    for round in 0..6_000 {
        let mut document = String::from(if round % 3 == 0 { &json } else { EXAMPLE });
        for _ in 0..=random.below(3) {
            let mut bounds = [0, 0].map(|_| random.below(document.len() + 1));
            // Mostly short pieces are taken out.
            bounds[1] = bounds[1].min(bounds[0] + random.below(12)).max(bounds[0]);
            let [start, end] = bounds.map(|at| document.floor_char_boundary(at));
            document.replace_range(start..end, PIECES[random.below(PIECES.len())]);
        }
        match Config::parse(&document) {
            Ok(config) => {
                config.build().unwrap();
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("(line "), "{error}\n{document}");
                refused += 1;
            }
        }
    }
    assert!(read > 500 && refused > 2_000, "{read} read, {refused} refused");
}
