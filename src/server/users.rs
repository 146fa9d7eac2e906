//! Users with a session, and how many each has. A session holds its user by a key, from its login to its end.
//!
//! Must not know: sockets, what a login is.

use std::collections::HashMap;
use std::num::NonZeroU32;

use slab::Slab;

/// Where a user with a session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserKey(NonZeroU32);

/// All users with a session.
#[derive(Default)]
pub(super) struct Users {
    users: Slab<User>,
    by_name: HashMap<String, UserKey>,
}

struct User {
    name: String,
    sessions: usize,
}

impl Users {
    /// Counts one session more of a user who may have `most`; `None` where he has as many.
    pub(super) fn enter(&mut self, name: &str, most: Option<usize>) -> Option<UserKey> {
        let key = self.by_name.get(name).copied();
        let sessions = key.map_or(0, |key| self.users[key.index()].sessions);
        if most.is_some_and(|most| sessions >= most) {
            return None;
        }
        let key = key.unwrap_or_else(|| {
            let user = User {
                name: name.to_owned(),
                sessions: 0,
            };
            let key = UserKey::new(self.users.insert(user));
            self.by_name.insert(name.to_owned(), key);
            key
        });
        self.users[key.index()].sessions += 1;
        Some(key)
    }

    /// A session of this user has ended.
    pub(super) fn leave(&mut self, key: UserKey) {
        let user = &mut self.users[key.index()];
        user.sessions -= 1;
        if user.sessions == 0 {
            let user = self.users.remove(key.index());
            self.by_name.remove(&user.name);
        }
    }

    /// All sessions of all users.
    pub(super) fn sessions(&self) -> usize {
        self.users.iter().map(|(_, user)| user.sessions).sum()
    }
}

impl UserKey {
    fn new(index: usize) -> UserKey {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        UserKey(number.expect("fewer users than sockets"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_user_and_end() {
        let mut users = Users::default();
        let a = users.enter("a", Some(2)).unwrap();
        assert_eq!(users.enter("a", Some(2)), Some(a));
        assert_eq!(users.enter("a", Some(2)), None);
        let b = users.enter("b", Some(1)).unwrap();
        assert_eq!(users.enter("a", None), Some(a), "no limit any more");
        assert_eq!((users.enter("b", Some(1)), users.sessions()), (None, 4));
        users.leave(b);
        assert!(users.enter("b", Some(1)).is_some());
        for _ in 0..3 {
            users.leave(a);
        }
        assert!(users.enter("a", Some(1)).is_some());
        assert_eq!(users.sessions(), 2);
    }
}
