//! HTTPS for clients.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kvroute_core::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::config::{TlsConfig, invalid};

/// What a server shows its clients, and how it speaks with them: TLS 1.2 and 1.3, HTTP/1.1.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with the file that cannot be read or is not what it should be.
    pub fn load(config: &TlsConfig) -> Result<Self, Error> {
        let fail =
            |path: &Path, error: &dyn std::fmt::Display| invalid(format!("{}: {error}", path.display()));
        let certificate = &*config.certificate;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
        let chain = chain.map_err(|error| fail(certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| fail(&config.key, &error))?;
        let mut server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        if let Ok(server) = &mut server {
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let server = server.map_err(|error| fail(certificate, &error))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)) })
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
