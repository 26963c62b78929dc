//! Secrets at rest: access tokens and app secrets, sealed under a key that lies somewhere else.
//!
//! - [`key`]: the 32 bytes that seal, their text form and their public [`KeyId`].
//! - [`sealed`]: the [`Keyring`], which seals a [`Secret`] for one [`Context`] and opens it again.
//! - [`mod@file`]: a keyring from a file outside the database, with the checks such a file deserves.
//! - [`secret`]: an opened secret, which no formatting prints and which is wiped when dropped.
//!
//! ```
//! use keyring::{Context, Key, Keyring};
//!
//! let keyring = Keyring::new(vec![Key::generate()?])?;
//! let context = Context { organizer: [7; 16], column: "access_token" };
//! let sealed = keyring.seal("EAAG…", &context)?;
//! assert!(keyring::is_sealed(&sealed));
//! assert_eq!(keyring.open(&sealed, &context)?.expose(), "EAAG…");
//!
//! let somebody_else = Context { organizer: [8; 16], ..context };
//! assert!(keyring.open(&sealed, &somebody_else).is_err());
//! # Ok::<(), keyring::KeyError>(())
//! ```

#![forbid(unsafe_code)]

pub mod error;
pub mod file;
pub mod key;
pub mod sealed;
pub mod secret;

pub use error::KeyError;
pub use file::read_key_file;
pub use key::{Key, KeyId};
pub use sealed::{Context, Keyring, is_sealed, key_of};
pub use secret::Secret;
