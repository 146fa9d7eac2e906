//! The file `Directories`. Every text is either parsed or refused with errors that name lines; an
//! edit changes the grants of its user only; each user sees exactly the directories granted to
//! them.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tidegate::config::HomeError;
use tidegate::config::directories::Directories;
use tidegate::config::grants::Grants;
use tidegate::domain::access::Rights;
use tidegate::domain::name::ALL_USERS;
use zeroize::Zeroizing;

const READ: Rights = Rights {
    read: true,
    upload: false,
    change: false,
    hidden: false,
    quota: None,
};

fuzz_target!(|text: &[u8]| {
    let directories = match parse(text) {
        Ok(directories) => directories,
        Err(faults) => return check_faults(text, &faults),
    };
    let before = grants(&directories);
    check_visibility(&directories, &before);
    let new = ("a new user".to_owned(), "A new directory".to_owned());
    for (user, name) in before.keys().take(3).chain([&new]) {
        for path in [None, Some("../else: where")] {
            let mut expected = before.clone();
            let text = directories.with(user, name, READ, path);
            let location = match path {
                Some(path) => format!("home/{path}"),
                None => format!("home/files/{name}"),
            };
            expected.insert((user.clone(), name.clone()), (READ.to_string(), location));
            assert_eq!(grants(&read_back(&text)), expected);
        }
        let mut expected = before.clone();
        expected.remove(&(user.clone(), name.clone()));
        match directories.without(user, Some(name)) {
            Some(text) => assert_eq!(grants(&read_back(&text)), expected),
            None => assert_eq!(expected, before),
        }
        let mut expected = before.clone();
        expected.retain(|(other, _), _| other != user);
        match directories.without(user, None) {
            Some(text) => assert_eq!(grants(&read_back(&text)), expected),
            None => assert_eq!(expected, before),
        }
    }
});

type Visible = BTreeMap<(String, String), (String, String)>;

fn parse(text: &[u8]) -> Result<Directories, Vec<HomeError>> {
    let text = Zeroizing::new(text.to_vec());
    Directories::parse(Path::new("Directories"), text, Path::new("home"))
}

fn read_back(text: &[u8]) -> Directories {
    parse(text).expect("an edited file is valid")
}

/// Returns rights and path by user and name.
fn grants(directories: &Directories) -> Visible {
    let grants = directories.records().iter().map(|record| {
        let path = record.grant.path.to_str().expect("a line is UTF-8");
        let rights = record.grant.rights;
        assert!(rights.read || rights.may_add(), "a grant of nothing");
        (
            (record.user.clone(), record.grant.name.clone()),
            (rights.to_string(), path.to_owned()),
        )
    });
    let grants: Visible = grants.collect();
    assert_eq!(grants.len(), directories.records().len(), "each grant once");
    grants
}

/// Checks that each user sees their own grant of a name, or else the one for all users.
fn check_visibility(directories: &Directories, before: &Visible) {
    let all = Grants::new(directories.records());
    for (user, _) in before.keys().take(10).filter(|(user, _)| user != ALL_USERS) {
        let visible = all.visible_to(user);
        let of = |user: &str, name: &str| before.get(&(user.to_owned(), name.to_owned()));
        for grant in &visible {
            let expected = of(user, &grant.name)
                .or(of(ALL_USERS, &grant.name))
                .expect("a grant for the user");
            assert_eq!(grant.rights.to_string(), expected.0);
            assert_eq!(grant.path.to_str(), Some(&*expected.1));
        }
        let mut names: Vec<&str> = visible.iter().map(|grant| &*grant.name).collect();
        names.sort_unstable();
        let mut granted: Vec<&str> = (before.keys())
            .filter(|(owner, _)| owner == user || owner == ALL_USERS)
            .map(|(_, name)| &**name)
            .collect();
        granted.sort_unstable();
        granted.dedup();
        assert_eq!(names, granted);
    }
}

fn check_faults(text: &[u8], faults: &[HomeError]) {
    let lines = text.split(|&byte| byte == b'\n').count();
    assert!(!faults.is_empty() && faults.len() <= lines);
    for fault in faults {
        assert!(fault.line().is_some_and(|line| (1..=lines).contains(&line)));
        let message = fault.to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}
