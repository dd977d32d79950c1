//! Adapters and salts.

use super::*;

fn with_adapter(name: &str) -> HashContext {
    HashContext { lora: Some(Lora { name: name.to_owned(), ..Lora::default() }), ..HashContext::default() }
}

fn adapter_event(name: Option<&str>, id: Option<i64>, prompt: &[u32]) -> BlockStored {
    let lora = Some(EventLora { name: name.map(str::to_owned), id });
    BlockStored { lora, ..store_tokens(None, &[1, 2], prompt) }
}

#[test]
fn adapters_never_match_one_another_nor_the_base_model() {
    let setup = Setup::translated();
    let (red, blue, base) = (setup.pod(), setup.pod(), setup.pod());
    let prompt = tokens(0, 2);
    setup.apply(red, adapter_event(Some("red"), None, &prompt));
    setup.apply(blue, adapter_event(Some("blue"), None, &prompt));
    setup.apply(base, store_tokens(None, &[1, 2], &prompt));
    let contexts = [with_adapter("red"), with_adapter("blue"), HashContext::default()];
    for (i, context) in contexts.iter().enumerate() {
        let blocks = setup.hash(&prompt, context);
        for (j, &pod) in [red, blue, base].iter().enumerate() {
            let expected = if i == j { 2 } else { 0 };
            assert_eq!(setup.usable(pod, &blocks).total(), expected, "request {i}, pod {j}");
        }
    }
}

#[test]
fn an_adapter_listed_among_the_extra_keys_too_matches_all_the_same() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let prompt = tokens(0, 2);
    let key = vec![ExtraKey::Text("red".to_owned())];
    let event =
        BlockStored { extra_keys: vec![key.clone(), key], ..adapter_event(Some("red"), Some(1), &prompt) };
    setup.apply(pod, event);
    assert_eq!(setup.usable(pod, &setup.hash(&prompt, &with_adapter("red"))).total(), 2);
}

#[test]
fn an_adapter_named_by_a_listed_number_matches() {
    let setup = Setup::translated();
    let pod = setup.pod_with(|options| options.adapters = vec![(7, "red".to_owned())]);
    let prompt = tokens(0, 2);
    setup.apply(pod, adapter_event(None, Some(7), &prompt));
    assert_eq!(setup.usable(pod, &setup.hash(&prompt, &with_adapter("red"))).total(), 2);
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
}

#[test]
fn an_adapter_named_by_an_unlisted_number_is_refused_and_counted() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let prompt = tokens(0, 2);
    let report = setup.apply(pod, adapter_event(None, Some(8), &prompt));
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownAdapter));
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    assert_eq!(setup.ignored(pod, IgnoreReason::UnknownAdapter), 1);
}

#[test]
fn salts_never_match_one_another_nor_the_unsalted() {
    let setup = Setup::translated();
    let salted = |salt: &str| HashContext { cache_salt: Some(salt.to_owned()), ..HashContext::default() };
    let prompt = tokens(0, 2);
    // vLLM puts the salt among the first block's extra keys, SGLang into a field of its own.
    let vllm = setup.pod();
    let extra_keys = vec![vec![ExtraKey::Text("a".to_owned())], vec![]];
    setup.apply(vllm, BlockStored { extra_keys, ..store_tokens(None, &[1, 2], &prompt) });
    let sglang = setup.pod();
    let cache_salt = Some("a".to_owned());
    setup.apply(sglang, BlockStored { cache_salt, ..store_tokens(None, &[1, 2], &prompt) });
    let plain = setup.pod();
    setup.apply(plain, store_tokens(None, &[1, 2], &prompt));
    for (context, expected) in
        [(salted("a"), [2, 2, 0]), (salted("b"), [0, 0, 0]), (HashContext::default(), [0, 0, 2])]
    {
        let blocks = setup.hash(&prompt, &context);
        let found = [vllm, sglang, plain].map(|pod| setup.usable(pod, &blocks).total());
        assert_eq!(found, expected, "{:?}", context.cache_salt);
    }
}

#[test]
fn a_salted_block_that_was_parked_keeps_its_keys() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let prompt = tokens(0, 3);
    let key = |text: &str| vec![ExtraKey::Bytes(text.as_bytes().to_vec())];
    let extra_keys = vec![key("b"), key("c")];
    setup.apply(pod, BlockStored { extra_keys, ..store_tokens(Some(1), &[2, 3], &prompt[4..]) });
    setup.apply(pod, BlockStored { extra_keys: vec![key("a")], ..store_tokens(None, &[1], &prompt[..4]) });
    let prompt_embeds = vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
    let context = HashContext { prompt_embeds, ..HashContext::default() };
    assert_eq!(setup.usable(pod, &setup.hash(&prompt, &context)).total(), 3);
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
}

#[test]
fn a_store_whose_extra_keys_do_not_cover_its_blocks_is_refused() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let salted = vec![vec![ExtraKey::Text("tenant".into())]];
    let event = BlockStored { extra_keys: salted, ..store_tokens(None, &[1, 2], &tokens(0, 2)) };
    assert_eq!(setup.apply(pod, event).outcome, Outcome::Ignored(IgnoreReason::Malformed));
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
}
