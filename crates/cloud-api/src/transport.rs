//! Connections that know whose call they serve: every byte out and every wait for a byte in passes the [`guard`](crate::guard).
//!
//! ureq's own TCP and rustls connections do the work. Around them: leave to write is asked for before the first byte of a
//! request (the TLS handshake is none), and every wait is cut to what is left of the call, so that a server that sends one
//! byte a second cannot stretch a call beyond its limit.

use std::sync::Arc;

use crate::guard::{self, Stage};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

/// Opens a connection, TCP and then TLS if the address says so. Clones share the TLS configuration, which is read once.
#[derive(Debug, Default, Clone)]
pub(crate) struct GuardedConnector {
    tcp: Arc<TcpConnector>,
    tls: Arc<RustlsConnector>,
}

impl Connector<()> for GuardedConnector {
    type Out = Guarded<<RustlsConnector as Connector<<TcpConnector as Connector<()>>::Out>>::Out>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        guard::enter(Stage::Connect);
        let connection = self.tcp.connect(&within_limits(details)?, chained)?;
        guard::enter(Stage::Tls);
        let connection = self.tls.connect(&within_limits(details)?, connection)?;
        Ok(connection.map(Guarded))
    }
}

/// The same details with what is left of the call as timeout, counted from now.
fn within_limits<'a>(details: &ConnectionDetails<'a>) -> Result<ConnectionDetails<'a>, Error> {
    let mut addrs = details.resolver.empty();
    for address in &details.addrs {
        addrs.push(*address);
    }
    Ok(ConnectionDetails {
        uri: details.uri,
        addrs,
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: (details.current_time)(),
        timeout: guard::cut(details.timeout)?,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    })
}

/// A connection under guard.
#[derive(Debug)]
pub(crate) struct Guarded<T>(T);

impl<T: Transport> Transport for Guarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // Out of time is found out before the flag is set, and the flag lengthens the time from the connection's to the call's.
        guard::cut(timeout)?;
        guard::begin_writing()?;
        self.0.transmit_output(amount, guard::cut(timeout)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        guard::enter(Stage::Read);
        self.0.await_input(guard::cut(timeout)?)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
