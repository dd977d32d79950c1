//! Documents that somebody made to hurt.

use std::fs;

use allocation_counter::measure;

use super::{names, read, samples};

const HEAD: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

/// Most bytes that reading the document has at one time.
fn peak(document: &str) -> u64 {
    let mut result = None;
    let info = measure(|| result = Some(read(document).is_ok()));
    assert!(result.is_some());
    info.bytes_max
}

#[test]
fn aliases_do_not_multiply() {
    let mut laughs = format!("{HEAD}a0: &a0 [lol]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", ")));
    }
    let mut labels =
        format!("{HEAD}plugins:\n- type: label-selector-filter\n  parameters:\n    matchLabels:\n");
    labels.push_str(&format!("      a0: &a {}\n", "x".repeat(1024)));
    for label in 1..40_000 {
        labels.push_str(&format!("      a{label}: *a\n"));
    }
    for document in [laughs, labels] {
        assert!(peak(&document) < 160 << 20, "{} bytes", peak(&document));
    }
    let long = format!("{HEAD}plugins: [{{type: {}}}]", "x".repeat(1025));
    let error = read(&long).unwrap_err().to_string();
    assert_eq!(
        error,
        "plugins[0].type: found a text of 1025 bytes, expected 1024 at most (line 3, column 18)"
    );
}

#[test]
fn deep_nesting_and_long_documents_are_refused() {
    let depth = 100_000;
    for document in [
        "[".repeat(depth),
        "{a: ".repeat(depth),
        format!("{{\"plugins\": {}", "[".repeat(depth)),
        format!("{HEAD}plugins:\n- type: tokenizer\n  parameters: {}", "{a: ".repeat(depth)),
    ] {
        read(&document).unwrap_err();
        assert!(peak(&document) < 64 << 20);
    }
    let error = read(&format!("{HEAD}# {}", "x".repeat(1 << 20))).unwrap_err().to_string();
    assert_eq!(error, "a document of 1048635 bytes; at most 1048576");
}

#[test]
fn lists_are_bounded() {
    let mut document = format!("{HEAD}plugins:\n");
    for plugin in 0..1001 {
        document.push_str(&format!("- {{name: p{plugin}, type: queue-scorer}}\n"));
    }
    let error = read(&document).unwrap_err().to_string();
    assert_eq!(error, "plugins[1000]: found 1001 plugins, expected 1000 at most (line 1004, column 3)");
    let mut document =
        format!("{HEAD}plugins: [{{type: queue-scorer}}]\nschedulingProfiles:\n- name: p\n  plugins:\n");
    for _ in 0..20_000 {
        document.push_str("  - pluginRef: queue-scorer\n");
    }
    let (config, _) = read(&document).unwrap();
    assert_eq!(config.policy.decode.scorers.unwrap().queue.unwrap().weight, 20_000.0);
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
fn changed_samples_give_a_configuration_or_an_error_that_says_where() {
    const PIECES: [&str; 34] = [
        "",
        " ",
        "\n",
        "\n  ",
        "\t",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "<<: ",
        "|\n",
        "~",
        "null",
        "-1",
        "0",
        "1e999",
        ".nan",
        "\u{0}",
        "\u{e9}",
        "---\n",
        "queue-scorer",
        "weight: 0",
        "type",
        "\\u0000",
    ];
    let samples: Vec<_> =
        names().iter().map(|name| fs::read_to_string(samples().join(name)).unwrap()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..6_000 {
        let mut document = samples[round % samples.len()].clone();
        for _ in 0..=random.below(3) {
            let mut bounds = [0, 0].map(|_| random.below(document.len() + 1));
            bounds[1] = bounds[1].min(bounds[0] + random.below(12)).max(bounds[0]);
            let [start, end] = bounds.map(|at| document.floor_char_boundary(at));
            document.replace_range(start..end, PIECES[random.below(PIECES.len())]);
        }
        match read(&document) {
            Ok((config, _)) => {
                config.build().unwrap();
                accepted += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("(line "), "{error}\n{document}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 500 && refused > 2_000, "{accepted} accepted, {refused} refused");
}
