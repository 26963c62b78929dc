//! Lenient reading of JSON: numbers written as text and text as numbers, lists that are missing or hold just one thing.
//!
//! The outer levels are taken apart as raw text, so that what is wrong inside one part does not spoil the others. No text given
//! out contains NUL, which no PostgreSQL text or jsonb can hold.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields of an object, unread. Of two with one name the last.
pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The items of a list, unread.
pub(super) type List<'a> = Vec<&'a RawValue>;

/// The fields of an object, or why it is none.
pub(super) fn fields(raw: &RawValue) -> Result<Fields<'_>, String> {
    if !raw.get().starts_with('{') {
        return Err("it is not an object".to_owned());
    }
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

/// The items of a list; none when it is missing or null. Anything else counts as a list of one.
pub(super) fn list(raw: Option<&RawValue>) -> List<'_> {
    match raw {
        None => Vec::new(),
        Some(raw) if raw.get() == "null" => Vec::new(),
        Some(raw) => serde_json::from_str(raw.get()).unwrap_or_else(|_| vec![raw]),
    }
}

/// A text or number.
pub(super) fn scalar(raw: &RawValue) -> Option<Value> {
    // Whatever begins with these may be long and is neither.
    if raw.get().starts_with(['{', '[']) { None } else { serde_json::from_str(raw.get()).ok() }
}

/// JSON that a reader will take, as text.
pub(super) fn checked(raw: &RawValue) -> Result<String, String> {
    serde_json::from_str::<Value>(raw.get()).map_err(|error| error.to_string())?;
    Ok(without_nul(raw.get()))
}

/// JSON text whose strings hold U+FFFD for NUL.
pub(super) fn without_nul(json: &str) -> String {
    const NUL: &str = "\\u0000";
    let mut result = String::with_capacity(json.len());
    let mut rest = json;
    // Backslashes are read in order, so that the second of two is not taken for the beginning of an escape.
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        result.push_str(before);
        let length = if escape.starts_with(NUL) {
            result.push_str("\\ufffd");
            NUL.len()
        } else {
            let length = escape.chars().take(2).map(char::len_utf8).sum();
            result.push_str(escape.get(..length).unwrap_or(escape));
            length
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    result.push_str(rest);
    result
}

/// A text that says something, also when it was written as a number.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.replace('\0', "\u{fffd}")),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, also when it was written as text or with a fraction.
pub(super) fn integer(value: Option<&Value>) -> Option<i64> {
    let digits = match value? {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let whole = digits.split_once('.').map_or(digits.as_str(), |(whole, _)| whole);
    whole.parse().ok()
}

/// Yes or no, also when it was written as text.
pub(super) fn boolean(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

/// An object that was read in full.
pub(super) struct Item<'a> {
    fields: Map<String, Value>,
    raw: &'a RawValue,
}

impl<'a> Item<'a> {
    pub(super) fn parse(raw: &'a RawValue) -> Result<Self, String> {
        match serde_json::from_str(raw.get()) {
            Ok(Value::Object(fields)) => Ok(Self { fields, raw }),
            Ok(_) => Err("it is not an object".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        text(self.get(name))
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        integer(self.get(name))
    }

    /// The whole as JSON text.
    pub(super) fn to_json(&self) -> String {
        without_nul(self.raw.get())
    }
}
