//! TLS with the certificate authority that the simulator writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use common::{Client, message};
use graph_simulator::{Action, FaultRule, Options, Simulator};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn start() -> Simulator {
    let options = Options { tls_listen: Some(([127, 0, 0, 1], 0).into()), ..Options::default() };
    Simulator::start(options).unwrap()
}

fn connect(simulator: &Simulator, ca: &Path, name: &str) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = Client::connect(simulator.tls_address().unwrap()).stream;
    Client { stream: StreamOwned::new(connection, socket) }
}

#[test]
fn a_client_that_trusts_the_written_ca_is_served_by_name_and_by_address() {
    let simulator = start();
    let ca = simulator.ca_pem_path().unwrap();
    for name in ["localhost", "127.0.0.1"] {
        let mut client = connect(&simulator, ca, name);
        assert_eq!(client.send(&message("+5511900000000", name)).status, 200);
        assert_eq!(client.send(&message("+5511900000000", name)).status, 200);
        assert_eq!(simulator.accepted(name), 2);
    }
    assert_eq!(simulator.stats().connections, 2);
}

#[test]
fn an_ordinary_http_client_is_served_too() {
    let simulator = start();
    let pem = fs::read(simulator.ca_pem_path().unwrap()).unwrap();
    let ca = ureq::tls::Certificate::from_pem(&pem).unwrap();
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::new_with_certs(&[ca])).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = simulator.tls_url().unwrap();
    let response = agent
        .post(format!("{url}/v25.0/1/messages"))
        .header("authorization", "Bearer t")
        .send_json(message("+5511900000000", "ureq"))
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(simulator.accepted("ureq"), 1);
}

#[test]
fn a_client_that_trusts_another_ca_is_not() {
    let (simulator, other) = (start(), start());
    let mut client = connect(&simulator, other.ca_pem_path().unwrap(), "localhost");
    let sock = &mut client.stream.sock;
    let refused = client.stream.conn.complete_io(sock).unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    common::wait_until("failure counted", || simulator.stats().tls_failures == 1);
}

#[test]
fn plain_http_on_the_tls_port_is_no_http_answer() {
    let simulator = start();
    let mut client = Client::connect(simulator.tls_address().unwrap());
    client.write_message(&message("+5511900000000", "q"));
    let (bytes, _) = client.drain();
    assert!(!bytes.starts_with(b"HTTP"));
    assert_eq!(simulator.stats().accepted, 0);
}

#[test]
fn a_reset_under_tls_is_a_tcp_reset_without_a_goodbye() {
    let simulator = start();
    let rule = FaultRule::always(Action::ResetAfterAccept);
    simulator.set_faults(vec![rule]).unwrap();
    let ca = simulator.ca_pem_path().unwrap().to_owned();
    let mut client = connect(&simulator, &ca, "localhost");
    client.write_message(&message("+5511900000000", "q"));
    let (bytes, ended) = client.drain();
    assert_eq!(bytes, b"");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(simulator.accepted("q"), 1);
}

#[test]
fn the_ca_is_written_where_asked_for_and_only_the_ca() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        listen: None,
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        tls_dir: Some(dir.path().join("tls")),
        ..Options::default()
    };
    let simulator = Simulator::start(options).unwrap();
    assert!(simulator.url().starts_with("https://127.0.0.1:"));
    let ca = simulator.ca_pem_path().unwrap().to_owned();
    assert_eq!(ca, dir.path().join("tls/ca.pem"));
    let files = fs::read_dir(dir.path().join("tls")).unwrap();
    assert_eq!(files.count(), 1);
    let pem = fs::read_to_string(&ca).unwrap();
    assert!(!pem.contains("PRIVATE KEY"));
    simulator.stop();
    assert!(ca.exists(), "a directory of the user's is left alone");
}

#[test]
fn a_directory_of_the_simulators_own_goes_with_it() {
    let simulator = start();
    let ca = simulator.ca_pem_path().unwrap().to_owned();
    assert!(ca.exists());
    simulator.stop();
    assert!(!ca.exists() && !ca.parent().unwrap().exists());
}
