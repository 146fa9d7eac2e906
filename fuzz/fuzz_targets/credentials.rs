//! The file `Credentials`. Every text is either parsed or refused with errors that name lines; no
//! error contains a password; an edit changes the line of its user only.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tidegate::auth::account::Secret;
use tidegate::config::HomeError;
use tidegate::config::credentials::Credentials;
use zeroize::Zeroizing;

/// The cheapest hash that is valid.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ";

fuzz_target!(|text: &[u8]| {
    let credentials = match parse(text) {
        Ok(credentials) => credentials,
        Err(faults) => return check_faults(text, &faults),
    };
    let before = accounts(&credentials);
    let new = "a new user";
    for user in before.keys().map(String::as_str).take(3).chain([new]) {
        let with = read_back(&credentials.with(user, HASH));
        let mut expected = before.clone();
        expected.insert(user.to_owned(), HASH.to_owned());
        assert_eq!(accounts(&with), expected);

        let mut expected = before.clone();
        expected.remove(user);
        match credentials.without(user) {
            Some(without) => assert_eq!(accounts(&read_back(&without)), expected),
            None => assert_eq!(expected, before),
        }
    }
    let plain = before
        .values()
        .filter(|secret| secret.starts_with("plain:"));
    let (hashed, count) = credentials.hashed(|_| HASH.to_owned());
    assert_eq!(count, plain.count());
    let after = accounts(&read_back(&hashed));
    assert!(after.values().all(|secret| secret.starts_with('$')));
    assert!(after.keys().eq(before.keys()));
});

fn parse(text: &[u8]) -> Result<Credentials, Vec<HomeError>> {
    Credentials::parse(Path::new("Credentials"), Zeroizing::new(text.to_vec()))
}

fn read_back(text: &[u8]) -> Credentials {
    parse(text).expect("an edited file is valid")
}

/// Returns the secrets by user.
fn accounts(credentials: &Credentials) -> BTreeMap<String, String> {
    let records = credentials.records().iter();
    let accounts = records.map(|(_, account)| {
        let secret = match &account.secret {
            Secret::Hash(hash) => hash.clone(),
            Secret::Plain(password) => format!("plain:{}", **password),
            Secret::Anyone => "anyone".to_owned(),
        };
        (account.user.clone(), secret)
    });
    let accounts: BTreeMap<_, _> = accounts.collect();
    assert_eq!(
        accounts.len(),
        credentials.records().len(),
        "each user once"
    );
    accounts
}

fn check_faults(text: &[u8], faults: &[HomeError]) {
    let lines = text.split(|&byte| byte == b'\n').count();
    assert!(!faults.is_empty() && faults.len() <= lines);
    for fault in faults {
        let HomeError::Record {
            line,
            found,
            expected,
            ..
        } = fault
        else {
            panic!("an error without a line: {fault}");
        };
        assert!((1..=lines).contains(line));
        assert!(!fault.to_string().contains(char::is_control), "{fault:?}");
        // An error quotes no more of a line than the name before the first ':'.
        assert!(
            !found.contains("plain:") || expected.contains("plain:"),
            "{fault:?}"
        );
    }
}
