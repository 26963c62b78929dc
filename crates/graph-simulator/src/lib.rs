//! A stand-in for Meta's Graph API, for rehearsals, tests and benchmarks of WhatsApp sending.
//!
//! It answers `POST /{version}/{phone-number-id}/messages` as strictly as Meta does, enforces Meta's
//! limits when told to and counts breaches of them in any case, injects faults by script, and counts
//! what it accepted per callback id, so that a lost or doubled message can be proven. By plan it tells
//! what becomes of messages in signed webhooks, and lets users answer.
//!
//! It is a second, independent reading of Meta's rules: it must share no code with the client that it
//! checks, so that a misreading on either side shows as a failing test instead of cancelling out.
//!
//! [`Simulator`] is the way in for programs, the binary `graph-simulator` for people. The modules under
//! `graph` hold what Meta does (bodies, templates, errors, versions); the others are the machinery of a
//! test double (limits and their breaches, faults, ledger, webhooks, control API, listeners).

mod answer;
mod clock;
mod control;
mod faults;
mod graph;
mod inbound;
mod ledger;
mod limits;
mod options;
mod recent;
mod registry;
mod reply;
mod router;
mod server;
mod simulator;
mod state;
mod stats;
mod tls;
mod traffic;
mod violations;
mod webhooks;
mod windows;

pub use faults::{Action, FaultRule, Match, StatusAnswer};
pub use inbound::{ButtonPress, Inbound};
pub use limits::Limits;
pub use options::{Latency, Options};
pub use recent::{Outcome, RecordedRequest};
pub use registry::{Account, Button, ButtonType, Header, HeaderFormat, ParameterFormat, Template, TemplateCategory};
pub use simulator::{Error, Result, Simulator};
pub use stats::{NumberStats, Stats, WebhookStats};
pub use violations::{NumberViolations, PortfolioViolations, Violations};
pub use webhooks::plan::{AsyncFailure, StatusKind, StatusStep, WebhookPlan};
pub use webhooks::wire::SignedBody;
