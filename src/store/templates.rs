//! `whatsapp_templates`, and which of a name's languages a message uses.

use std::sync::Arc;

use cloud_api::template::{ParameterFormat, Template};
use pgrx::Uuid;

use crate::error::{Error, Kind, Result};
use crate::store;

/// A template as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its language.
    pub language: String,
    /// pending, approved, …
    pub status: String,
    /// MARKETING, UTILITY or AUTHENTICATION.
    pub category: String,
    body: String,
    variables: String,
    format: String,
}

impl Stored {
    /// The template as rules see it; an error when body and variables do not fit.
    pub fn parse(&self) -> Result<Arc<Template>> {
        let variables: Vec<String> = serde_json::from_str(&self.variables)
            .map_err(|_| self.broken("its variables are not a JSON list of texts".to_owned()))?;
        let format = if self.format == "NAMED" { ParameterFormat::Named } else { ParameterFormat::Positional };
        Template::new(self.name.clone(), self.language.clone(), self.body.clone(), variables, format)
            .map(Arc::new)
            .map_err(|error| self.broken(error.to_string()))
    }

    fn broken(&self, reason: String) -> Error {
        Error::new(Kind::InvalidParameter, format!("template \"{}\" ({}) cannot be used", self.name, self.language))
            .detail(reason)
            .hint("Correct template_body or variables in whatsapp_templates.")
    }
}

/// All languages of these templates of an organizer.
pub fn named(organizer: &Uuid, names: Vec<String>) -> Result<Vec<Stored>> {
    const SQL: &str = "SELECT template_name, language, status, template_body, variables::text, parameter_format,
                              category
                       FROM @extschema@.whatsapp_templates
                       WHERE user_id = $1 AND template_name = ANY ($2) ORDER BY template_name, language";
    store::read(SQL, &[(*organizer).into(), names.into()], |row| {
        Ok(Stored {
            name: row.get(1)?,
            language: row.get(2)?,
            status: row.get(3)?,
            body: row.get(4)?,
            variables: row.get(5)?,
            format: row.get(6)?,
            category: row.get(7)?,
        })
    })
}

/// Finds the template a call names, by the rules of [`choose`]. Unlike there, a name that does not exist is answered with
/// those that do: the spelling is the usual mistake.
pub fn find(organizer: &Uuid, name: &str, language: Option<&str>, default_language: Option<&str>) -> Result<Stored> {
    const APPROVED: &str = "SELECT DISTINCT template_name FROM @extschema@.whatsapp_templates
                            WHERE user_id = $1 AND status = 'approved' ORDER BY template_name LIMIT 20";
    let stored = named(organizer, vec![name.to_owned()])?;
    if stored.is_empty() {
        let approved: Vec<String> = store::read(APPROVED, &[(*organizer).into()], |row| row.get(1))?;
        let detail = if approved.is_empty() {
            "The organizer has no approved template in whatsapp_templates.".to_owned()
        } else {
            format!("The organizer's approved templates are: {}.", approved.join(", "))
        };
        return Err(no_such_template(name).detail(detail));
    }
    choose(&stored, name, language, default_language).cloned()
}

fn no_such_template(name: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("template \"{name}\" does not exist"))
        .hint("Check the spelling, or insert the template with the body and variables that Meta approved.")
}

/// Chooses the template a message uses: the language asked for, else the only approved one, else the organizer's
/// default, else an error that lists them.
pub fn choose<'a>(
    stored: &'a [Stored],
    name: &str,
    language: Option<&str>,
    default_language: Option<&str>,
) -> Result<&'a Stored> {
    let same_name: Vec<&Stored> = stored.iter().filter(|template| template.name == name).collect();
    let list = |templates: &[&Stored]| {
        templates.iter().map(|each| format!("{} ({})", each.language, each.status)).collect::<Vec<_>>().join(", ")
    };
    if same_name.is_empty() {
        return Err(no_such_template(name).detail("The organizer has no template of this name in whatsapp_templates."));
    }
    if let Some(language) = language {
        let Some(template) = same_name.iter().find(|each| each.language == language) else {
            return Err(Error::new(
                Kind::UndefinedObject,
                format!("template \"{name}\" does not exist in language \"{language}\""),
            )
            .detail(format!("It exists in: {}.", list(&same_name)))
            .hint("en and en_US are two different templates at Meta."));
        };
        return if template.status == "approved" {
            Ok(*template)
        } else {
            Err(not_approved(name, &list(&[*template])))
        };
    }
    let approved: Vec<&Stored> = same_name.iter().copied().filter(|each| each.status == "approved").collect();
    match approved.as_slice() {
        [] => Err(not_approved(name, &list(&same_name))),
        [only] => Ok(*only),
        several => {
            several.iter().copied().find(|each| Some(each.language.as_str()) == default_language).ok_or_else(|| {
                Error::new(Kind::InvalidParameter, format!("template \"{name}\" is approved in several languages"))
                    .detail(format!("It is approved in: {}.", list(several)))
                    .hint(
                        "Name one with language => '…', or give the organizer a default_language with wa_configure().",
                    )
            })
        }
    }
}

fn not_approved(name: &str, languages: &str) -> Error {
    Error::new(Kind::NotReady, format!("template \"{name}\" is not approved"))
        .detail(format!("Its status is: {languages}."))
        .hint("Meta sends approved templates only. Once it is approved, set status = 'approved' in whatsapp_templates.")
}
