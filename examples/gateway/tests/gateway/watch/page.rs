//! The status page: what it gets, and what a browser makes of it.

use std::path::Path;

use serde_json::json;

use super::browser::Browser;
use super::load::{conversations, fleet, turn};
use crate::client::{get, post};
use crate::pod::{Pod, completion};
use crate::setup::Running;

#[tokio::test]
async fn the_status_has_pods_and_decisions_and_those_have_explanations() {
    let (pods, running) = fleet(2, "").await;
    conversations(running.address, 0, 2).await;
    running.wait_for_outcomes(8).await;
    let status = get(running.address, "/status.json").await.json();
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array()
            .expect("a list")
            .iter()
            .map(|pod| pod["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let mut expected: Vec<String> = pods.iter().map(super::sim_pod::SimPod::name).collect();
    expected.sort();
    assert_eq!(names(&status["fleet"]["pods"]), expected);
    assert_eq!(status["gateway"]["routing"], "policy");
    assert_eq!(status["gateway"]["in_flight"], 0);
    let decisions = status["decisions"].as_array().expect("a list");
    assert_eq!(decisions.len(), 8);
    let newest = &decisions[0];
    assert_eq!((&newest["number"], &newest["cache"]), (&json!(7), &json!("partial")));
    assert!(newest["engine_cached_tokens"].as_u64() > Some(0));
    let got = get(running.address, "/decisions/7").await;
    let explained = got.json();
    assert_eq!(explained["decision"], *newest);
    let rows = explained["explanation"]["pods"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    let picked = explained["explanation"]["picked"].as_u64().expect("one was picked") as usize;
    assert_eq!(rows[picked]["pod"], newest["pod"]);
    for path in ["/decisions/8", "/decisions/", "/decisions/x", "/decisions/99999999999999999999"] {
        assert_eq!(get(running.address, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "").await;
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let got = get(running.address, path).await;
        assert_eq!(got.status, 200, "{path}");
        assert!(got.header("content-type").is_some_and(|found| found.starts_with(kind)), "{path}");
        let policy = got.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = String::from_utf8(got.body).expect("it is text");
        assert!(!text.contains("https://") && !text.contains("innerHTML"), "{path}");
        assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("http://"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: cargo xtask test --only page"]
async fn a_browser_shows_pods_and_decisions_and_keeps_up() {
    let (pods, running) = fleet(3, "").await;
    conversations(running.address, 0, 3).await;
    let url = format!("http://{}/", running.address);
    let (mut browser, address) =
        (tokio::task::block_in_place(|| Browser::open(&url, 1280, 860)), running.address);
    tokio::task::block_in_place(|| {
        browser.until("document.querySelectorAll('#pods tbody tr').length === 3");
        for pod in &pods {
            browser.until(&format!("document.querySelector('#pods').innerText.includes('{}')", pod.name()));
        }
        browser.until("document.querySelectorAll('#decisions tr.decision').length === 12");
        browser.eval("document.querySelector('#decisions tr.decision button').click()");
        browser.until("document.querySelector('.why')?.innerText.includes('picker')");
        browser.until("document.querySelectorAll('.why tbody tr').length === 3");
        browser.until("document.querySelectorAll('.why tr.picked').length === 1");
    });
    // Names are text, whatever is in them: this model is one that pods do not serve, so it comes back in no row.
    let hostile = "<img src=x onerror=document.title='hurt'>";
    let body = json!({ "model": "m", "prompt": [1, 2, 3], "user": hostile }).to_string();
    post(address, "/v1/completions", &body).await;
    post(address, "/v1/completions", &turn(0, 4)).await;
    tokio::task::block_in_place(|| {
        browser.until("document.querySelectorAll('#decisions tr.decision').length === 14");
        browser.until("document.querySelectorAll('.why').length === 1");
        browser.eval(
            "document.querySelector('.why').parentNode.previousSibling.querySelector('button').click()",
        );
        browser.until("document.querySelectorAll('.why').length === 0");
        browser.eval("document.querySelector('#decisions tr.decision button').click()");
        browser.until("document.querySelectorAll('.why tr.picked').length === 1");
        if let Some(folder) = std::env::var_os("KVROUTE_SCREENSHOTS") {
            for scheme in ["light", "dark"] {
                browser.prefers(scheme);
                browser.screenshot(&Path::new(&folder).join(format!("status-{scheme}.png")));
            }
        }
    });
    let _ = running.stop().await;
    tokio::task::block_in_place(|| {
        browser.until("document.querySelector('#state').className === 'lost'");
    });
}
