//! Where requests go: known prefixes, conversations, explanations.

use serde_json::{Value, json};

use crate::client::{post, post_with};
use crate::pod::{Pod, completion};
use crate::setup::{Running, quoted};

fn prompt_of(first: u32, tokens: u32) -> String {
    let token_ids: Vec<u32> = (first..first + tokens).collect();
    json!({ "model": "m", "prompt": token_ids }).to_string()
}

async fn pods(number: usize) -> Vec<Pod> {
    let mut pods = Vec::new();
    for _ in 0..number {
        pods.push(Pod::answering(completion(0)).await);
    }
    pods
}

fn urls(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(Pod::url).collect()
}

fn counts(pods: &[Pod]) -> Vec<usize> {
    pods.iter().map(|pod| pod.seen().len()).collect()
}

#[tokio::test]
async fn prompts_go_where_their_prefix_went_and_headers_say_so() {
    let pods = pods(3).await;
    let running = Running::start(&urls(&pods), "answer_headers: true").await;
    let first = post(running.address, "/v1/completions", &prompt_of(0, 640)).await;
    let home = first.header("x-kvroute-pod").expect("it says where it comes from").to_owned();
    assert_eq!(first.header("x-kvroute-expected-cached-tokens"), Some("0"));
    for turn in 1..5 {
        let got = post(running.address, "/v1/completions", &prompt_of(0, 640 + 64 * turn)).await;
        assert_eq!(got.header("x-kvroute-pod"), Some(&*home), "turn {turn}");
        assert_eq!(got.header("x-kvroute-prompt"), Some("token-ids"));
        assert_eq!(got.header("x-kvroute-prompt-tokens"), Some(&*(640 + 64 * turn).to_string()));
        assert!(got.header("x-kvroute-overhead-us").and_then(|us| us.parse::<u64>().ok()).is_some());
        assert!(got.header("x-kvroute-reason").is_some());
    }
    for topic in 1..7 {
        post(running.address, "/v1/completions", &prompt_of(topic * 10_000, 640)).await;
    }
    assert!(counts(&pods).iter().all(|&count| count > 0), "new topics are spread: {:?}", counts(&pods));
}

#[tokio::test]
async fn chats_that_nobody_tokenizes_go_where_their_text_went() {
    let pods = pods(3).await;
    let running = Running::start(&urls(&pods), "answer_headers: true").await;
    let mut messages = vec![json!({ "role": "system", "content": "be brief. ".repeat(200) })];
    let mut homes = Vec::new();
    for turn in 0..4 {
        messages.push(json!({ "role": "user", "content": format!("question {turn}") }));
        let body = json!({ "model": "m", "messages": messages }).to_string();
        let got = post(running.address, "/v1/chat/completions", &body).await;
        homes.push(got.header("x-kvroute-pod").expect("it says").to_owned());
        assert_eq!(got.header("x-kvroute-prompt"), Some("text"));
        messages.push(json!({ "role": "assistant", "content": format!("answer {turn}") }));
    }
    assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
    assert_eq!(running.outcomes()[3].prompt, "text");
}

#[tokio::test]
async fn a_list_of_prompts_goes_where_its_longest_went_and_is_not_counted() {
    let pods = pods(3).await;
    let running = Running::start(&urls(&pods), "answer_headers: true").await;
    let first = post(running.address, "/v1/completions", &prompt_of(0, 640)).await;
    let (short, long): (Vec<u32>, Vec<u32>) = ((0..32).collect(), (0..660).collect());
    let list = json!({ "model": "m", "prompt": [short, long, [7]], "n": 2 }).to_string();
    let got = post(running.address, "/v1/completions", &list).await;
    assert_eq!(got.header("x-kvroute-pod"), first.header("x-kvroute-pod"));
    let outcomes = running.wait_for_outcomes(2).await;
    assert_eq!(outcomes.iter().map(|o| o.engine_cached_tokens).collect::<Vec<_>>(), [Some(0), None]);
    assert_eq!(outcomes[1].prompt_tokens, 660);
}

#[tokio::test]
async fn a_conversation_with_an_id_stays_on_its_pod() {
    let pods = pods(3).await;
    let policy = "router: {policy: {preset: llm-d-demo}}";
    let document = format!(
        "gateway: {{answer_headers: true, session: {{cookie: sid}}}}\nfleet: {{pods: [{}]}}\n{policy}\n",
        quoted(&urls(&pods))
    );
    let running = Running::with_document(&document, 3).await;
    for (at, header) in ["x-session-id: s", "cookie: sid=c"].into_iter().enumerate() {
        let mut homes = Vec::new();
        for turn in 0..4u32 {
            let headers = format!("{header}{at}\r\n");
            // Nothing in common but the conversation.
            let body = prompt_of(1_000_000 * (at as u32 + 1) + turn * 1000, 200);
            let got = post_with(running.address, "/v1/completions", &headers, &body).await;
            homes.push(got.header("x-kvroute-pod").expect("it says").to_owned());
        }
        assert!(homes.iter().all(|home| *home == homes[0]), "{header}: {homes:?}");
    }
}

#[tokio::test]
async fn a_client_without_an_id_gets_a_token_that_brings_it_back() {
    let pods = pods(3).await;
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let document = format!(
        "gateway: {{answer_headers: true, session: {{token_cookie: kvroute}}}}\nfleet: {{pods: [{}]}}\n\
         router: {{sessions: {{key: '{key}'}}, policy: {{preset: llm-d-demo}}}}\n",
        quoted(&urls(&pods))
    );
    let running = Running::with_document(&document, 3).await;
    let first = post(running.address, "/v1/completions", &prompt_of(0, 200)).await;
    let home = first.header("x-kvroute-pod").expect("it says").to_owned();
    let mut cookie = first.header("set-cookie").expect("a token is set").to_owned();
    assert!(cookie.starts_with("kvroute=") && cookie.contains("HttpOnly"), "{cookie}");
    for turn in 1..5 {
        let pair = cookie.split(';').next().expect("a cookie has a pair").to_owned();
        let headers = format!("cookie: {pair}\r\n");
        let got = post_with(running.address, "/v1/completions", &headers, &prompt_of(turn * 1000, 200)).await;
        assert_eq!(got.header("x-kvroute-pod"), Some(&*home), "turn {turn}");
        cookie = got.header("set-cookie").expect("it is renewed").to_owned();
    }
    let with_id =
        post_with(running.address, "/v1/completions", "x-session-id: a\r\n", &prompt_of(9000, 200)).await;
    assert_eq!(with_id.header("set-cookie"), None);
}

#[tokio::test]
async fn explain_says_where_a_request_would_go_and_changes_nothing() {
    let pods = pods(2).await;
    let running = Running::start(&urls(&pods), "answer_headers: true").await;
    let request: Value = serde_json::from_str(&prompt_of(0, 320)).unwrap();
    let wrapped = json!({ "endpoint": "/v1/completions", "request": request }).to_string();
    let explained = post(running.address, "/explain", &wrapped).await;
    assert_eq!(explained.status, 200);
    let again = post(running.address, "/explain?endpoint=%2Fv1%2Fcompletions", &request.to_string()).await;
    assert_eq!(explained.json(), again.json());
    let explained = explained.json();
    assert_eq!(explained["prompt"], json!("token-ids"));
    assert_eq!(explained["explanation"]["pods"].as_array().map(Vec::len), Some(2));
    assert_eq!(counts(&pods), [0, 0]);
    assert_eq!(running.gateway.router().counters().in_flight, 0);
    let got = post(running.address, "/v1/completions", &request.to_string()).await;
    assert_eq!(got.header("x-kvroute-pod"), explained["decision"]["pod"].as_str());
    let text = post_with(running.address, "/explain", "accept: text/plain\r\n", &wrapped).await;
    assert!(String::from_utf8_lossy(&text.body).starts_with("prompt of 320 tokens"));
    for bad in
        ["", "{}", r#"{"endpoint":"/v1/embeddings","request":{}}"#, r#"{"endpoint":"/v1/completions"}"#]
    {
        assert_eq!(post(running.address, "/explain", bad).await.status, 400, "{bad}");
    }
}
