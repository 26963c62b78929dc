//! What a drain remembers of organizers between claims: account, opened token, templates. A second at most, and nothing
//! once an account or a template was written to (their triggers tell the worker), so that a claim costs three
//! statements instead of seven.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_api::pacing::Pace;
use cloud_api::template::Template;
use cloud_api::tier::Tier;
use pgrx::Uuid;

use crate::error::Result;
use crate::secrets::{self, Column};
use crate::store::claims::Claimed;
use crate::store::config::{self, Account};
use crate::store::templates::{self, Stored};
use crate::worker::pool::Sender;

/// Nothing is believed for longer.
const BELIEVED: Duration = Duration::from_secs(1);

/// What is remembered of all organizers.
#[derive(Default)]
pub struct Memory {
    organizers: HashMap<[u8; 16], (Instant, Option<Organizer>)>,
}

impl Memory {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.organizers.clear();
    }

    /// The organizer, read if it must be; None without an account.
    pub fn organizer(&mut self, id: &Uuid) -> Result<Option<&mut Organizer>> {
        let key = *id.as_bytes();
        if self.organizers.get(&key).is_none_or(|(read, _)| read.elapsed() >= BELIEVED) {
            let account = config::account(id)?;
            self.organizers.insert(key, (Instant::now(), account.map(Organizer::new)));
        }
        Ok(self.organizers.get_mut(&key).and_then(|(_, organizer)| organizer.as_mut()))
    }
}

/// An organizer with an account.
pub struct Organizer {
    /// The account.
    pub account: Account,
    /// What a claim needs to send, or why nothing can be sent for a reason only a person can mend.
    pub sending: Result<Sending, String>,
    stored: HashMap<String, Vec<Stored>>,
    chosen: HashMap<(String, Option<String>), Result<Arc<Template>, String>>,
}

/// An account that can send.
#[derive(Clone)]
pub struct Sending {
    /// Who sends, with the opened token.
    pub sender: Arc<Sender>,
    /// The messaging tier.
    pub tier: Tier,
    /// The number's throughput.
    pub pace: Pace,
}

impl Organizer {
    fn new(account: Account) -> Self {
        let sending = sending(&account);
        Self { account, sending, stored: HashMap::new(), chosen: HashMap::new() }
    }

    /// Reads the templates these rows name, as far as they are not known.
    pub fn learn_templates(&mut self, rows: &[Claimed]) -> Result<()> {
        let mut names: Vec<String> =
            rows.iter().map(|row| &row.template).filter(|name| !self.stored.contains_key(*name)).cloned().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            self.stored.insert(name.clone(), Vec::new());
        }
        for template in templates::named(&self.account.organizer, names)? {
            self.stored.entry(template.name.clone()).or_default().push(template);
        }
        Ok(())
    }

    /// The template a row uses, or why there is none.
    pub fn template(&mut self, row: &Claimed) -> Result<Arc<Template>, String> {
        let key = (row.template.clone(), row.language.clone());
        let (stored, account) = (&self.stored, &self.account);
        self.chosen
            .entry(key)
            .or_insert_with(|| {
                let known = stored.get(&row.template).map(Vec::as_slice).unwrap_or_default();
                let default = account.default_language.as_deref();
                templates::choose(known, &row.template, row.language.as_deref(), default)
                    .and_then(Stored::parse)
                    .map_err(|error| error.one_line())
            })
            .clone()
    }
}

fn sending(account: &Account) -> Result<Sending, String> {
    let of = |reason: String| format!("organizer {}: {reason}", account.organizer);
    if !account.is_active {
        return Err(of("the account is not active".to_owned()));
    }
    if !account.is_here {
        return Err(config::COPY.to_owned());
    }
    let tier = Tier::parse(&account.tier).map_err(|error| of(error.to_string()))?;
    let token =
        secrets::open(&account.organizer, Column::Token, &account.token).map_err(|error| of(error.one_line()))?;
    let pace = Pace { per_second: account.per_second };
    let sender = Sender {
        phone_number_id: account.phone_number_id.clone(),
        token,
        least_gap: Duration::from_micros(pace.least_gap_us().unsigned_abs()),
    };
    Ok(Sending { sender: Arc::new(sender), tier, pace })
}
