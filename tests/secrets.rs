//! Tokens stay inside: encrypted in the table, in no dump, log, error or activity string, and useless without the key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use harness::fixtures::{TOKEN, numbers, serving, simulator};
use harness::programs::programs;
use harness::{Cluster, Organizer, Session};

/// A second token, to see changes.
const OTHER_TOKEN: &str = "EAAGanotherTokenForTests0123456789";

fn stored(session: &mut Session) -> String {
    session.value("SELECT access_token_encrypted FROM whatsapp_config", &[])
}

/// Waits until both the operator's view and the organizer's say why nothing leaves.
fn wait_for_reason(session: &mut Session, organizer: &Organizer, pattern: &str) {
    session.wait_for(
        "the worker to note the reason",
        "SELECT coalesce(note ~* $1, false) FROM wa_worker_status WHERE database = current_database()",
        &[&pattern],
    );
    session.wait_for(
        "the organizer to be told the reason",
        "SELECT coalesce(bool_or(reason ~* $2), false) FROM wa_rate_status($1)",
        &[&organizer.id, &pattern],
    );
}

#[test]
fn a_configured_token_is_stored_encrypted_and_never_twice_the_same() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "app_secret => 'app-secret-for-tests'");
    let first = stored(&mut session);
    organizer.configure(&mut session, "");

    assert!(first.starts_with("wa1:"), "{first}");
    assert!(!first.contains(TOKEN));
    assert_ne!(stored(&mut session), first, "a fresh nonce each time");
    let app_secret: String = session.value("SELECT app_secret_encrypted FROM whatsapp_config", &[]);
    assert!(app_secret.starts_with("wa1:"), "configuring again without an app secret keeps the old one");
}

#[test]
fn a_token_written_by_plain_sql_is_encrypted_by_trigger() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator.put_account(graph_simulator::Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(OTHER_TOKEN.to_owned()),
        ..Default::default()
    });

    session.execute_with("UPDATE whatsapp_config SET access_token_encrypted = $1", &[&OTHER_TOKEN]);

    let updated = stored(&mut session);
    assert!(updated.starts_with("wa1:"), "{updated}");
    organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "sent", 1);

    session.execute_with("UPDATE whatsapp_config SET access_token_encrypted = access_token_encrypted", &[]);
    assert_eq!(stored(&mut session), updated, "ciphertext passes through");

    session.run("DELETE FROM whatsapp_config");
    session.execute_with(
        "INSERT INTO whatsapp_config (user_id, phone_number_id, business_account_id, access_token_encrypted,
                                      webhook_verify_token)
         VALUES ($1, $2, '1022', $3, 'verify')",
        &[&organizer.id, &organizer.phone_number_id, &OTHER_TOKEN],
    );
    assert!(stored(&mut session).starts_with("wa1:"));
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 2);
}

#[test]
fn no_dump_has_the_token_or_the_key() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    Organizer::create(&mut session);
    let keys: Vec<String> = session.values("SELECT key_text FROM whatsapp_keys", &[]);
    assert!(!keys.is_empty());

    let dump = Cluster::shared().dump_text(database.name(), &[]);

    assert!(dump.contains("wa1:"), "the ciphertext is in the dump");
    assert!(!dump.contains(TOKEN));
    assert!(keys.iter().all(|key| !dump.contains(key)));
}

#[test]
fn neither_log_nor_errors_nor_activity_show_a_token_that_was_bound() {
    let cluster = Cluster::builder()
        .preloaded()
        .setting("whatsapp_pg.mode", "off")
        .setting("log_min_duration_statement", "0")
        .setting("log_parameter_max_length", "0")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let configure = "SELECT wa_configure(user_id => $1, phone_number_id => $2, business_account_id => '1022',
                                         access_token => $3, webhook_verify_token => 'verify', rate_limit_tier => $4)";

    let refusal = session.refusal(configure, &[&organizer.id, &"1060", &TOKEN, &"tier_of_my_own"]);
    assert_eq!(refusal.sqlstate, "22023", "{refusal:#?}");
    assert!(refusal.mentions("tier_of_my_own") && !refusal.mentions(TOKEN), "{refusal:#?}");
    let refusal = session.refusal(configure, &[&organizer.id, &"1060", &format!("{TOKEN}\nsecond line"), &"tier_1000"]);
    assert!(!refusal.mentions(TOKEN), "{refusal:#?}");
    let shown: i64 =
        database.connect().value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%'", &[&TOKEN]);

    assert_eq!(shown, 0);
    assert!(!cluster.log().contains(TOKEN));
}

#[test]
fn wa_configure_blanks_its_own_activity_even_when_the_token_was_a_literal() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let pid = session.backend_pid();

    session.run(&format!(
        "SELECT wa_configure(user_id => '{}', phone_number_id => '1060', business_account_id => '1022',
                             access_token => '{OTHER_TOKEN}', webhook_verify_token => 'verify')",
        organizer.id
    ));
    let query: String = database.connect().value("SELECT query FROM pg_stat_activity WHERE pid = $1", &[&pid]);

    assert!(!query.contains(OTHER_TOKEN), "{query}");
}

#[test]
fn no_function_and_no_view_of_ours_answers_a_token() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));

    for source in ["whatsapp_messages", "whatsapp_analytics", "wa_worker_status", "whatsapp_config"] {
        let shown: Option<String> = session.value(&format!("SELECT string_agg(t::text, ' ') FROM {source} AS t"), &[]);
        assert!(!shown.unwrap_or_default().contains(TOKEN), "{source}");
    }
}

#[test]
fn a_ciphertext_copied_to_another_organizer_opens_nothing_and_sends_nothing() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let victim = Organizer::create(&mut session);
    let thief = Organizer::create(&mut session);

    session.execute_with(
        "UPDATE whatsapp_config SET access_token_encrypted =
             (SELECT access_token_encrypted FROM whatsapp_config WHERE user_id = $1) WHERE user_id = $2",
        &[&victim.id, &thief.id],
    );
    thief.enqueue(&mut session, &numbers(1));
    // The worker had its look when the other organizer's message is out.
    victim.enqueue(&mut session, &["+447400123456".into()]);
    victim.wait_for_count(&mut session, "sent", 1);

    assert_eq!(simulator.stats().requests, 1);
    assert_eq!(thief.count(&mut session, "queued"), 1);
    wait_for_reason(&mut session, &thief, "decrypt|key");
}

#[test]
fn with_the_wrong_key_nothing_is_sent_and_with_the_right_one_it_goes_on() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.run("CREATE TABLE hidden AS SELECT * FROM whatsapp_keys; DELETE FROM whatsapp_keys");

    organizer.enqueue(&mut session, &numbers(2));
    wait_for_reason(&mut session, &organizer, "key");
    assert_eq!(simulator.stats().requests, 0);
    assert_eq!(organizer.count(&mut session, "queued"), 2);

    session.run("INSERT INTO whatsapp_keys SELECT * FROM hidden; DROP TABLE hidden");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 3);
}

/// A key file as a DBA would make it, in the cluster's own directory.
fn key_file(cluster: &Cluster, content: &str, mode: u32) -> PathBuf {
    let path = cluster.path("keys");
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    programs().give(&path);
    path
}

/// 32 bytes in base64.
const KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=\n";

#[test]
fn a_key_file_seals_and_without_it_nothing_is_sent() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.poll_interval", "'1s'").create();
    let path = key_file(&cluster, KEY, 0o600);
    cluster.configure("whatsapp_pg.key_file", &format!("'{}'", path.display()));
    cluster.start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "sent", 1);

    fs::remove_file(&path).expect("our own file");
    cluster.restart();
    let mut session = database.connect();
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    wait_for_reason(&mut session, &organizer, "/keys");
    assert_eq!(simulator.stats().requests, 1);

    key_file(&cluster, KEY, 0o600);
    organizer.wait_for_count(&mut session, "sent", 2);
}

#[test]
fn an_unusable_key_file_is_refused_with_the_reason() {
    let cluster = Cluster::builder().create();
    let path = key_file(&cluster, KEY, 0o600);
    cluster.configure("whatsapp_pg.key_file", &format!("'{}'", path.display()));
    cluster.start();
    let database = cluster.database();
    let configure = "SELECT wa_configure(user_id => gen_random_uuid(), phone_number_id => '1060',
                                         business_account_id => '1022', access_token => $1, webhook_verify_token => 'v')";
    let refused = |word: &str| {
        let mut session = database.connect();
        let refusal = session.refusal(configure, &[&TOKEN]);
        assert_eq!(refusal.sqlstate, "F0000", "{word}: {refusal:#?}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty(), "{word}: {refusal:#?}");
        assert!(refusal.mentions(word) && refusal.mentions("keys"), "{word}: {refusal:#?}");
        assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_config", &[]), 0);
    };

    fs::remove_file(&path).expect("our own file");
    refused("does not exist");
    key_file(&cluster, KEY, 0o000);
    refused("ermission");
    key_file(&cluster, KEY, 0o644);
    refused("600");
    key_file(&cluster, "dG9vIHNob3J0\n", 0o600);
    refused("32");
    key_file(&cluster, "not base64 at all!\n", 0o600);
    refused("base64");
    key_file(&cluster, "", 0o600);
    refused("no key");

    key_file(&cluster, KEY, 0o600);
    assert_eq!(database.connect().rows(configure, &[&TOKEN]).len(), 1);
}

#[test]
fn a_vault_reference_is_resolved_through_the_vaults_view() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    // The shape of Supabase Vault.
    session.run(&format!(
        "CREATE SCHEMA vault;
         CREATE VIEW vault.decrypted_secrets AS SELECT 'whatsapp token'::text AS name, '{OTHER_TOKEN}'::text AS decrypted_secret"
    ));
    let organizer = Organizer::create(&mut session);
    session.run("UPDATE whatsapp_config SET access_token_encrypted = 'vault:whatsapp token'");
    simulator.put_account(graph_simulator::Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(OTHER_TOKEN.to_owned()),
        ..Default::default()
    });

    organizer.enqueue(&mut session, &numbers(1));

    organizer.wait_for_count(&mut session, "sent", 1);
    assert_eq!(stored(&mut session), "vault:whatsapp token");
}

#[test]
fn a_file_reference_is_read_on_the_server() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let path = cluster.path("token");
    fs::write(&path, format!("{OTHER_TOKEN}\n")).expect("written");
    programs().give(&path);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session
        .execute_with("UPDATE whatsapp_config SET access_token_encrypted = $1", &[&format!("file:{}", path.display())]);
    simulator.put_account(graph_simulator::Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(OTHER_TOKEN.to_owned()),
        ..Default::default()
    });

    organizer.enqueue(&mut session, &numbers(1));

    organizer.wait_for_count(&mut session, "sent", 1);
}
