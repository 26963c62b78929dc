//! Meta's WhatsApp Cloud API as plain Rust: its wire format, its rules, and a blocking client.
//!
//! Nothing here knows PostgreSQL, so that threads which send can use all of it and reach none of the server. Everything but the
//! client is arithmetic and text: clocks and random numbers come from the caller. A walk through, in the order in which a
//! message meets the modules:
//!
//! 1. [`phone`] reads what people type as a number, or says why it is none.
//! 2. [`template`] fills a template's variables in its own order; what is wrong with them is a list of [`violation`]s.
//! 3. [`message`] renders both into the body of the request.
//! 4. [`tier`] and [`pacing`] say how many people a day and which instants a phone number may be used; [`recipients`] and
//!    [`pairs`] remember who was written to, and [`eta`] says when a backlog will be done.
//! 5. [`client`] sends the body and says truthfully what became of it: an [`outcome`], one of *accepted*, *rejected*,
//!    *not sent* and *unknown*.
//! 6. [`errors`] says what a rejection means, what to do about it, and whether the message may be tried again;
//!    [`retry`] says when, and [`throttle`] how much slower a phone number goes that was too fast.
//! 7. [`signature`] checks that a webhook, which tells how the message fared afterwards, comes from Meta; [`webhook`] reads it.
//!
//! ```
//! use cloud_api::{ParameterFormat, PhoneNumber, Template, template_message};
//! use serde_json::json;
//!
//! let to = PhoneNumber::parse("+55 (11) 98765-4321")?.number;
//! let names = vec!["attendee_name".to_owned(), "event_name".to_owned()];
//! let template = Template::new("event_reminder", "en_US", "Hi {{1}}, {{2}} starts soon.", names, ParameterFormat::Positional)?;
//!
//! let values = json!({"event_name": "Expo", "attendee_name": "Ana"});
//! let values = values.as_object().cloned().unwrap_or_default();
//! let parameters = template.fill(&values).map_err(|violations| violations[0].to_string())?;
//! assert_eq!(template.preview(&values).as_deref(), Ok("Hi Ana, Expo starts soon."));
//!
//! let body = template_message(&to, &template, &parameters, "queue:42");
//! assert!(body.contains(r#""to":"+5511987654321""#));
//!
//! // What is wrong is said in words.
//! let violations = template.check(&serde_json::Map::new()).unwrap_err();
//! assert_eq!(violations[0].to_string(), r#"variable "attendee_name" ({{1}}) is missing: give it a value"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod admission;
pub mod client;
mod error_table;
pub mod errors;
pub mod eta;
pub mod gate;
mod guard;
pub mod holds;
pub mod message;
pub mod outcome;
pub mod pacing;
pub mod pairs;
pub mod phone;
mod placeholder;
pub mod recipients;
mod resolver;
pub mod retry;
pub mod signature;
pub mod template;
pub mod throttle;
pub mod tier;
mod transport;
pub mod violation;
pub mod webhook;

pub use client::{Attempt, Call, Client, ClientConfig, ClientError};
pub use errors::{Reaction, Rule};
pub use eta::{Backlog, DayLimit, Eta, LimitedBy};
pub use message::template_message;
pub use outcome::{GraphError, Outcome, Phase, TransportError, parse_response};
pub use pacing::{Pace, Slice};
pub use pairs::Pairs;
pub use phone::{Parsed, PhoneError, PhoneNumber};
pub use recipients::{Recipient, Recipients};
pub use retry::Backoff;
pub use template::{Parameter, ParameterFormat, Template, TemplateError};
pub use throttle::Throttle;
pub use tier::Tier;
pub use violation::{Problem, Violation};
