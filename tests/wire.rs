//! What is on the wire: the request as Meta documents it, filled from template and row, over TLS that is checked.

use graph_simulator::{Options, Simulator};
use harness::fixtures::{REMINDER, TOKEN, numbers, simulator};
use harness::{Cluster, Organizer};
use serde_json::{Value, json};

#[test]
fn the_request_is_what_meta_documents() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let ids = organizer.enqueue(&mut session, &["+573001234567".into()]);
    organizer.wait_for_count(&mut session, "sent", 1);

    let request = simulator.messages(1_000).pop().expect("one request");
    assert_eq!(request.version, "v25.0");
    assert_eq!(request.headers.get("content-type").map(String::as_str), Some("application/json"));
    assert_eq!(
        request.body,
        json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": "+573001234567",
            "type": "template",
            "template": {
                "name": REMINDER,
                "language": {"code": "en", "policy": "deterministic"},
                "components": [{
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": "John Doe"},
                        {"type": "text", "text": "Tech Summit 2025"},
                        {"type": "text", "text": "2025-03-15 10:00 AM"},
                    ],
                }],
            },
            "biz_opaque_callback_data": ids[0].to_string(),
        })
    );
}

#[test]
fn variables_are_filled_in_the_order_of_the_templates_list() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    // jsonb keeps keys by length and then by byte: a, bb, ccc. The template wants them the other way round.
    organizer.add_template(
        &mut session,
        "backwards",
        "en",
        "First {{1}} then {{2}} then {{3}} and {{1}} again.",
        &["ccc", "bb", "a"],
    );

    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'backwards', variables => $3)",
        &[&organizer.id, &numbers(1), &json!({"a": "third", "bb": "second", "ccc": "first"})],
    );
    organizer.wait_for_count(&mut session, "sent", 1);

    let body = simulator.messages(1_000).pop().expect("one request").body;
    let texts: Vec<&str> = body["template"]["components"][0]["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .filter_map(|parameter| parameter["text"].as_str())
        .collect();
    assert_eq!(texts, ["first", "second", "third"]);
}

#[test]
fn named_templates_get_named_parameters() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.add_template(&mut session, "by_name", "en", "Hi {{first_name}}, see you.", &["first_name"]);
    session.run("UPDATE whatsapp_templates SET parameter_format = 'NAMED' WHERE template_name = 'by_name'");

    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'by_name', variables => $3)",
        &[&organizer.id, &numbers(1), &json!({"first_name": "Ana"})],
    );
    organizer.wait_for_count(&mut session, "sent", 1);

    let body = simulator.messages(1_000).pop().expect("one request").body;
    assert_eq!(
        body["template"]["components"][0]["parameters"],
        json!([{"type": "text", "parameter_name": "first_name", "text": "Ana"}])
    );
}

#[test]
fn a_template_without_variables_is_sent_without_components() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.add_template(&mut session, "plain", "en", "Doors open at nine.", &[]);

    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'plain')",
        &[&organizer.id, &numbers(1)],
    );
    organizer.wait_for_count(&mut session, "sent", 1);

    let template = &simulator.messages(1_000).pop().expect("one request").body["template"];
    assert!(template.get("components").is_none_or(|list| list == &json!([])), "{template}");
}

#[test]
fn the_language_of_the_row_is_the_language_on_the_wire() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    for (language, body) in [("es", "Hola {{1}}, hasta pronto."), ("pt_BR", "Oi {{1}}, até logo.")] {
        organizer.add_template(&mut session, "greeting", language, body, &["name"]);
    }
    session.run("UPDATE whatsapp_config SET default_language = 'pt_BR'");

    // By INSERT the row has no language of its own: the organizer's default decides.
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, language)
         VALUES ($1, '+573001000000', 'greeting', '{\"name\": \"Ana\"}', 'es'),
                ($1, '+573001000001', 'greeting', '{\"name\": \"Ana\"}', NULL)",
        &[&organizer.id],
    );
    organizer.wait_for_count(&mut session, "sent", 2);

    let mut sent: Vec<(Value, Value)> = simulator
        .messages(1_000)
        .into_iter()
        .map(|r| (r.body["to"].clone(), r.body["template"]["language"]["code"].clone()))
        .collect();
    sent.sort_by_key(|(to, _)| to.to_string());
    assert_eq!(sent, [(json!("+573001000000"), json!("es")), (json!("+573001000001"), json!("pt_BR"))]);
}

#[test]
fn the_token_of_the_account_is_presented() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator.put_account(graph_simulator::Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(TOKEN.to_owned()),
        ..Default::default()
    });

    organizer.enqueue(&mut session, &numbers(1));

    organizer.wait_for_count(&mut session, "sent", 1);
}

#[test]
fn https_is_spoken_to_a_server_of_the_named_authority_only() {
    let simulator =
        Simulator::start(Options { listen: None, tls_listen: Some(([127, 0, 0, 1], 0).into()), ..Options::default() })
            .expect("the simulator starts");
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.retry_delay", "'1s'").start();
    let ca = cluster.path("ca.pem");
    std::fs::copy(simulator.ca_pem_path().expect("TLS is on"), &ca).expect("copied");
    harness::programs::programs().give(&ca);
    let database = cluster.database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    // Without the setting the built-in authorities are trusted, and they do not know this one.
    organizer.enqueue(&mut session, &numbers(1));
    session.wait_for(
        "the certificate to be refused",
        "SELECT status = 'queued' AND error_message ~* 'certificate|tls' FROM whatsapp_queue",
        &[],
    );
    assert_eq!(simulator.stats().requests, 0);

    cluster.configure("whatsapp_pg.ca_file", &format!("'{}'", ca.display()));
    cluster.reload();
    organizer.wait_for_count(&mut session, "sent", 1);
}
