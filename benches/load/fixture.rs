//! The users and names that the clients and the servers share.

/// The users of `testdata/home` and their passwords.
pub(crate) const USERS: [(&str, &str); 4] = [
    ("user1", "1234"),
    ("user2", "2345"),
    ("user3", "3456"),
    ("user4", "4567"),
];

/// The directory that every user may read.
pub(crate) const DIRECTORY: &str = "Load";

/// The directory that every user may change.
pub(crate) const UPLOADS: &str = "Uploads";

/// A file of 1 KiB in [`DIRECTORY`].
pub(crate) const TINY_FILE: &str = "tiny";
