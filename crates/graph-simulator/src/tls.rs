//! A throwaway certificate authority and the server certificate that it signs, made at each start.
//!
//! Only `ca.pem` touches the disk, so that clients can be told to trust it; both private keys live and
//! die with the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::simulator::{Error, Result};

/// Names that the server certificate is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the CA certificate lies; a directory of our own making goes with the simulator.
#[derive(Debug)]
pub(crate) struct CaFile {
    path: PathBuf,
    remove_dir: bool,
}

impl CaFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        if self.remove_dir {
            // Best effort: the directory is a temporary one.
            drop(fs::remove_file(&self.path));
            if let Some(dir) = self.path.parent() {
                drop(fs::remove_dir(dir));
            }
        }
    }
}

/// Makes CA and certificate, writes `ca.pem`.
pub(crate) fn prepare(dir: Option<&Path>) -> Result<(TlsAcceptor, CaFile)> {
    let (ca_pem, config) = make().map_err(Error::Tls)?;
    let (dir, remove_dir) = match dir {
        Some(dir) => (dir.to_owned(), false),
        None => (own_dir(), true),
    };
    let path = dir.join("ca.pem");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, ca_pem))
        .map_err(|source| Error::WriteCa { path: path.clone(), source })?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Ok((acceptor, CaFile { path, remove_dir }))
}

fn own_dir() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("graph-simulator-{}-{count}", process::id()))
}

fn make() -> std::result::Result<(String, ServerConfig), Box<dyn std::error::Error + Send + Sync>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "graph-simulator throwaway CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(NAMES.map(str::to_owned))?;
    server.distinguished_name.push(DnType::CommonName, "graph-simulator");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = server.signed_by(&key, &issuer)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((ca_pem, config))
}
