//! The messages about everyday mistakes in the two files of a home and in the commands that edit
//! them.

use std::fs;

use super::edited_home::{EditedHome, HASH, failed};

/// Returns the warnings of `user list`, which reads both files.
fn warnings(credentials: &str, directories: &str) -> Vec<String> {
    let home = EditedHome::with(credentials, directories);
    super::edited_home::set_mode(&home.credentials(), 0o600);
    fs::create_dir(home.path().join("files/A")).unwrap();
    fs::write(home.path().join("files/note"), "").unwrap();
    let ran = home.run(&["user", "list", "HOME"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let lines = ran.stderr.lines();
    lines
        .map(|line| {
            line.strip_prefix("tidegate: warning: ")
                .expect(line)
                .to_owned()
        })
        .filter(|line| !line.contains("is not hashed"))
        .collect()
}

#[test]
fn doubtful_plain_passwords_are_warned_about() {
    for (password, what) in [
        (
            "secret # note",
            "contains ' #': everything after 'plain:' is the password; write a comment on a line \
             of its own",
        ),
        (
            "secret ",
            "begins or ends with a space, which is part of the password",
        ),
        (
            HASH,
            "looks like a hash: a hash follows the name without 'plain:'",
        ),
    ] {
        assert_eq!(
            warnings(&format!("# users\nanna:plain:{password}\n"), "")[..],
            [format!("HOME/Credentials:2: the password of 'anna' {what}")]
        );
    }
    assert_eq!(warnings("anna:plain:se#cret $1\n", "")[..], [""; 0]);
}

#[test]
fn faults_quote_the_word_and_list_what_is_expected() {
    let rights = "expected a list of read, upload, change, hidden, quota=SIZE";
    for (line, what) in [
        ("anna:A:READ", format!("unknown right 'READ'; {rights}")),
        (
            "anna:A:read, upload",
            format!("unknown right ' upload' (did you mean 'upload'?); {rights}"),
        ),
        (
            "anna:A:read # films",
            format!(
                "unknown right 'read # films' (write a comment on a line of its own); {rights}"
            ),
        ),
        (
            "anna:/srv/films:read",
            "the name contains a '/'; expected a directory name after the first ':', and its path \
             after the third"
                .into(),
        ),
        ("anna:A:rw", format!("unknown right 'rw'; {rights}")),
        (
            "anna:A:read,quota=much",
            format!("invalid quota 'quota=much'; {rights}"),
        ),
        (
            "anna:A:read,read",
            format!("repeated right 'read'; {rights}"),
        ),
    ] {
        let home = EditedHome::with(&format!("anna:{HASH}\n"), &format!("# grants\n{line}\n"));
        let expected = failed(2, &format!("tidegate: HOME/Directories:2: {what}\n"));
        assert_eq!(home.run(&["user", "list", "HOME"]), expected);
        assert_eq!(home.run(&["serve", "HOME"]), expected);
    }
    let home = EditedHome::with("", "anna::session=4\n");
    let ran = home.run(&["serve", "HOME"]);
    let what = "tidegate: HOME/Directories:1: unknown limit 'session=4' (did you mean \
                'sessions'?); expected ";
    assert!(ran.stderr.starts_with(what), "{ran:?}");
}

#[test]
fn faults_in_credentials_name_the_mistake_but_no_password() {
    let forms = "expected USER:HASH, USER:plain:PASSWORD or USER:anyone";
    for (line, what) in [
        (
            "anna:1234",
            "the name is followed by neither a hash, 'plain:' nor 'anyone'",
        ),
        ("anna: plain:1234", "a space follows the first ':'"),
        (
            "anna:Plain:1234",
            "'plain:' or 'anyone' is not in lower case",
        ),
        ("anna:ANYONE", "'plain:' or 'anyone' is not in lower case"),
        ("anna", "the line has no ':'"),
    ] {
        let home = EditedHome::with(&format!("{line}\n"), "");
        let expected = format!("tidegate: HOME/Credentials:1: {what}; {forms}\n");
        assert_eq!(home.run(&["serve", "HOME"]), failed(2, &expected));
    }
}

#[test]
fn unknown_rights_of_a_grant_are_answered_with_the_list() {
    let home = EditedHome::with(&format!("anna:{HASH}\n"), "");
    for (right, suggestion) in [("reed", " (did you mean 'read'?)"), ("write", "")] {
        assert_eq!(
            home.run(&["grant", "HOME", "anna", "A", right]),
            failed(
                2,
                &format!(
                    "tidegate: RIGHTS '{right}': unknown right '{right}'{suggestion}; expected a \
                     list of read, upload, change, hidden, quota=SIZE; see 'tidegate grant \
                     --help'\n"
                )
            )
        );
    }
}

#[test]
fn unknown_users_and_grants_are_answered_with_similar_ones() {
    let home = EditedHome::with(&format!("anna:{HASH}\nbert:{HASH}\n"), "anna:Movies:read\n");
    let ran = home.run(&["grant", "HOME", "ana", "A", "read"]);
    assert_eq!(
        (ran.status, ran.stderr.as_str()),
        (
            Some(0),
            "tidegate: warning: there is no user 'ana' (did you mean 'anna'?) yet; add one with \
             'tidegate user add'\n"
        )
    );
    for args in [
        &["user", "remove", "HOME", "brt"][..],
        &["user", "passwd", "HOME", "brt", "--password-stdin"],
    ] {
        assert_eq!(
            home.run(args),
            failed(
                1,
                "tidegate: there is no user 'brt' (did you mean 'bert'?); 'tidegate user list \
                 HOME' lists them\n"
            )
        );
    }
    for (user, directory, meant) in [
        ("anna", "Movis", "Movies"),
        ("ana", "Movies", "anna"),
        ("anna", "movies", "Movies"),
    ] {
        assert_eq!(
            home.run(&["revoke", "HOME", user, directory]),
            failed(
                1,
                &format!(
                    "tidegate: there is no grant of '{directory}' to '{user}' (did you mean \
                     '{meant}'?); 'tidegate user list HOME' lists them\n"
                )
            )
        );
    }
    let add = "; correct the name or add the user with 'tidegate user add'";
    assert_eq!(
        warnings(&format!("anna:{HASH}\n"), "ana:A:read\nana::sessions=1\n")[..],
        [
            format!(
                "HOME/Directories:2: limits for 'ana', but there is no such user (did you mean \
                 'anna'?){add}"
            ),
            format!(
                "HOME/Directories:1: a grant for 'ana', but there is no such user (did you mean \
                 'anna'?){add}"
            ),
        ]
    );
}

#[test]
fn unusable_paths_of_grants_are_warned_about() {
    let missing = "does not exist; create it with 'mkdir -p";
    assert_eq!(
        warnings(
            "",
            "*:A:read\n*:B:read\n*:C:read:/nowhere/c # x\n*:D:read:files/note\n*:E:read:files/note/x\n"
        )[..],
        [
            format!(
                "HOME/Directories:2: 'HOME/files/B' {missing} HOME/files/B' or correct the path"
            ),
            format!(
                "HOME/Directories:3: '/nowhere/c # x' {missing} \"/nowhere/c # x\"' or correct the \
                 path"
            ),
            "HOME/Directories:4: 'HOME/files/note' is not a directory; name the directory that \
             contains it"
                .into(),
            "HOME/Directories:5: 'HOME/files/note/x' cannot be reached: not a directory; correct \
             the path or its permissions"
                .into(),
        ]
    );
}

#[test]
fn a_path_that_is_no_home_is_reported_once() {
    let home = EditedHome::with("", "");
    let folder = home.path().join("files");
    let folder = folder.to_str().unwrap();
    for (path, what) in [
        (
            "HOME/Credentials",
            "not a directory; a home is the directory that contains Credentials and Directories",
        ),
        (
            "HOME/none",
            "no such directory; 'tidegate init HOME/none' creates a home",
        ),
        (
            "HOME/files",
            "not a home, since it has no Credentials and no Directories; 'tidegate init \
             HOME/files' creates them",
        ),
    ] {
        let given = path.replace("HOME/files", folder);
        let given = given.replace("HOME", home.path().to_str().unwrap());
        for args in [
            &["serve", &given][..],
            &["user", "list", &given],
            &["grant", &given, "a", "A", "read"],
        ] {
            let expected = failed(2, &format!("tidegate: {path}: {what}\n"));
            assert_eq!(home.run(args), expected, "{args:?}");
        }
    }
    fs::remove_file(home.credentials()).unwrap();
    assert_eq!(
        home.run(&["serve", "HOME"]),
        failed(
            2,
            "tidegate: HOME/Credentials: no such file; restore it, or create an empty one\n"
        )
    );
}

#[test]
fn mistyped_commands_and_options_get_suggestions() {
    let home = EditedHome::new();
    for (args, what) in [
        (
            &["sevre", "HOME"][..],
            "unknown command 'sevre' (did you mean 'serve'?); see 'tidegate --help'",
        ),
        (
            &["user", "ad", "HOME", "a"],
            "unknown command 'ad' (did you mean 'add'?); see 'tidegate user --help'",
        ),
        (
            &["serve", "HOME", "--port", "2100"],
            "unknown option '--port' (did you mean '--listen'?); see 'tidegate serve --help'",
        ),
        (
            &["serve", "HOME", "--lissen=2100"],
            "unknown option '--lissen' (did you mean '--listen'?); see 'tidegate serve --help'",
        ),
        (
            &["--listen", "2100"],
            "unknown option '--listen'; 'tidegate serve' has it; see 'tidegate --help'",
        ),
    ] {
        assert_eq!(home.run(args), failed(2, &format!("tidegate: {what}\n")));
    }
}
