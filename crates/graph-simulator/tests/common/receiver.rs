//! An endpoint that takes webhooks: answers what it is told to and keeps what came.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait_until;

/// One POST.
#[derive(Debug, Clone)]
pub struct Received {
    pub head: String,
    pub body: String,
    /// Number of the connection it came over.
    pub connection: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
        line.map_or("", |line| line.split_once(": ").unwrap().1)
    }
}

/// Answers the n-th POST, counted from 0: an HTTP status, or `None` to hang up.
type Answer = dyn Fn(usize, &str) -> Option<u16> + Send + Sync;

pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    answer: Box<Answer>,
    closed: AtomicBool,
}

impl Receiver {
    pub fn start(answer: impl Fn(usize, &str) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { received: Mutex::default(), answer: Box::new(answer), closed: AtomicBool::new(false) });
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if kept.closed.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&kept);
                thread::spawn(move || serve(stream.unwrap(), connection, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks?app=1", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The POSTs once there are so many.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        wait_until("webhooks", || self.received().len() >= count);
        self.received()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, connection: usize, shared: &Shared) {
    while let Some((head, body)) = read(&mut stream) {
        let count = {
            let mut received = shared.received.lock().unwrap();
            received.push(Received { head, body: body.clone(), connection });
            received.len() - 1
        };
        let Some(status) = (shared.answer)(count, &body) else {
            return;
        };
        let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}
