//! A template's body, cut once into plain text and placeholders, so that filling it is a single pass.

use crate::template::{ParameterFormat, TemplateError};

/// One piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text that stays.
    Text(String),
    /// The value of the variable with this index.
    Variable(usize),
}

/// A body in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pieces: Vec<Piece>,
    /// Characters of the plain text together.
    plain_length: usize,
}

impl Body {
    /// Cuts a body and names what it found: `1`, `2`, … or the names in order of appearance.
    pub(crate) fn parse(text: &str, format: ParameterFormat) -> Result<(Self, Vec<String>), TemplateError> {
        let raw = cut(text);
        let names = match format {
            ParameterFormat::Positional => numbered(&raw)?,
            ParameterFormat::Named => named(&raw)?,
        };
        let pieces: Vec<Piece> = raw
            .into_iter()
            .map(|raw| match raw {
                Raw::Text(text) => Piece::Text(text.to_owned()),
                // The name was collected from these very pieces.
                Raw::Placeholder(name) => Piece::Variable(names.iter().position(|other| other == name).unwrap_or(0)),
            })
            .collect();
        let plain_length = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.chars().count(),
                Piece::Variable(_) => 0,
            })
            .sum();
        Ok((Self { pieces, plain_length }, names))
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The same body for variables in another order: `order[new index]` is the old index.
    pub(crate) fn reordered(self, order: &[usize]) -> Self {
        let renumber = |piece| match piece {
            Piece::Variable(old) => Piece::Variable(order.iter().position(|other| *other == old).unwrap_or(old)),
            text @ Piece::Text(_) => text,
        };
        Self { pieces: self.pieces.into_iter().map(renumber).collect(), ..self }
    }

    /// Characters of the body with values of these lengths.
    pub(crate) fn filled_length(&self, lengths: &[usize]) -> usize {
        let length_of = |piece: &Piece| match piece {
            Piece::Text(_) => 0,
            Piece::Variable(index) => lengths.get(*index).copied().unwrap_or(0),
        };
        self.plain_length + self.pieces.iter().map(length_of).sum::<usize>()
    }
}

enum Raw<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Splits at `{{name}}`, blanks inside the braces allowed. Braces around anything else are plain text.
fn cut(text: &str) -> Vec<Raw<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, name, after)) = next_placeholder(rest) {
        if !before.is_empty() {
            pieces.push(Raw::Text(before));
        }
        pieces.push(Raw::Placeholder(name));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Raw::Text(rest));
    }
    pieces
}

fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|character| character.is_alphanumeric() || character == '_');
    // The end first: of several opening braces before it only the last pair can belong to it.
    let mut from = 0;
    loop {
        let end = from + text.get(from..)?.find("}}")?;
        let head = text.get(..end)?;
        if let Some(start) = head.rfind("{{") {
            let name = head.get(start + 2..)?.trim();
            if is_name(name) {
                return Some((text.get(..start)?, name, text.get(end + 2..)?));
            }
        }
        from = end + 1;
    }
}

fn placeholders<'a>(pieces: &'a [Raw<'a>]) -> impl Iterator<Item = &'a str> {
    pieces.iter().filter_map(|piece| match piece {
        Raw::Placeholder(name) => Some(*name),
        Raw::Text(_) => None,
    })
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// `1` to `n`, all of which must be there.
fn numbered(pieces: &[Raw<'_>]) -> Result<Vec<String>, TemplateError> {
    if let Some(name) = placeholders(pieces).find(|name| !is_number(name)) {
        return Err(TemplateError::Named(name.to_owned()));
    }
    let mut found: Vec<&str> = placeholders(pieces).collect();
    // Longer is larger, and leading zeros are no number of Meta's: they show up as a gap.
    found.sort_unstable_by_key(|name| (name.len(), *name));
    found.dedup();
    for (index, name) in found.iter().enumerate() {
        if *name != (index + 1).to_string() {
            let highest = found.last().copied().unwrap_or_default().to_owned();
            return Err(TemplateError::Gap { missing: index + 1, found: highest });
        }
    }
    Ok(found.into_iter().map(str::to_owned).collect())
}

/// Names in order of appearance.
fn named(pieces: &[Raw<'_>]) -> Result<Vec<String>, TemplateError> {
    let mut names: Vec<String> = Vec::new();
    for name in placeholders(pieces) {
        if is_number(name) {
            return Err(TemplateError::Numbered(name.to_owned()));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
