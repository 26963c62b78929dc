//! Meta's WhatsApp Cloud API: wire format, rules, blocking client.

#![forbid(unsafe_code)]

pub mod client;
mod error_table;
pub mod errors;
mod guard;
pub mod message;
pub mod outcome;
pub mod pacing;
pub mod phone;
mod placeholder;
mod resolver;
pub mod retry;
pub mod signature;
pub mod template;
pub mod tier;
mod transport;
pub mod violation;

pub use client::{Attempt, Call, Client, ClientConfig, ClientError};
pub use errors::{Reaction, Rule};
pub use message::template_message;
pub use outcome::{GraphError, Outcome, Phase, TransportError, parse_response};
pub use pacing::{Pace, Slice};
pub use phone::{Parsed, PhoneError, PhoneNumber};
pub use retry::Backoff;
pub use template::{Parameter, ParameterFormat, Template, TemplateError};
pub use tier::Tier;
pub use violation::{Problem, Violation};
