//! A raw HTTP client over any stream, so that tests see what is really on the socket, and message bodies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a test fails by panicking; each test file uses its own part"
)]

pub mod receiver;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use graph_simulator::{Options, Simulator};
use serde_json::{Value, json};

/// The sender of all tests that do not need a certain one.
pub const NUMBER: &str = "106540352242922";
pub const TOKEN: &str = "EAAG-test-token";

pub fn start() -> Simulator {
    Simulator::start(Options::default()).unwrap()
}

/// A template message with an id of the sender's own.
pub fn message(to: &str, id: &str) -> Value {
    json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": "template",
        "biz_opaque_callback_data": id,
        "template": {
            "name": "order_update",
            "language": {"policy": "deterministic", "code": "pt_BR"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "Maria"}]}
            ]
        }
    })
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn code(&self) -> Option<i64> {
        self.json()["error"]["code"].as_i64()
    }

    pub fn details(&self) -> String {
        let body = self.json();
        let details = body["error"]["error_data"]["details"].as_str();
        details.unwrap_or_default().to_owned()
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn to(simulator: &Simulator) -> Self {
        Self::connect(simulator.address().unwrap())
    }
}

impl<S: Read + Write> Client<S> {
    pub fn write(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn write_message(&mut self, body: &Value) {
        self.write(
            "POST",
            &format!("/v25.0/{NUMBER}/messages"),
            &[("authorization", &format!("Bearer {TOKEN}")), ("content-type", "application/json")],
            body.to_string().as_bytes(),
        );
    }

    /// One response by its content length; an error when the connection ends before.
    pub fn read(&mut self) -> io::Result<Response> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: BTreeMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Response { status: status.parse().unwrap(), headers, body })
    }

    pub fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.write(method, path, headers, body);
        self.read().unwrap()
    }

    pub fn send(&mut self, body: &Value) -> Response {
        self.write_message(body);
        self.read().unwrap()
    }

    /// Everything until the connection ends, and how it ended.
    pub fn drain(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let ended = self.stream.read_to_end(&mut bytes).map(drop);
        (bytes, ended)
    }
}

/// A free-form text with an id of the sender's own.
pub fn text(to: &str, id: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "to": to, "type": "text", "biz_opaque_callback_data": id,
        "text": {"body": "Oi"}
    })
}

/// Members `key` of the values of a webhook, such as `statuses`, in order.
pub fn updates(body: &str, key: &str) -> Vec<Value> {
    let body: Value = serde_json::from_str(body).unwrap();
    let values = body["entry"].as_array().unwrap().iter().flat_map(|entry| entry["changes"].as_array().unwrap());
    values.filter_map(|change| change["value"][key].as_array()).flatten().cloned().collect()
}

/// The names of all statuses in a webhook, in order.
pub fn statuses(body: &str) -> Vec<String> {
    updates(body, "statuses").iter().map(|status| status["status"].as_str().unwrap().to_owned()).collect()
}

/// What HMAC-SHA256 over `body` makes of the header.
pub fn signature(secret: &str, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// Waits for a condition that another thread brings about.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
