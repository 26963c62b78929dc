//! The client and servers that behave: what goes out, what comes back, where nothing goes, and which settings are refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod support;

use cloud_api::client::{Call, Client, ClientConfig, ClientError};
use cloud_api::errors::Reaction;
use cloud_api::outcome::TransportError;
use std::io::{Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    ACCEPTED, Server, TOKEN, accepted, answer, config, is_accepted, not_sent, read_request, rejected, send, unknown,
};

// What goes out and what comes back ---------------------------------------------------------------------------------

#[test]
fn the_request_is_what_meta_documents_and_nothing_more() {
    let (sender, requests) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |mut stream, _| {
        let request = read_request(&mut stream).unwrap();
        sender.lock().unwrap().send((request.head, request.body)).unwrap();
        stream.write_all(accepted().as_bytes()).unwrap();
    });
    let (attempt, written) = send(&server.client());
    assert!(is_accepted(&attempt.outcome) && written);
    let (head, body) = requests.recv().unwrap();
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "POST /v25.0/1234567890/messages HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: application/json",
            &format!("authorization: Bearer {TOKEN}"),
            "content-length: 11",
            "content-type: application/json",
            &format!("host: {}", server.address),
            "user-agent: whatsapp_pg/test",
        ]
    );
    assert_eq!(body, br#"{"to":"+1"}"#);
}

#[test]
fn status_version_trace_and_retry_after_are_reported() {
    let headers = "Facebook-API-Version: v24.0\r\nX-FB-Trace-ID: Bq1\r\nRetry-After: 7\r\n";
    let server = Server::answering(answer("200 OK", headers, ACCEPTED));
    let (attempt, _) = send(&server.client());
    assert_eq!((attempt.http_status, attempt.api_version.as_deref()), (Some(200), Some("v24.0")));
    assert_eq!((attempt.fbtrace_id.as_deref(), attempt.retry_after), (Some("Bq1"), Some(Duration::from_secs(7))));
    assert!(attempt.latency > Duration::ZERO);

    let body = r#"{"error":{"code":131056,"message":"slow","fbtrace_id":"Az8"}}"#;
    let server = Server::answering(answer("400 Bad Request", "Retry-After: soon\r\n", body));
    let (attempt, _) = send(&server.client());
    assert_eq!((attempt.fbtrace_id.as_deref(), attempt.retry_after), (Some("Az8"), None));
    assert_eq!(rejected(attempt.outcome).rule.reaction, Reaction::HoldPair);
}

#[test]
fn the_id_of_a_number_cannot_change_the_path() {
    let (sender, heads) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |mut stream, _| {
        while let Some(request) = read_request(&mut stream) {
            sender.lock().unwrap().send(request.head).unwrap();
            stream.write_all(accepted().as_bytes()).unwrap();
        }
    });
    let client = server.client();
    for (id, path) in
        [("../me", "%2E%2E%2Fme"), ("1?x=1#y", "1%3Fx%3D1%23y"), ("é\r\n", "%C3%A9%0D%0A"), ("..", "%2E%2E")]
    {
        let written = AtomicBool::new(false);
        let attempt =
            client.send(&Call { phone_number_id: id, token: TOKEN, body: "{}", written: &written, gate: None });
        assert!(is_accepted(&attempt.outcome));
        assert!(heads.recv().unwrap().starts_with(&format!("POST /v25.0/{path}/messages HTTP/1.1\r\n")));
    }
}

#[test]
fn chunked_and_connection_delimited_answers_are_read() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &ACCEPTED[..5],
        ACCEPTED.len() - 5,
        &ACCEPTED[5..]
    );
    let server = Server::answering(chunked);
    let client = server.client();
    for _ in 0..3 {
        assert!(is_accepted(&send(&client).0.outcome));
    }
    assert_eq!(server.connections(), 1);

    let server = Server::start(|mut stream, _| {
        read_request(&mut stream);
        write!(stream, "HTTP/1.0 200 OK\r\n\r\n{ACCEPTED}").unwrap();
    });
    assert!(is_accepted(&send(&server.client()).0.outcome));
}

// Connections -------------------------------------------------------------------------------------------------------

#[test]
fn a_connection_is_used_again() {
    let server = Server::answering(accepted());
    let client = server.client();
    for _ in 0..20 {
        assert!(is_accepted(&send(&client).0.outcome));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_not_used_again() {
    let (sender, closed) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |mut stream, _| {
        read_request(&mut stream);
        stream.write_all(accepted().as_bytes()).unwrap();
        drop(stream);
        sender.lock().unwrap().send(()).unwrap();
    });
    let client = server.client();
    for connection in 1..=5 {
        assert!(is_accepted(&send(&client).0.outcome));
        closed.recv().unwrap();
        assert_eq!(server.connections(), connection);
    }
}

#[test]
fn an_answer_with_something_behind_it_does_not_spoil_the_next() {
    let server =
        Server::answering(format!("{}{}", accepted(), answer("200 OK", "", r#"{"messages":[{"id":"forged"}]}"#)));
    let client = server.client();
    for _ in 0..5 {
        assert!(is_accepted(&send(&client).0.outcome));
    }
}

#[test]
fn many_threads_share_a_client() {
    let server = Server::answering(accepted());
    let client = server.client();
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(is_accepted(&send(&client).0.outcome));
                }
            });
        }
    });
    assert!(server.connections() <= 32, "{} connections", server.connections());
}

#[test]
fn proxy_variables_of_the_environment_are_not_read() {
    // In a process of its own, whose environment points to a proxy that is not there.
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_connection_is_used_again"])
        .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, "http://127.0.0.1:1")))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && output.contains("1 passed"), "{output}");
}

// Nothing goes astray -----------------------------------------------------------------------------------------------

#[test]
fn a_redirect_is_not_followed() {
    let other = Server::answering(accepted());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: {}/v25.0/1/messages\r\n", other.url());
        let server = Server::answering(answer(status, &location, ""));
        let (attempt, _) = send(&server.client());
        assert_eq!(rejected(attempt.outcome).rule.name, "HTTP redirect");
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn nothing_that_can_be_printed_contains_the_token() {
    let written = AtomicBool::new(false);
    let call = Call { phone_number_id: "1", token: TOKEN, body: "personal", written: &written, gate: None };
    let server = Server::answering(answer("401 Unauthorized", "", ""));
    let client = server.client();
    let attempt = client.send(&call);
    let printed = format!("{call:?} {client:?} {attempt:?}");
    assert!(!printed.contains("secret") && !printed.contains("personal"), "{printed}");
}

#[test]
fn shutting_down_ends_calls_under_way_and_refuses_new_ones() {
    let (sender, arrived) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |mut stream, _| {
        read_request(&mut stream);
        sender.lock().unwrap().send(()).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let client = Arc::new(server.client());
    let caller = {
        let client = Arc::clone(&client);
        thread::spawn(move || send(&client))
    };
    arrived.recv().unwrap();
    let start = Instant::now();
    client.shutdown();
    let (attempt, written) = caller.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(matches!(unknown(attempt.outcome), TransportError::Broken(_)) && written);
    let (attempt, written) = send(&client);
    assert!(matches!(not_sent(attempt.outcome), TransportError::Connect(_)) && !written);
}

// Settings ----------------------------------------------------------------------------------------------------------

fn refusal(change: impl FnOnce(&mut ClientConfig)) -> ClientError {
    let mut config = config("https://graph.facebook.com");
    change(&mut config);
    Client::new(config).unwrap_err()
}

#[test]
fn addresses_that_a_token_must_not_go_to_are_refused() {
    let url = |url: &str| refusal(|config| config.base_url = url.to_owned());
    for bad in [
        "",
        "graph.facebook.com",
        "https://",
        "ftp://graph.facebook.com",
        "https://graph.facebook.com?x=1",
        "https://graph.facebook.com/#x",
        "https://a b",
        "/path",
    ] {
        assert!(matches!(url(bad), ClientError::BadUrl { .. }), "{bad}");
    }
    for insecure in
        ["http://graph.facebook.com", "http://10.0.0.1", "http://localhost.example.com", "http://[2001:db8::1]"]
    {
        assert!(matches!(url(insecure), ClientError::Insecure(_)), "{insecure}");
    }
    let error = url("https://user:password@graph.facebook.com").to_string();
    assert!(error.contains("credentials") && !error.contains("password"), "{error}");
    for good in [
        "https://graph.facebook.com/",
        "http://localhost:8080",
        "http://127.0.0.1:1/base",
        "http://[::1]:5",
        "https://proxy.example/graph",
    ] {
        assert!(Client::new(config(good)).is_ok(), "{good}");
    }
}

#[test]
fn versions_agents_limits_and_certificates_are_checked() {
    for bad in ["", "25.0", "v25", "v25.", "v25.0/..", "v2५.0", "v25.0.1", "vv1.0"] {
        assert_eq!(refusal(|config| config.version = bad.to_owned()), ClientError::BadVersion(bad.to_owned()));
    }
    assert_eq!(refusal(|config| config.user_agent = "a\nb".to_owned()), ClientError::BadUserAgent);
    assert_eq!(refusal(|config| config.connect_timeout = Duration::ZERO), ClientError::ZeroTimeout("connect_timeout"));
    assert_eq!(refusal(|config| config.request_timeout = Duration::ZERO), ClientError::ZeroTimeout("request_timeout"));
    for pem in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n",
    ] {
        let error = refusal(|config| config.ca_pem = Some(pem.as_bytes().to_vec()));
        assert!(matches!(error, ClientError::BadCertificates(_)), "{pem}");
    }
}

#[test]
fn limits_beyond_reason_do_no_harm() {
    let server = Server::answering(accepted());
    let limits =
        ClientConfig { connect_timeout: Duration::MAX, request_timeout: Duration::MAX, ..config(&server.url()) };
    assert!(is_accepted(&send(&Client::new(limits).unwrap()).0.outcome));
}
