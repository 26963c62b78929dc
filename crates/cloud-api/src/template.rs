//! Filling a template's variables, and saying exactly what is wrong when they do not fit.
//!
//! Everything Meta would refuse at sending time is refused here first, with the variable's name and a cure: a wrong value
//! costs an error at the caller's prompt, not a failed message an hour later. Values are never altered to make them fit.
//! Sources: Meta, "Template components", "Messages" (template parameters), error codes 132000, 132005, 132012, 132018.

use crate::placeholder::{Body, Piece};
use crate::violation::{Problem, Violation};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// Longest body after filling, in characters (Meta: error 132005).
pub const MAX_BODY: usize = 1024;

/// How a template names its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ParameterFormat {
    /// `{{1}}`, `{{2}}`, …
    #[default]
    Positional,
    /// `{{first_name}}`, …
    Named,
}

impl ParameterFormat {
    /// Reads `POSITIONAL` or `NAMED` in any case, as Meta and people write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("positional") => Some(Self::Positional),
            text if text.eq_ignore_ascii_case("named") => Some(Self::Named),
            _ => None,
        }
    }
}

impl fmt::Display for ParameterFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positional => "POSITIONAL",
            Self::Named => "NAMED",
        })
    }
}

/// A template in one language, as far as sending needs it: its body and the names of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    name: String,
    language: String,
    variables: Vec<String>,
    format: ParameterFormat,
    body: Body,
}

/// One filled variable, in the form the message carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The variable's name; set for templates with named parameters only.
    pub name: Option<String>,
    /// The value.
    pub text: String,
}

/// Why a template cannot be used: its body and its list of variables do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The list does not have as many names as the body has placeholders.
    #[error("the body has {placeholders} placeholders but the list of variables has {variables} names")]
    CountMismatch {
        /// Different placeholders in the body.
        placeholders: usize,
        /// Names in the list.
        variables: usize,
    },
    /// Positional placeholders are numbered from 1 without a gap.
    #[error("the body has {{{{{found}}}}} but no {{{{{missing}}}}}; placeholders are numbered from 1 without a gap")]
    Gap {
        /// The number that is not there.
        missing: usize,
        /// The highest number that is there.
        found: String,
    },
    /// A named placeholder in a positional template.
    #[error("the body has {{{{{0}}}}}, a named placeholder, but the template's parameter format is POSITIONAL")]
    Named(String),
    /// A numbered placeholder in a named template.
    #[error("the body has {{{{{0}}}}}, a numbered placeholder, but the template's parameter format is NAMED")]
    Numbered(String),
    /// In a named template, list and body must name the same variables.
    #[error("the list of variables has \"{0}\" but the body has no {{{{{0}}}}}")]
    NotInBody(String),
    /// A name twice in the list.
    #[error("the list of variables has \"{0}\" twice")]
    Duplicate(String),
}

impl Template {
    /// A template. `variables` names the placeholders in the order {{1}}, {{2}}, …; when it is empty they are called
    /// what the body calls them (`1`, `2`, …, or the names of a named template in order of appearance).
    ///
    /// # Errors
    /// [`TemplateError`] when body and list do not belong together.
    pub fn new(
        name: impl Into<String>,
        language: impl Into<String>,
        body: impl AsRef<str>,
        variables: Vec<String>,
        format: ParameterFormat,
    ) -> Result<Self, TemplateError> {
        let (body, found) = Body::parse(body.as_ref(), format)?;
        if !variables.is_empty() && variables.len() != found.len() {
            return Err(TemplateError::CountMismatch { placeholders: found.len(), variables: variables.len() });
        }
        if let Some(twice) = first_duplicate(&variables) {
            return Err(TemplateError::Duplicate(twice.clone()));
        }
        let (variables, body) = match format {
            _ if variables.is_empty() => (found, body),
            ParameterFormat::Positional => (variables, body),
            ParameterFormat::Named => {
                let order = variables
                    .iter()
                    .map(|name| found.iter().position(|other| other == name).ok_or_else(|| name.clone()))
                    .collect::<Result<Vec<usize>, String>>()
                    .map_err(TemplateError::NotInBody)?;
                (variables, body.reordered(&order))
            }
        };
        Ok(Self { name: name.into(), language: language.into(), variables, format, body })
    }

    /// The name, under which Meta knows the template in all its languages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The language code, for example `pt_BR`. `en` and `en_US` are different languages to Meta.
    #[must_use]
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The names of the variables, in the order of their placeholders.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// How the template names its variables.
    #[must_use]
    pub fn format(&self) -> ParameterFormat {
        self.format
    }

    /// How many different placeholders the body has.
    #[must_use]
    pub fn placeholder_count(&self) -> usize {
        self.variables.len()
    }

    /// Whether [`Template::fill`] would take these values.
    ///
    /// # Errors
    /// Everything that is wrong, one [`Violation`] a variable.
    pub fn check(&self, values: &Map<String, Value>) -> Result<(), Vec<Violation>> {
        self.texts(values).map(drop)
    }

    /// The parameters of a message, in the order of the template's variables and not in that of the map. Numbers are
    /// written as they were given, booleans as `true` and `false`.
    ///
    /// # Errors
    /// Everything that is wrong, one [`Violation`] a variable.
    pub fn fill(&self, values: &Map<String, Value>) -> Result<Vec<Parameter>, Vec<Violation>> {
        let texts = self.texts(values)?;
        let parameter = |(name, text): (&String, Cow<'_, str>)| Parameter {
            name: (self.format == ParameterFormat::Named).then(|| name.clone()),
            text: text.into_owned(),
        };
        Ok(self.variables.iter().zip(texts).map(parameter).collect())
    }

    /// The body as the recipient will read it. One pass: braces in a value stay braces.
    ///
    /// # Errors
    /// Everything that is wrong, one [`Violation`] a variable.
    pub fn preview(&self, values: &Map<String, Value>) -> Result<String, Vec<Violation>> {
        let texts = self.texts(values)?;
        let text_of = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(index) => texts.get(*index).map(|text| text.to_string()).unwrap_or_default(),
        };
        Ok(self.body.pieces().iter().map(text_of).collect())
    }

    /// Only the values this template takes: for fan-outs, where one set of values serves several templates.
    #[must_use]
    pub fn pick(&self, values: &Map<String, Value>) -> Map<String, Value> {
        self.variables
            .iter()
            .filter_map(|name| values.get_key_value(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The values as texts in the order of the variables, or all that is wrong with them.
    fn texts<'a>(&self, values: &'a Map<String, Value>) -> Result<Vec<Cow<'a, str>>, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut texts = Vec::with_capacity(self.variables.len());
        for (index, name) in self.variables.iter().enumerate() {
            match text_of(values.get(name)) {
                Ok(text) => texts.push(text),
                Err(problem) => violations.push(self.violation(index, problem)),
            }
        }
        let extra = values.keys().filter(|name| !self.variables.contains(name));
        violations.extend(extra.map(|name| Violation {
            variable: name.clone(),
            position: None,
            problem: Problem::Extra { takes: self.variables.clone() },
        }));
        if violations.is_empty() {
            violations.extend(self.too_long(&texts));
        }
        if violations.is_empty() { Ok(texts) } else { Err(violations) }
    }

    /// The violation of a body that became too long, laid at the door of the longest value.
    fn too_long(&self, texts: &[Cow<'_, str>]) -> Option<Violation> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
        let characters = self.body.filled_length(&lengths);
        if characters <= MAX_BODY {
            return None;
        }
        let longest = lengths.iter().enumerate().max_by_key(|(_, length)| **length).map(|(index, _)| index);
        let problem = Problem::BodyTooLong { characters };
        Some(match longest {
            Some(index) => self.violation(index, problem),
            None => Violation { variable: String::new(), position: None, problem },
        })
    }

    fn violation(&self, index: usize, problem: Problem) -> Violation {
        Violation {
            variable: self.variables.get(index).cloned().unwrap_or_default(),
            position: (self.format == ParameterFormat::Positional).then_some(index + 1),
            problem,
        }
    }
}

fn first_duplicate(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find(|(index, name)| names.iter().take(*index).any(|earlier| earlier == *name))
        .map(|(_, name)| name)
}

/// A value as the text Meta would get, if Meta would take it.
fn text_of(value: Option<&Value>) -> Result<Cow<'_, str>, Problem> {
    let text = match value {
        None => return Err(Problem::Missing),
        Some(Value::Null) => return Err(Problem::Null),
        Some(Value::Array(_)) => return Err(Problem::NotScalar("a list")),
        Some(Value::Object(_)) => return Err(Problem::NotScalar("an object")),
        Some(Value::Bool(value)) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
    };
    match refusal(&text) {
        Some(problem) => Err(problem),
        None => Ok(text),
    }
}

/// Meta: "Param text cannot have new-line/tab characters or more than 4 consecutive spaces", and must not be empty.
fn refusal(text: &str) -> Option<Problem> {
    const MAX_SPACES: usize = 4;
    if text.trim().is_empty() {
        return Some(Problem::Empty);
    }
    let mut spaces = 0;
    for (index, character) in text.chars().enumerate() {
        if character.is_control() {
            return Some(Problem::ControlCharacter { character, at: index + 1 });
        }
        spaces = if character == ' ' { spaces + 1 } else { 0 };
        if spaces > MAX_SPACES {
            return Some(Problem::Spaces { at: index + 1 - MAX_SPACES });
        }
    }
    None
}
