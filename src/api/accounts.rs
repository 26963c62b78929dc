//! `wa_configure`.

use cloud_api::tier::Tier;
use pgrx::{Uuid, pg_extern, pg_sys};

use super::{Answer, check_writable, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::secrets::{self, Column};
use crate::store::config::{self, Change};

/// Creates or updates an organizer's account.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "they are the SQL function's")]
fn wa_configure(
    user_id: Option<Uuid>,
    phone_number_id: Option<&str>,
    business_account_id: Option<&str>,
    access_token: Option<&str>,
    webhook_verify_token: Option<&str>,
    app_secret: Option<&str>,
    rate_limit_tier: Option<&str>,
    messages_per_second: Option<i32>,
    portfolio_id: Option<&str>,
    default_language: Option<&str>,
    status: Option<&str>,
) -> Answer<Uuid> {
    hide_statement();
    let arguments = Arguments {
        user_id,
        phone_number_id,
        business_account_id,
        access_token,
        webhook_verify_token,
        app_secret,
        rate_limit_tier,
        messages_per_second,
        portfolio_id,
        default_language,
        status,
    };
    Ok(configure(&arguments)?)
}

struct Arguments<'a> {
    user_id: Option<Uuid>,
    phone_number_id: Option<&'a str>,
    business_account_id: Option<&'a str>,
    access_token: Option<&'a str>,
    webhook_verify_token: Option<&'a str>,
    app_secret: Option<&'a str>,
    rate_limit_tier: Option<&'a str>,
    messages_per_second: Option<i32>,
    portfolio_id: Option<&'a str>,
    default_language: Option<&'a str>,
    status: Option<&'a str>,
}

fn configure(arguments: &Arguments) -> Result<Uuid> {
    check_writable("configure an account")?;
    let organizer = required(arguments.user_id, "user_id")?;
    let caller = Caller::current()?;
    caller.check_may_act_for(&organizer)?;
    let phone_number_id = digits(arguments.phone_number_id, "phone_number_id")?;
    let business_account_id = digits(arguments.business_account_id, "business_account_id")?;
    let portfolio_id = arguments.portfolio_id.map(|id| digits(Some(id), "portfolio_id")).transpose()?;
    let token = text(arguments.access_token, "access_token")?;
    let verify_token = text(arguments.webhook_verify_token, "webhook_verify_token")?;
    let app_secret = arguments.app_secret.map(|secret| text(Some(secret), "app_secret")).transpose()?;
    let tier = required(arguments.rate_limit_tier, "rate_limit_tier")?;
    Tier::parse(tier).map_err(|error| {
        Error::new(Kind::InvalidParameter, "rate_limit_tier is not a messaging tier")
            .detail(error.to_string())
            .hint("WhatsApp Manager shows the limit of the number; a new one has tier_250.")
    })?;
    let per_second = required(arguments.messages_per_second, "messages_per_second")?;
    if !(1..=1000).contains(&per_second) {
        return Err(Error::new(Kind::InvalidParameter, "messages_per_second must be between 1 and 1000")
            .detail(format!("It is {per_second}."))
            .hint(
                "Meta gives a number 80 a second, 20 when it is also used in the Business app, 1000 after an upgrade.",
            ));
    }
    let status = required(arguments.status, "status")?;
    if !matches!(status, "active" | "inactive") {
        return Err(Error::new(Kind::InvalidParameter, "status must be active or inactive")
            .detail(format!("It is \"{status}\"."))
            .hint("inactive keeps the queue and sends nothing."));
    }
    secrets::check_may_refer(token)?;
    if let Some(secret) = app_secret {
        secrets::check_may_refer(secret)?;
    }
    caller::as_owner(|| {
        if caller != Caller::Operator && config::other_organizer_with(phone_number_id, &organizer)?.is_some() {
            return Err(Error::new(
                Kind::Privilege,
                format!("phone number {phone_number_id} belongs to another organizer"),
            )
            .hint("An operator may let two organizers share a number."));
        }
        if caller != Caller::Operator && config::would_join(&organizer, portfolio_id, business_account_id)? {
            return Err(Error::new(Kind::Privilege, "the account would share another organizer's messaging limit")
                .detail("Unique recipients of 24 hours are counted per portfolio_id, or per business_account_id without one; another organizer's account has the same.")
                .hint("An operator may let two organizers share a portfolio."));
        }
        config::save(&Change {
            organizer,
            phone_number_id,
            business_account_id,
            token: &secrets::to_store(&organizer, Column::Token, token)?,
            verify_token,
            app_secret: app_secret
                .map(|secret| secrets::to_store(&organizer, Column::AppSecret, secret))
                .transpose()?
                .as_deref(),
            tier,
            per_second,
            portfolio_id,
            default_language: arguments.default_language,
            status,
        })
    })
}

/// A text that says something, without blanks around it that come from copying.
fn text<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str> {
    let value = required(value, name)?.trim();
    if value.is_empty() {
        return Err(Error::new(Kind::InvalidParameter, format!("{name} must not be empty"))
            .detail("It is empty or blank.")
            .hint("Copy it from the app's WhatsApp settings at Meta."));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::new(Kind::InvalidParameter, format!("{name} contains a control character"))
            .detail("A line break often comes along when a value is copied.")
            .hint("Copy it again without the line break."));
    }
    Ok(value)
}

/// One of Meta's ids. It becomes part of a URL, so nothing but digits passes (letters for test systems).
fn digits<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str> {
    let value = text(value, name)?;
    if value.len() > 64 || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(Error::new(Kind::InvalidParameter, format!("{name} is not an id"))
            .detail("Meta's ids are digits.")
            .hint("Copy it from WhatsApp Manager: API Setup shows phone number id and business account id."));
    }
    Ok(value)
}

/// The statement may carry a token: it disappears from pg_stat_activity before anything else happens.
fn hide_statement() {
    // SAFETY: Postgres copies the text.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, c"SELECT wa_configure(...)".as_ptr())
    };
}
