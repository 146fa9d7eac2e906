use proptest::prelude::*;

use super::*;

/// A hash of the lowest cost, so that tests are quick.
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
fn records_are_parsed_literally() {
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
fn faults_are_reported_with_their_lines() {
    const FORMS: &str = "USER:HASH, USER:plain:PASSWORD or USER:anyone";
    const NEITHER: &str = "the name is followed by neither a hash, 'plain:' nor 'anyone'";
    let long = "x".repeat(256);
    for (text, expected) in [
        (
            "secret",
            &*format!("1: the line has no ':'; expected {FORMS}"),
        ),
        (
            "a:",
            &format!("1: nothing follows the name; expected {FORMS}"),
        ),
        ("a:secret", &format!("1: {NEITHER}; expected {FORMS}")),
        (
            "a:Plain:secret",
            &format!("1: 'plain:' or 'anyone' is not in lower case; expected {FORMS}"),
        ),
        ("\n a:plain", &format!("2: {NEITHER}; expected {FORMS}")),
        (
            "a:plain:",
            "1: the password is empty; expected a password after 'plain:'",
        ),
        (
            ":plain:secret",
            "1: the name is empty; expected a user name before the first ':'",
        ),
        (
            "*:plain:secret",
            "1: the name '*' means every user; expected a user name before the first ':'",
        ),
        (
            &format!("{long}:plain:secret"),
            "1: the name is longer than 255 bytes; expected a user name before the first ':'",
        ),
        (
            "a\tb:plain:secret",
            "1: the name contains a control character; expected a user name before the first ':'",
        ),
        (
            "a:plain:x\nb:plain:x\na:plain:y",
            "3: user 'a' is already defined in line 1; expected each user once",
        ),
        (
            &format!("a:{HASH}:"),
            "1: the hash is not a PHC string; expected a PHC string that \
                 begins with '$argon2id$v=19$'",
        ),
        (
            &format!("a:plain:{}", "y".repeat(4096)),
            "1: the password has 4096 bytes; expected at most 4,095 bytes, \
                 which fit in one line of a client",
        ),
    ] {
        let shown = fault(text);
        assert_eq!(shown, format!("Credentials:{expected}"));
        assert!(!shown.contains("secret"));
    }
    assert_eq!(
        parse(b"a\nb:plain:x\nc\n").err().unwrap().len(),
        2,
        "all faults are reported"
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
    fn printed_records_are_parsed_back(accounts in accounts()) {
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
    fn no_bytes_cause_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
    }

    /// A byte inserted into a valid line adds no other account and no other password than the end
    /// of the line.
    #[test]
    fn a_corrupted_line_admits_no_other_login(at in 0usize..20, byte in any::<u8>()) {
        let mut text = b"alice:plain:pass1234".to_vec();
        text.insert(at, byte);
        if let Ok(file) = parse(&text) {
            for (_, account) in file.records() {
                let Secret::Plain(password) = &account.secret else {
                    panic!("a hash from a plain password")
                };
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
