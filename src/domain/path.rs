//! Paths beneath a granted directory, and the rules for names.

use std::sync::Arc;

use crate::domain::access::Grant;
use crate::limits::NAME_BYTES_MAX;

/// A place in what a user may see: a granted directory and a path below it, parts parted by one `/`, as the client
/// gave it and not checked in any way; empty for the granted directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedPath {
    /// The granted directory in which the path begins.
    pub grant: Arc<Grant>,
    /// The path below it.
    pub below: String,
}

/// Whether `name` can be one part of a path, and so whether a server may name a file so: the name stays in its folder, and
/// shows on a terminal as what it is. It is not empty, not led by a dot, without control characters (Unicode's Cc), without
/// `/`, and of at most [`NAME_BYTES_MAX`] bytes.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(|character: char| character == '/' || character.is_control())
}
