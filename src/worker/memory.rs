//! What a drain remembers between claims. Of organizers: account, opened token, holds, templates; for a second at most, and
//! nothing once one of them was written to (triggers tell the worker). Of portfolios: what they have used of their
//! limits, brought up to date from the slices that all workers write.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_api::gate::Gate;
use cloud_api::holds::Hold;
use cloud_api::pacing::Pace;
use cloud_api::template::Template;
use cloud_api::tier::Tier;
use pgrx::Uuid;

use crate::error::Result;
use crate::secrets::{self, Column};
use crate::store::admission::Book;
use crate::store::claims::Due;
use crate::store::config::{self, Account};
use crate::store::holds;
use crate::store::templates::{self, Stored};
use crate::worker::pool::Sender;

/// Nothing is believed for longer.
const BELIEVED: Duration = Duration::from_secs(1);

/// What is remembered.
#[derive(Default)]
pub struct Memory {
    organizers: HashMap<[u8; 16], (Instant, Option<Organizer>)>,
    books: HashMap<String, Book>,
    gates: HashMap<String, Arc<Gate>>,
}

impl Memory {
    /// Forgets what is known of organizers.
    pub fn clear(&mut self) {
        self.organizers.clear();
    }

    /// Forgets what is known of one organizer.
    pub fn forget(&mut self, organizer: &Uuid) {
        self.organizers.remove(organizer.as_bytes());
    }

    /// Forgets what portfolios have used: what was counted may have been rolled back, or the clock was set.
    pub fn distrust_books(&mut self) {
        self.books.clear();
    }

    /// An organizer together with the book of its portfolio; None without an account.
    pub fn with_book(&mut self, id: &Uuid) -> Result<Option<(&mut Organizer, &mut Book)>> {
        self.organizer(id)?;
        let Some(organizer) = self.organizers.get_mut(id.as_bytes()).and_then(|(_, organizer)| organizer.as_mut())
        else {
            return Ok(None);
        };
        let book = self.books.entry(organizer.account.portfolio.clone()).or_default();
        Ok(Some((organizer, book)))
    }

    /// The organizer, read if it must be; None without an account.
    pub fn organizer(&mut self, id: &Uuid) -> Result<Option<&mut Organizer>> {
        let key = *id.as_bytes();
        if self.organizers.get(&key).is_none_or(|(read, _)| read.elapsed() >= BELIEVED) {
            let organizer = match config::account(id)? {
                Some(account) => {
                    // A number keeps its gate for as long as the process lives.
                    let gate = Arc::clone(self.gates.entry(account.phone_number_id.clone()).or_default());
                    Some(Organizer::new(account, gate)?)
                }
                None => None,
            };
            self.organizers.insert(key, (Instant::now(), organizer));
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
    /// What is held back.
    pub holds: Vec<Hold>,
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
    fn new(account: Account, gate: Arc<Gate>) -> Result<Self> {
        let sending = sending(&account, gate);
        let holds = holds::active(&account.organizer, &account.phone_number_id)?;
        Ok(Self { account, sending, holds, stored: HashMap::new(), chosen: HashMap::new() })
    }

    /// Reads the templates these rows name, as far as they are not known.
    pub fn learn_templates(&mut self, rows: &[Due]) -> Result<()> {
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

    /// The category of the templates of this name, if it is known.
    pub fn category(&self, template: &str) -> Option<&str> {
        self.stored.get(template)?.first().map(|stored| stored.category.as_str())
    }

    /// The template a row uses, or why there is none.
    pub fn template(&mut self, row: &Due) -> Result<Arc<Template>, String> {
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

fn sending(account: &Account, gate: Arc<Gate>) -> Result<Sending, String> {
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
    let sender = Sender { phone_number_id: account.phone_number_id.clone(), token, gate };
    Ok(Sending { sender: Arc::new(sender), tier, pace: Pace { per_second: account.per_second } })
}
