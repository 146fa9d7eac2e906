use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::auth::account::Secret;

fn home(credentials: &[u8], directories: &[u8]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(CREDENTIALS);
    fs::write(&file, credentials).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(home.path().join(DIRECTORIES), directories).unwrap();
    home
}

#[test]
fn anonymous_users_with_write_access_cause_a_warning() {
    let home = home(
        b"guest:anyone\nreader:anyone\n",
        b"*:A:read:.\nguest:B:read,upload:.\n",
    );
    let (_, warnings) = Home::load(home.path()).unwrap();
    let shown = home.path().display();
    assert_eq!(
        warnings,
        [format!(
            "{shown}/Credentials:1: 'guest' accepts any password and may write to 'B' (read,upload)"
        )]
    );
}

#[test]
fn hidden_logins_cost_the_costliest_hash() {
    let hash = |m, t| format!("$argon2id$v=19$m={m},t={t},p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ");
    let (cheap, costly, large) = (hash(8, 1), hash(16, 5), hash(64, 1));
    let records = format!("a:{cheap}\nb:{costly}\nc:{large}\nd:{cheap}\ne:plain:x\n");
    let cost = |records: &str| {
        let home = home(records.as_bytes(), b"");
        Home::load(home.path()).unwrap().0.costliest()
    };
    assert_eq!(Some(cost(&records)), Cost::of(&Secret::Hash(costly)));
    assert_eq!(cost("e:plain:x\n"), Cost::OURS);
}

#[test]
fn a_home_is_loaded_with_its_warnings() {
    let home = home(
        b"b:plain:x\nc :plain:y\na:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ\n",
        b"*:A:read\nb:B:read:.\nc:B:upload:.\n*::sessions=9\nb::rate=1k\nd::quota=1k\n",
    );
    let path = home.path();
    let (loaded, warnings) = Home::load(path).unwrap();
    assert_eq!(loaded.path(), path);
    let users: Vec<_> = loaded.accounts().map(|account| &account.user).collect();
    assert_eq!(users, ["b", "c ", "a"]);
    assert_eq!(loaded.account("a").unwrap().user, "a");
    assert!(loaded.account("c").is_none() && loaded.access("c").is_none());
    let access = loaded.access("b").unwrap();
    assert_eq!(access.user, "b");
    let names: Vec<_> = access.grants.iter().map(|grant| &grant.name).collect();
    assert_eq!(names, ["A", "B"]);
    assert_eq!(loaded.limits("a").to_string(), "sessions=9");
    assert_eq!(loaded.limits("b").to_string(), "rate=1k");
    assert_eq!(
        Some(loaded.costliest()),
        Cost::of(&loaded.account("a").unwrap().secret)
    );
    let shown = path.display();
    let add = "; correct the name or add the user with 'tidegate user add'";
    let plain = format!("; replace it by a hash with 'tidegate user hash {shown}'");
    assert_eq!(
        warnings,
        [
            format!("{shown}/Credentials:1: the password of 'b' is not hashed{plain}"),
            format!("{shown}/Credentials:2: the name 'c ' begins or ends with a space"),
            format!("{shown}/Credentials:2: the password of 'c ' is not hashed{plain}"),
            format!("{shown}/Directories:6: limits for 'd', but there is no such user{add}"),
            format!(
                "{shown}/Directories:1: '{shown}/files/A' does not exist; create it with \
                 'mkdir -p {shown}/files/A' or correct the path"
            ),
            format!(
                "{shown}/Directories:3: a grant for 'c', but there is no such user \
                 (did you mean 'c '?){add}"
            ),
        ]
    );
}

#[test]
fn a_world_readable_credentials_file_causes_a_warning() {
    let home = home(b"", b"");
    let file = home.path().join(CREDENTIALS);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, warnings) = Home::load(home.path()).unwrap();
    assert!(warnings[0].contains("every user of this machine can read it"));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn directories_granted_with_more_sight_are_known() {
    let home = home(
        b"",
        b"u:A:change:/srv/box\nu:B:read,upload:/srv/box/sub/mine\nv:C:upload:/srv/drop\n\
          w:D:read,hidden:/srv/web/all\n",
    );
    let (home, _) = Home::load(home.path()).unwrap();
    let rights = ["change", "read,change", "read,change,hidden"];
    let rights = rights.map(|rights| rights.parse::<Rights>().unwrap());
    for (path, expected) in [
        ("/", [true, true, false]),
        ("/srv", [true, true, false]),
        ("/srv/box/sub", [true, false, false]),
        ("/srv/box/sub/mine", [true, false, false]),
        ("/srv/box/sub/mine/deep", [false, false, false]),
        ("/srv/box/su", [false, false, false]),
        ("/srv/drop", [false, false, false]),
        ("/srv/web", [true, true, false]),
        ("/srv/web/all", [true, true, false]),
    ] {
        let found = rights.map(|rights| home.leads_to_more(Path::new(path), rights));
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn faults_of_both_files_are_reported() {
    let broken = home(b"x\ny\n", b"z\n");
    let faults = Home::load(broken.path()).unwrap_err();
    let faults: Vec<_> = faults
        .iter()
        .map(|fault| (fault.line(), fault.to_string().contains("/Directories:")))
        .collect();
    assert_eq!(
        faults,
        [(Some(1), false), (Some(2), false), (Some(1), true)]
    );
}

#[test]
fn special_files_are_refused_without_blocking() {
    let home = home(b"", b"");
    fs::remove_file(home.path().join(CREDENTIALS)).unwrap();
    fs::remove_file(home.path().join(DIRECTORIES)).unwrap();
    let fifo = home.path().join(CREDENTIALS);
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let faults = Home::load(home.path()).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let shown = home.path().display();
    assert_eq!(
        faults,
        [
            format!("{shown}/Credentials: not a regular file; replace it by one"),
            format!("{shown}/Directories: no such file; restore it, or create an empty one"),
        ]
    );
}
