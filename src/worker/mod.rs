//! The processes: what runs where.
//!
//! ```text
//! postmaster ── launcher (static, shared catalogs only)
//!                  └── one drainer per database that has the extension ── sender threads (HTTP, no Postgres)
//! backend ───── wa_process_batch() ── batch worker (dynamic, one pass, same loop) ── sender threads
//! ```
//!
//! - [`launcher`] finds databases and keeps their drainers alive.
//! - [`drainer`] is the process that serves one database until it must go.
//! - [`batch`] is one pass on request, and what the backend that asked for it does.
//! - [`drain`] is the loop body both share: record, claim, hand over.
//! - [`admit`] is one organizer's claim under all limits; [`lanes`] knows who has something due, [`memory`] what was read
//!   of them a moment ago; [`rescue`] finds what dead workers left.
//! - [`clock`] notices that the machine's clock was set.
//! - [`verdict`] turns Meta's answer into the row's next state.
//! - [`pool`] holds the sender threads, [`timetable`] what they wait for; nothing in them can reach Postgres.
//! - [`session`] connects and pins the settings the promises rely on; [`signals`] ends the process in time.

pub mod admit;
pub mod batch;
pub mod clock;
pub mod drain;
pub mod drainer;
pub mod lanes;
pub mod launcher;
pub mod memory;
pub mod pool;
pub mod rescue;
pub mod session;
pub mod signals;
pub mod timetable;
pub mod verdict;
