//! Listeners and connections: from a TCP socket to requests, and from a broken answer back to the socket.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::Break;
use crate::router;
use crate::state::State;

/// Connections that may wait for being accepted: a sender opens a thousand at once.
const BACKLOG: u32 = 4096;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What the garbage fault writes.
const GARBAGE: &[u8] = b"\x00\xff\xfe\x15\x03 this is not HTTP\x00\r\n\r\n\x80\x80";

/// Opens a listening socket; needs the runtime's context.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A simulator that restarts on its port must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(stream, peer, tls.clone(), Arc::clone(&state)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let _open = state.connections.enter();
    // Without it small answers may wait for the client's acknowledgement. Failing is harmless.
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else {
        return serve(stream, peer, state).await;
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, peer, state).await,
        Ok(Err(_)) | Err(_) => {
            state.tls_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A stream whose TCP connection can be reset.
trait Resettable: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Resettable for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Resettable for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn serve<S: Resettable + 'static>(stream: S, peer: SocketAddr, state: Arc<State>) {
    let mut http = http1::Builder::new();
    if let Some(idle) = state.options.idle_timeout {
        // hyper's timer for the head of a request also runs while a kept connection is idle.
        http.timer(TokioTimer::new()).header_read_timeout(idle);
    }
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(router::route(Arc::clone(&state), peer, request))
    });
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    let how = ended.err().and_then(|error| error.source()?.downcast_ref::<Break>().copied()).unwrap_or(Break::Close);
    // The client may be gone already; then there is nothing left to say.
    match how {
        Break::Reset => {
            // A close with linger zero sends RST, and drops what is unsent.
            drop(stream.tcp().set_zero_linger());
        }
        Break::Garbage => {
            drop(stream.write_all(GARBAGE).await);
            drop(stream.shutdown().await);
        }
        Break::Close => drop(stream.shutdown().await),
    }
}
