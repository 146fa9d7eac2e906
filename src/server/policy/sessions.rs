//! Sessions by user.

use std::collections::HashMap;

use slab::Slab;

use crate::server::session_id::UserKey;

/// Counts the sessions of each user.
#[derive(Default)]
pub(crate) struct UserSessions {
    users: Slab<User>,
    keys: HashMap<String, UserKey>,
}

struct User {
    name: String,
    sessions: usize,
}

impl UserSessions {
    /// Counts one more session of a user; `None` if the user has `sessions_max` already.
    pub(crate) fn acquire(&mut self, name: &str, sessions_max: Option<usize>) -> Option<UserKey> {
        let key = self.keys.get(name).copied();
        let sessions = key.map_or(0, |key| self.users[key.index()].sessions);
        if sessions_max.is_some_and(|max| sessions >= max) {
            return None;
        }
        let key = key.unwrap_or_else(|| {
            let user = User {
                name: name.to_owned(),
                sessions: 0,
            };
            let key = UserKey::new(self.users.insert(user));
            self.keys.insert(name.to_owned(), key);
            key
        });
        self.users[key.index()].sessions += 1;
        Some(key)
    }

    /// Ends a session of a user; returns true if it was the last one.
    pub(crate) fn release(&mut self, key: UserKey) -> bool {
        let user = &mut self.users[key.index()];
        user.sessions -= 1;
        let is_last = user.sessions == 0;
        if is_last {
            let user = self.users.remove(key.index());
            self.keys.remove(&user.name);
        }
        is_last
    }

    /// Returns the name of a user.
    pub(crate) fn name(&self, key: UserKey) -> &str {
        &self.users[key.index()].name
    }

    /// Returns the users with a session.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserKey, &str)> {
        let users = self.users.iter();
        users.map(|(index, user)| (UserKey::new(index), &*user.name))
    }

    /// Returns the number of sessions of all users.
    pub(crate) fn sessions(&self) -> usize {
        self.users.iter().map(|(_, user)| user.sessions).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_and_limited_per_user() {
        let mut users = UserSessions::default();
        let a = users.acquire("a", Some(2)).unwrap();
        assert_eq!(users.acquire("a", Some(2)), Some(a));
        assert_eq!(users.acquire("a", Some(2)), None);
        let b = users.acquire("b", Some(1)).unwrap();
        assert_eq!(users.acquire("a", None), Some(a), "no limit any more");
        assert_eq!(users.acquire("b", Some(1)), None);
        assert_eq!(users.sessions(), 4);
        assert!(users.release(b));
        assert!(users.acquire("b", Some(1)).is_some());
        assert_eq!([(); 3].map(|()| users.release(a)), [false, false, true]);
        assert!(users.acquire("a", Some(1)).is_some());
        assert_eq!(users.sessions(), 2);
        let mut names: Vec<_> = users.users().map(|(_, name)| name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
    }
}
