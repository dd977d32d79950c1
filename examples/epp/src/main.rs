//! `kvroute-epp`.

use std::process::ExitCode;
use std::sync::Arc;

use kvroute_epp::Picker;
use kvroute_epp::config::Document;
use kvroute_epp::server::{Listeners, serve, tls};
use kvroute_gateway::drain::StopSignals;
use kvroute_gateway::log;
use kvroute_gateway::outcome::RequestLog;
use kvroute_gateway::reload::{self, ConfigFile};
use kvroute_gateway::server::Drained;
use kvroute_gateway::snapshots;
use lexopt::{Arg, ValueExt};
use mimalloc::MiMalloc;

const HELP: &str = "\
kvroute-epp: an endpoint picker that sends each request to the pod that holds its prefix

    kvroute-epp http://10.0.0.7:8000 http://10.0.0.8:8000 ...
    kvroute-epp --config FILE [--check]

    --config FILE      YAML or JSON; read again when it changes, and at SIGHUP
    --endpoint-picker-config FILE
                       llm-d's, for how pods are chosen; with URLs (a configuration has a key for it)
    --check            reads the configuration, says whether it is right, and ends
    --print-schema     prints the configuration's JSON Schema
    --version, --help

It listens on 9002 (Envoy), 9003 (gRPC health) and 9090 (HTTP: metrics, status), unless the configuration says otherwise.
SIGTERM and SIGINT stop it when the requests in flight have ended; a second one stops it at once.
";

// As in the gateway: tokenization is made of small allocations.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// What the command line asks for.
#[derive(Default)]
struct Options {
    config: Option<String>,
    endpoint_picker_config: Option<String>,
    urls: Vec<String>,
    check: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| options.map_or(Ok(()), run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvroute-epp: {error}");
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
            Arg::Long("endpoint-picker-config") => {
                options.endpoint_picker_config = Some(arguments.value()?.string()?);
            }
            Arg::Long("check") => options.check = true,
            Arg::Value(url) => options.urls.push(url.string()?),
            Arg::Long("print-schema") => return print(&format!("{:#}\n", Document::json_schema())),
            Arg::Long("version") => return print(concat!("kvroute-epp ", env!("CARGO_PKG_VERSION"), "\n")),
            Arg::Long("help") | Arg::Short('h') => return print(HELP),
            other => return Err(other.unexpected().into()),
        }
    }
    match (&options.config, options.urls.is_empty()) {
        (None, true) => Err("no pods: give their URLs, or --config FILE (--help says more)".into()),
        (Some(_), false) => {
            Err("pods are in the configuration's file; give URLs or --config, not both".into())
        }
        (Some(_), _) if options.endpoint_picker_config.is_some() => {
            Err("with --config, llm-d's file is named by its key `epp.endpoint_picker_config`".into())
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
    let document = match &file {
        Some(file) => file.document().clone(),
        None => {
            let urls: Result<Vec<_>, _> = options.urls.iter().map(|url| url.parse()).collect();
            let mut document = Document::of_pods(urls?)?;
            document.epp.endpoint_picker_config = options.endpoint_picker_config.map(Into::into);
            document.read_endpoint_picker_config()?;
            document
        }
    };
    if options.check {
        document.notes.iter().for_each(|note| println!("note: {note}"));
        println!("the configuration is right");
        return Ok(());
    }
    log::start(&document.base.gateway.log)?;
    for note in &document.notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve_until_stopped(&document, file))
}

async fn serve_until_stopped(document: &Document, file: Option<ConfigFile<Document>>) -> Result<(), Failure> {
    let signals = StopSignals::listen()?;
    let tls = document.epp.tls.as_ref().map(tls).transpose()?;
    let listeners = Listeners::bind(&document.epp).await?;
    let picker = Picker::start(document, vec![Box::new(RequestLog)])?;
    let gateway = Arc::clone(picker.gateway());
    if let Some(file) = file {
        tokio::spawn(reload::watch(file, Arc::clone(&gateway)));
    }
    if let Some(snapshot) = document.base.gateway.snapshot.clone() {
        tokio::spawn(snapshots::keep(snapshot, Arc::clone(&gateway)));
    }
    tracing::info!(listen = %listeners.requests.local_addr()?, tls = tls.is_some(), "ready for Envoy");
    match serve(picker, listeners, tls, signals.first()).await? {
        Drained::Whole => tracing::info!("drained"),
        Drained::CutOff(streams) => tracing::warn!(streams, "streams were cut off"),
    }
    gateway.end().await;
    Ok(())
}
