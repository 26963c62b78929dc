//! The client and servers that misbehave or vanish: whether it says truthfully that a message may have left.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod support;

use cloud_api::client::Call;
use cloud_api::errors::Reaction;
use cloud_api::outcome::{Phase, TransportError};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use support::{
    Server, TOKEN, accepted, answer, client, hasty, not_sent, read_request, rejected, send, send_hastily, unknown,
};

// Not sent ----------------------------------------------------------------------------------------------------------

#[test]
fn a_refused_connection_means_not_sent() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (attempt, written) = send(&client(&format!("http://{address}")));
    let error = not_sent(attempt.outcome);
    assert!(matches!(&error, TransportError::Connect(text) if text.contains("refused")), "{error:?}");
    assert!(!written);
    assert_eq!(attempt.http_status, None);
}

#[test]
fn a_name_without_address_means_not_sent() {
    let (attempt, written) = send(&hasty("https://no-such-host.invalid"));
    let error = not_sent(attempt.outcome);
    // A slow name server may take longer than the call has.
    let slow = TransportError::Timeout { phase: Phase::Resolve, limit: Duration::from_millis(500) };
    assert!(matches!(&error, TransportError::Resolve(_)) || error == slow, "{error:?}");
    assert!(!written);
}

#[test]
fn a_call_that_was_taken_back_writes_nothing() {
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |mut stream, _| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        sender.lock().unwrap().send(bytes).unwrap();
    });
    let written = AtomicBool::new(false);
    assert!(!written.swap(true, Ordering::SeqCst), "taken back before it started");
    let attempt =
        server.client().send(&Call { phone_number_id: "1", token: TOKEN, body: "{}", written: &written, gate: None });
    assert_eq!(not_sent(attempt.outcome), TransportError::Revoked);
    assert_eq!(received.recv().unwrap(), b"");
}

#[test]
fn what_cannot_be_a_request_is_not_sent_and_not_shown() {
    let server = Server::answering(accepted());
    let client = server.client();
    let cases = [("", TOKEN), ("1", ""), ("1", "  "), ("1", "EAAG-very\nsecret"), ("1", "EAAG-very-secret\u{0}")];
    for (phone_number_id, token) in cases {
        let written = AtomicBool::new(false);
        let attempt = client.send(&Call { phone_number_id, token, body: "{}", written: &written, gate: None });
        let error = not_sent(attempt.outcome);
        assert!(matches!(error, TransportError::BadRequest(_)), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(!written.load(Ordering::SeqCst));
    }
    let long = "9".repeat(70_000);
    let attempt = client.send(&Call {
        phone_number_id: &long,
        token: TOKEN,
        body: "{}",
        written: &AtomicBool::new(false),
        gate: None,
    });
    assert!(matches!(not_sent(attempt.outcome), TransportError::BadRequest(_)));
    assert_eq!(server.connections(), 0);
}

// Unknown -----------------------------------------------------------------------------------------------------------

#[test]
fn a_connection_closed_after_the_request_means_unknown() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream);
    });
    let (attempt, written) = send(&server.client());
    assert!(matches!(unknown(attempt.outcome), TransportError::Broken(_)));
    assert!(written);
}

#[test]
fn a_connection_reset_in_the_middle_of_the_request_means_unknown() {
    let server = Server::start(|mut stream, _| {
        // What is left unread turns the close into a reset.
        let mut some = [0; 10];
        stream.read_exact(&mut some).unwrap();
    });
    let (attempt, written) = send(&server.client());
    assert!(matches!(unknown(attempt.outcome), TransportError::Broken(_)));
    assert!(written);
}

#[test]
fn a_server_that_never_answers_means_unknown_at_the_deadline() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let (attempt, written) = send_hastily(&hasty(&server.url()));
    assert_eq!(
        unknown(attempt.outcome),
        TransportError::Timeout { phase: Phase::Read, limit: Duration::from_millis(500) }
    );
    assert!(written);
}

/// A server that sends its answer one byte at a time, slowly, for ever.
fn dripping(start: &'static str, drop: &'static str) -> Server {
    Server::start(move |mut stream, _| {
        read_request(&mut stream);
        if stream.write_all(start.as_bytes()).is_err() {
            return;
        }
        for byte in drop.bytes().cycle() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn a_dripping_head_ends_at_the_deadline() {
    let server = dripping("HTTP/1.1 200 OK\r\n", "x: yyyyyyyy\r\n");
    let (attempt, _) = send_hastily(&hasty(&server.url()));
    assert!(matches!(unknown(attempt.outcome), TransportError::Timeout { phase: Phase::Read, .. }));
}

#[test]
fn a_dripping_body_ends_at_the_deadline() {
    for start in [
        "HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 503 Slow\r\ntransfer-encoding: chunked\r\n\r\nf000\r\n",
    ] {
        let server = dripping(start, " ");
        let (attempt, _) = send_hastily(&hasty(&server.url()));
        assert!(attempt.http_status.is_some());
        assert!(matches!(unknown(attempt.outcome), TransportError::Timeout { phase: Phase::Read, .. }), "{start}");
    }
}

#[test]
fn garbage_means_unknown() {
    for garbage in [
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/9.9 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream);
            let _ = stream.write_all(garbage.as_bytes());
        });
        let error = unknown(send(&server.client()).0.outcome);
        assert!(matches!(error, TransportError::Broken(_) | TransportError::Answer { .. }), "{garbage:?}: {error:?}");
    }
}

#[test]
fn an_endless_head_or_body_is_cut_off() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x-more: and more\r\n").is_ok() {}
    });
    assert!(matches!(unknown(send(&server.client()).0.outcome), TransportError::Broken(_)));

    for (status, is_unknown) in [("200 OK", true), ("500 Bad", true), ("400 Bad Request", false)] {
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream);
            let _ = write!(stream, "HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
            while stream.write_all(b"4\r\naaaa\r\n").is_ok() {}
        });
        let (attempt, _) = send(&server.client());
        match is_unknown {
            true => assert!(matches!(unknown(attempt.outcome), TransportError::Answer { .. })),
            false => assert!(rejected(attempt.outcome).rule.retryable),
        }
    }
}

#[test]
fn a_body_that_breaks_off_is_unknown_after_success_and_a_refusal_after_4xx() {
    let cut = |status: &'static str| {
        Server::start(move |mut stream, _| {
            read_request(&mut stream);
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 500\r\n\r\n{{\"messages\":").unwrap();
        })
    };
    let server = cut("200 OK");
    assert!(matches!(unknown(send(&server.client()).0.outcome), TransportError::Broken(_)));
    let server = cut("400 Bad Request");
    let (attempt, _) = send(&server.client());
    assert_eq!(attempt.http_status, Some(400));
    assert_eq!(rejected(attempt.outcome).rule.reaction, Reaction::Retry);
}

#[test]
fn the_page_of_a_gateway_means_unknown() {
    let server =
        Server::answering(answer("502 Bad Gateway", "content-type: text/html\r\n", "<h1>502 Bad Gateway</h1>"));
    let (attempt, written) = send(&server.client());
    assert_eq!(attempt.http_status, Some(502));
    assert!(unknown(attempt.outcome).to_string().contains("502 Bad Gateway") && written);
}
