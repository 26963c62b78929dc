//! The error table: complete, consistent, and read the way Meta means it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use cloud_api::errors::{Reaction, Rule, all, lookup, lookup_lost, lookup_status};
use proptest::prelude::*;
use std::time::Duration;

fn rule(code: u32) -> Rule {
    lookup(code, None, Some(400), false)
}

#[test]
fn every_documented_code_is_known() {
    let single = [
        0, 1, 2, 3, 4, 10, 17, 32, 33, 100, 102, 104, 190, 341, 368, 613, 2500, 80007, 80008, 130403, 130429, 130472,
        130497, 131000, 131005, 131008, 131009, 131014, 131016, 131020, 131021, 131026, 131030, 131031, 131037, 131041,
        131042, 131044, 131045, 131047, 131048, 131049, 131050, 131051, 131052, 131053, 131055, 131056, 131057, 131059,
        131060, 131061, 131062, 131063, 131064, 132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016, 132018,
        132068, 132069, 133000, 133004, 133005, 133006, 133008, 133009, 133010, 133015, 133016, 134011, 134100, 134101,
        134102, 135000, 137000, 141002, 1752041,
    ];
    let ranges = [
        200..=299,
        131201..=131215,
        138000..=138025,
        139000..=139004,
        139100..=139103,
        147001..=147005,
        200005..=200007,
    ];
    for code in single.into_iter().chain(ranges.into_iter().flatten()) {
        let rule = rule(code);
        assert_ne!(rule.name, "Unknown code", "{code}");
        assert_eq!(rule.code, code);
    }
    for subcode in [
        2388012, 2388019, 2388024, 2388039, 2388040, 2388047, 2388072, 2388073, 2388091, 2388093, 2388103, 2388293,
        2388299, 2494100, 2593107, 2593108,
    ] {
        assert_eq!(lookup(100, Some(subcode), Some(400), false).subcode, Some(subcode));
        assert_eq!(lookup(subcode, None, Some(400), false).subcode, Some(subcode), "a subcode sent as code");
    }
    for subcode in [458, 459, 460, 463, 464, 467, 492] {
        assert_eq!(lookup(190, Some(subcode), Some(401), false).subcode, Some(subcode));
    }
}

#[test]
fn the_rows_are_in_order_unique_and_complete() {
    let keys: Vec<_> = all().iter().map(|rule| (rule.code, rule.subcode)).collect();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(keys.len(), unique.len());
    assert!(all().is_sorted_by_key(|rule| rule.code));
    assert!(all().len() >= 110);
    for rule in all() {
        for words in [rule.meaning, rule.advice] {
            assert!(words.ends_with('.') && words.len() < 240, "{}: {words}", rule.code);
            assert!(!words.contains("  "), "{}: {words}", rule.code);
        }
        assert!(!rule.name.is_empty() && rule.name.len() <= 45, "{}", rule.name);
        assert_eq!(lookup(rule.code, rule.subcode, Some(400), false), *rule);
    }
}

#[test]
fn reactions_and_retries_agree() {
    use Reaction::*;
    for rule in all() {
        let code = rule.code;
        match rule.reaction {
            Retry | SlowNumber | SlowAccount | HoldPair => assert!(rule.retryable, "{code}"),
            Fail | SuppressRecipient { .. } | SuppressMarketing | HoldMarketing | BlockCountry => {
                assert!(!rule.retryable, "{code}")
            }
            HoldAccountToken | HoldAccountPolicy | HoldAccountBilling => {
                assert!(rule.retryable, "{code}: an account's trouble burns no message")
            }
            HoldTemplate | HoldNumber | HoldCategory => {}
        }
        if matches!(rule.reaction, SlowNumber | SlowAccount | HoldMarketing) {
            assert!(rule.wait.is_some(), "{code}");
        }
    }
}

#[test]
fn the_codes_that_matter_most_react_as_meta_says() {
    use Reaction::*;
    let cases = [
        (130429, SlowNumber),
        (131056, HoldPair),
        (80007, SlowAccount),
        (4, SlowAccount),
        (190, HoldAccountToken),
        (368, HoldAccountPolicy),
        (131031, HoldAccountPolicy),
        (131042, HoldAccountBilling),
        (131048, HoldNumber),
        (131049, HoldMarketing),
        (131050, SuppressMarketing),
        (131026, SuppressRecipient { failures: 3 }),
        (131047, Fail),
        (132001, HoldTemplate),
        (132015, HoldTemplate),
        (131064, HoldCategory),
        (130497, BlockCountry),
        (131000, Retry),
        (131016, Retry),
        (131057, Retry),
        (133004, Retry),
    ];
    for (code, reaction) in cases {
        assert_eq!(rule(code).reaction, reaction, "{code}");
    }
    assert_eq!(rule(131049).wait, Some(Duration::from_secs(86_400)));
    assert!(!rule(131049).retryable, "retrying 131049 makes it worse");
    assert!(rule(132015).retryable && !rule(132016).retryable);
}

#[test]
fn a_subcode_refines_its_code_and_an_unknown_one_does_not_hide_it() {
    assert_eq!(lookup(100, Some(33), Some(400), false).reaction, Reaction::HoldNumber);
    assert_eq!(lookup(100, Some(7), Some(400), false), rule(100));
    // 2494055 is an old subcode of throughput; the code decides.
    assert_eq!(lookup(130429, Some(2_494_055), Some(400), false), rule(130429));
    // Subcode 33 means nothing under another code.
    assert_eq!(lookup(131000, Some(33), Some(500), false), rule(131000));
}

#[test]
fn a_known_code_wins_over_the_http_status() {
    // Throttles come as 400, 403 or 429, depending on whom one asks.
    for status in [Some(400), Some(403), Some(429), Some(500), None] {
        assert_eq!(lookup(130429, None, status, false).reaction, Reaction::SlowNumber);
        assert_eq!(lookup(131026, None, status, true).reaction, Reaction::SuppressRecipient { failures: 3 });
    }
}

#[test]
fn an_unknown_code_is_judged_by_the_http_status_and_keeps_its_number() {
    use Reaction::*;
    let cases = [
        (400, Fail),
        (401, HoldAccountToken),
        (403, HoldAccountToken),
        (404, HoldNumber),
        (418, Fail),
        (429, SlowNumber),
        (500, Retry),
        (503, Retry),
        (200, Fail),
    ];
    for (status, reaction) in cases {
        let rule = lookup(999_999, Some(5), Some(status), false);
        assert_eq!(
            (rule.code, rule.subcode, rule.name, rule.reaction),
            (999_999, Some(5), "Unknown code", reaction),
            "{status}"
        );
    }
    assert_eq!(lookup(999_999, None, Some(400), true).reaction, Retry);
    assert_eq!(lookup(999_999, None, None, false).reaction, Fail);
    assert_eq!(lookup(999_999, None, None, true).reaction, Retry);
}

#[test]
fn an_answer_without_a_code_is_judged_by_its_status() {
    assert_eq!(lookup_status(302).name, "HTTP redirect");
    assert!(lookup_status(302).retryable, "the messages are not to blame for a wrong address");
    assert_eq!(lookup_status(429).reaction, Reaction::SlowNumber);
    assert_eq!(lookup_status(408).reaction, Reaction::Retry);
    assert_eq!(lookup_status(413).reaction, Reaction::Fail);
    assert_eq!(lookup_lost(400).reaction, Reaction::Retry);
}

#[test]
fn reactions_have_stable_names() {
    assert_eq!(Reaction::HoldAccountBilling.to_string(), "hold_account_billing");
    assert_eq!(Reaction::SuppressRecipient { failures: 3 }.to_string(), "suppress_recipient");
}

proptest! {
    #[test]
    fn every_code_has_a_rule_with_words(code in any::<u32>(), subcode in any::<Option<u32>>(), status in any::<Option<u16>>(), transient in any::<bool>()) {
        let rule = lookup(code, subcode, status, transient);
        prop_assert!(!rule.meaning.is_empty() && !rule.advice.is_empty());
        let _ = status.map(lookup_status);
    }
}
