//! Messages from users, service windows, and the report of what exceeded a limit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Client, NUMBER, message, signature, updates};
use graph_simulator::{
    Account, ButtonPress, Inbound, Limits, NumberViolations, Options, PortfolioViolations, Simulator, WebhookPlan,
};
use serde_json::{Value, json};

const USER: &str = "+5511987654321";

fn start(limits: Limits) -> Simulator {
    let options =
        Options { default_limits: limits, webhooks: Some(WebhookPlan::signed_with("secret")), ..Options::default() };
    Simulator::start(options).unwrap()
}

fn code(simulator: &Simulator, to: &str) -> Option<i64> {
    Client::to(simulator).send(&message(to, "q")).code()
}

#[test]
fn a_text_of_a_user_makes_a_webhook_in_metas_shape() {
    let simulator = start(Limits::default());
    let wamid = simulator
        .receive(Inbound { name: Some("Müller".to_owned()), ..Inbound::text(NUMBER, USER, "Olá / tudo bem? 👍") })
        .unwrap();
    let webhook = simulator.take_webhooks(1).remove(0);
    assert_eq!(webhook.signature, signature("secret", &webhook.body));
    assert!(webhook.body.contains(r"Ol\u00e1 \/ tudo bem? \ud83d\udc4d"), "{}", webhook.body);
    let mut body: Value = serde_json::from_str(&webhook.body).unwrap();
    let message = &mut body["entry"][0]["changes"][0]["value"]["messages"][0];
    let timestamp = message.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(
        body["entry"][0],
        json!({"id": "0", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": NUMBER, "phone_number_id": NUMBER},
            "contacts": [{"profile": {"name": "Müller"}, "wa_id": "5511987654321", "user_id": "ZZ.5511987654321"}],
            "messages": [{"from": "5511987654321", "from_user_id": "ZZ.5511987654321", "id": wamid,
                "type": "text", "text": {"body": "Olá / tudo bem? 👍"}}]
        }}]})
    );
}

#[test]
fn buttons_other_kinds_and_hidden_phones_make_webhooks_too() {
    let simulator = start(Limits::default());
    let press = ButtonPress { payload: "stop".to_owned(), text: "Parar".to_owned() };
    simulator.receive(Inbound::button(NUMBER, USER, press, "wamid.x")).unwrap();
    let image = json!({"phone_number_id": NUMBER, "from": "BR.1234",
        "message": {"type": "image", "image": {"id": "1", "mime_type": "image/png"}}});
    simulator.receive(serde_json::from_value(image).unwrap()).unwrap();
    let webhook = simulator.take_webhooks(1).remove(0);
    let told = updates(&webhook.body, "messages");
    assert_eq!(told[0]["button"], json!({"payload": "stop", "text": "Parar"}));
    assert_eq!((&told[0]["type"], &told[0]["context"]["id"]), (&json!("button"), &json!("wamid.x")));
    assert_eq!((&told[1]["image"]["id"], &told[1]["from_user_id"]), (&json!("1"), &json!("BR.1234")));
    assert_eq!(told[1].get("from"), None);
    assert_eq!(updates(&webhook.body, "contacts")[1].get("wa_id"), None);
}

#[test]
fn an_inbound_message_that_makes_no_sense_is_refused_in_words() {
    let simulator = start(Limits::default());
    let refused = [
        Inbound::text(NUMBER, "nobody", "Oi"),
        Inbound { text: None, ..Inbound::text(NUMBER, USER, "Oi") },
        Inbound { button: Some(ButtonPress::default()), ..Inbound::text(NUMBER, USER, "Oi") },
        Inbound { text: None, message: Some(serde_json::Map::new()), ..Inbound::text(NUMBER, USER, "Oi") },
    ];
    for inbound in refused {
        simulator.receive(inbound.clone()).expect_err(&format!("{inbound:?}"));
    }
    assert_eq!((simulator.stats().numbers.len(), simulator.stats().webhooks.made), (0, 0));
}

#[test]
fn messages_from_users_fill_the_second_of_the_number() {
    let simulator = start(Limits { messages_per_second: Some(3), ..Limits::default() });
    // Six calls within the process take far less than the second that they must share.
    for _ in 0..5 {
        simulator.receive(Inbound::text(NUMBER, USER, "Oi")).unwrap();
    }
    assert_eq!(code(&simulator, USER), Some(130_429));
    let report = simulator.violations();
    let number = report.numbers[NUMBER];
    assert_eq!((number.worst_second, number.messages_per_second), (6, Some(3)));
    assert_eq!((number.over_rate, number.inbound_over_rate), (1, 2));
    assert_eq!(report.total, 1, "only the send is somebody's fault");
    assert_eq!(simulator.stats().numbers[NUMBER].inbound, 5);
}

#[test]
fn a_recipient_inside_an_open_window_does_not_count_into_the_daily_recipients() {
    let simulator = start(Limits { daily_recipients: Some(1), ..Limits::default() });
    assert_eq!(code(&simulator, "+5511900000001"), None);
    assert_eq!(code(&simulator, USER), Some(131_048));
    simulator.receive(Inbound::text(NUMBER, USER, "Oi")).unwrap();
    assert_eq!(code(&simulator, USER), None);
    assert_eq!(code(&simulator, "+5511900000002"), Some(131_048), "the window is only that user's");
    let stats = simulator.stats().numbers[NUMBER];
    assert_eq!((stats.daily_recipients, stats.over_daily), (1, 2));
    let report = simulator.violations();
    let own = PortfolioViolations { daily_recipients: Some(1), most_recipients: 1, over_daily: 2 };
    assert_eq!((report.total, report.portfolios[NUMBER]), (2, own));
}

#[test]
fn a_window_closes_24_hours_after_the_user_wrote() {
    let simulator = start(Limits { daily_recipients: Some(0), ..Limits::default() });
    let written = |ago_s| Inbound { ago_s, ..Inbound::text(NUMBER, USER, "Oi") };
    simulator.receive(written(24 * 60 * 60)).unwrap();
    assert_eq!(code(&simulator, USER), Some(131_048));
    let told = updates(&simulator.take_webhooks(1).remove(0).body, "messages");
    simulator.receive(written(24 * 60 * 60 - 600)).unwrap();
    assert_eq!(code(&simulator, USER), None, "ten minutes are left");
    let later = updates(&simulator.take_webhooks(1).remove(0).body, "messages");
    let at = |told: &[Value]| told[0]["timestamp"].as_str().unwrap().parse::<u64>().unwrap();
    assert!((600..660).contains(&(at(&later) - at(&told))));
}

#[test]
fn the_report_counts_each_limit_per_number_and_the_daily_one_per_portfolio() {
    let limits = Limits { messages_per_second: Some(1), daily_recipients: Some(2), pair: false, count_only: true };
    let simulator = start(limits);
    let account =
        |id: &str| Account { phone_number_id: id.to_owned(), portfolio_id: Some("p".to_owned()), ..Account::default() };
    simulator.set_accounts(vec![account("1"), account("2")]);
    let send = |number: &str, to: &str| {
        let headers = [("authorization", "Bearer t"), ("content-type", "application/json")];
        let path = format!("/v25.0/{number}/messages");
        let answer = Client::to(&simulator).call("POST", &path, &headers, message(to, "q").to_string().as_bytes());
        assert_eq!(answer.status, 200);
    };
    send("1", "+5511900000001");
    send("2", "+5511900000002");
    assert_eq!(simulator.violations().total, 0);
    send("2", "+5511900000003");
    for _ in 0..46 {
        send("1", "+5511900000001");
    }
    let report = simulator.violations();
    let (one, two) = (report.numbers["1"], report.numbers["2"]);
    assert_eq!((one.over_daily, two.over_daily), (0, 1));
    assert_eq!((one.over_pair, two.over_pair), (2, 0));
    assert!(one.over_rate > 0 && one.worst_second > 1 && one.worst_second_at_us > 0, "{one:?}");
    let shared = PortfolioViolations { daily_recipients: Some(2), most_recipients: 3, over_daily: 1 };
    assert_eq!(report.portfolios["p"], shared);
    assert_eq!(report.total, one.total() + two.total());
    assert_eq!(report.total, simulator.stats().violations());
}

#[test]
fn a_sender_within_its_limits_has_a_report_without_breaches() {
    let simulator =
        start(Limits { messages_per_second: Some(30), daily_recipients: Some(30), pair: true, count_only: false });
    let mut client = Client::to(&simulator);
    for index in 0..30 {
        assert_eq!(client.send(&message(&format!("+55119{index:08}"), "q")).status, 200);
    }
    let report = simulator.violations();
    assert_eq!(report.total, 0, "{report:?}");
    let number = report.numbers[NUMBER];
    assert!((1..=30).contains(&number.worst_second));
    assert_eq!(number.total(), NumberViolations::default().total());
    simulator.reset();
    assert!(simulator.violations().numbers.is_empty() && simulator.violations().portfolios.is_empty());
}
