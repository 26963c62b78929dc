//! Everything that can be wrong with a key, a key file or a sealed value. No message contains a key or a secret.

use crate::key::KeyId;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    NoRandomness(String),
    /// A key of another length than 32 bytes.
    #[error("a key has 32 bytes, this one has {0} (32 random bytes as base64, or 64 hexadecimal digits)")]
    WrongLength(usize),
    /// A key that is neither base64 nor hexadecimal.
    #[error("the key is neither base64 nor 64 hexadecimal digits")]
    NotAKey,
    /// A line of a key file that is not a key.
    #[error("line {line}: {problem}")]
    BadLine {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: Box<KeyError>,
    },
    /// A keyring needs a key to seal with.
    #[error("there is no key")]
    Empty,
    /// The same key twice: probably a rotation that put the old key where the new one belongs.
    #[error("key {0} is there twice")]
    Twice(KeyId),
    /// A key id that is not 16 hexadecimal digits.
    #[error("a key id has 16 hexadecimal digits")]
    NotAKeyId,
    /// The key file's path must not depend on a working directory.
    #[error("the key file \"{}\" must be given with its absolute path", .0.display())]
    NotAbsolute(PathBuf),
    /// No such file.
    #[error("the key file \"{}\" does not exist", .0.display())]
    Missing(PathBuf),
    /// A directory, a pipe, a device.
    #[error("the key file \"{}\" is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file belongs to somebody else, who could read or exchange the key.
    #[error("the key file \"{}\" must be owned by the user the server runs as, or by root", .0.display())]
    ForeignOwner(PathBuf),
    /// Others could read the key.
    #[error("the key file \"{}\" has mode {mode:04o}: others could read it; allowed is 0600 or less, or 0640 or less when root owns it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there but could not be read.
    #[error("the key file \"{}\" could not be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// The file was read but what it says is no keyring.
    #[error("the key file \"{}\": {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        problem: Box<KeyError>,
    },
    /// The value was never sealed.
    #[error("the value is not sealed")]
    NotSealed,
    /// The value was cut, mistyped or otherwise changed on its way.
    #[error("the sealed value is damaged")]
    Damaged,
    /// The value was sealed under a key that is not in this keyring.
    #[error("the value was sealed under key {0}, which is not here: import it")]
    UnknownKey(KeyId),
    /// The value is intact but was sealed for another organizer or column, or was forged.
    #[error("the value was sealed for another organizer or another column")]
    WrongContext,
    /// The cipher refused (a secret of more than 256 GB).
    #[error("the secret is too long to seal")]
    TooLong,
}
