//! The short form of `make chaos`: fixed seeds, in a program of its own that prints what happened when it fails.

use std::process::Command;

use harness::programs::finish;

#[test]
fn no_message_is_lost_or_sent_twice_whatever_is_killed_and_whatever_breaks() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.arg("--short").env_remove("SEED").env_remove("KILLS");
    finish(chaos);
}
