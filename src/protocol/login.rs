//! The login state of a session, shared by all dialects: authentication, failures and reloads.

use std::sync::Arc;

use crate::domain::access::Access;
use crate::domain::path::GrantedPath;
use crate::limits::LOGIN_FAILURES_MAX;

/// The login of one session.
#[derive(Debug, Default)]
pub(crate) struct LoginState {
    /// The access that commands use; `None` before a login.
    access: Option<Arc<Access>>,
    reload: PendingReload,
    has_succeeded: bool,
    failures: u8,
}

/// The effect of a reload on a logged-in user. It waits for the next command, so that a prompt and
/// its answer see the same access.
#[derive(Debug, Default)]
pub(crate) enum PendingReload {
    /// No reload since the last command.
    #[default]
    Unchanged,
    /// The user's access was replaced.
    Changed(Arc<Access>),
    /// The account was removed or its password changed.
    Revoked,
}

impl LoginState {
    /// The access that commands use; `None` if no user is logged in.
    pub(crate) fn access(&self) -> Option<&Arc<Access>> {
        self.access.as_ref()
    }

    /// The access as of the last reload; `None` if no user is logged in or the login was revoked.
    pub(crate) fn latest_access(&self) -> Option<&Arc<Access>> {
        match &self.reload {
            PendingReload::Unchanged => self.access.as_ref(),
            PendingReload::Changed(access) => Some(access),
            PendingReload::Revoked => None,
        }
    }

    /// Whether a login has ever succeeded in this session; the login timeout no longer applies.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.has_succeeded
    }

    /// Records a successful authentication.
    pub(crate) fn succeed(&mut self, access: Arc<Access>) {
        self.access = Some(access);
        self.has_succeeded = true;
    }

    /// Records a failed authentication and returns whether the session may try again. The limit
    /// slows down brute force within one connection; the server's login throttle covers the others.
    pub(crate) fn fail(&mut self) -> bool {
        self.failures += 1;
        self.failures < LOGIN_FAILURES_MAX
    }

    /// Ends the login. The failures of the session still count.
    pub(crate) fn log_out(&mut self) {
        self.access = None;
        self.reload = PendingReload::Unchanged;
    }

    /// Stores the effect of a reload: the new access, or `None` if the login was revoked.
    ///
    /// # Panics
    /// If no user is logged in.
    pub(crate) fn set_reloaded(&mut self, access: Option<Arc<Access>>) {
        assert!(
            self.latest_access().is_some(),
            "a reload applies to logged-in sessions"
        );
        self.reload = access.map_or(PendingReload::Revoked, PendingReload::Changed);
    }

    /// Applies a pending reload to the access and returns its effect.
    pub(crate) fn apply_reload(&mut self) -> PendingReload {
        let reload = std::mem::take(&mut self.reload);
        if let PendingReload::Changed(access) = &reload {
            self.access = Some(access.clone());
        }
        reload
    }
}

/// Moves a path to the grant of the same name after a reload; `None` if that was revoked.
pub(crate) fn regrant(mut path: GrantedPath, access: &Access) -> Option<GrantedPath> {
    path.grant = access.grant(&path.grant.name)?.clone();
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Arc<Access> {
        Arc::new(Access {
            user: "user1".to_owned(),
            grants: Vec::new(),
        })
    }

    #[test]
    fn reload_takes_effect_at_the_next_command() {
        let mut login = LoginState::default();
        let (old, new) = (access(), access());
        login.succeed(old.clone());
        login.set_reloaded(Some(new.clone()));
        assert!(Arc::ptr_eq(login.access().unwrap(), &old));
        assert!(Arc::ptr_eq(login.latest_access().unwrap(), &new));
        assert!(matches!(login.apply_reload(), PendingReload::Changed(_)));
        assert!(Arc::ptr_eq(login.access().unwrap(), &new));
        login.set_reloaded(None);
        assert!(login.latest_access().is_none() && login.access().is_some());
        assert!(matches!(login.apply_reload(), PendingReload::Revoked));
    }

    #[test]
    fn failures_are_counted_across_logins() {
        let mut login = LoginState::default();
        for _ in 1..LOGIN_FAILURES_MAX {
            assert!(login.fail());
            login.succeed(access());
            login.log_out();
        }
        assert!(!login.fail());
    }
}
