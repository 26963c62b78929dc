//! From settings to a client of the Graph API, or what is wrong with the settings.

use cloud_api::{Client, ClientConfig};

use crate::error::{Error, Kind, Result};
use crate::settings::Settings;

/// The HTTP client these settings describe.
pub fn client(settings: &Settings, connections: usize) -> Result<Client> {
    let ca_pem = match &settings.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Error::new(Kind::ConfigFile, format!("CA file \"{path}\" cannot be read")).detail(error.to_string()).hint(
                "whatsapp_pg.ca_file names a PEM file that the server can read; empty means the built-in authorities.",
            )
        })?),
        None => None,
    };
    Client::new(ClientConfig {
        base_url: settings.graph_url.clone(),
        version: settings.graph_version.clone(),
        ca_pem,
        connect_timeout: settings.connect_timeout,
        request_timeout: settings.request_timeout,
        user_agent: format!("whatsapp_pg/{}", env!("CARGO_PKG_VERSION")),
        max_idle: connections,
    })
    .map_err(|error| {
        Error::new(Kind::ConfigFile, "the Graph API cannot be called with these settings")
            .detail(error.to_string())
            .hint("Check whatsapp_pg.graph_url, whatsapp_pg.graph_version and whatsapp_pg.ca_file.")
    })
}
