//! The client over TLS: whom it trusts, and that a handshake is no part of a request.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod support;

use cloud_api::client::{Call, Client, ClientConfig};
use cloud_api::outcome::{Outcome, Phase, TransportError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{Server, TOKEN, accepted, config, not_sent, read_request, send, send_hastily};

/// A certificate authority and a server's certificate signed by it.
struct Pki {
    ca_pem: Vec<u8>,
    server: Arc<ServerConfig>,
}

fn pki(name: &str) -> Pki {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    Pki { ca_pem: ca.pem().into_bytes(), server: Arc::new(server) }
}

impl Pki {
    /// A server that answers every request, behind TLS.
    fn serve(&self) -> Server {
        let server = Arc::clone(&self.server);
        Server::start(move |stream, _| {
            let mut stream = secure(&server, stream);
            while read_request(&mut stream).is_some() {
                stream.write_all(accepted().as_bytes()).unwrap();
            }
        })
    }
}

fn secure(server: &Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(server)).unwrap(), stream)
}

fn https(server: &Server, ca_pem: Option<Vec<u8>>) -> ClientConfig {
    ClientConfig { ca_pem, ..config(&format!("https://localhost:{}", server.address.port())) }
}

#[test]
fn a_server_with_a_certificate_of_the_given_authority_is_trusted_and_its_connection_kept() {
    let pki = pki("localhost");
    let server = pki.serve();
    let client = Client::new(https(&server, Some(pki.ca_pem))).unwrap();
    for _ in 0..10 {
        let (attempt, written) = send(&client);
        assert!(matches!(attempt.outcome, Outcome::Accepted { .. }), "{attempt:?}");
        assert!(written);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_bundle_of_several_authorities_is_read() {
    let (one, other) = (pki("localhost"), pki("localhost"));
    let server = other.serve();
    let bundle = [one.ca_pem, b"# another\n".to_vec(), other.ca_pem].concat();
    let (attempt, _) = send(&Client::new(https(&server, Some(bundle))).unwrap());
    assert!(matches!(attempt.outcome, Outcome::Accepted { .. }), "{attempt:?}");
}

#[test]
fn a_certificate_of_another_authority_or_name_means_not_sent() {
    let server = pki("localhost").serve();
    for ca_pem in [None, Some(pki("localhost").ca_pem)] {
        let (attempt, written) = send(&Client::new(https(&server, ca_pem)).unwrap());
        let error = not_sent(attempt.outcome);
        assert!(matches!(&error, TransportError::Tls(text) if text.contains("invalid peer certificate")), "{error:?}");
        assert!(!written);
    }
    let pki = pki("graph.example");
    let server = pki.serve();
    let (attempt, written) = send(&Client::new(https(&server, Some(pki.ca_pem))).unwrap());
    let error = not_sent(attempt.outcome);
    assert!(matches!(&error, TransportError::Tls(text) if text.contains("not valid for name")), "{error:?}");
    assert!(!written);
}

#[test]
fn a_connection_reset_during_the_handshake_means_not_sent() {
    let server = Server::start(|mut stream, _| {
        let mut some = [0; 10];
        stream.read_exact(&mut some).unwrap();
    });
    let (attempt, written) = send(&Client::new(https(&server, None)).unwrap());
    assert!(matches!(not_sent(attempt.outcome), TransportError::Tls(_)));
    assert!(!written);
}

#[test]
fn a_handshake_that_hangs_or_drips_ends_at_the_limit_for_connecting() {
    for drip in [false, true] {
        let server = Server::start(move |mut stream, _| {
            if drip {
                // The head of a long handshake record, then a byte at a time.
                let _ = stream.write_all(&[22, 3, 3, 0x40, 0]);
                while stream.write_all(&[2]).is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.read(&mut [0]);
        });
        let limit = Duration::from_millis(500);
        let client = Client::new(ClientConfig { connect_timeout: limit, ..https(&server, None) }).unwrap();
        let (attempt, written) = send_hastily(&client);
        assert_eq!(not_sent(attempt.outcome), TransportError::Timeout { phase: Phase::Connect, limit });
        assert!(!written);
    }
}

#[test]
fn plain_text_instead_of_tls_means_not_sent() {
    let server = Server::start(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(accepted().as_bytes());
    });
    let (attempt, written) = send(&Client::new(https(&server, None)).unwrap());
    assert!(matches!(not_sent(attempt.outcome), TransportError::Tls(_)));
    assert!(!written);
}

#[test]
fn a_connection_closed_after_the_request_means_unknown() {
    let pki = pki("localhost");
    let config = Arc::clone(&pki.server);
    let server = Server::start(move |stream, _| {
        let mut stream = secure(&config, stream);
        read_request(&mut stream);
    });
    let (attempt, written) = send(&Client::new(https(&server, Some(pki.ca_pem))).unwrap());
    assert!(matches!(attempt.outcome, Outcome::Unknown(TransportError::Broken(_))), "{attempt:?}");
    assert!(written);
}

#[test]
fn until_the_handshake_is_done_another_thread_can_take_the_call_back() {
    let pki = pki("localhost");
    let config = Arc::clone(&pki.server);
    let (connected, is_connected) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let (sender, received) = channel();
    let ends = Mutex::new((connected, may_go_on, sender));
    let server = Server::start(move |stream, _| {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        ends.1.recv().unwrap();
        ends.2.send(read_request(&mut secure(&config, stream)).is_some()).unwrap();
    });
    let client = Client::new(https(&server, Some(pki.ca_pem))).unwrap();
    let written = AtomicBool::new(false);
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            client.send(&Call { phone_number_id: "1", token: TOKEN, body: "{}", written: &written, gate: None })
        });
        is_connected.recv().unwrap();
        assert!(!written.swap(true, Ordering::SeqCst), "nothing was written while the handshake is under way");
        go_on.send(()).unwrap();
        let attempt = call.join().unwrap();
        assert_eq!(attempt.outcome, Outcome::NotSent(TransportError::Revoked));
    });
    assert!(!received.recv().unwrap(), "the server got a request that was taken back");
}
