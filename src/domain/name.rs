//! Rules for the names in a home's files.

use crate::limits::NAME_BYTES_MAX;

/// The user field of a grant that applies to every user.
pub const ALL_USERS: &str = "*";

/// The mark that editors on Windows put before UTF-8 text.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// Checks a user name: not empty, at most [`NAME_BYTES_MAX`] bytes, without `:` and control
/// characters, not [`ALL_USERS`], and nothing that reads as a comment. The error says what is
/// wrong.
pub fn check_user_name(name: &str) -> Result<(), &'static str> {
    if name == ALL_USERS {
        return Err("the name '*' means every user");
    }
    if name.starts_with('#') {
        return Err("the name begins with '#', as a comment does");
    }
    if name.starts_with(BYTE_ORDER_MARK) {
        return Err("the name begins with a byte order mark");
    }
    check_name(name)
}

/// Checks the name of a granted directory: not empty, at most [`NAME_BYTES_MAX`] bytes, without
/// `/`, `:` and control characters, and not beginning with a dot. The error names the fault.
pub fn check_directory_name(name: &str) -> Result<(), &'static str> {
    check_name(name)?;
    if name.starts_with('.') {
        return Err("the name begins with a dot");
    }
    if name.contains('/') {
        return Err("the name contains a '/'");
    }
    Ok(())
}

/// Checks the path of a grant. The error names the fault.
pub fn check_grant_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.chars().any(char::is_control) {
        return Err("the path contains a control character");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("the name is longer than 255 bytes");
    }
    if name.contains(':') {
        return Err("the name contains a ':'");
    }
    if name.chars().any(char::is_control) {
        return Err("the name contains a control character");
    }
    Ok(())
}

const _: () = assert!(NAME_BYTES_MAX == 255);
