//! Starting and stopping, as a library and as a program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Client, message, start};
use graph_simulator::{Error, Latency, Options, Simulator};

#[test]
fn after_stop_nobody_listens_and_open_connections_are_gone() {
    let simulator = start();
    let address = simulator.address().unwrap();
    let mut idle = Client::to(&simulator);
    idle.send(&message("+5511900000000", "q"));
    simulator.stop();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(idle.drain().0, b"");
}

#[test]
fn stop_does_not_wait_for_answers_that_are_due_later() {
    let simulator = start();
    simulator.set_latency(Latency::fixed(60_000));
    let mut client = Client::to(&simulator);
    client.write_message(&message("+5511900000000", "q"));
    common::wait_until("in flight", || simulator.stats().in_flight == 1);
    let begun = Instant::now();
    simulator.stop();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.drain().0, b"");
}

#[test]
fn a_simulator_can_be_started_again_on_the_port_of_a_stopped_one() {
    let first = start();
    let address = first.address().unwrap();
    let mut open = Client::to(&first);
    open.send(&message("+5511900000000", "q"));
    drop(first);
    let options = Options { listen: Some(address), ..Options::default() };
    let second = Simulator::start(options).unwrap();
    assert_eq!(second.url(), format!("http://{address}"));
    assert_eq!(Client::to(&second).send(&message("+5511900000000", "q")).status, 200);
}

#[test]
fn simulators_live_side_by_side() {
    let (one, two) = (start(), start());
    assert_ne!(one.url(), two.url());
    Client::to(&one).send(&message("+5511900000000", "q"));
    assert_eq!((one.accepted("q"), two.accepted("q")), (1, 0));
}

#[test]
fn starting_and_stopping_work_inside_an_async_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let simulator = start();
        assert_eq!(Client::to(&simulator).send(&message("+5511900000000", "q")).status, 200);
    });
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_allowed() {
    let refused = |listen: &str, tls_listen: Option<&str>, allow_remote| {
        let options = Options {
            listen: Some(listen.parse().unwrap()),
            tls_listen: tls_listen.map(|address| address.parse().unwrap()),
            allow_remote,
            ..Options::default()
        };
        Simulator::start(options).unwrap_err()
    };
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let error = refused("0.0.0.0:0", None, false);
    assert!(matches!(error, Error::NotLoopback(address) if address == everywhere));
    let error = refused("127.0.0.1:0", Some("[::]:0"), false);
    assert!(matches!(error, Error::NotLoopback(_)));
    // An address that no machine has (RFC 5737): being allowed, it fails only when it is bound.
    let error = refused("192.0.2.1:0", None, true);
    assert!(matches!(error, Error::Listen { .. }), "{error}");
}

#[test]
fn what_cannot_work_is_an_error_and_not_a_panic() {
    let nowhere = Options { listen: None, ..Options::default() };
    assert!(matches!(Simulator::start(nowhere), Err(Error::NoAddress)));
    let version = Options { default_version: "25".to_owned(), ..Options::default() };
    assert!(matches!(Simulator::start(version), Err(Error::Version(_))));
    let taken = start();
    let again = Options { listen: taken.address(), ..Options::default() };
    assert!(matches!(Simulator::start(again), Err(Error::Listen { .. })));
    let no_dir = Options {
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        tls_dir: Some("/dev/null/tls".into()),
        ..Options::default()
    };
    assert!(matches!(Simulator::start(no_dir), Err(Error::WriteCa { .. })));
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-simulator"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(name).arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_program_serves_and_stops_cleanly_on_either_signal() {
    for name in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let tls_dir = dir.path().to_str().unwrap();
        let mut child = program(&[
            "--listen",
            "127.0.0.1:0",
            "--tls-listen",
            "127.0.0.1:0",
            "--tls-dir",
            tls_dir,
            "--latency-ms",
            "1",
        ])
        .spawn()
        .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            out.read_line(line).unwrap();
        }
        let address = lines[0].trim().rsplit_once("http://").unwrap().1;
        assert!(lines[1].contains("https://127.0.0.1:") && lines[1].contains("ca.pem"), "{lines:?}");
        let mut client = Client::connect(address.parse().unwrap());
        assert_eq!(client.send(&message("+5511900000000", "q")).status, 200);
        signal(&child, name);
        assert!(child.wait().unwrap().success());
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("1 messages accepted"), "{rest}");
    }
}

#[test]
fn the_program_explains_itself_and_its_refusals() {
    let run = |arguments: &[&str]| -> Output { program(arguments).output().unwrap() };
    let help = run(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--latency-ms"));
    let version = run(&["--version"]);
    assert!(version.status.success() && text(&version.stdout).contains("graph-simulator"));
    let remote = run(&["--listen", "0.0.0.0:0"]);
    assert!(!remote.status.success());
    assert!(text(&remote.stderr).contains("other machines"), "{}", text(&remote.stderr));
    let unknown = run(&["--sped"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("--sped"));
}
