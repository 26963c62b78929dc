//! Integration tests by topic. Each file is one surface or one promise; test names are sentences.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod batch;
mod copies;
mod ddl;
mod doctor;
mod enqueue;
mod explain;
mod fanout;
mod install;
mod outcomes;
mod refusals;
mod secrets;
mod settings;
mod tenants;
mod upgrade_server;
mod wire;
mod worker;
mod worker_crash;
