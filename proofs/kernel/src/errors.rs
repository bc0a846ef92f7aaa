//! Errors, told apart: several of them share a kind, and differ in their message.

use mapring::{ErrorKind, Result};

/// Checks that this failed with an error of `kind`, whose message contains `part`.
#[track_caller]
pub fn assert_error<T>(result: Result<T>, kind: ErrorKind, part: &str) {
    let Err(error) = result else { panic!("no error, expected {part:?}") };
    assert!(error.kind() == kind && error.to_string().contains(part), "{error}, expected {part:?}");
}

/// Checks that an error says all of this.
#[track_caller]
pub fn says(error: impl std::fmt::Display, parts: &[&str]) {
    let message = error.to_string();
    let missing: Vec<_> = parts.iter().filter(|part| !message.contains(**part)).collect();
    assert!(missing.is_empty(), "{message:?} does not say {missing:?}");
}
