//! What the integration tests stand on: a real PostgreSQL server in a temporary directory, the
//! installed extension, and the Graph simulator.
//!
//! - [`programs`] finds the server's programs (`PG_CONFIG`) and runs them as the right user;
//! - [`keeper`] makes sure that no server outlives the test run;
//! - [`processes`] is what the kernel says about them;
//! - [`scratch`] has its directories;
//! - [`cluster`] starts, stops and crashes servers; [`copies`] makes standbys, dumps and upgrades;
//! - [`database`] gives each test a database of its own, [`session`] speaks SQL to it;
//! - [`fixtures`] has the organizers and templates that most tests need;
//! - [`relay`] is a wire that can be cut, [`wall_clock`] a server's clock that can be set;
//! - [`arrivals`] says how densely messages arrived;
//! - [`wait`] waits for a condition instead of sleeping.
//!
//! The tests see what a client sees: nothing here links the extension.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod arrivals;
pub mod cluster;
pub mod copies;
pub mod database;
pub mod fixtures;
pub mod keeper;
pub mod processes;
pub mod programs;
pub mod relay;
pub mod scratch;
pub mod session;
pub mod wait;
mod wall_clock;

pub use arrivals::most_within;
pub use cluster::{Cluster, Stop};
pub use database::Database;
pub use fixtures::Organizer;
pub use relay::Relay;
pub use session::{Refusal, Session};
pub use wait::wait_until;
