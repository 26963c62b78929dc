//! Integration tests by topic. Each file is one surface or one promise; test names are sentences.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod batch;
mod chaos;
mod clock;
mod copies;
mod ddl;
mod doctor;
mod enqueue;
mod explain;
mod fairness;
mod fanout;
mod holds;
mod install;
mod limits;
mod outcomes;
mod pauses;
mod refusals;
mod retry;
mod secrets;
mod settings;
mod tenants;
mod unknown;
mod upgrade_extension;
mod upgrade_server;
mod validity;
mod webhook_statuses;
mod wire;
mod worker;
mod worker_crash;
