//! What the gateway adds to a request: the same load against trivial pods, sent to them directly, through the gateway in
//! turn (`round-robin`), and through the gateway by its policy.
//!
//! ```sh
//! cargo run --release -p kvroute-gateway --bin overhead [--rate 1000] [--seconds 5] [--tokenizer FOLDER]
//! ```
//!
//! Everything runs in this process on loopback, on runtimes of their own, so that the three ways share the machine alike;
//! they take turns, a second each, so that whatever else the machine does hits them alike too. The load is open: a
//! request is sent when its time has come, whether those before it were answered or not, and its time runs from then.

mod load;
mod pods;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kvroute_gateway::config::{Document, Routing, TokenizerConfig};
use kvroute_gateway::gateway::Gateway;
use kvroute_gateway::server::serve;
use lexopt::{Arg, ValueExt};
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::load::{Latencies, Load, Prompts};

// As the gateway's own program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn Error>;

const PODS: usize = 3;
const MODEL: &str = "m";

fn main() -> Result<(), Failure> {
    let (mut rate, mut seconds, mut tokenizer) = (1000, 5, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("rate") => rate = arguments.value()?.parse::<u32>()?.max(1),
            Arg::Long("seconds") => seconds = arguments.value()?.parse::<u32>()?.clamp(1, 20),
            Arg::Long("tokenizer") => tokenizer = Some(arguments.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let (pod_runtime, gateway_runtime) = (runtime("pods", 1)?, runtime("gateway", 2)?);
    let pods = (0..PODS).map(|_| pod_runtime.block_on(pods::start())).collect::<Result<Vec<_>, _>>()?;
    let mut document = Document::of_pods(
        pods.iter().map(|address| format!("http://{address}").parse()).collect::<Result<Vec<_>, _>>()?,
    )?;
    if let Some(path) = tokenizer.clone() {
        document.tokenizers.insert(MODEL.into(), TokenizerConfig { path, chat_template: None });
    }
    let by_policy = start(&gateway_runtime, &document)?;
    document.gateway.routing = Routing::RoundRobin;
    let in_turn = start(&gateway_runtime, &document)?;

    println!("{rate} requests a second, 2k tokens each, {PODS} pods, {seconds} s each way; milliseconds");
    println!("{:<30}{:>16}{:>16}{:>16}", "", "direct", "round-robin", "policy");
    println!("{:<30}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}", "prompts", "p50", "p99", "p50", "p99", "p50", "p99");
    let mut workloads = vec![("token ids", Prompts::TokenIds), ("text, by its text", Prompts::SeenText)];
    if tokenizer.is_some() {
        workloads = vec![
            ("token ids", Prompts::TokenIds),
            ("text, 90 % seen, tokenized", Prompts::SeenText),
            ("text, never seen, tokenized", Prompts::NewText),
        ];
    }
    let load_runtime = runtime("load", 1)?;
    for (name, prompts) in workloads {
        let mut load = Load::new(load_runtime.handle().clone(), prompts);
        let ways: [&[SocketAddr]; 3] = [&pods, &[in_turn], &[by_policy]];
        let mut latencies: [Latencies; 3] = Default::default();
        // What was never asked before has been asked once.
        ways.iter().for_each(|way| drop(load.run(way, rate, Duration::from_millis(500))));
        for _ in 0..seconds {
            for (way, latencies) in ways.iter().zip(&mut latencies) {
                latencies.extend(load.run(way, rate, Duration::from_secs(1)));
            }
        }
        print(name, &mut latencies);
    }
    // Nobody waits for what is still in flight.
    [pod_runtime, gateway_runtime, load_runtime].into_iter().for_each(Runtime::shutdown_background);
    Ok(())
}

fn runtime(name: &str, threads: usize) -> Result<Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(threads).thread_name(name).enable_all().build()?)
}

/// A gateway whose pods take requests.
fn start(runtime: &Runtime, document: &Document) -> Result<SocketAddr, Failure> {
    runtime.block_on(async {
        let gateway = Gateway::start(document, Vec::new())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = Arc::clone(&gateway);
        tokio::spawn(serve(serving, listener, None, std::future::pending()));
        for _ in 0..1000 {
            if gateway.router().pods().len() == PODS {
                return Ok(address);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("the pods were not learnt within 10 s".into())
    })
}

fn print(name: &str, latencies: &mut [Latencies; 3]) {
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let figures =
        latencies.each_mut().map(|latencies| [millis(latencies.at(0.5)), millis(latencies.at(0.99))]);
    print!("{name:<30}");
    figures.iter().flatten().for_each(|figure| print!("{figure:>8.3}"));
    let failures: usize = latencies.iter().map(|latencies| latencies.failures).sum();
    println!("{}", if failures > 0 { format!("  {failures} FAILED") } else { String::new() });
    let [direct, in_turn, by_policy] = figures;
    for (what, before) in [("  added to direct", direct), ("  added to round-robin", in_turn)] {
        println!("{what:<30}{:>40.3}{:>8.3}", by_policy[0] - before[0], by_policy[1] - before[1]);
    }
}
