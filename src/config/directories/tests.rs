use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::config::grants::Grants;
use crate::domain::quota::Quota;

fn parse(text: &[u8]) -> Result<Directories, Vec<HomeError>> {
    let text = Zeroizing::new(text.to_vec());
    Directories::parse(Path::new("Directories"), text, Path::new("home"))
}

fn visible(text: &str, user: &str) -> Vec<String> {
    let file = parse(text.as_bytes()).unwrap();
    let grants = Grants::new(file.records()).visible_to(user);
    grants
        .iter()
        .map(|grant| format!("{}={}", grant.name, grant.rights))
        .collect()
}

#[test]
fn a_directory_is_in_files_unless_a_path_is_given() {
    let file =
        parse(b"# c\r\nu:Free Films:read\r\n*:B:change,upload:../x: y \nu:C:upload:/srv").unwrap();
    let all: Vec<_> = file
        .records()
        .iter()
        .map(|r| {
            (
                r.line,
                &*r.user,
                &*r.grant.name,
                r.grant.rights.to_string(),
                r.grant.path.to_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        all,
        [
            (2, "u", "Free Films", "read".into(), "home/files/Free Films"),
            (3, "*", "B", "upload,change".into(), "home/../x: y "),
            (4, "u", "C", "upload".into(), "/srv"),
        ]
    );
}

#[test]
fn paths_are_normalized() {
    for (path, expected) in [
        ("/srv//films///", "/srv/films"),
        ("/srv//.private", "/srv/.private"),
        ("/./srv/./films/.", "/srv/films"),
        ("/srv/../films", "/srv/../films"),
        ("films//new/", "home/films/new"),
        ("./films", "home/films"),
        ("..", "home/.."),
        (".", "home"),
        ("//", "/"),
    ] {
        let file = parse(format!("u:A:read:{path}").as_bytes()).unwrap();
        let found = file.records()[0].grant.path.as_os_str();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn own_grants_take_precedence_and_keep_their_order() {
    let text = "*:A:read,change\nu:B:read\n*:C:read\nu:A:upload\nv:D:read\n";
    assert_eq!(visible(text, "u"), ["B=read", "C=read", "A=upload"]);
    assert_eq!(visible(text, "v"), ["A=read,change", "C=read", "D=read"]);
    assert_eq!(visible(text, "w"), ["A=read,change", "C=read"]);
}

#[test]
fn faults_are_reported_with_their_lines() {
    let long = format!("u:{}:read", "x".repeat(256));
    for (text, found) in [
        ("u", "the line has fewer than three fields"),
        ("u:A", "the line has fewer than three fields"),
        ("u:A:", "a right is missing"),
        ("u:A:read,", "a right is missing"),
        ("u:A:read ", "unknown right 'read ' (did you mean 'read'?)"),
        ("u:A:Read", "unknown right 'Read'"),
        ("u:A:read,write", "unknown right 'write'"),
        ("u:A:read,read", "repeated right 'read'"),
        ("u:A:read:", "the path is empty"),
        ("u:A:read:x\ty", "the path contains a control character"),
        (":A:read", "the name is empty"),
        ("u::read", "unknown limit 'read'"),
        ("u::", "a limit is missing"),
        ("u::sessions=0", "invalid limit 'sessions=0'"),
        ("u::rate=1:x", "a path follows the limits of a user"),
        ("u:A:quota=1G", "no right is given"),
        ("u:A:read,quota=0", "invalid quota 'quota=0'"),
        ("u:A:read,quota=1G,quota=1G", "repeated right 'quota=1G'"),
        ("u:A:read,rate=1G", "unknown right 'rate=1G'"),
        ("u:.A:read", "the name begins with a dot"),
        ("u:..:read", "the name begins with a dot"),
        ("u:A/B:read", "the name contains a '/'"),
        ("u:A\tB:read", "the name contains a control character"),
        (&long, "the name is longer than 255 bytes"),
    ] {
        let faults = parse(format!("# c\n{text}\n*:Z:read").as_bytes())
            .err()
            .expect(text);
        let [fault] = &faults[..] else {
            panic!("one fault")
        };
        let expected = format!("Directories:2: {found}; expected ");
        assert!(fault.to_string().starts_with(&expected), "{fault}");
    }
    let faults = parse(b"u:A:read\nu:A:upload\nx\n").err().unwrap();
    assert_eq!(
        faults[0].to_string(),
        "Directories:2: the grant of 'A' to 'u' is already defined in line 1; \
         expected one grant for each user and directory"
    );
    assert_eq!(faults[1].line(), Some(3));
    let faults = parse(b"u::sessions=1\n*::sessions=2\nu::rate=1k\n")
        .err()
        .unwrap();
    assert_eq!(
        faults[0].to_string(),
        "Directories:3: the limits of 'u' are in line 1 already; \
         expected one line of limits for each user"
    );
}

#[test]
fn limits_are_edited_independently_of_grants() {
    let text = "u::sessions=4,rate=10MiB\n# c\nu:A:read,quota=10G\n*::quota=1G\n";
    let file = parse(text.as_bytes()).unwrap();
    let limits: Vec<_> = (file.limits().iter())
        .map(|record| (record.line, &*record.user, record.limits.to_string()))
        .collect();
    let expected = [(1, "u", "sessions=4,rate=10MiB"), (4, "*", "quota=1G")];
    assert_eq!(
        limits,
        expected.map(|(line, user, limits)| (line, user, limits.to_owned()))
    );
    assert_eq!(visible(text, "u"), ["A=read,quota=10G"]);
    let grant = file.with("u", "A", "read,upload".parse().unwrap(), None);
    let expected = "u::sessions=4,rate=10MiB\n# c\nu:A:read,upload\n*::quota=1G\n";
    assert_eq!(&grant[..], expected.as_bytes());
    assert_eq!(
        &file.without("u", Some("A")).unwrap()[..],
        b"u::sessions=4,rate=10MiB\n# c\n*::quota=1G\n"
    );
    assert_eq!(&file.without("u", None).unwrap()[..], b"# c\n*::quota=1G\n");
}

#[test]
fn edits_keep_comments_and_order() {
    let file = parse(b"# a\nu:A:read\n*:A:read\n\nu:B:upload:/b").unwrap();
    let read = "read".parse().unwrap();
    assert_eq!(
        &file.with("u", "A", read, Some("x:y"))[..],
        b"# a\nu:A:read:x:y\n*:A:read\n\nu:B:upload:/b"
    );
    assert_eq!(
        &file.with("u", "B", read, None)[..],
        b"# a\nu:A:read\n*:A:read\n\nu:B:read"
    );
    assert_eq!(
        &file.with("v", "B", read, None)[..],
        b"# a\nu:A:read\n*:A:read\n\nu:B:upload:/b\nv:B:read\n"
    );
    assert_eq!(&file.without("u", None).unwrap()[..], b"# a\n*:A:read\n\n");
    assert_eq!(
        &file.without("*", Some("A")).unwrap()[..],
        b"# a\nu:A:read\n\nu:B:upload:/b"
    );
    assert!(file.without("*", Some("B")).is_none());
}

fn rights() -> impl Strategy<Value = Rights> {
    let quota = (1u64.., proptest::option::of(1u64..));
    let quota = quota.prop_map(|(bytes, files)| Quota { bytes, files });
    (1u8..16, proptest::option::of(quota))
        .prop_filter("a right besides hidden", |(bits, _)| bits & 7 != 0)
        .prop_map(|(bits, quota)| Rights {
            read: bits & 1 != 0,
            upload: bits & 2 != 0,
            change: bits & 4 != 0,
            hidden: bits & 8 != 0,
            quota,
        })
}

type Printed = ((String, String), (Rights, Option<String>));

fn grants() -> impl Strategy<Value = Vec<Printed>> {
    let user = "\\*|[^:\\p{Cc}#*\u{feff}][^:\\p{Cc}]{0,3}";
    let key = (user, "[^:/.\\p{Cc}][^:/\\p{Cc}]{0,3}");
    let path = proptest::option::of("[^\\p{Cc}]{1,9}");
    proptest::collection::btree_map(key, (rights(), path), 0..8)
        .prop_map(|records| records.into_iter().collect())
}

fn print(grants: &[Printed]) -> String {
    grants
        .iter()
        .map(|((user, name), (rights, path))| match path {
            None => format!("{user}:{name}:{rights}\n"),
            Some(path) => format!("{user}:{name}:{rights}:{path}\n"),
        })
        .collect()
}

proptest! {
    #[test]
    fn printed_records_are_parsed_back(grants in grants()) {
        let file = parse(print(&grants).as_bytes()).unwrap();
        prop_assert_eq!(file.records().len(), grants.len());
        for (record, ((user, name), (rights, path))) in file.records().iter().zip(&grants) {
            prop_assert_eq!(&record.user, user);
            prop_assert_eq!(&record.grant.name, name);
            prop_assert_eq!(record.grant.rights, *rights);
            let path = match path {
                None => Path::new("home/files").join(name),
                Some(path) => Path::new("home").join(path),
            };
            prop_assert_eq!(&record.grant.path, &path);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
    }

    /// A byte inserted into a valid line, or removed from it, grants no other right and not to all
    /// users.
    #[test]
    fn a_corrupted_line_never_grants_more(
        at in 0usize..18,
        byte in any::<u8>(),
        remove in any::<bool>(),
    ) {
        let mut text = b"alice:Films:upload".to_vec();
        if remove { text.remove(at); } else { text.insert(at, byte); }
        if let Ok(file) = parse(&text) {
            for record in file.records() {
                prop_assert_eq!(record.grant.rights, Rights { upload: true, ..Rights::default() });
                prop_assert_ne!(&record.user, ALL_USERS);
            }
        }
    }

    /// A user sees exactly the grants of the user and of all users, each directory once.
    #[test]
    fn only_granted_directories_are_visible(
        grants in grants(),
        which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!grants.is_empty());
        let user = &grants[which.index(grants.len())].0.0;
        prop_assume!(user != ALL_USERS);
        let file = parse(print(&grants).as_bytes()).unwrap();
        let visible = Grants::new(file.records()).visible_to(user);
        let own = |name: &str| grants.iter().find(|((u, n), _)| u == user && n == name);
        let common = |name: &str| grants.iter().find(|((u, n), _)| u == ALL_USERS && n == name);
        let mut names = HashSet::new();
        for grant in &visible {
            prop_assert!(names.insert(&grant.name));
            let (_, (rights, _)) = own(&grant.name).or(common(&grant.name)).unwrap();
            prop_assert_eq!(grant.rights, *rights);
        }
        for ((u, name), _) in &grants {
            prop_assert!((u != user && u != ALL_USERS) || names.contains(name));
        }
    }
}
