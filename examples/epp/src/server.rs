//! Listeners: Envoy's, the health probes', and people's.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kvroute_core::Error;
use kvroute_core::config::Problem;
use kvroute_gateway::config::TlsConfig;
use kvroute_gateway::server::{Drained, Serves, serve_some};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::health;
use crate::picker::Picker;
use crate::proto::{ProcessingRequest, ProcessingResponse};
use crate::stream::converse;

/// Name of the service.
pub const EXTERNAL_PROCESSOR: &str = "envoy.service.ext_proc.v3.ExternalProcessor";

/// What a stream may send ahead of what is read of it; bytes. A long prompt is some of these.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same of all streams of a connection together: Envoy has one a thread.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Where the picker is asked.
#[derive(Debug)]
pub struct Listeners {
    /// By Envoy.
    pub requests: TcpListener,
    /// By probes, over gRPC.
    pub health: Option<TcpListener>,
    /// By people, Prometheus and HTTP probes.
    pub watch: Option<TcpListener>,
}

impl Listeners {
    /// Listens where the configuration says.
    ///
    /// # Errors
    ///
    /// The address that cannot be had, and why.
    pub async fn bind(config: &crate::config::EppConfig) -> Result<Self, Error> {
        let bind = async |address: std::net::SocketAddr| {
            let listener = TcpListener::bind(address).await;
            listener.map_err(|error| Error::from(Problem::new(format!("{address}: {error}"))))
        };
        Ok(Self {
            requests: bind(config.listen).await?,
            health: Some(bind(config.health).await?),
            watch: Some(bind(config.watch).await?),
        })
    }
}

/// Reads certificate and key.
///
/// # Errors
///
/// The file that cannot be read.
pub fn tls(config: &TlsConfig) -> Result<ServerTlsConfig, Error> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| Error::from(Problem::new(format!("{}: {error}", path.display()))))
    };
    let identity = Identity::from_pem(read(&config.certificate)?, read(&config.key)?);
    Ok(ServerTlsConfig::new().identity(identity))
}

/// Serves until `stop`; then takes no more connections, lets the requests in flight end, and breaks off what is left when
/// the time for that is over (`gateway.timeouts.drain_ms`).
///
/// # Errors
///
/// If TLS cannot be served with this certificate and key.
pub async fn serve(
    picker: Arc<Picker>,
    listeners: Listeners,
    tls: Option<ServerTlsConfig>,
    stop: impl Future<Output = ()>,
) -> Result<Drained, Error> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let settings = picker.gateway().settings();
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // hyper's own bound is 200, and each request is a stream for as long as it takes.
        .max_concurrent_streams(Some(u32::try_from(settings.limits.max_connections).unwrap_or(u32::MAX)))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .tcp_nodelay(true);
    if let Some(tls) = tls {
        let problem = |error: tonic::transport::Error| Error::from(Problem::new(format!("epp.tls: {error}")));
        server = server.tls_config(tls).map_err(problem)?;
    }
    let (stopping, stopped) = watch::channel(false);
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        // Whoever told has gone: then it is over as well.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
    };
    let requests = server
        .add_service(ExternalProcessor {
            picker: Arc::clone(&picker),
            max_message: settings.limits.max_body_bytes.saturating_add(settings.limits.max_head_bytes),
        })
        .add_service(health_service.clone())
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listeners.requests),
            until_stopped(stopped.clone()),
        );
    let mut beside = JoinSet::new();
    beside.spawn(health::report(Arc::clone(&picker), reporter));
    if let Some(listener) = listeners.health {
        let incoming = TcpListenerStream::new(listener);
        let serving = Server::builder().add_service(health_service).serve_with_incoming(incoming);
        beside.spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "health is not served any more");
            }
        });
    }
    if let Some(listener) = listeners.watch {
        let gateway = Arc::clone(picker.gateway());
        // It ends with this process, so that the last requests can be watched.
        beside.spawn(async move {
            serve_some(gateway, Serves::Watch, listener, None, std::future::pending()).await;
        });
    }
    let mut requests = std::pin::pin!(requests);
    tokio::select! {
        ended = &mut requests => {
            let why = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            return Err(Problem::new(format!("requests are not served any more: {why}")).into());
        }
        () = stop => {}
    }
    picker.gateway().start_draining();
    stopping.send_replace(true);
    let drain = Duration::from_millis(picker.gateway().settings().timeouts.drain_ms);
    if timeout(drain, requests).await.is_ok() {
        return Ok(Drained::Whole);
    }
    Ok(Drained::CutOff(picker.streams()))
}

/// The service, as tonic routes to it.
#[derive(Clone, Debug)]
struct ExternalProcessor {
    picker: Arc<Picker>,
    /// Longest message of Envoy's; bytes. A buffered body comes in one.
    max_message: usize,
}

impl NamedService for ExternalProcessor {
    const NAME: &'static str = EXTERNAL_PROCESSOR;
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tonic::codegen::Service<http::Request<Body>> for ExternalProcessor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with("/Process") {
                return Ok(Status::unimplemented("ExternalProcessor has `Process` alone").into_http());
            }
            let codec = ProstCodec::<ProcessingResponse, ProcessingRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(service.max_message);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl StreamingService<ProcessingRequest> for ExternalProcessor {
    type Response = ProcessingResponse;
    type ResponseStream = ReceiverStream<Result<ProcessingResponse, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let (answers, received) = mpsc::channel(4);
        tokio::spawn(converse(self.picker.enter(), request.into_inner(), answers));
        std::future::ready(Ok(Response::new(ReceiverStream::new(received))))
    }
}
