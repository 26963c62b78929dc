//! What has been registered: accounts (phone numbers with their tokens and limits) and templates.
//!
//! A registry is an immutable value behind an `Arc`; a change builds a new one, so a request reads one
//! consistent state without holding a lock.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// One phone number that may send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Meta's id of the phone number, as in the request path.
    pub phone_number_id: String,
    /// The WhatsApp Business Account that owns the number and its templates.
    #[serde(default)]
    pub waba_id: String,
    /// The only token taken; `None` takes any.
    #[serde(default, skip_serializing)]
    pub token: Option<String>,
    /// The portfolio that shares the daily limit; `None` means that the number has its own.
    #[serde(default)]
    pub portfolio_id: Option<String>,
    /// Limits of this number; `None` takes the simulator's default ones.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// A message template as Meta has approved it, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The WhatsApp Business Account that owns the template.
    pub waba_id: String,
    /// Template name.
    pub name: String,
    /// Language code, such as `pt_BR`.
    pub language: String,
    /// `APPROVED`, `PENDING`, `REJECTED`, `PAUSED`, `DISABLED` …; only approved ones can be sent.
    #[serde(default = "approved")]
    pub status: String,
    /// What Meta charges it as.
    #[serde(default)]
    pub category: TemplateCategory,
    /// How the body's variables are written.
    #[serde(default)]
    pub parameter_format: ParameterFormat,
    /// Body text with its `{{…}}` variables; lets the simulator check the hydrated length.
    #[serde(default)]
    pub body: Option<String>,
    /// Number of body variables, for a template whose text does not matter. Ignored with `body`.
    #[serde(default)]
    pub body_parameters: usize,
    /// Header, when the template has one.
    #[serde(default)]
    pub header: Option<Header>,
    /// Buttons in their order.
    #[serde(default)]
    pub buttons: Vec<Button>,
}

fn approved() -> String {
    "APPROVED".to_owned()
}

impl Template {
    /// An approved positional template with the given body text and nothing else.
    pub fn approved(waba_id: &str, name: &str, language: &str, body: &str) -> Self {
        Self {
            waba_id: waba_id.to_owned(),
            name: name.to_owned(),
            language: language.to_owned(),
            status: approved(),
            category: TemplateCategory::Marketing,
            parameter_format: ParameterFormat::Positional,
            body: Some(body.to_owned()),
            body_parameters: 0,
            header: None,
            buttons: Vec::new(),
        }
    }
}

/// What a template is for, and charged as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "Meta's own words")]
pub enum TemplateCategory {
    #[default]
    Marketing,
    Utility,
    Authentication,
}

/// How the variables of a template are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ParameterFormat {
    /// `{{1}}`, `{{2}}`: parameters count by their order.
    #[default]
    Positional,
    /// `{{first_name}}`: parameters carry `parameter_name`.
    Named,
}

/// Header of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What the header shows.
    pub format: HeaderFormat,
    /// Text of a text header, with its variable if it has one.
    #[serde(default)]
    pub text: String,
}

/// What a header shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "Meta's own words")]
pub enum HeaderFormat {
    Text,
    Image,
    Video,
    Document,
    Location,
}

/// Button of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Button {
    /// Kind of button.
    #[serde(rename = "type")]
    pub kind: ButtonType,
    /// Target of a URL button, with its variable if it has one.
    #[serde(default)]
    pub url: String,
}

/// Kind of button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Meta's own words")]
pub enum ButtonType {
    QuickReply,
    Url,
    CopyCode,
    Otp,
    Flow,
    Catalog,
    Mpm,
    PhoneNumber,
    VoiceCall,
}

/// The variables of a text, each once, in the order of their first appearance.
pub(crate) fn variables(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}") else {
            break;
        };
        let name = name.trim();
        if !names.contains(&name) {
            names.push(name);
        }
        rest = tail;
    }
    names
}

/// Everything registered at one moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct Registry {
    accounts: HashMap<String, Account>,
    /// Waba id and name → the template in each of its languages.
    templates: HashMap<String, HashMap<String, Vec<Template>>>,
}

impl Registry {
    pub(crate) fn put_account(&mut self, account: Account) {
        self.accounts.insert(account.phone_number_id.clone(), account);
    }

    pub(crate) fn put_template(&mut self, template: Template) {
        let languages =
            self.templates.entry(template.waba_id.clone()).or_default().entry(template.name.clone()).or_default();
        languages.retain(|known| known.language != template.language);
        languages.push(template);
    }

    pub(crate) fn set_accounts(&mut self, accounts: Vec<Account>) {
        self.accounts.clear();
        for account in accounts {
            self.put_account(account);
        }
    }

    pub(crate) fn set_templates(&mut self, templates: Vec<Template>) {
        self.templates.clear();
        for template in templates {
            self.put_template(template);
        }
    }

    pub(crate) fn account(&self, phone_number_id: &str) -> Option<&Account> {
        self.accounts.get(phone_number_id)
    }

    /// The languages of a template; empty when nothing of that name is registered.
    pub(crate) fn template(&self, waba_id: &str, name: &str) -> &[Template] {
        self.templates.get(waba_id).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn accounts(&self) -> Vec<Account> {
        let mut accounts: Vec<_> = self.accounts.values().cloned().collect();
        accounts.sort_by(|a, b| a.phone_number_id.cmp(&b.phone_number_id));
        accounts
    }

    pub(crate) fn templates(&self) -> Vec<Template> {
        let mut templates: Vec<_> = self.templates.values().flat_map(HashMap::values).flatten().cloned().collect();
        templates.sort_by(|a, b| (&a.waba_id, &a.name, &a.language).cmp(&(&b.waba_id, &b.name, &b.language)));
        templates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_listed_once_in_order_of_appearance() {
        assert_eq!(variables("Hi {{2}}, {{ 1 }} and {{2}}"), ["2", "1"]);
        assert_eq!(variables("no {{ end"), [""; 0]);
        assert_eq!(variables("{{first_name}}"), ["first_name"]);
    }

    #[test]
    fn a_template_registered_again_replaces_the_one_of_its_language() {
        let mut registry = Registry::default();
        registry.put_template(Template::approved("w", "t", "en", "old"));
        registry.put_template(Template::approved("w", "t", "en", "new"));
        registry.put_template(Template::approved("w", "t", "de", "neu"));
        let bodies: Vec<_> =
            registry.template("w", "t").iter().filter_map(|template| template.body.as_deref()).collect();
        assert_eq!(bodies, ["new", "neu"]);
    }
}
