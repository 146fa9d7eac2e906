//! The file `Credentials`: a record a line, `USER:HASH`, `USER:plain:PASSWORD` or `USER:anyone`.
//!
//! Pure: text in, records or faults out, and the text of a change. Must not know: the file system, how a hash is made.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::password;
use crate::config::HomeError;
use crate::config::records;
use crate::config::records::{Fault, check_user};
use crate::limits;

/// One record: a user and how he proves himself.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// His name, matched exactly.
    pub user: String,
    /// What his password is compared with.
    pub secret: Secret,
}

/// What a password is compared with.
#[derive(PartialEq, Eq)]
pub enum Secret {
    /// A PHC string, `$argon2id$v=19$…`.
    Hash(String),
    /// The password itself, for a person who begins with an editor alone.
    Plain(Zeroizing<String>),
    /// Nothing: whoever gives the name may come in, as with anonymous FTP.
    Anyone,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Hash(_) => "Hash(…)",
            Secret::Plain(_) => "Plain(…)",
            Secret::Anyone => "Anyone",
        })
    }
}

/// The file, read: its text and its records.
pub struct Credentials {
    text: Zeroizing<Vec<u8>>,
    /// Each with the number of its line, in the file's order, each user once.
    records: Vec<(usize, Arc<Account>)>,
}

impl Credentials {
    /// Reads the text of `file`. All faults at once, each with its line.
    pub fn parse(file: &Path, text: Zeroizing<Vec<u8>>) -> Result<Credentials, Vec<HomeError>> {
        let mut first: HashMap<String, usize> = HashMap::new();
        let records = records::parse(file, &text, |number, line| {
            let account = record(line)?;
            if let Some(first) = first.get(&account.user) {
                return Err(Fault::new(
                    format!(
                        "the user '{}' a second time, after line {first}",
                        account.user
                    ),
                    "each user once",
                ));
            }
            first.insert(account.user.clone(), number);
            Ok((number, Arc::new(account)))
        })?;
        Ok(Credentials { text, records })
    }

    /// The records with the numbers of their lines, in the file's order.
    pub fn records(&self) -> &[(usize, Arc<Account>)] {
        &self.records
    }

    /// Whether there is such a user.
    pub fn has(&self, user: &str) -> bool {
        self.line_of(user).is_some()
    }

    /// The text in which `user` has this hash: in his line, or in a new one behind the last.
    ///
    /// # Panics
    /// If `user` or `hash` could not be read back; both are checked before.
    pub fn with(&self, user: &str, hash: &str) -> Zeroizing<Vec<u8>> {
        assert!(check_user(user).is_ok() && password::check(hash).is_ok());
        let new = format!("{user}:{hash}");
        match self.line_of(user) {
            Some(number) => records::edited(&self.text, &[(number, Some(&new))], None),
            None => records::edited(&self.text, &[], Some(&new)),
        }
    }

    /// The text without `user`, or `None` where he has no record.
    pub fn without(&self, user: &str) -> Option<Zeroizing<Vec<u8>>> {
        let number = self.line_of(user)?;
        Some(records::edited(&self.text, &[(number, None)], None))
    }

    /// The text in which every plain password is replaced by what `hash` makes of it, and how many there were.
    pub fn hashed(&self, hash: impl Fn(&[u8]) -> String) -> (Zeroizing<Vec<u8>>, usize) {
        let new: Vec<(usize, String)> = self
            .records
            .iter()
            .filter_map(|(number, account)| match &account.secret {
                Secret::Plain(password) => {
                    let line = format!("{}:{}", account.user, hash(password.as_bytes()));
                    Some((*number, line))
                }
                Secret::Hash(_) | Secret::Anyone => None,
            })
            .collect();
        let changes: Vec<(usize, Option<&str>)> = new
            .iter()
            .map(|(number, line)| (*number, Some(line.as_str())))
            .collect();
        (records::edited(&self.text, &changes, None), new.len())
    }

    fn line_of(&self, user: &str) -> Option<usize> {
        self.records
            .iter()
            .find(|(_, account)| account.user == user)
            .map(|(number, _)| *number)
    }
}

/// One line. What was found never repeats what may be a password: only a name that is followed by `:` is told.
fn record(line: &str) -> Result<Account, Fault> {
    const SHAPE: &str = "USER:HASH, USER:plain:PASSWORD or USER:anyone";
    let Some((user, secret)) = line.split_once(':') else {
        return Err(Fault::new("no ':' in the line", SHAPE));
    };
    check_user(user).map_err(|what| Fault::new(what, "a user's name before the first ':'"))?;
    let secret = match secret.strip_prefix("plain:") {
        Some("") => {
            return Err(Fault::new(
                "an empty password",
                "a password behind 'plain:'",
            ));
        }
        Some(password) if password.len() >= limits::LINE_BYTES_MAX => {
            return Err(Fault::new(
                format!("a password of {} bytes", password.len()),
                "one that fits in a line of 4,096 bytes, as a client sends it",
            ));
        }
        Some(password) => Secret::Plain(Zeroizing::new(password.to_owned())),
        None if secret == "anyone" => Secret::Anyone,
        None if secret.starts_with('$') => {
            password::check(secret).map_err(|what| {
                Fault::new(what, "a PHC string that begins with '$argon2id$v=19$'")
            })?;
            Secret::Hash(secret.to_owned())
        }
        None if secret.is_empty() => return Err(Fault::new("nothing behind the name", SHAPE)),
        None => {
            return Err(Fault::new(
                "neither a hash, 'plain:' nor 'anyone' behind the name",
                SHAPE,
            ));
        }
    };
    Ok(Account {
        user: user.to_owned(),
        secret,
    })
}

const _: () = assert!(limits::LINE_BYTES_MAX == 4096);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hash as small as the format allows, so that tests are quick.
    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ";

    fn parse(text: &[u8]) -> Result<Credentials, Vec<HomeError>> {
        Credentials::parse(Path::new("Credentials"), Zeroizing::new(text.to_vec()))
    }

    fn fault(text: &str) -> String {
        let Err(faults) = parse(text.as_bytes()) else {
            panic!("{text:?} is accepted");
        };
        assert_eq!(faults.len(), 1, "{text:?}");
        faults[0].to_string()
    }

    #[test]
    fn records_are_taken_as_they_stand() {
        let text = format!("# c\n\nuser 1:{HASH}\r\n ü :plain: a:b\t# c \n");
        let file = parse(text.as_bytes()).unwrap();
        let [(3, first), (4, second)] = file.records() else {
            panic!("two records");
        };
        assert_eq!(
            (first.user.as_str(), &first.secret),
            ("user 1", &Secret::Hash(HASH.into()))
        );
        let password = Secret::Plain(Zeroizing::new(" a:b\t# c ".into()));
        assert_eq!((second.user.as_str(), &second.secret), (" ü ", &password));
        assert_eq!(
            format!("{file:?}", file = file.records()[1].1)
                .matches("a:b")
                .count(),
            0
        );
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        let long = "x".repeat(256);
        for (text, expected) in [
            (
                "secret",
                "Credentials:1: found no ':' in the line; expected USER:HASH, USER:plain:PASSWORD or USER:anyone",
            ),
            (
                "a:",
                "Credentials:1: found nothing behind the name; expected USER:HASH, USER:plain:PASSWORD or USER:anyone",
            ),
            (
                "a:secret",
                "Credentials:1: found neither a hash, 'plain:' nor 'anyone' behind the name; expected USER:HASH, USER:plain:PASSWORD or USER:anyone",
            ),
            (
                "a:Plain:secret",
                "Credentials:1: found neither a hash, 'plain:' nor 'anyone' behind the name; expected USER:HASH, USER:plain:PASSWORD or USER:anyone",
            ),
            (
                "\n a:plain",
                "Credentials:2: found neither a hash, 'plain:' nor 'anyone' behind the name; expected USER:HASH, USER:plain:PASSWORD or USER:anyone",
            ),
            (
                "a:plain:",
                "Credentials:1: found an empty password; expected a password behind 'plain:'",
            ),
            (
                ":plain:secret",
                "Credentials:1: found an empty name; expected a user's name before the first ':'",
            ),
            (
                "*:plain:secret",
                "Credentials:1: found the name '*', which stands for everybody; expected a user's name before the first ':'",
            ),
            (
                &format!("{long}:plain:secret"),
                "Credentials:1: found a name of more than 255 bytes; expected a user's name before the first ':'",
            ),
            (
                "a\tb:plain:secret",
                "Credentials:1: found a name with a control character in it; expected a user's name before the first ':'",
            ),
            (
                "a:plain:x\nb:plain:x\na:plain:y",
                "Credentials:3: found the user 'a' a second time, after line 1; expected each user once",
            ),
            (
                &format!("a:{HASH}:"),
                "Credentials:1: found a hash that is no PHC string; expected a PHC string that begins with '$argon2id$v=19$'",
            ),
            (
                &format!("a:plain:{}", "y".repeat(4096)),
                "Credentials:1: found a password of 4096 bytes; expected one that fits in a line of 4,096 bytes, as a client sends it",
            ),
        ] {
            let told = fault(text);
            assert_eq!(told, expected);
            assert!(!told.contains("secret"));
        }
        assert_eq!(
            parse(b"a\nb:plain:x\nc\n").err().unwrap().len(),
            2,
            "all faults at once"
        );
    }

    #[test]
    fn edits_keep_comments_and_order() {
        let text = format!("# first\nb:plain:x # y\n\n# second\na:{HASH}");
        let file = parse(text.as_bytes()).unwrap();
        assert_eq!(
            &file.with("b", HASH)[..],
            format!("# first\nb:{HASH}\n\n# second\na:{HASH}").as_bytes()
        );
        assert_eq!(
            &file.with("c", HASH)[..],
            format!("{text}\nc:{HASH}\n").as_bytes()
        );
        assert_eq!(
            &file.without("a").unwrap()[..],
            b"# first\nb:plain:x # y\n\n# second\n"
        );
        assert!(file.without("c").is_none());
        let (hashed, count) = file.hashed(|password| {
            assert_eq!(password, b"x # y");
            HASH.to_owned()
        });
        assert_eq!(count, 1);
        assert_eq!(hashed, file.with("b", HASH));
    }

    fn accounts() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
        let user = "[^:\\p{Cc}#*\u{feff}][^:\\p{Cc}]{0,12}";
        let password = proptest::option::of("[^\\p{Cc}]{1,20}");
        proptest::collection::btree_map(user, password, 0..8)
            .prop_map(|records| records.into_iter().collect())
    }

    fn print(accounts: &[(String, Option<String>)]) -> String {
        accounts
            .iter()
            .map(|(user, password)| match password {
                Some(password) => format!("{user}:plain:{password}\n"),
                None => format!("{user}:{HASH}\n"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(accounts in accounts()) {
            let file = parse(print(&accounts).as_bytes()).unwrap();
            let read: Vec<_> = file.records().iter().map(|(_, account)| {
                let password = match &account.secret {
                    Secret::Plain(password) => Some(password.to_string()),
                    Secret::Hash(_) | Secret::Anyone => None,
                };
                (account.user.clone(), password)
            }).collect();
            prop_assert_eq!(read, accounts);
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        /// Whatever is done to a good line, no other user comes in by it, and nobody with another password than the line's end.
        #[test]
        fn a_malformed_line_lets_nobody_in(at in 0usize..20, byte in any::<u8>()) {
            let mut text = b"alice:plain:pass1234".to_vec();
            text.insert(at, byte);
            if let Ok(file) = parse(&text) {
                for (_, account) in file.records() {
                    let Secret::Plain(password) = &account.secret else { panic!("a hash out of nothing") };
                    let whole = format!("{}:plain:{}", account.user, password.as_str());
                    prop_assert!(String::from_utf8_lossy(&text).contains(&whole));
                }
            }
        }

        #[test]
        fn an_edit_changes_one_user(accounts in accounts(), which in any::<prop::sample::Index>()) {
            prop_assume!(!accounts.is_empty());
            let (user, _) = &accounts[which.index(accounts.len())];
            let file = parse(print(&accounts).as_bytes()).unwrap();
            let without: Vec<_> = accounts.iter().filter(|(other, _)| other != user).cloned().collect();
            let printed = print(&without);
            prop_assert_eq!(&file.without(user).unwrap()[..], printed.as_bytes());
            let with: Vec<_> = accounts.iter().map(|(other, password)| {
                (other.clone(), if other == user { None } else { password.clone() })
            }).collect();
            let printed = print(&with);
            prop_assert_eq!(&file.with(user, HASH)[..], printed.as_bytes());
        }
    }
}
