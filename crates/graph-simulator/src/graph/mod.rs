//! Meta's rules: versions, errors, the shape of a message, and what a template asks of a send.
//!
//! Pure: bytes and registered facts in, a verdict out. The flow of a request is in [`messages`].

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod message;
pub(crate) mod messages;
pub(crate) mod number;
pub(crate) mod parameter;
pub(crate) mod template;
pub(crate) mod template_rules;
pub(crate) mod version;
pub(crate) mod wamid;
