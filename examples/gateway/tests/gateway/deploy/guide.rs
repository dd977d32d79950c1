//! The operator's guide.

use crate::client::post_with;
use crate::watch::fleet;

#[tokio::test]
async fn samples() {
    let (_pods, running) = fleet(3, "").await;
    let ids: Vec<String> = (0..320).map(|id| id.to_string()).collect();
    for n in 0..3 {
        let body = format!(r#"{{"model":"m","prompt":[{},{n},{n}]}}"#, ids.join(","));
        let got = crate::client::post(running.address, "/v1/completions", &body).await;
        println!("{} {:?}", got.status, got.header("x-kvroute-pod"));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    let body = format!(r#"{{"model":"m","prompt":[{},9,9]}}"#, ids.join(","));
    for body in [
        &*body,
        r#"{"model": "m", "prompt": "Once upon a time"}"#,
        r#"{"model": "nobody", "prompt": "Once"}"#,
    ] {
        for accept in ["text/plain", "application/json"] {
            let got = post_with(
                running.address,
                "/explain?endpoint=/v1/completions",
                &format!("accept: {accept}\r\n"),
                body,
            )
            .await;
            println!("{}\n{}\n", got.status, String::from_utf8_lossy(&got.body));
        }
    }
}
