//! The file `Directories`: a grant a line, `USER:DIRECTORY:RIGHTS[:PATH]`, and who may see what; or a user's limits,
//! `USER::LIMITS`.
//!
//! Pure: text in, records or faults out, and the text of a change. Must not know: the file system.

use crate::domain::access::Grant;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::HomeError;
use crate::config::records;
use crate::config::records::{Fault, check_name, check_user};
use crate::domain::access::Rights;
use crate::domain::user_limits::UserLimits;

/// The USER that is everybody.
pub const EVERYBODY: &str = "*";

/// The folder of a home that holds the directories for which no PATH is given.
pub const FILES: &str = "files";

/// One line: whom the file grants what.
#[derive(Clone, Debug)]
pub struct GrantRecord {
    /// The number of its line.
    pub line: usize,
    /// Whom: a user's name, or [`EVERYBODY`].
    pub user: String,
    /// What.
    pub grant: Arc<Grant>,
}

/// The grants of a home, in the file's order: who may see what.
#[derive(Debug, Default)]
pub struct Grants {
    grants: Vec<Arc<Grant>>,
    /// The numbers of their lines.
    lines: Vec<usize>,
    /// Places in `grants`, ascending, by user.
    own: HashMap<String, Vec<usize>>,
    everybody: Vec<usize>,
}

impl Grants {
    /// Puts them in order.
    pub fn new(records: &[GrantRecord]) -> Grants {
        let mut all = Grants::default();
        for (at, record) in records.iter().enumerate() {
            all.grants.push(Arc::clone(&record.grant));
            all.lines.push(record.line);
            if record.user == EVERYBODY {
                all.everybody.push(at);
            } else {
                all.own.entry(record.user.clone()).or_default().push(at);
            }
        }
        all
    }

    /// All of them, whoever they are for.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().map(|grant| &**grant)
    }

    /// All of them, each with the number of its line.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Grant)> {
        self.lines.iter().copied().zip(self.all())
    }

    /// What `user` may see: his own grants, and everybody's for the directories that he has none of his own for.
    pub fn seen_by(&self, user: &str) -> Vec<Arc<Grant>> {
        let own = self.own.get(user).map_or(&[][..], Vec::as_slice);
        let named: HashSet<&str> = own.iter().map(|&at| &*self.grants[at].name).collect();
        let others = self.everybody.iter().copied();
        let mut seen: Vec<usize> = others
            .filter(|&at| !named.contains(&*self.grants[at].name))
            .chain(own.iter().copied())
            .collect();
        seen.sort_unstable();
        seen.into_iter()
            .map(|at| Arc::clone(&self.grants[at]))
            .collect()
    }
}

/// One line that names no directory: what the file bounds for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsRecord {
    /// The number of its line.
    pub line: usize,
    /// Whom: a user's name, or [`EVERYBODY`], which is each user without such a line of his own.
    pub user: String,
    /// What.
    pub limits: UserLimits,
}

/// The file, read: its text and its records.
pub struct Directories {
    text: Zeroizing<Vec<u8>>,
    records: Vec<GrantRecord>,
    limits: Vec<LimitsRecord>,
}

impl Directories {
    /// Reads the text of `file`, which belongs to `home`. All faults at once, each with its line.
    pub fn parse(
        file: &Path,
        text: Zeroizing<Vec<u8>>,
        home: &Path,
    ) -> Result<Directories, Vec<HomeError>> {
        let mut first: HashMap<(String, String), usize> = HashMap::new();
        let mut limits = Vec::new();
        let records = records::parse(file, &text, |line, found| {
            let (user, name, what) = match record(found, home)? {
                Line::Grant(user, grant) => (user, grant.name.clone(), Ok(grant)),
                Line::Limits(user, limits) => (user, String::new(), Err(limits)),
            };
            let first = *first.entry((user.clone(), name.clone())).or_insert(line);
            if first != line {
                return Err(match what {
                    Ok(_) => Fault::new(
                        format!(
                            "a grant of '{name}' to '{user}' a second time, after line {first}"
                        ),
                        "one for each user and directory",
                    ),
                    Err(_) => Fault::new(
                        format!("limits of '{user}' a second time, after line {first}"),
                        "one such line for each user",
                    ),
                });
            }
            Ok(match what {
                Ok(grant) => Some(GrantRecord {
                    line,
                    user,
                    grant: Arc::new(grant),
                }),
                Err(found) => {
                    limits.push(LimitsRecord {
                        line,
                        user,
                        limits: found,
                    });
                    None
                }
            })
        })?;
        Ok(Directories {
            text,
            records: records.into_iter().flatten().collect(),
            limits,
        })
    }

    /// The grants, in the file's order.
    pub fn records(&self) -> &[GrantRecord] {
        &self.records
    }

    /// The limits of users, in the file's order.
    pub fn limits(&self) -> &[LimitsRecord] {
        &self.limits
    }

    /// The text that grants `user` these rights in `directory`: in the line that did so before, or in a new one behind the last.
    ///
    /// # Panics
    /// If the line could not be read back; its fields are checked before.
    pub fn with(
        &self,
        user: &str,
        directory: &str,
        rights: Rights,
        path: Option<&str>,
    ) -> Zeroizing<Vec<u8>> {
        let path = path.map_or(String::new(), |path| format!(":{path}"));
        let new = format!("{user}:{directory}:{rights}{path}");
        assert!(
            record(&new, Path::new("")).is_ok(),
            "a line that can be read"
        );
        match self.lines_of(user, Some(directory))[..] {
            [] => records::edited(&self.text, &[], Some(&new)),
            [(number, _), ..] => records::edited(&self.text, &[(number, Some(&new))], None),
        }
    }

    /// The text without the grants and the limits of `user`, or without only the grant of `directory`; `None` where there is none.
    pub fn without(&self, user: &str, directory: Option<&str>) -> Option<Zeroizing<Vec<u8>>> {
        let mut lines = self.lines_of(user, directory);
        if directory.is_none() {
            let limits = self.limits.iter().filter(|record| record.user == user);
            lines.extend(limits.map(|record| (record.line, None)));
            lines.sort_unstable();
        }
        (!lines.is_empty()).then(|| records::edited(&self.text, &lines, None))
    }

    /// The lines of such grants, ascending, as what an edit takes out.
    fn lines_of(&self, user: &str, directory: Option<&str>) -> Vec<(usize, Option<&str>)> {
        self.records
            .iter()
            .filter(|record| {
                record.user == user && directory.is_none_or(|name| record.grant.name == name)
            })
            .map(|record| (record.line, None))
            .collect()
    }
}

/// Whether `name` can be a directory's: at most [`crate::limits::NAME_BYTES_MAX`] bytes without `/`, `:` and control characters, not
/// empty and not led by a dot. What is wrong otherwise.
pub fn check_directory(name: &str) -> Result<(), &'static str> {
    check_name(name)?;
    if name.starts_with('.') {
        return Err("a name that begins with a dot");
    }
    if name.contains('/') {
        return Err("a name with a '/' in it");
    }
    Ok(())
}

/// Whether `path` can be a PATH. What is wrong otherwise.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("an empty path");
    }
    if path.chars().any(char::is_control) {
        return Err("a path with a control character in it");
    }
    Ok(())
}

/// What one line says, and of whom.
enum Line {
    Grant(String, Grant),
    Limits(String, UserLimits),
}

/// One line.
fn record(line: &str, home: &Path) -> Result<Line, Fault> {
    const SHAPE: &str = "USER:DIRECTORY:RIGHTS or USER:DIRECTORY:RIGHTS:PATH";
    let mut fields = line.splitn(4, ':');
    let (Some(user), Some(name), Some(rights)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(Fault::new("fewer than three fields", SHAPE));
    };
    if user != EVERYBODY {
        check_user(user)
            .map_err(|what| Fault::new(what, "a user's name or '*' before the first ':'"))?;
    }
    if name.is_empty() {
        let limits = rights.parse().map_err(|what| {
            Fault::new(
                what,
                "one or more of sessions=N, rate=BYTES and quota=BYTES behind '::', parted by ','",
            )
        })?;
        return match fields.next() {
            None => Ok(Line::Limits(user.to_owned(), limits)),
            Some(_) => Err(Fault::new("a path behind a user's limits", "USER::LIMITS")),
        };
    }
    check_directory(name)
        .map_err(|what| Fault::new(what, "a directory's name behind the first ':'"))?;
    let rights = rights.parse().map_err(|what| {
        Fault::new(
            what,
            "one or more of read, upload and change behind the second ':', parted by ',', and quota=BYTES if there is a limit",
        )
    })?;
    let path = match fields.next() {
        None => home.join(FILES).join(name),
        Some(path) => {
            check_path(path).map_err(|what| Fault::new(what, "a path behind the third ':'"))?;
            home.join(path)
        }
    };
    let name = name.to_owned();
    Ok(Line::Grant(user.to_owned(), Grant { name, rights, path }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> Result<Directories, Vec<HomeError>> {
        let text = Zeroizing::new(text.to_vec());
        Directories::parse(Path::new("Directories"), text, Path::new("home"))
    }

    fn seen(text: &str, user: &str) -> Vec<String> {
        let file = parse(text.as_bytes()).unwrap();
        let grants = Grants::new(file.records()).seen_by(user);
        grants
            .iter()
            .map(|grant| format!("{}={}", grant.name, grant.rights))
            .collect()
    }

    #[test]
    fn a_directory_lies_in_files_or_where_its_path_says() {
        let file =
            parse(b"# c\r\nu:Free Films:read\r\n*:B:change,upload:../x: y \nu:C:upload:/srv")
                .unwrap();
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
    fn ones_own_line_counts_and_gives_the_place() {
        let text = "*:A:read,change\nu:B:read\n*:C:read\nu:A:upload\nv:D:read\n";
        assert_eq!(seen(text, "u"), ["B=read", "C=read", "A=upload"]);
        assert_eq!(seen(text, "v"), ["A=read,change", "C=read", "D=read"]);
        assert_eq!(seen(text, "w"), ["A=read,change", "C=read"]);
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        let long = format!("u:{}:read", "x".repeat(256));
        for (text, found) in [
            ("u", "fewer than three fields"),
            ("u:A", "fewer than three fields"),
            ("u:A:", "a missing right"),
            ("u:A:read,", "a missing right"),
            ("u:A:read ", "an unknown right"),
            ("u:A:Read", "an unknown right"),
            ("u:A:read,write", "an unknown right"),
            ("u:A:read,read", "a right twice"),
            ("u:A:read:", "an empty path"),
            ("u:A:read:x\ty", "a path with a control character in it"),
            (":A:read", "an empty name"),
            ("u::read", "an unknown limit"),
            ("u::", "a missing limit"),
            ("u::sessions=0", "a limit that is no number from 1"),
            ("u::rate=1:x", "a path behind a user's limits"),
            ("u:A:quota=1G", "no right"),
            (
                "u:A:read,quota=0",
                "a limit that is no number of bytes from 1",
            ),
            ("u:A:read,quota=1G,quota=1G", "a limit twice"),
            ("u:A:read,rate=1G", "an unknown right"),
            ("u:.A:read", "a name that begins with a dot"),
            ("u:..:read", "a name that begins with a dot"),
            ("u:A/B:read", "a name with a '/' in it"),
            ("u:A\tB:read", "a name with a control character in it"),
            (&long, "a name of more than 255 bytes"),
        ] {
            let faults = parse(format!("# c\n{text}\n*:Z:read").as_bytes())
                .err()
                .expect(text);
            let [fault] = &faults[..] else {
                panic!("one fault")
            };
            assert_eq!(
                (fault.line, fault.found.as_str()),
                (Some(2), found),
                "{text}"
            );
        }
        let faults = parse(b"u:A:read\nu:A:upload\nx\n").err().unwrap();
        assert_eq!(
            faults[0].to_string(),
            "Directories:2: found a grant of 'A' to 'u' a second time, after line 1; expected one for each user and directory"
        );
        assert_eq!(faults[1].line, Some(3));
        let faults = parse(b"u::sessions=1\n*::sessions=2\nu::rate=1k\n")
            .err()
            .unwrap();
        assert_eq!(
            faults[0].to_string(),
            "Directories:3: found limits of 'u' a second time, after line 1; expected one such line for each user"
        );
    }

    #[test]
    fn limits_of_a_user_stand_beside_his_grants_and_go_with_him() {
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
        assert_eq!(seen(text, "u"), ["A=read,quota=10G"]);
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
        (1u8..8, proptest::option::of(1u64..)).prop_map(|(bits, quota)| Rights {
            read: bits & 1 != 0,
            upload: bits & 2 != 0,
            change: bits & 4 != 0,
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
        fn what_is_printed_is_read_back(grants in grants()) {
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
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        /// A byte put into a good line, or taken from it, gives nobody a right in a directory that the line did not name.
        #[test]
        fn a_malformed_line_never_grants_more(at in 0usize..18, byte in any::<u8>(), take in any::<bool>()) {
            let mut text = b"alice:Films:upload".to_vec();
            if take { text.remove(at); } else { text.insert(at, byte); }
            if let Ok(file) = parse(&text) {
                for record in file.records() {
                    prop_assert_eq!(record.grant.rights, Rights { upload: true, ..Rights::default() });
                    prop_assert_ne!(&record.user, EVERYBODY);
                }
            }
        }

        /// Nobody sees what no line grants to him or to everybody, and nothing twice.
        #[test]
        fn nobody_sees_what_is_not_granted(grants in grants(), which in any::<prop::sample::Index>()) {
            prop_assume!(!grants.is_empty());
            let user = &grants[which.index(grants.len())].0.0;
            prop_assume!(user != EVERYBODY);
            let file = parse(print(&grants).as_bytes()).unwrap();
            let seen = Grants::new(file.records()).seen_by(user);
            let own = |name: &str| grants.iter().find(|((u, n), _)| u == user && n == name);
            let everybody = |name: &str| grants.iter().find(|((u, n), _)| u == EVERYBODY && n == name);
            let mut names = HashSet::new();
            for grant in &seen {
                prop_assert!(names.insert(&grant.name));
                let (_, (rights, _)) = own(&grant.name).or(everybody(&grant.name)).unwrap();
                prop_assert_eq!(grant.rights, *rights);
            }
            for ((u, name), _) in &grants {
                prop_assert!((u != user && u != EVERYBODY) || names.contains(name));
            }
        }
    }
}
