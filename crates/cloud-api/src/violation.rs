//! What is wrong with the variables of a message, in words that say how to mend it.

use crate::template::MAX_BODY;
use std::fmt;

/// What is wrong with one variable of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The variable's name; empty when the body is too long without any variable.
    pub variable: String,
    /// `Some(n)` when it stands for `{{n}}`; `None` in templates with named parameters and for names the template does not have.
    pub position: Option<usize>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The template has it, the values do not.
    Missing,
    /// The values have it, the template does not.
    Extra {
        /// What the template does have.
        takes: Vec<String>,
    },
    /// Nothing, or only blanks.
    Empty,
    /// A JSON null.
    Null,
    /// A list or an object (`"a list"`, `"an object"`).
    NotScalar(&'static str),
    /// A line break, tab or other control character.
    ControlCharacter {
        /// The character.
        character: char,
        /// Where it stands, counted from 1.
        at: usize,
    },
    /// More than four spaces in a row.
    Spaces {
        /// Where the first of them stands, counted from 1.
        at: usize,
    },
    /// The filled body is longer than Meta takes.
    BodyTooLong {
        /// How long it is, in characters.
        characters: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.variable.as_str(), self.position) {
            ("", _) => {}
            (name, Some(position)) => write!(f, "variable \"{name}\" ({{{{{position}}}}}) ")?,
            (name, None) => write!(f, "variable \"{name}\" ")?,
        }
        match &self.problem {
            Problem::Missing => f.write_str("is missing: give it a value"),
            Problem::Extra { takes } if takes.is_empty() => {
                f.write_str("is not in the template, which takes none: leave it out")
            }
            Problem::Extra { takes } => {
                write!(f, "is not in the template, which takes {}: rename it or leave it out", takes.join(", "))
            }
            Problem::Empty => f.write_str("is empty, which WhatsApp refuses: give it a value"),
            Problem::Null => f.write_str("is null: give it a value"),
            Problem::NotScalar(what) => {
                write!(f, "is {what}: give it a text, a number or a boolean")
            }
            Problem::ControlCharacter { character, at } => {
                let what = match character {
                    '\n' | '\r' => "a line break",
                    '\t' => "a tab",
                    _ => "a control character",
                };
                write!(f, "contains {what} at character {at}, which WhatsApp refuses: write a space or a comma instead")
            }
            Problem::Spaces { at } => {
                write!(f, "contains more than 4 spaces in a row at character {at}, which WhatsApp refuses: write fewer")
            }
            Problem::BodyTooLong { characters } if self.variable.is_empty() => {
                write!(f, "the body has {characters} characters, at most {MAX_BODY} are allowed: shorten the template")
            }
            Problem::BodyTooLong { characters } => {
                write!(
                    f,
                    "is the longest value of a message that would have {characters} characters, at most {MAX_BODY} are allowed: shorten it"
                )
            }
        }
    }
}
