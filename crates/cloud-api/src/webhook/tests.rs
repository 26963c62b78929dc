//! Bodies in the shapes that Meta documents, and in those that it should not send.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::errors::Reaction;
use proptest::prelude::*;
use serde_json::{Value, json};

const SENT: &str = r#"{"id":"wamid.SENT","status":"sent","timestamp":"1795000000","recipient_id":"5511987654321",
    "recipient_user_id":"BR.77001122","recipient_parent_user_id":"BR.ENT.88","biz_opaque_callback_data":"queue:42",
    "conversation":{"id":"c0ffee","expiration_timestamp":"1795086400","origin":{"type":"utility"}},
    "pricing":{"billable":true,"pricing_model":"PMP","type":"regular","category":"utility"}}"#;

const FAILED: &str = r#"{"id":"wamid.FAILED","status":"failed","timestamp":"1795000003","recipient_id":"5511900000000",
    "errors":[{"code":131026,"title":"Message undeliverable","message":"Message undeliverable",
        "error_data":{"details":"The number is not on WhatsApp."},"href":"https://example.com/errors"}]}"#;

const TEXT: &str = r#"{"from":"5511987654321","from_user_id":"BR.77001122","id":"wamid.TEXT","timestamp":"1795000004",
    "type":"text","text":{"body":"Is there parking?"}}"#;

fn status_like(id: &str, status: &str) -> String {
    format!(r#"{{"id":"{id}","status":"{status}","timestamp":"1795000001","recipient_id":"5511987654321"}}"#)
}

/// A value of the field `messages`.
fn value(parts: &str) -> String {
    let metadata = r#""metadata":{"display_phone_number":"+55 11 4000-1234","phone_number_id":"106540352242922"}"#;
    format!(r#"{{"messaging_product":"whatsapp",{metadata},{parts}}}"#)
}

fn change(field: &str, value: &str) -> String {
    format!(r#"{{"field":"{field}","value":{value}}}"#)
}

fn post(changes: &str) -> String {
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","time":1795000009,"changes":[{changes}]}}]}}"#
    )
}

fn messages(parts: &str) -> String {
    post(&change("messages", &value(parts)))
}

fn read(body: &str) -> Delivery {
    parse(body.as_bytes()).unwrap()
}

/// The one change of a body that was read in full.
fn only(body: &str) -> Change {
    let Delivery { mut changes, unread } = read(body);
    assert_eq!((changes.len(), unread), (1, vec![]));
    changes.remove(0)
}

fn statuses(body: &str) -> Vec<Status> {
    match only(body).content {
        Content::Messages { statuses, .. } => statuses,
        other => panic!("{other:?}"),
    }
}

fn status(json: &str) -> Status {
    statuses(&messages(&format!(r#""statuses":[{json}]"#))).remove(0)
}

fn inbound(json: &str) -> Inbound {
    match only(&messages(&format!(r#""messages":[{json}]"#))).content {
        Content::Messages { mut inbound, .. } => inbound.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_says_for_whom_it_is() {
    let change = only(&messages(&format!(r#""statuses":[{SENT}]"#)));
    assert_eq!(change.account_id.as_deref(), Some("102290129340398"));
    assert_eq!(change.phone_number_id.as_deref(), Some("106540352242922"));
    assert_eq!(change.display_phone_number.as_deref(), Some("+55 11 4000-1234"));
    assert_eq!((change.field.as_str(), change.time_s), ("messages", Some(1_795_000_009)));
}

#[test]
fn a_sent_message_tells_our_id_its_price_and_its_conversation() {
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        status(SENT),
        Status {
            message_id: "wamid.SENT".to_owned(),
            queue_id: text("queue:42"),
            status: StatusKind::Sent,
            timestamp_s: 1_795_000_000,
            recipient_id: text("5511987654321"),
            recipient_user_id: text("BR.77001122"),
            recipient_parent_user_id: text("BR.ENT.88"),
            pricing: Some(Pricing {
                category: text("utility"),
                model: text("PMP"),
                kind: text("regular"),
                billable: Some(true),
            }),
            conversation: Some(Conversation {
                id: "c0ffee".to_owned(),
                expires_s: Some(1_795_086_400),
                origin: text("utility"),
            }),
            error: None,
        }
    );
}

#[test]
fn every_state_is_known_and_new_ones_keep_their_name() {
    for name in ["sent", "delivered", "read", "played", "failed", "deleted"] {
        let kind = status(&status_like("wamid.1", name)).status;
        assert_eq!(kind.as_str(), name);
        assert_eq!(matches!(kind, StatusKind::Other(_)), name == "deleted");
    }
}

#[test]
fn a_failure_tells_why_also_without_our_id() {
    let failed = status(FAILED);
    assert_eq!((failed.status, failed.queue_id), (StatusKind::Failed, None));
    let error = failed.error.unwrap();
    assert_eq!((error.code, error.title.as_deref()), (Some(131_026), Some("Message undeliverable")));
    assert_eq!(error.details.as_deref(), Some("The number is not on WhatsApp."));
    assert!(matches!(error.rule().unwrap().reaction, Reaction::SuppressRecipient { .. }));
}

#[test]
fn an_error_is_found_in_every_shape_it_comes_in() {
    let error = |errors: &str| {
        let json = format!(r#"{{"id":"wamid.1","status":"failed","timestamp":"1","errors":{errors}}}"#);
        status(&json).error.map(|error| (error.code, error.message, error.details))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        error(r#"[{"code":"131049","error_data":"held back"}]"#),
        Some((Some(131_049), None, text("held back")))
    );
    assert_eq!(error(r#"{"code":470,"title":"old"}"#), Some((Some(470), None, None)));
    assert_eq!(error(r#"[{"message":"no code"},{"code":131047}]"#), Some((Some(131_047), None, None)));
    assert_eq!(error(r#"["just words"]"#), Some((None, text("just words"), None)));
    for nothing in ["[]", "null", "[{}]", "[null]", "7", "{}"] {
        assert_eq!(error(nothing), None, "{nothing}");
    }
}

#[test]
fn hidden_numbers_leave_the_user_id() {
    let hidden = status(
        r#"{"id":"wamid.1","status":"read","timestamp":"1795000001","recipient_user_id":"BR.1",
            "parent_recipient_user_id":"BR.ENT.2"}"#,
    );
    assert_eq!(hidden.recipient_id, None);
    assert_eq!(hidden.recipient_user_id.as_deref(), Some("BR.1"));
    assert_eq!(hidden.recipient_parent_user_id.as_deref(), Some("BR.ENT.2"));
    let message =
        inbound(r#"{"id":"wamid.2","from_user_id":"BR.1","timestamp":"1","type":"text","text":{"body":"Oi"}}"#);
    assert_eq!((message.from, message.from_user_id.as_deref()), (None, Some("BR.1")));
}

#[test]
fn statuses_and_messages_of_several_numbers_share_a_post() {
    let one = change("messages", &value(&format!(r#""statuses":[{SENT},{FAILED}],"messages":[{TEXT}]"#)));
    let two = change("messages", r#"{"metadata":{"phone_number_id":"2"},"messages":[]}"#);
    let delivery = read(&post(&format!("{one},{two}")));
    assert_eq!(delivery.unread, []);
    let [one, two] = &delivery.changes[..] else { panic!("{delivery:?}") };
    let Content::Messages { statuses, inbound, errors } = &one.content else { panic!("{one:?}") };
    assert_eq!((statuses.len(), inbound.len(), errors.len()), (2, 1, 0));
    assert_eq!(inbound[0].text.as_deref(), Some("Is there parking?"));
    assert_eq!(two.phone_number_id.as_deref(), Some("2"));
}

#[test]
fn an_answer_by_button_or_list_has_words_a_payload_and_what_it_answers() {
    let answer = |kind: &str, content: &str| {
        let message = inbound(&format!(
            r#"{{"id":"wamid.1","from":"1","timestamp":"1","type":"{kind}","context":{{"from":"2","id":"wamid.0"}},{content}}}"#
        ));
        assert_eq!((message.kind.as_str(), message.context_id.as_deref()), (kind, Some("wamid.0")));
        (message.text.unwrap_or_default(), message.payload.unwrap_or_default())
    };
    let pair = |text: &str, payload: &str| (text.to_owned(), payload.to_owned());
    assert_eq!(answer("button", r#""button":{"payload":"OPT_OUT","text":"Stop"}"#), pair("Stop", "OPT_OUT"));
    assert_eq!(
        answer("interactive", r#""interactive":{"type":"button_reply","button_reply":{"id":"yes","title":"I come"}}"#),
        pair("I come", "yes")
    );
    assert_eq!(
        answer("interactive", r#""interactive":{"type":"list_reply","list_reply":{"id":"7","title":"Seven"}}"#),
        pair("Seven", "7")
    );
    assert_eq!(
        answer("interactive", r#""interactive":{"type":"nfm_reply","nfm_reply":{"body":"Sent","response_json":"{}"}}"#),
        pair("Sent", "{}")
    );
    assert_eq!(answer("image", r#""image":{"id":"9","caption":"look"}"#), pair("", ""));
}

#[test]
fn a_message_of_an_unknown_kind_is_kept_as_it_came() {
    let message = inbound(r#"{"id":"wamid.1","timestamp":"1","hologram":{"depth":1.50}}"#);
    assert_eq!((message.kind.as_str(), message.text), ("unknown", None));
    assert_eq!(message.raw, r#"{"id":"wamid.1","timestamp":"1","hologram":{"depth":1.50}}"#);
}

#[test]
fn errors_of_no_message_are_told() {
    let change = only(&messages(r#""errors":[{"code":130429,"title":"Rate limit hit"}]"#));
    let Content::Messages { errors, .. } = change.content else { panic!("{:?}", change.content) };
    assert_eq!(errors[0].code, Some(130_429));
}

#[test]
fn numbers_may_be_text_and_text_numbers() {
    let body = r#"{"object":1,"entry":[{"id":102290129340398,"time":"1795000009","changes":[{"field":"messages","value":{
        "metadata":{"display_phone_number":551140001234,"phone_number_id":106540352242922},"statuses":[{"id":"wamid.1",
        "status":"SENT","timestamp":1795000000,"recipient_id":5511987654321,"biz_opaque_callback_data":42,
        "pricing":{"billable":"true"},"conversation":{"id":7,"expiration_timestamp":1795086400}}]}}]}]}"#;
    let change = only(body);
    assert_eq!(change.account_id.as_deref(), Some("102290129340398"));
    assert_eq!(change.phone_number_id.as_deref(), Some("106540352242922"));
    assert_eq!(change.time_s, Some(1_795_000_009));
    let status = statuses(body).remove(0);
    assert_eq!((status.status, status.timestamp_s), (StatusKind::Sent, 1_795_000_000));
    assert_eq!(status.recipient_id.as_deref(), Some("5511987654321"));
    assert_eq!(status.queue_id.as_deref(), Some("42"));
    assert_eq!(status.pricing.unwrap().billable, Some(true));
    assert_eq!(status.conversation.unwrap().expires_s, Some(1_795_086_400));
}

#[test]
fn a_missing_timestamp_is_taken_from_the_entry() {
    assert_eq!(status(r#"{"id":"wamid.1","status":"sent"}"#).timestamp_s, 1_795_000_009);
}

#[test]
fn management_fields_and_unknown_ones_are_passed_on() {
    let value = r#"{"display_phone_number":"551140001234","event":"THROUGHPUT_UPGRADE","limit":1.0}"#;
    for field in ["phone_number_quality_update", "a_field_of_next_year"] {
        let change = only(&post(&change(field, value)));
        assert_eq!((change.field.as_str(), change.phone_number_id), (field, None));
        assert_eq!(change.display_phone_number.as_deref(), Some("551140001234"));
        assert_eq!(change.content, Content::Other(value.to_owned()));
    }
    // Messages that somebody else answers are not ours.
    let standby = only(&post(&change("standby", &format!(r#"{{"messages":[{TEXT}]}}"#))));
    assert!(matches!(standby.content, Content::Other(_)));
    // Another product's field of the same name.
    let other =
        only(r#"{"object":"instagram","entry":[{"id":"1","changes":[{"field":"messages","value":{"text":"Hi"}}]}]}"#);
    assert_eq!(other.content, Content::Other(r#"{"text":"Hi"}"#.to_owned()));
}

#[test]
fn a_bad_item_is_set_aside_and_the_good_ones_are_used() {
    let deep =
        format!(r#"{{"id":"wamid.6","status":"sent","timestamp":"1","x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    let bad = [
        ("7", "not an object"),
        ("null", "not an object"),
        (r#"{"status":"sent","timestamp":"1"}"#, "no id"),
        (r#"{"id":"wamid.5","timestamp":"1"}"#, "what happened"),
        (r#"{"id":"wamid.5","status":"sent","biz_opaque_callback_data":"\ud800"}"#, "hex escape"),
        (&deep, "recursion"),
    ];
    for (bad, reason) in bad {
        let delivery = read(&messages(&format!(r#""statuses":[{SENT},{bad},{FAILED}],"messages":[{TEXT}]"#)));
        let Content::Messages { statuses, inbound, .. } = &delivery.changes[0].content else { panic!("{delivery:?}") };
        assert_eq!((statuses.len(), inbound.len()), (2, 1), "{bad}");
        let [unread] = &delivery.unread[..] else { panic!("{delivery:?}") };
        assert_eq!(unread.raw, bad);
        assert!(unread.reason.contains(reason), "{}", unread.reason);
        assert_eq!(unread.account_id.as_deref(), Some("102290129340398"));
        assert_eq!(unread.phone_number_id.as_deref(), Some("106540352242922"));
    }
}

#[test]
fn a_bad_entry_or_change_is_set_aside_too() {
    let good = change("messages", &value(&format!(r#""statuses":[{SENT}]"#)));
    for bad in ["7", "{}", r#"{"field":"messages"}"#, "[]"] {
        let delivery = read(&post(&format!("{bad},{good}")));
        assert_eq!((delivery.changes.len(), delivery.unread.len()), (1, 1), "{bad}");
    }
    let delivery = read(&format!(r#"{{"entry":[7,{{"id":"1"}},{{"id":"2","changes":[{good}]}}]}}"#));
    assert_eq!((delivery.changes.len(), delivery.unread.len()), (1, 2));
    assert_eq!(delivery.unread[1].account_id.as_deref(), Some("1"));
}

#[test]
fn missing_empty_and_single_lists_are_taken_as_they_are_meant() {
    for parts in [r#""statuses":[]"#, r#""statuses":null"#, r#""messages":[],"statuses":[]"#] {
        assert_eq!(statuses(&messages(parts)), []);
    }
    assert_eq!(statuses(&messages(&format!(r#""statuses":{SENT}"#))).len(), 1);
    for body in [r#"{"entry":[]}"#, r#"{"entry":null}"#, r#"{"entry":[{"changes":[]}]}"#] {
        assert_eq!(read(body), Delivery::default());
    }
}

#[test]
fn nul_is_replaced_wherever_text_is_given_out() {
    let message = inbound(r#"{"id":"wamid.1","timestamp":"1","type":"text","text":{"body":"a\u0000b\\u0000"}}"#);
    assert_eq!(message.text.as_deref(), Some("a\u{fffd}b\\u0000"));
    let raw: Value = serde_json::from_str(&message.raw).unwrap();
    assert_eq!(raw["text"]["body"], json!("a\u{fffd}b\\u0000"));
    let other = only(&post(&change("account_update", r#"{"\u0000":"\\\u0000"}"#)));
    assert_eq!(other.content, Content::Other(r#"{"\ufffd":"\\\ufffd"}"#.to_owned()));
    let unread = read(&messages(r#""statuses":["\u0000"]"#)).unread;
    assert_eq!(unread[0].raw, r#""\ufffd""#);
}

#[test]
fn what_is_no_webhook_at_all_is_refused_with_the_reason() {
    assert_eq!(parse(b"{\"entry\":[\"\xff\"]}"), Err(NotUnderstood::NotUtf8(11)));
    for body in ["", " ", "{", "<html>", r#"{"entry":[]} x"#, "\u{feff}{}", r#"{"entry":[1e]}"#] {
        assert!(matches!(parse(body.as_bytes()), Err(NotUnderstood::NotJson(_))), "{body}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for body in ["[]", "null", "7", r#""entry""#, "{}", r#"{"object":"whatsapp_business_account"}"#, &deep] {
        assert!(matches!(parse(body.as_bytes()), Err(NotUnderstood::NotAWebhook(_))));
    }
}

#[test]
fn a_thousand_statuses_in_one_post_are_all_read() {
    let all: Vec<String> = (0..1_000).map(|n| status_like(&format!("wamid.{n}"), "delivered")).collect();
    let statuses = statuses(&messages(&format!(r#""statuses":[{}]"#, all.join(","))));
    assert_eq!(statuses.len(), 1_000);
    assert_eq!(statuses[999].message_id, "wamid.999");
}

/// A body with something of everything.
fn rich() -> String {
    let one = change(
        "messages",
        &value(&format!(
            r#""contacts":[{{"profile":{{"name":"Ana \u00e9\u0000"}},"wa_id":"5511987654321"}}],
                "statuses":[{SENT},{FAILED}],"messages":[{TEXT}],"errors":[]"#
        )),
    );
    let two =
        change("account_update", r#"{"event":"ACCOUNT_RESTRICTION","restriction_info":[{"expiration":1795000000}]}"#);
    post(&format!("{one},{two}"))
}

/// What is promised of everything given out.
fn check(delivery: &Delivery) {
    for change in &delivery.changes {
        match &change.content {
            Content::Other(raw) => check_json(raw),
            Content::Messages { inbound, .. } => inbound.iter().for_each(|message| check_json(&message.raw)),
        }
    }
    assert!(!format!("{delivery:?}").contains("\\0"), "a NUL in {delivery:?}");
}

fn check_json(raw: &str) {
    fn strings(value: &Value) {
        match value {
            Value::String(text) => assert!(!text.contains('\0')),
            Value::Array(items) => items.iter().for_each(strings),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                assert!(!name.contains('\0'));
                strings(value);
            }),
            _ => {}
        }
    }
    strings(&serde_json::from_str(raw).unwrap());
}

/// Something done to a body: at a place, cut out so much and put that in.
fn mutation() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    let piece = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            "{", "}", "[", "]", "\"", ",", ":", "null", "7", "-1e999", "\\u0000", "\\ud800", "\\", "\"\":", "[{}]",
            "true",
        ])
        .prop_map(|token| token.as_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), prop_oneof![Just(0_usize), 0..30_usize], piece)
}

/// Any JSON, with names that Meta uses among others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("sent")),
        Just(json!("\0")),
    ];
    let names = prop::sample::select(vec![
        "entry",
        "changes",
        "field",
        "value",
        "metadata",
        "statuses",
        "messages",
        "errors",
        "id",
        "status",
        "timestamp",
        "type",
        "text",
        "button",
        "interactive",
        "button_reply",
        "pricing",
        "conversation",
        "code",
        "error_data",
        "\0",
    ]);
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(body in any::<Vec<u8>>()) {
        let _ = parse(&body);
    }

    #[test]
    fn no_mutation_of_a_good_body_panics(mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut body = rich().into_bytes();
        for (place, cut, piece) in mutations {
            let from = place.index(body.len() + 1);
            let to = body.len().min(from + cut);
            body.splice(from..to, piece);
        }
        if let Ok(delivery) = parse(&body) {
            check(&delivery);
        }
    }

    #[test]
    fn no_json_in_any_place_panics(anything in any_json()) {
        let text = anything.to_string();
        for body in [
            text.clone(),
            format!(r#"{{"entry":{text}}}"#),
            post(&text),
            post(&change("messages", &text)),
            messages(&format!(r#""statuses":[{SENT},{text}],"messages":{text},"errors":{text}"#)),
        ] {
            if let Ok(delivery) = parse(body.as_bytes()) {
                check(&delivery);
            }
        }
    }

    #[test]
    fn every_item_is_either_used_or_set_aside(items in prop::collection::vec(any_json(), 0..10)) {
        let list = Value::from(items.clone());
        let delivery = read(&messages(&format!(r#""statuses":{list}"#)));
        let Content::Messages { statuses, .. } = &delivery.changes[0].content else { panic!("{delivery:?}") };
        prop_assert_eq!(statuses.len() + delivery.unread.len(), items.len());
    }
}
