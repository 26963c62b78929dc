//! Errors in Meta's shape, and what each code says when nothing more is known.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// An error as the Graph API answers it. Clients must decide by `code`, then `details`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphError {
    pub(crate) http: u16,
    pub(crate) code: i64,
    pub(crate) subcode: Option<i64>,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<String>,
}

/// Throttling codes, whose HTTP status is disputed (see `Options::throttle_http_status`).
const THROTTLES: [i64; 6] = [4, 80007, 130429, 131048, 131056, 133016];

/// Graph-level errors that Meta marks with `is_transient`.
const TRANSIENT: [i64; 3] = [2, 4, 80007];

/// Code, HTTP status, title (Meta: "Error codes", Cloud API, and Graph API error handling). Titles of
/// 190, 2500 and the like stand without the code in front.
const TABLE: &[(i64, u16, &str)] = &[
    (0, 401, "We were unable to authenticate the app user"),
    (1, 400, "An unknown error occurred"),
    (2, 503, "Service temporarily unavailable"),
    (3, 500, "Capability or permissions issue"),
    (4, 400, "Application request limit reached"),
    (10, 403, "Application does not have permission for this action"),
    (33, 400, "Parameter value is not valid"),
    (100, 400, "Invalid parameter"),
    (104, 401, "API calls from the server require an appsecret_proof argument"),
    (190, 401, "Invalid OAuth access token - Cannot parse access token"),
    (
        200,
        403,
        "You do not have the necessary permissions to send messages on behalf of this WhatsApp Business Account",
    ),
    (341, 400, "Application limit reached"),
    (368, 403, "Temporarily blocked for policies violations"),
    (613, 400, "Calls to this api have exceeded the rate limit"),
    (2500, 401, "An active access token must be used to query information about the current user."),
    (80007, 400, "Rate limit issues"),
    (80008, 400, "Rate limit issues"),
    (130403, 400, "User is blocked by the business"),
    (130429, 400, "Rate limit hit"),
    (130472, 400, "User's number is part of an experiment"),
    (130497, 403, "Business account is restricted from messaging users in this country"),
    (131000, 500, "Something went wrong"),
    (131005, 403, "Access denied"),
    (131008, 400, "Required parameter is missing"),
    (131009, 400, "Parameter value is not valid"),
    (131016, 500, "Service unavailable"),
    (131021, 400, "Recipient cannot be sender"),
    (131026, 400, "Message undeliverable"),
    (131030, 400, "Recipient phone number not in allowed list"),
    (131031, 403, "Account has been locked"),
    (131037, 400, "WhatsApp provided number needs display name approval before message can be sent"),
    (131042, 400, "Business eligibility payment issue"),
    (131045, 500, "Message failed to send due to a phone number registration error"),
    (131047, 400, "Re-engagement message"),
    (131048, 400, "Spam rate limit hit"),
    (131049, 400, "This message was not delivered to maintain healthy ecosystem engagement"),
    (131050, 400, "User has stopped marketing messages"),
    (131051, 400, "Unsupported message type"),
    (131052, 400, "Media download error"),
    (131053, 400, "Media upload error"),
    (131055, 400, "Method not allowed"),
    (131056, 400, "(Business Account, Consumer Account) pair rate limit hit"),
    (131057, 500, "Account in maintenance mode"),
    (131061, 400, "Template has a max price and must be sent with the Marketing Messages API"),
    (131062, 400, "Business-scoped user id recipients are not supported for this message"),
    (131063, 400, "Marketing templates are disabled on Cloud API for this account"),
    (131064, 400, "Template classification violation limit reached"),
    (132000, 400, "Number of parameters does not match the expected number of params"),
    (132001, 404, "Template name does not exist in the translation"),
    (132005, 400, "Translated text too long"),
    (132007, 400, "Template format character policy violated"),
    (132008, 400, "Template parameter value is not valid"),
    (132012, 400, "Parameter format does not match format in the created template"),
    (132015, 400, "Template is paused"),
    (132016, 400, "Template is disabled"),
    (132018, 400, "There was an issue with the parameters in your template"),
    (132068, 400, "Flow is blocked"),
    (132069, 400, "Flow is throttled"),
    (133000, 500, "Incomplete deregistration"),
    (133004, 503, "Server temporarily unavailable"),
    (133010, 400, "Account not registered"),
    (133015, 400, "Phone number was recently deleted, wait before trying again"),
    (133016, 400, "Account register deregister rate limit exceeded"),
    (134011, 400, "WhatsApp Business payments terms of service not accepted"),
    (134100, 400, "Only marketing messages are supported"),
    (134101, 400, "Template is syncing"),
    (134102, 500, "Template is unavailable for use"),
    (135000, 400, "Generic user error"),
    (137000, 400, "Recipient identity key hash mismatch"),
];

impl GraphError {
    /// The error that a code usually means.
    pub(crate) fn of(code: i64) -> Self {
        let row = TABLE.iter().find(|(known, ..)| *known == code);
        let (http, title) = row.map_or((400, "Unknown error"), |(_, http, title)| (*http, *title));
        let message = match code {
            0 | 1 | 190 | 2500 => title.to_owned(),
            _ => format!("(#{code}) {title}"),
        };
        Self { http, code, subcode: None, kind: "OAuthException", message, details: None }
    }

    /// The title of a code, as statuses of failed messages show it.
    pub(crate) fn title(code: i64) -> &'static str {
        TABLE.iter().find(|(known, ..)| *known == code).map_or("Unknown error", |(_, _, title)| title)
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// 100 with a sentence about one parameter, as Graph's own argument checks answer.
    pub(crate) fn parameter(sentence: impl std::fmt::Display) -> Self {
        Self::of(100).message(format!("(#100) {sentence}"))
    }

    /// A path that leads nowhere.
    pub(crate) fn unknown_path(component: &str) -> Self {
        Self { http: 400, ..Self::of(2500) }.message(format!("Unknown path components: /{component}"))
    }

    /// An object that is not there, not visible to this token, or cannot do this; Meta does not say which.
    pub(crate) fn no_such_object(method: &str, id: &str) -> Self {
        Self { subcode: Some(33), kind: "GraphMethodException", ..Self::of(100) }.message(format!(
            "Unsupported {method} request. Object with ID '{id}' does not exist, cannot be loaded due to \
             missing permissions, or does not support this operation. Please read the Graph API \
             documentation at https://developers.facebook.com/docs/graph-api"
        ))
    }

    /// A body above the simulator's bound.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self { http: 413, ..Self::of(1) }
            .message("Please reduce the amount of data you're asking for, then retry your request")
            .details(format!("The request body is larger than {limit} bytes"))
    }

    pub(crate) fn is_throttle(&self) -> bool {
        THROTTLES.contains(&self.code)
    }

    /// The response body.
    pub(crate) fn body(&self, trace: &str) -> Bytes {
        let mut error = Map::new();
        error.insert("message".into(), json!(self.message));
        error.insert("type".into(), json!(self.kind));
        error.insert("code".into(), json!(self.code));
        if let Some(subcode) = self.subcode {
            error.insert("error_subcode".into(), json!(subcode));
        }
        if TRANSIENT.contains(&self.code) {
            error.insert("is_transient".into(), Value::Bool(true));
        }
        if let Some(details) = &self.details {
            let data = json!({"messaging_product": "whatsapp", "details": details});
            error.insert("error_data".into(), data);
        }
        error.insert("fbtrace_id".into(), json!(trace));
        json!({ "error": error }).to_string().into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parsed(error: &GraphError) -> Value {
        serde_json::from_slice(&error.body("A1")).unwrap()
    }

    #[test]
    fn an_error_has_the_fields_that_meta_documents() {
        let error = GraphError::of(132000).details("body: 1 of 2");
        assert_eq!(
            parsed(&error),
            json!({"error": {
                "message": "(#132000) Number of parameters does not match the expected number of params",
                "type": "OAuthException",
                "code": 132000,
                "error_data": {"messaging_product": "whatsapp", "details": "body: 1 of 2"},
                "fbtrace_id": "A1"
            }})
        );
    }

    #[test]
    fn an_unknown_object_carries_subcode_33() {
        let body = parsed(&GraphError::no_such_object("post", "123"));
        assert_eq!(body["error"]["error_subcode"], 33);
        assert_eq!(body["error"]["type"], "GraphMethodException");
        assert!(body["error"]["message"].as_str().unwrap().contains("'123'"));
    }

    #[test]
    fn codes_are_listed_once_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_code_that_is_not_listed_still_makes_an_error() {
        let error = GraphError::of(999_999);
        assert_eq!((error.http, error.code), (400, 999_999));
    }
}
