//! What an error means and what to do about it.
//!
//! Meta's advice is to decide by `code`, and that is done here: text is localised, subcodes and HTTP statuses change
//! with versions. The HTTP status counts only where there is no code, or none that is known. The table itself is
//! data, in `error_table.rs`. Source: Meta, "Error codes".

use crate::error_table::{Again, RANGES, ROWS, row};
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

/// What to do with a message, and with its surroundings, after an error.
///
/// "Hold" stops everything of its kind until the hold ends; what to do with the message itself says [`Rule::retryable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// A passing fault: try the message again, with back-off.
    Retry,
    /// The phone number sends too fast: pause it, lower its rate, then go on with the same message.
    SlowNumber,
    /// The account makes too many calls: pause all of it, then go on with the same message.
    SlowAccount,
    /// Too much for this recipient from this number: leave the pair alone for 4^n seconds ([`crate::retry::pair_delay`]).
    HoldPair,
    /// The message will never pass as it is. Nothing else is affected.
    Fail,
    /// The message failed; after this many such failures in a row the recipient is not worth another message.
    SuppressRecipient {
        /// How many failures in a row make the recipient unreachable.
        failures: u32,
    },
    /// The person does not want marketing: fail, and send them none until they resume it.
    SuppressMarketing,
    /// Meta holds marketing back from this person: fail, and send them none for [`Rule::wait`].
    HoldMarketing,
    /// The account may not write to the recipient's country: fail, and refuse further messages to it.
    BlockCountry,
    /// Stop this template in this language, for [`Rule::wait`] or until it is approved again.
    HoldTemplate,
    /// Stop this phone number, for [`Rule::wait`] or until somebody mends it.
    HoldNumber,
    /// Stop the account: its access token or permissions are not good.
    HoldAccountToken,
    /// Stop the account: Meta restricted it.
    HoldAccountPolicy,
    /// Stop the account: payment.
    HoldAccountBilling,
    /// Stop templates of this template's category for the account; other categories go on.
    HoldCategory,
}

impl Reaction {
    /// A stable name for tables: `retry`, `hold_number`, …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::SlowNumber => "slow_number",
            Self::SlowAccount => "slow_account",
            Self::HoldPair => "hold_pair",
            Self::Fail => "fail",
            Self::SuppressRecipient { .. } => "suppress_recipient",
            Self::SuppressMarketing => "suppress_marketing",
            Self::HoldMarketing => "hold_marketing",
            Self::BlockCountry => "block_country",
            Self::HoldTemplate => "hold_template",
            Self::HoldNumber => "hold_number",
            Self::HoldAccountToken => "hold_account_token",
            Self::HoldAccountPolicy => "hold_account_policy",
            Self::HoldAccountBilling => "hold_account_billing",
            Self::HoldCategory => "hold_category",
        }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an error means and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Meta's code. For the rules named `HTTP …`, which apply to answers without a code, the HTTP status.
    pub code: u32,
    /// Set when the rule is for this subcode only.
    pub subcode: Option<u32>,
    /// A short name.
    pub name: &'static str,
    /// What to do.
    pub reaction: Reaction,
    /// What happened, in plain words.
    pub meaning: &'static str,
    /// What a person can do about it.
    pub advice: &'static str,
    /// Whether the same message, unchanged, may pass later: by the back-off, or once the hold is over.
    pub retryable: bool,
    /// The shortest wait that makes sense, where one is known. `None` for a hold: until somebody mends the cause.
    pub wait: Option<Duration>,
}

/// The rule for an error with a code. `http_status` is `None` for errors that came by webhook.
///
/// A code nobody knows is judged by `is_transient` and the HTTP status, and keeps its number.
#[must_use]
pub fn lookup(code: u32, subcode: Option<u32>, http_status: Option<u16>, is_transient: bool) -> Rule {
    known(code, subcode).unwrap_or_else(|| unknown(code, subcode, http_status, is_transient))
}

/// The rule for a refusal without a code, such as the HTML page of a proxy.
#[must_use]
pub fn lookup_status(http_status: u16) -> Rule {
    const HOLD: Again = Again::After(15 * 60);
    let code = u32::from(http_status);
    match http_status {
        300..=399 => row(
            code,
            "HTTP redirect",
            Reaction::HoldNumber,
            HOLD,
            "The configured address answers with a redirect, which is never followed: the token could go astray.",
            "Correct whatsapp_pg.graph_url.",
        ),
        401 => row(
            code,
            "HTTP 401",
            Reaction::HoldAccountToken,
            HOLD,
            "The request was refused as not authenticated, without a code of Meta's.",
            "Check the access token, and any proxy between here and Meta.",
        ),
        403 => row(
            code,
            "HTTP 403",
            Reaction::HoldAccountToken,
            HOLD,
            "The request was refused as forbidden, without a code of Meta's.",
            "Check the token's permissions, and any proxy between here and Meta.",
        ),
        404 => row(
            code,
            "HTTP 404",
            Reaction::HoldNumber,
            HOLD,
            "There is nothing at this address: phone number id, API version or base address is wrong.",
            "Check phone_number_id, whatsapp_pg.graph_version and whatsapp_pg.graph_url.",
        ),
        408 | 425 | 500.. => row(
            code,
            "HTTP server error",
            Reaction::Retry,
            Again::Later,
            "A server between here and Meta, or Meta's own, has a fault.",
            "Nothing: it is tried again.",
        ),
        429 => row(
            code,
            "HTTP 429",
            Reaction::SlowNumber,
            Again::After(60),
            "Too many requests, without a code of Meta's.",
            "Nothing: it goes on more slowly.",
        ),
        _ => row(
            code,
            "HTTP refusal",
            Reaction::Fail,
            Again::Never,
            "The request was refused without a code of Meta's.",
            "See the logged answer, and any proxy between here and Meta.",
        ),
    }
}

/// The rule for a refusal (4xx) whose body was lost on the way: surely not accepted, for reasons that another try will tell.
#[must_use]
pub fn lookup_lost(http_status: u16) -> Rule {
    row(
        u32::from(http_status),
        "HTTP refusal, reason lost",
        Reaction::Retry,
        Again::Later,
        "The request was refused, but the connection broke before the reason was read.",
        "Nothing: it is tried again.",
    )
}

/// Every rule for a code, ascending; of a family of codes that are treated alike, the first.
#[must_use]
pub fn all() -> &'static [Rule] {
    static ALL: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let mut all: Vec<Rule> = ROWS.iter().chain(RANGES.iter().map(|(_, rule)| rule)).copied().collect();
        all.sort_by_key(|rule| (rule.code, rule.subcode.is_none(), rule.subcode));
        all
    });
    &ALL
}

/// Subcodes from here on are unique in all of the Graph API, so they count under any code, and as a code of their own.
const FIRST_GLOBAL_SUBCODE: u32 = 1_000_000;

fn known(code: u32, subcode: Option<u32>) -> Option<Rule> {
    let by_subcode = |wanted: u32| {
        ROWS.iter().find(|rule| rule.subcode == Some(wanted) && (rule.code == code || wanted >= FIRST_GLOBAL_SUBCODE))
    };
    subcode
        .and_then(by_subcode)
        .or_else(|| ROWS.iter().find(|rule| rule.code == code && rule.subcode.is_none()))
        .or_else(|| Some(code).filter(|code| *code >= FIRST_GLOBAL_SUBCODE).and_then(by_subcode))
        .copied()
        .or_else(|| {
            let (_, rule) = RANGES.iter().find(|(range, _)| range.contains(&code))?;
            Some(Rule { code, ..*rule })
        })
}

fn unknown(code: u32, subcode: Option<u32>, http_status: Option<u16>, is_transient: bool) -> Rule {
    let by_status = http_status.map(lookup_status);
    let rule = match by_status {
        _ if is_transient => lookup_status(500),
        // An error of Meta's in an answer that claims success is still an error.
        Some(rule) if http_status >= Some(400) => rule,
        _ => lookup_status(400),
    };
    Rule {
        code,
        subcode,
        name: "Unknown code",
        meaning: "Meta sent a code that this version does not know; its own message says more.",
        advice: "Look the code up on Meta's page of error codes.",
        ..rule
    }
}
