//! The menu, server side: states and steps.

use std::sync::Arc;

use super::{Action, Input};
use crate::home::Access;

/// The menu's dialogue with one client.
#[derive(Debug)]
pub struct Menu {}

impl Menu {
    pub(super) fn step(&mut self, _input: Input<'_>, _out: &mut Vec<u8>) -> Action {
        Action::Close
    }
    pub(super) fn reloaded(&mut self, _access: Option<Arc<Access>>) {}
    pub(super) fn access(&self) -> Option<&Arc<Access>> {
        None
    }
}
