//! A raw server for the client's tests: it speaks as badly as it is told to.
#![allow(dead_code, reason = "each test file uses its part")]

use cloud_api::client::{Attempt, Call, Client, ClientConfig};
use cloud_api::outcome::{GraphError, Outcome, TransportError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any test may take: no test waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TOKEN: &str = "EAAG-very-secret-token";
pub const ACCEPTED: &str = r#"{"messaging_product":"whatsapp","messages":[{"id":"wamid.1"}]}"#;

/// A listening socket whose connections are handed to a function, each on its own thread.
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// The function gets the connection and its number, from 1.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream, number));
            }
        });
        Self { address, connections }
    }

    /// A server that answers every request of a connection with the same bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream, _| {
            while read_request(&mut stream).is_some() {
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        })
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Client {
        client(&self.url())
    }
}

/// A request as it came.
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// Reads one request; `None` when the client closed or sent half a one.
pub fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&chunk[..count]),
        }
    }
    Some(Request { head, body })
}

/// An answer with a length.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub fn accepted() -> String {
    answer("200 OK", "content-type: application/json\r\n", ACCEPTED)
}

pub fn config(base_url: &str) -> ClientConfig {
    ClientConfig {
        base_url: base_url.to_owned(),
        version: "v25.0".to_owned(),
        ca_pem: None,
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        user_agent: "whatsapp_pg/test".to_owned(),
        max_idle: 100,
    }
}

pub fn client(base_url: &str) -> Client {
    Client::new(config(base_url)).unwrap()
}

/// A client that has half a second in all.
pub fn hasty(base_url: &str) -> Client {
    let limit = Duration::from_millis(500);
    Client::new(ClientConfig { connect_timeout: limit, request_timeout: limit, ..config(base_url) }).unwrap()
}

/// Sends one message; the flag tells whether a byte may have left.
pub fn send(client: &Client) -> (Attempt, bool) {
    let written = AtomicBool::new(false);
    let attempt = client.send(&Call {
        phone_number_id: "1234567890",
        token: TOKEN,
        body: r#"{"to":"+1"}"#,
        written: &written,
        gate: None,
    });
    (attempt, written.load(Ordering::SeqCst))
}

/// Sends one message and checks that it ended in about half a second.
pub fn send_hastily(client: &Client) -> (Attempt, bool) {
    let start = Instant::now();
    let result = send(client);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < PATIENCE / 2, "took {took:?}");
    result
}

pub fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { message_id, .. } if message_id == "wamid.1")
}

pub fn rejected(outcome: Outcome) -> GraphError {
    match outcome {
        Outcome::Rejected(error) => error,
        other => panic!("not rejected but {other:?}"),
    }
}

pub fn unknown(outcome: Outcome) -> TransportError {
    match outcome {
        Outcome::Unknown(error) => error,
        other => panic!("not unknown but {other:?}"),
    }
}

pub fn not_sent(outcome: Outcome) -> TransportError {
    match outcome {
        Outcome::NotSent(error) => error,
        other => panic!("not \"not sent\" but {other:?}"),
    }
}
