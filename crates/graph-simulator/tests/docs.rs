//! The examples of `docs/simulator.md` run, in their order, and answer what the page says.
//!
//! The answer of an example is its last line. In an expected answer an object may leave members out, and the string `…` stands for any value.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::start;
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/simulator.md");

/// Fenced blocks: language and text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

fn contains(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (_, Value::String(any)) if any == "…" => true,
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| actual.get(key).is_some_and(|found| contains(found, value)))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, e)| contains(a, e))
        }
        (actual, expected) => actual == expected,
    }
}

#[test]
fn every_shell_example_answers_what_the_page_says() {
    let simulator = start();
    let address = simulator.address().unwrap().to_string();
    let blocks = blocks(PAGE);
    let mut ran = 0;
    for pair in blocks.windows(2) {
        let [("sh", script), ("json", expected)] = *pair else {
            continue;
        };
        let script = script.replace("127.0.0.1:8090", &address);
        let output =
            Command::new("sh").args(["-eu", "-c", &script]).output().expect("sh runs; the examples also need curl");
        assert!(output.status.success(), "{script}\n{output:?}");
        let answers = String::from_utf8(output.stdout.clone()).unwrap();
        let last = answers.lines().last().unwrap_or_default();
        let actual: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}\n{script}\n{output:?}"));
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert!(contains(&actual, &expected), "{script}\nexpected {expected}\ngot {actual}");
        ran += 1;
    }
    let scripts = blocks.iter().filter(|(language, _)| *language == "sh").count();
    assert_eq!(ran, scripts, "a shell example without its answer");
    assert!(ran >= 10, "only {ran} examples were found");
}

#[test]
fn the_page_names_every_option_of_the_program() {
    let help = Command::new(env!("CARGO_BIN_EXE_graph-simulator")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options: Vec<_> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && !["--help,", "--version"].contains(word))
        .collect();
    assert!(options.len() > 10);
    for option in options {
        assert!(PAGE.contains(option), "{option} is not in docs/simulator.md");
    }
}
