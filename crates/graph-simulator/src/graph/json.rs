//! Reading a parsed body with Graph's own complaints about what does not fit.
//!
//! Graph names parameters by path, such as `template['components'][0]['type']`; a [`Node`] knows its path.

use std::fmt;

use serde_json::{Map, Value};

use super::error::GraphError;

type Result<T> = std::result::Result<T, GraphError>;

/// A value and where it is in the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'v, 'p> {
    value: &'v Value,
    path: Path<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => write!(f, "{key}"),
            Path::Key(parent, key) => write!(f, "{parent}['{key}']"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'v> Node<'v, 'static> {
    pub(crate) fn root(value: &'v Value) -> Self {
        Self { value, path: Path::Root }
    }
}

impl<'v, 'p> Node<'v, 'p> {
    /// The member `key`; a JSON null counts as absent.
    pub(crate) fn get<'c>(&'c self, key: &'c str) -> Option<Node<'v, 'c>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Node { value, path: Path::Key(&self.path, key) })
    }

    /// The member `key`, which must be there.
    pub(crate) fn require<'c>(&'c self, key: &'c str) -> Result<Node<'v, 'c>> {
        self.get(key).ok_or_else(|| {
            let path = Path::Key(&self.path, key);
            GraphError::parameter(format_args!("The parameter {path} is required."))
        })
    }

    pub(crate) fn items<'c>(&'c self) -> Result<impl Iterator<Item = Node<'v, 'c>>> {
        let Value::Array(items) = self.value else {
            return Err(self.must_be("an array"));
        };
        Ok(items.iter().enumerate().map(|(index, value)| Node { value, path: Path::Index(&self.path, index) }))
    }

    /// Checks that the value is an object with no other members than `known`.
    pub(crate) fn object(&self, known: &[&str]) -> Result<&'v Map<String, Value>> {
        let Value::Object(map) = self.value else {
            return Err(self.must_be("a JSON object"));
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(map),
            Some(key) => {
                let details = match self.path {
                    Path::Root => format!("Unexpected key \"{key}\"."),
                    path => format!("Unexpected key \"{key}\" on param \"{path}\"."),
                };
                Err(GraphError::of(100).details(details))
            }
        }
    }

    pub(crate) fn str(&self) -> Result<&'v str> {
        self.value.as_str().ok_or_else(|| self.must_be("a string"))
    }

    /// A string of `1..=max` characters.
    pub(crate) fn text(&self, max: usize) -> Result<&'v str> {
        let text = self.str()?;
        if text.is_empty() {
            return Err(GraphError::parameter(format_args!("Param {} must be non-empty.", self.path)));
        }
        // Bytes are at least as many as characters: the common short text is not counted twice.
        if text.len() > max && text.chars().count() > max {
            return Err(GraphError::parameter(format_args!(
                "Param {} must be at most {max} characters long.",
                self.path
            )));
        }
        Ok(text)
    }

    /// One of the strings that Meta lists; told in upper case, as Graph does.
    pub(crate) fn one_of(&self, allowed: &[&str]) -> Result<&'v str> {
        let text = self.str()?;
        if allowed.contains(&text) {
            return Ok(text);
        }
        let list = allowed.join(", ").to_uppercase();
        Err(GraphError::parameter(format_args!("Param {} must be one of {{{list}}} - got \"{text}\".", self.path)))
    }

    pub(crate) fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.must_be("a boolean"))
    }

    pub(crate) fn value(&self) -> &'v Value {
        self.value
    }

    pub(crate) fn must_be(&self, what: &str) -> GraphError {
        GraphError::parameter(format_args!("Param {} must be {what}.", self.path))
    }

    pub(crate) fn path(&self) -> String {
        self.path.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    #[test]
    fn complaints_name_the_path_as_graph_does() {
        let body = json!({"template": {"components": [{"type": "BODY", "extra": 1}]}});
        let root = Node::root(&body);
        let template = root.require("template").unwrap();
        let components = template.require("components").unwrap();
        let component = components.items().unwrap().next().unwrap();
        let kind = component.require("type").unwrap();
        assert_eq!(
            kind.one_of(&["header", "body"]).unwrap_err().message,
            "(#100) Param template['components'][0]['type'] must be one of {HEADER, BODY} - got \"BODY\"."
        );
        assert_eq!(
            component.object(&["type"]).unwrap_err().details.unwrap(),
            "Unexpected key \"extra\" on param \"template['components'][0]\"."
        );
        assert_eq!(root.require("to").unwrap_err().message, "(#100) The parameter to is required.");
    }

    #[test]
    fn length_is_counted_in_characters() {
        let body = json!("ééé");
        assert!(Node::root(&body).text(3).is_ok());
        assert!(Node::root(&body).text(2).is_err());
    }
}
