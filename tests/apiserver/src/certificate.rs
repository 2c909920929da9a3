//! The server's certificate, signed by itself: kubectl shows tokens over TLS only.

use std::{io, path::Path, sync::Arc};

use rcgen::CertifiedKey;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// What clients have to trust, as PEM, and what takes their connections.
pub struct Certificate {
    pub pem: String,
    pub acceptor: TlsAcceptor,
}

impl Certificate {
    /// Kept in `data`, so that a kubeconfig outlives a restart; else fresh.
    pub fn open(data: Option<&Path>) -> io::Result<Self> {
        let kept = data.map(|folder| folder.join("certificate.pem"));
        let both = match &kept {
            Some(path) if path.exists() => std::fs::read_to_string(path)?,
            _ => {
                let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
                let CertifiedKey { cert, signing_key } =
                    rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
                let both = format!("{}{}", cert.pem(), signing_key.serialize_pem());
                if let Some(path) = kept {
                    std::fs::write(path, &both)?;
                }
                both
            }
        };
        let certificate = CertificateDer::from_pem_slice(both.as_bytes()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(both.as_bytes()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        let mut config = config.map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let pem = both.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or_default().to_owned();
        Ok(Self { pem, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
