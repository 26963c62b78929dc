//! A wire between a server and the simulator that can be cut: the port stays the same, what the simulator counted stays
//! counted, and whoever connects meanwhile is refused, as when Meta cannot be reached.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Passes connections on to another address of this machine, until it is cut or dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    upstream: SocketAddr,
    gate: Mutex<Option<Gate>>,
}

/// An open port and the connections that came through it.
#[derive(Debug)]
struct Gate {
    is_closed: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<Arc<TcpStream>>>>,
    thread: JoinHandle<()>,
}

impl Relay {
    /// Opens a free port that leads to `upstream`.
    pub fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Self { address, upstream, gate: Mutex::new(Some(Gate::open(listener, upstream))) }
    }

    /// Base URL for plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Resets every connection; new ones are refused until [`Self::mend`].
    pub fn cut(&self) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gate) = gate {
            gate.close(self.address);
        }
    }

    /// Lets connections through again; nothing happens when the wire is whole.
    pub fn mend(&self) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.is_none() {
            let listener = TcpListener::bind(self.address).expect("nobody else takes the port so soon");
            *gate = Some(Gate::open(listener, self.upstream));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Gate {
    fn open(listener: TcpListener, upstream: SocketAddr) -> Self {
        let is_closed = Arc::new(AtomicBool::new(false));
        let streams = Arc::default();
        let (closed, passing) = (Arc::clone(&is_closed), Arc::clone(&streams));
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if closed.load(Ordering::SeqCst) {
                    break;
                }
                // An upstream that is gone shows to the client as a connection that ends at once.
                if let Ok(server) = TcpStream::connect(upstream) {
                    pass(client, server, &passing);
                }
            }
        });
        Self { is_closed, streams, thread }
    }

    fn close(self, address: SocketAddr) {
        self.is_closed.store(true, Ordering::SeqCst);
        // The thread waits for a connection: this one tells it to look at the flag.
        drop(TcpStream::connect(address));
        drop(self.thread.join());
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            end(&stream);
        }
    }
}

/// Copies both ways until one side ends, then ends the other as it did.
fn pass(client: TcpStream, server: TcpStream, streams: &Mutex<Vec<Arc<TcpStream>>>) {
    let [client, server] = [client, server].map(|stream| {
        drop(stream.set_nodelay(true));
        Arc::new(stream)
    });
    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
    // What only this list knows any more has ended.
    streams.retain(|stream| Arc::strong_count(stream) > 1);
    streams.extend([Arc::clone(&client), Arc::clone(&server)]);
    drop(streams);
    for (from, to) in [(Arc::clone(&client), Arc::clone(&server)), (server, client)] {
        thread::spawn(move || match io::copy(&mut &*from, &mut &*to) {
            Ok(_) => drop(to.shutdown(Shutdown::Write)),
            Err(_) => [&from, &to].into_iter().for_each(|stream| end(stream)),
        });
    }
}

/// Ends a connection with a reset. Its descriptor is closed by the last who holds it; the reader is told now.
fn end(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a structure of the size given, and the descriptor is open.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
    drop(stream.shutdown(Shutdown::Read));
}
