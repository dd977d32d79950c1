//! A real Prometheus that scrapes a gateway under load: every panel of the dashboard must show something.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::dashboard::{file, panels};
use super::load::{conversations, failing, fleet, text};
use crate::client::get;

struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    fn start(gateway: SocketAddr) -> Self {
        let folder = std::env::temp_dir().join(format!("kvroute-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let config = folder.join("prometheus.yml");
        let rules = file("kvroute-alerts.yml").canonicalize().expect("there are rules");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: kvroute, static_configs: [{{targets: ['{gateway}']}}]}}]\n",
            rules.display()
        );
        fs::write(&config, text).expect("it can be written");
        // Taken and given back: Prometheus cannot be asked to choose one and say which.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        Self { child, address, folder }
    }

    async fn until_ready(&self) {
        let start = Instant::now();
        while tokio::net::TcpStream::connect(self.address).await.is_err()
            || get(self.address, "/-/ready").await.status != 200
        {
            assert!(start.elapsed() < Duration::from_secs(60), "prometheus is not ready within 60 s");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The values that an expression has now.
    async fn query(&self, expression: &str) -> Vec<f64> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            let _ = write!(path, "%{byte:02X}");
        }
        let got = get(self.address, &path).await;
        let answer = got.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector");
        let value =
            |series: &serde_json::Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        result.iter().map(|series| value(series).expect("a number")).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Prometheus: cargo xtask test --only prometheus"]
async fn every_panel_shows_something() {
    let (_pods, running) = fleet(3, "").await;
    let prometheus = Prometheus::start(running.address);
    prometheus.until_ready().await;
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < Duration::from_secs(15) {
        conversations(running.address, 4 * round, 4).await;
        failing(running.address).await;
        text(running.address).await;
        round += 1;
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(prometheus.query("up{job=\"kvroute\"}").await, [1.0]);
    assert_eq!(prometheus.query("scrape_samples_scraped > 100").await.len(), 1);
    for (title, expressions) in panels() {
        for expression in expressions {
            let now = expression.replace("$__rate_interval", "30s").replace("$instance", ".*");
            let values = prometheus.query(&now).await;
            assert!(!values.is_empty(), "{title}: {now} has no data");
            // A quantile of nothing is NaN.
            assert!(values.iter().any(|value| value.is_finite()), "{title}: {now} is {values:?}");
        }
    }
    let hit_rate = "sum(rate(kvroute_confirmed_cached_tokens_total[30s])) / sum(rate(kvroute_confirmed_prompt_tokens_total[30s]))";
    let hit_rate = prometheus.query(hit_rate).await[0];
    assert!((0.5..1.0).contains(&hit_rate), "{hit_rate}");
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
    assert!(firing.is_empty(), "nothing is wrong for long enough");
}

#[test]
#[ignore = "needs Prometheus: cargo xtask test --only prometheus"]
fn alert_rules_are_as_prometheus_wants_them() {
    let output = Command::new("promtool").args(["check", "rules"]).arg(file("kvroute-alerts.yml")).output();
    let output = output.expect("promtool is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("12 rules found"));
}
