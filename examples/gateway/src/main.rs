//! `kvroute-gateway`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use kvroute_gateway::config::Document;
use kvroute_gateway::drain::StopSignals;
use kvroute_gateway::gateway::Gateway;
use kvroute_gateway::log;
use kvroute_gateway::outcome::RequestLog;
use kvroute_gateway::reload::{self, ConfigFile};
use kvroute_gateway::server::{Drained, serve};
use kvroute_gateway::snapshots;
use kvroute_gateway::tls::Tls;
use lexopt::{Arg, ValueExt};
use mimalloc::MiMalloc;
use tokio::net::TcpListener;

const HELP: &str = "\
kvroute-gateway: an OpenAI-compatible proxy that sends each request to the pod that holds its prefix

    kvroute-gateway [--listen ADDRESS] http://pod-1:8000 http://pod-2:8000 ...
    kvroute-gateway --config FILE [--listen ADDRESS] [--check]

    --config FILE      YAML or JSON; read again when it changes, and at SIGHUP
    --listen ADDRESS   where clients connect; 0.0.0.0:8080 if neither this nor the file says
    --check            reads the configuration, says whether it is right, and ends
    --print-schema     prints the configuration's JSON Schema
    --version, --help

SIGTERM and SIGINT stop it when the requests in flight have ended; a second one stops it at once.
";

// Tokenization is made of small allocations: half of its time was the system's malloc.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// What the command line asks for.
#[derive(Default)]
struct Options {
    config: Option<String>,
    listen: Option<SocketAddr>,
    urls: Vec<String>,
    check: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| options.map_or(Ok(()), run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvroute-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None`: what was asked for has been printed.
fn options() -> Result<Option<Options>, Failure> {
    let (mut options, mut arguments) = (Options::default(), lexopt::Parser::from_env());
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("config") => options.config = Some(arguments.value()?.string()?),
            Arg::Long("listen") => options.listen = Some(arguments.value()?.parse()?),
            Arg::Long("check") => options.check = true,
            Arg::Value(url) => options.urls.push(url.string()?),
            Arg::Long("print-schema") => return print(&format!("{:#}\n", Document::json_schema())),
            Arg::Long("version") => {
                return print(concat!("kvroute-gateway ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Arg::Long("help") | Arg::Short('h') => return print(HELP),
            other => return Err(other.unexpected().into()),
        }
    }
    match (&options.config, options.urls.is_empty()) {
        (None, true) => Err("no pods: give their URLs, or --config FILE (--help says more)".into()),
        (Some(_), false) => {
            Err("pods are in the configuration's file; give URLs or --config, not both".into())
        }
        _ => Ok(Some(options)),
    }
}

fn print(text: &str) -> Result<Option<Options>, Failure> {
    print!("{text}");
    Ok(None)
}

fn run(options: Options) -> Result<(), Failure> {
    let file = options.config.map(ConfigFile::<Document>::open).transpose()?;
    let mut document = match &file {
        Some(file) => file.document().clone(),
        None => {
            let urls: Result<Vec<_>, _> = options.urls.iter().map(|url| url.parse()).collect();
            Document::of_pods(urls?)?
        }
    };
    if let Some(listen) = options.listen {
        document.gateway.listen = listen;
    }
    if options.check {
        println!("the configuration is right");
        return Ok(());
    }
    log::start(&document.gateway.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve_until_stopped(&document, file))
}

async fn serve_until_stopped(document: &Document, file: Option<ConfigFile>) -> Result<(), Failure> {
    let signals = StopSignals::listen()?;
    let tls = document.gateway.tls.as_ref().map(Tls::load).transpose()?;
    let listener = TcpListener::bind(document.gateway.listen).await;
    let listener = listener.map_err(|error| format!("{}: {error}", document.gateway.listen))?;
    let gateway = Gateway::start(document, vec![Box::new(RequestLog)])?;
    if let Some(file) = file {
        tokio::spawn(reload::watch(file, Arc::clone(&gateway)));
    }
    if let Some(snapshot) = document.gateway.snapshot.clone() {
        tokio::spawn(snapshots::keep(snapshot, Arc::clone(&gateway)));
    }
    tracing::info!(listen = %listener.local_addr()?, tls = tls.is_some(), "ready for clients");
    match serve(Arc::clone(&gateway), listener, tls, signals.first()).await {
        Drained::Whole => tracing::info!("drained"),
        Drained::CutOff(connections) => tracing::warn!(connections, "connections were cut off"),
    }
    gateway.end().await;
    Ok(())
}
