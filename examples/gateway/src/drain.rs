//! How the gateway is told to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens for them from now on; to be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Done when the first of them comes, which asks for an orderly end. The second one ends the process at once.
    pub fn first(mut self) -> impl Future<Output = ()> + Send + 'static {
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            self.next().await;
            tracing::info!("draining");
            // It waits for nothing else.
            let _ = stop.send(());
            self.next().await;
            tracing::warn!("stopped at once");
            std::process::exit(1);
        });
        async {
            let _ = stopped.await;
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
