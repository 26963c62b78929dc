//! A keyring from a file outside the database.
//!
//! The file is held to what PostgreSQL asks of `ssl_key_file` (PostgreSQL documentation, "Secure TCP/IP Connections with
//! SSL"): owned by the server's user with no access for group or world, or owned by root with at most read for the group.

use crate::error::KeyError;
use crate::sealed::Keyring;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// A key file has a line a key; nothing that is longer than this is one.
const LONGEST: u64 = 64 * 1024;

/// Reads the keys of `path`; see [`Keyring::from_file_text`] for what it may contain.
///
/// # Errors
/// [`KeyError`], which names the file: not absolute, missing, not a regular file, owned by somebody else, open to others,
/// not readable, or without a usable key.
pub fn read_key_file(path: impl AsRef<Path>) -> Result<Keyring, KeyError> {
    let path = path.as_ref();
    if !path.is_absolute() {
        return Err(KeyError::NotAbsolute(path.to_owned()));
    }
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
        _ => KeyError::Unreadable { path: path.to_owned(), reason: error.to_string() },
    };
    // Looked at before it is opened, because opening a pipe would wait, and again after, because that is the file read.
    check(path, &path.metadata().map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    check(path, &file.metadata().map_err(unreadable)?)?;

    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    Keyring::from_file_text(&text)
        .map_err(|problem| KeyError::BadFile { path: path.to_owned(), problem: Box::new(problem) })
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), KeyError> {
    let path = || path.to_owned();
    if !metadata.is_file() {
        return Err(KeyError::NotAFile(path()));
    }
    let me = rustix::process::geteuid().as_raw();
    verdict(metadata.uid(), me, metadata.mode()).map_err(|refusal| match refusal {
        Refusal::ForeignOwner => KeyError::ForeignOwner(path()),
        Refusal::TooOpen => KeyError::TooOpen { path: path(), mode: metadata.mode() & 0o7777 },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    ForeignOwner,
    TooOpen,
}

/// The rule itself, apart from the file system.
fn verdict(owner: u32, me: u32, mode: u32) -> Result<(), Refusal> {
    const ROOT: u32 = 0;
    if owner != me && owner != ROOT {
        return Err(Refusal::ForeignOwner);
    }
    // A file of root's is read through its group; a server that runs as root itself gets no such allowance twice.
    let forbidden = if owner == ROOT { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(Refusal::TooOpen);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::key::Key;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn file(text: &str, mode: u32) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_private_file_gives_its_keys() {
        let key = Key::generate().unwrap();
        let (_directory, path) = file(&format!("# keys\n{}\n", key.to_export()), 0o600);
        assert_eq!(read_key_file(&path).unwrap().sealing_key(), key.id());
    }

    #[test]
    fn a_link_to_a_private_file_is_followed() {
        let key = Key::generate().unwrap();
        let (directory, path) = file(&key.to_export(), 0o400);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_key_file(&link).unwrap().sealing_key(), key.id());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_its_mode() {
        for mode in [0o604, 0o660, 0o666, 0o601, 0o620] {
            let (_directory, path) = file("", mode);
            assert_eq!(read_key_file(&path).unwrap_err(), KeyError::TooOpen { path: path.clone(), mode });
        }
        let error = KeyError::TooOpen { path: "/k".into(), mode: 0o644 }.to_string();
        assert!(error.contains("0644") && error.contains("0600"), "{error}");
    }

    #[test]
    fn roots_files_may_be_read_by_the_group_and_the_servers_own_may_not() {
        assert_eq!(verdict(0, 26, 0o100_640), Ok(()));
        assert_eq!(verdict(0, 26, 0o100_644), Err(Refusal::TooOpen));
        assert_eq!(verdict(0, 26, 0o100_660), Err(Refusal::TooOpen));
        assert_eq!(verdict(26, 26, 0o100_600), Ok(()));
        assert_eq!(verdict(26, 26, 0o100_640), Err(Refusal::TooOpen));
        assert_eq!(verdict(1000, 26, 0o100_600), Err(Refusal::ForeignOwner));
    }

    #[test]
    fn a_relative_missing_or_irregular_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("keys");
        assert_eq!(read_key_file("keys").unwrap_err(), KeyError::NotAbsolute("keys".into()));
        assert_eq!(read_key_file(&missing).unwrap_err(), KeyError::Missing(missing));
        assert_eq!(read_key_file(directory.path()).unwrap_err(), KeyError::NotAFile(directory.path().to_owned()));
        assert_eq!(read_key_file("/dev/null").unwrap_err(), KeyError::NotAFile("/dev/null".into()));
    }

    #[test]
    fn an_empty_file_and_a_short_key_are_refused_with_the_file_and_the_line() {
        let (_directory, path) = file("", 0o600);
        assert!(matches!(read_key_file(&path), Err(KeyError::BadFile { problem, .. }) if *problem == KeyError::Empty));
        let (_directory, path) = file("# key\nc2hvcnQ=\n", 0o600);
        let error = read_key_file(&path).unwrap_err().to_string();
        assert!(error.contains("keys\": line 2:") && error.contains("has 5"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_text_is_refused() {
        let (_directory, path) = file("", 0o600);
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        assert!(matches!(read_key_file(&path), Err(KeyError::Unreadable { .. })));
    }
}
