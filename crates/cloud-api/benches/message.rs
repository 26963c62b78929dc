//! What one message costs before it is sent: reading the number, filling the template, rendering the body.
#![allow(missing_docs, clippy::expect_used, reason = "criterion's macros; a benchmark fails by panicking")]

use cloud_api::message::template_message;
use cloud_api::outcome::parse_response;
use cloud_api::phone::PhoneNumber;
use cloud_api::template::{ParameterFormat, Template};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use std::hint::black_box;

/// Numbers of fifteen countries as people write them.
const NUMBERS: [&str; 15] = [
    "+55 11 98765-4321",
    "+1 (415) 555-2671",
    "+44 20 7183 8750",
    "+49 1512 3456789",
    "+919876543210",
    "+39 347 123 4567",
    "+33612345678",
    "+525512345678",
    "+5491123456789",
    "+2348031234567",
    "+6281234567890",
    "+8613912345678",
    "+77011234567",
    "+34612345678",
    "+971501234567",
];

fn message(c: &mut Criterion) {
    let names = ["attendee_name", "event_name", "event_time"].map(str::to_owned).to_vec();
    let body = "Hi {{1}}! Your event '{{2}}' starts tomorrow at {{3}}. See you there!";
    let template =
        Template::new("event_reminder", "en_US", body, names, ParameterFormat::Positional).expect("a template");
    let values = json!({"attendee_name": "Ana Beatriz", "event_name": "Expo 2026", "event_time": "10:00"});
    let values: Map<String, Value> = values.as_object().cloned().expect("a map");
    let number = PhoneNumber::parse(NUMBERS[0]).expect("a number").number;
    let parameters = template.fill(&values).expect("parameters");

    let mut group = c.benchmark_group("phone");
    group.throughput(Throughput::Elements(NUMBERS.len() as u64));
    group.bench_function("parse, 15 countries", |b| {
        b.iter(|| NUMBERS.iter().filter(|text| PhoneNumber::parse(black_box(text)).is_ok()).count())
    });
    group.finish();

    let mut group = c.benchmark_group("message");
    group.bench_function("fill", |b| b.iter(|| template.fill(black_box(&values))));
    group.bench_function("render", |b| {
        b.iter(|| template_message(&number, &template, black_box(&parameters), "q:0198c2d0-7d5b-7cc0"))
    });
    group.bench_function("parse, fill and render", |b| {
        b.iter(|| {
            let number = PhoneNumber::parse(black_box(NUMBERS[0])).expect("a number").number;
            let parameters = template.fill(black_box(&values)).expect("parameters");
            template_message(&number, &template, &parameters, "q:0198c2d0-7d5b-7cc0")
        })
    });
    group.bench_function("read the answer", |b| {
        let answer = br#"{"messaging_product":"whatsapp","contacts":[{"input":"+5511987654321","wa_id":"551187654321"}],"messages":[{"id":"wamid.HBgMNTUxMTg3NjU0MzIx","message_status":"accepted"}]}"#;
        b.iter(|| parse_response(200, black_box(answer)))
    });
    group.finish();
}

criterion_group!(benches, message);
criterion_main!(benches);
