//! Limits over HTTP: enforced when set, counted always. Their arithmetic is tested where it is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Client, NUMBER, message};
use graph_simulator::{Account, Limits, NumberStats, Options, Simulator};

fn start(limits: Limits) -> Simulator {
    let options = Options { default_limits: limits, ..Options::default() };
    Simulator::start(options).unwrap()
}

/// Statuses and codes of sends to `count` recipients.
fn send(simulator: &Simulator, count: usize) -> Vec<(u16, Option<i64>)> {
    let mut client = Client::to(simulator);
    (0..count)
        .map(|index| {
            let to = format!("+55119{:08}", index);
            let response = client.send(&message(&to, &format!("q:{index}")));
            (response.status, response.code())
        })
        .collect()
}

fn numbers(simulator: &Simulator) -> NumberStats {
    simulator.stats().numbers[NUMBER]
}

#[test]
fn messages_above_the_rate_of_a_number_are_refused_and_counted() {
    let simulator = start(Limits { messages_per_second: Some(5), ..Limits::default() });
    // The window slides by arrival, so how many of 30 pass depends on the machine, but refusals and
    // breaches are the same thing, and the first five always pass.
    let answers = send(&simulator, 30);
    assert!(answers[..5].iter().all(|(status, _)| *status == 200));
    let refused = answers[5..].iter().filter(|answer| **answer == (400, Some(130429))).count();
    assert!(refused > 0, "30 messages took more than 5 seconds");
    let stats = numbers(&simulator);
    assert_eq!(stats.arrivals, 30);
    assert_eq!(stats.over_rate, refused as u64);
    assert_eq!(stats.accepted, 30 - refused as u64);
    assert!(stats.worst_second > 5);
    assert_eq!(simulator.stats().refused[&130429], refused as u64);
    assert_eq!(simulator.stats().violations(), refused as u64);
}

#[test]
fn count_only_refuses_nothing_and_counts_the_same() {
    let simulator =
        start(Limits { messages_per_second: Some(1), daily_recipients: Some(10), pair: true, count_only: true });
    let answers = send(&simulator, 30);
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let stats = numbers(&simulator);
    assert!(stats.over_rate > 0);
    assert_eq!(stats.over_daily, 20);
    assert_eq!(stats.accepted, 30);
}

#[test]
fn a_number_within_its_limits_has_no_breach() {
    let simulator =
        start(Limits { messages_per_second: Some(30), daily_recipients: Some(30), pair: true, count_only: false });
    let answers = send(&simulator, 30);
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(simulator.stats().violations(), 0);
    assert!(numbers(&simulator).worst_second <= 30);
}

#[test]
fn the_status_of_throttling_errors_can_be_429() {
    let options = Options {
        default_limits: Limits { messages_per_second: Some(0), ..Limits::default() },
        throttle_http_status: 429,
        ..Options::default()
    };
    let simulator = Simulator::start(options).unwrap();
    assert_eq!(send(&simulator, 1), [(429, Some(130429))]);
}

#[test]
fn a_new_recipient_above_the_daily_limit_is_refused_and_a_known_one_is_not() {
    let simulator = start(Limits { daily_recipients: Some(2), ..Limits::default() });
    let answers = send(&simulator, 3);
    assert_eq!(answers[2], (400, Some(131048)));
    assert_eq!(&send(&simulator, 3)[..2], [(200, None), (200, None)]);
    let stats = numbers(&simulator);
    assert_eq!((stats.over_daily, stats.daily_recipients), (2, 2));
}

#[test]
fn numbers_of_a_portfolio_share_the_daily_limit() {
    let simulator = start(Limits::default());
    let account = |id: &str, portfolio: Option<&str>| Account {
        phone_number_id: id.to_owned(),
        portfolio_id: portfolio.map(str::to_owned),
        limits: Some(Limits { daily_recipients: Some(1), ..Limits::default() }),
        ..Account::default()
    };
    simulator.set_accounts(vec![
        account("1", Some("p")),
        account("2", Some("p")),
        account("3", None),
        account("4", None),
    ]);
    let send = |number: &str, to: &str| {
        let headers = [("authorization", "Bearer t"), ("content-type", "application/json")];
        let body = message(to, "q").to_string();
        let path = format!("/v25.0/{number}/messages");
        Client::to(&simulator).call("POST", &path, &headers, body.as_bytes()).code()
    };
    assert_eq!(send("1", "+5511900000001"), None);
    assert_eq!(send("2", "+5511900000001"), None, "known to the portfolio");
    assert_eq!(send("2", "+5511900000002"), Some(131048));
    assert_eq!(send("3", "+5511900000002"), None, "a number of its own");
    assert_eq!(send("4", "+5511900000003"), None, "another one");
}

#[test]
fn the_46th_message_to_one_recipient_is_above_the_pair_limit() {
    for (pair, expected) in [(true, Some(131056)), (false, None)] {
        let simulator = start(Limits { pair, ..Limits::default() });
        let mut client = Client::to(&simulator);
        let codes: Vec<_> =
            (0..46).map(|index| client.send(&message("+5511900000000", &index.to_string())).code()).collect();
        assert!(codes[..45].iter().all(Option::is_none));
        assert_eq!(codes[45], expected);
        assert_eq!(numbers(&simulator).over_pair, 1, "counted in any case");
    }
}
