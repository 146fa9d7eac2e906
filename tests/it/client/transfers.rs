//! `get`, `put` and `ls` with their options and messages.

use std::fs;
use std::os::unix::fs::symlink;

use super::run::{Output, Server, finish, random_bytes, tree};
use crate::support::changes::{Change, change};

#[test]
fn get_writes_to_the_download_folder() {
    let server = Server::new();
    let ran = server.run(&["get", "USER1", "Movies/Joker"]);
    ran.assert_transferred(1, 4096);
    let joker = fs::read(server.served("Movies/Joker")).unwrap();
    assert_eq!(
        tree(&server.local("downloads")),
        [("Joker".to_owned(), joker.clone())]
    );

    let again = server.run(&["get", "USER1", "Movies/Joker"]);
    again.assert_ended(
        1,
        "tidegate: Movies/Joker: downloads/Joker: already exists; use --force to replace it\n",
    );
    assert!(again.stdout.starts_with("0 files, 0 bytes, "));

    fs::write(server.local("downloads/Joker"), "mine").unwrap();
    server
        .run(&["get", "--force", "USER1", "Movies/Joker"])
        .assert_transferred(1, 4096);
    assert_eq!(fs::read(server.local("downloads/Joker")).unwrap(), joker);

    let quiet = server.run(&["get", "--quiet", "--into=deep/er", "USER1", "Movies/Joker"]);
    quiet.assert_ended(0, "");
    assert_eq!(quiet.stdout, "");
    assert_eq!(fs::read(server.local("deep/er/Joker")).unwrap(), joker);
}

#[test]
fn failures_are_reported_and_the_rest_is_transferred() {
    let server = Server::new();
    let ran = server.run(&[
        "get",
        "USER1",
        "Movies/Nobody",
        "Movies/WAR",
        "Nowhere/x",
        "Joker",
        "Movies/",
        "Movies/..",
    ]);
    ran.assert_ended(
        1,
        "tidegate: Joker: No such directory; name a file as DIRECTORY/FILE\n\
         tidegate: Movies/..: not a valid file name (1 to 255 bytes, no leading dot, no control \
         characters)\n\
         tidegate: Movies is a directory; add --recursive\n\
         tidegate: Movies/Nobody: No such file\n\
         tidegate: Nowhere/x: No such file: there is no directory 'Nowhere'\n",
    );
    assert!(ran.stdout.starts_with("1 file, 1362 bytes, "), "{ran:?}");
    assert_eq!(tree(&server.local("downloads")).len(), 1);
}

#[test]
fn colliding_targets_are_rejected_before_any_transfer() {
    let server = Server::with(|home| {
        let file = |path: &str| Change::File(path.into(), b"x".into());
        change(home, &file("Docs/Joker"));
        change(home, &file("Music/a"));
        change(home, &file("Music/a.part"));
    });
    let remote = server.remote("user1");
    for (paths, what) in [
        (
            &["Movies/Joker", "Docs/Joker"][..],
            "Movies/Joker and Docs/Joker would both be stored as Joker",
        ),
        (
            &["Movies/*", "Docs/J*"],
            "Movies/Joker and Docs/Joker would both be stored as Joker",
        ),
        (
            &["Movies/Joker", "Movies/Joker"],
            "Movies/Joker and Movies/Joker would both be stored as Joker",
        ),
        (
            &["--recursive", "Docs/Classics", "Music", "Docs/Classics/"],
            "Docs/Classics and Docs/Classics would both be stored as Classics",
        ),
        (
            &["--recursive", "Music"],
            "Music/a and Music/a.part would both be stored as Music/a.part",
        ),
    ] {
        let ran = server.run(&[&["get", "USER1"], paths].concat());
        ran.assert_ended(
            1,
            &format!(
                "tidegate: {remote}: {what}; nothing was downloaded, use another --into for \
            one of them\n"
            ),
        );
        assert!(!server.local("downloads").exists());
    }
    fs::create_dir(server.local("other")).unwrap();
    fs::write(server.local("a"), "1").unwrap();
    fs::write(server.local("other/a"), "2").unwrap();
    let ran = server.run(&["put", "USER2", "Uploads", "a", "other/a"]);
    let remote = server.remote("user2");
    ran.assert_ended(
        1,
        &format!(
            "tidegate: {remote}: a and other/a would both be uploaded as Uploads/a; nothing was \
             uploaded, rename one of them\n"
        ),
    );
    assert!(!server.served("Uploads/a").exists());
}

#[test]
fn remote_patterns_match_existing_files() {
    let server = Server::new();
    server
        .run(&["get", "USER1", "Movies/*r*"])
        .assert_transferred(2, 4096 + 1279);
    server
        .run(&["get", "USER1", "D?c*/T*", "*/W?R"])
        .assert_transferred(2, 903 + 1362);
    let names: Vec<String> = tree(&server.local("downloads"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["Free Fire", "Joker", "Tides", "WAR"]);
    // Patterns match files, and with --recursive also directories.
    server
        .run(&["get", "--into", "flat", "USER1", "Docs/*"])
        .assert_transferred(3, 669 + 989 + 903);
    server
        .run(&["get", "--into", "deep", "--recursive", "USER1", "Docs/*"])
        .assert_transferred(6, 2561 + 1025 + 663 + 661);
    assert_eq!(tree(&server.local("deep")), tree(&server.served("Docs")));
    server
        .run(&["get", "USER1", "Movies/x*", "Nowhere/*"])
        .assert_ended(
            1,
            "tidegate: Movies/x*: nothing matches the pattern\ntidegate: Nowhere/*: No such \
             directory\n",
        );
}

#[test]
fn directory_trees_round_trip() {
    let server = Server::with(|home| {
        for directory in [
            "Docs/many",
            "Docs/many/deep",
            "Docs/many/deep/er",
            "Docs/many/empty",
        ] {
            change(home, &Change::Directory(directory.into()));
        }
        for number in 0..70 {
            let path = format!("Docs/many/deep/file {number}");
            change(home, &Change::File(path.into(), random_bytes(number * 7)));
        }
        change(
            home,
            &Change::File("Docs/many/deep/er/large".into(), random_bytes(3_000_000)),
        );
    });
    let there = tree(&server.served("Docs/many"));
    let bytes = there.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    for jobs in ["1", "8"] {
        let into = format!("got{jobs}");
        let ran = server.run(&[
            "get",
            "--recursive",
            "--jobs",
            jobs,
            "--into",
            &into,
            "USER1",
            "Docs/many",
        ]);
        ran.assert_transferred(71, bytes);
        assert_eq!(tree(&server.local(&into).join("many")), there);
    }
    let folder = "got1/many";
    for (jobs, directory) in [("1", "Uploads"), ("8", "Uploads/made/on the way")] {
        let ran = server.run(&[
            "put",
            "--recursive",
            "--jobs",
            jobs,
            "USER2",
            directory,
            folder,
        ]);
        ran.assert_transferred(71, bytes);
        assert_eq!(tree(&server.served(directory).join("many")), there);
    }
    // All files exist, so that nothing is transferred again.
    let ran = server.run(&["put", "--recursive", "USER2", "Uploads", folder]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.starts_with("0 files, 0 bytes"), "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 71);
    assert_eq!(
        lines[0],
        "tidegate: Uploads/many/deep/er/large: already exists; use --force to replace it"
    );
    // Only the missing file is transferred again.
    fs::remove_file(server.served("Uploads/many/deep/file 1")).unwrap();
    let ran = server.run(&["put", "--recursive", "USER2", "Uploads", folder]);
    assert!(ran.stdout.starts_with("1 file, 7 bytes, "), "{ran:?}");
    assert_eq!(tree(&server.served("Uploads/many")), there);
}

#[test]
fn complete_files_are_not_transferred_again() {
    let server = Server::new();
    server
        .run(&["get", "USER1", "Movies/Joker"])
        .assert_transferred(1, 4096);
    server
        .run(&[
            "get",
            "--continue",
            "--recursive",
            "--into",
            "downloads",
            "USER1",
            "Movies/*",
        ])
        .assert_transferred(2, 1279 + 1362);
    fs::write(server.local("downloads/Joker"), "changed").unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/Joker"])
        .assert_ended(
            1,
            "tidegate: Movies/Joker: downloads/Joker: already exists; use --force to replace it\n",
        );
    server
        .run(&["get", "--continue", "--force", "USER1", "Movies/Joker"])
        .assert_transferred(1, 4096);
}

#[test]
fn put_replaces_files_only_on_request() {
    let server = Server::new();
    fs::write(server.local("Welcome"), "new").unwrap();
    fs::write(server.local("Fresh"), "fresh").unwrap();
    let taken = "tidegate: Uploads/Welcome: already exists; use --force to replace it\n";
    for user in ["USER2", "USER3"] {
        let ran = server.run(&["put", user, "Uploads", "Welcome"]);
        ran.assert_ended(1, taken);
    }
    server
        .run(&["put", "--force", "USER2", "Uploads", "Welcome"])
        .assert_ended(1, "tidegate: Uploads/Welcome: The file already exists\n");
    assert_ne!(fs::read(server.served("Uploads/Welcome")).unwrap(), b"new");
    server
        .run(&["put", "--force", "USER3", "Uploads/", "Welcome", "Fresh"])
        .assert_transferred(2, 8);
    assert_eq!(fs::read(server.served("Uploads/Welcome")).unwrap(), b"new");
    // The listing of a drop box is empty, so that only the server detects existing files.
    server
        .run(&["put", "USER4", "Dropbox", "Fresh"])
        .assert_transferred(1, 5);
    server
        .run(&["put", "USER4", "Dropbox", "Fresh"])
        .assert_ended(1, "tidegate: Dropbox/Fresh: The file already exists\n");
}

#[test]
fn hidden_names_are_transferred_with_the_right() {
    let server = Server::with(|home| {
        for directory in ["Uploads/web", "Uploads/web/.git"] {
            change(home, &Change::Directory(directory.into()));
        }
        for path in ["Uploads/web/.git/config", "Uploads/web/.htaccess"] {
            change(home, &Change::File(path.into(), b"old".into()));
        }
        change(
            home,
            &Change::DropLines("Directories".into(), "user3:Uploads".into()),
        );
        home.append("Directories", "user3:Uploads:read,change,hidden");
    });
    let web = ["get", "--recursive", "--into"];
    server
        .run(&[&web[..], &["all", "USER3", "Uploads/web"]].concat())
        .assert_transferred(2, 6);
    let there = tree(&server.served("Uploads/web"));
    assert_eq!(tree(&server.local("all/web")), there);
    // Patterns match them only by a dot, as in a shell.
    for (pattern, expected) in [
        ("Uploads/web/.h*", Some(1)),
        ("Uploads/*/.h*", Some(1)),
        ("Uploads/web/*", None),
        ("Uploads/web/?htaccess", None),
    ] {
        let ran = server.run(&["get", "--force", "--into", "some", "USER3", pattern]);
        assert_eq!(ran.status == Some(0), expected.is_some(), "{ran:?}");
    }
    fs::write(server.local("all/web/.htaccess"), "new").unwrap();
    let ran = server.run(&["put", "--recursive", "USER3", "Uploads", "all/web"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(tree(&server.served("Uploads/web")), there);
    server
        .run(&[
            "put",
            "--force",
            "--recursive",
            "USER3",
            "Uploads",
            "all/web",
        ])
        .assert_transferred(2, 6);
    assert_eq!(
        fs::read(server.served("Uploads/web/.htaccess")).unwrap(),
        b"new"
    );
    let ran = server.run(&["ls", "--recursive", "USER2", "Uploads"]);
    assert!(!ran.stdout.contains(".htaccess"), "{ran:?}");
}

#[test]
fn put_without_force_replaces_nothing_it_cannot_see() {
    let server = Server::with(|home| {
        change(home, &Change::Directory("Box".into()));
        change(home, &Change::Directory("Box/Sub".into()));
        for path in ["Box/Letter", "Box/Large", "Box/Sub/Letter"] {
            change(home, &Change::File(path.into(), b"old".into()));
        }
        home.append("Directories", "user3:Box:change");
    });
    fs::create_dir(server.local("Sub")).unwrap();
    for path in ["Letter", "Sub/Letter"] {
        fs::write(server.local(path), "new").unwrap();
    }
    fs::write(server.local("Large"), vec![b'x'; 3_000_000]).unwrap();
    for name in ["Letter", "Large"] {
        server.run(&["put", "USER3", "Box", name]).assert_ended(
            1,
            &format!("tidegate: Box/{name}: The file already exists\n"),
        );
    }
    server
        .run(&["put", "--recursive", "USER3", "Box", "Sub"])
        .assert_ended(1, "tidegate: Box/Sub/Letter: The file already exists\n");
    let mut command = server.command(&["connect", "USER3"]);
    let lines = server.local("lines");
    fs::write(&lines, "SHOW DIRECTORY Box\nupload Letter\n").unwrap();
    command.stdin(fs::File::open(lines).unwrap());
    let ran = finish(command);
    assert!(ran.stdout.contains("The file already exists"), "{ran:?}");
    for path in ["Box/Letter", "Box/Large", "Box/Sub/Letter"] {
        assert_eq!(fs::read(server.served(path)).unwrap(), b"old", "{path}");
    }
    server
        .run(&["put", "--force", "USER3", "Box", "Letter", "Large"])
        .assert_transferred(2, 3_000_003);
    assert_eq!(fs::read(server.served("Box/Letter")).unwrap(), b"new");
}

#[test]
fn put_reports_unusable_sources() {
    let server = Server::new();
    fs::create_dir_all(server.local("folder/.hidden")).unwrap();
    fs::write(server.local("folder/.hidden/x"), "x").unwrap();
    fs::write(server.local("folder/y"), "y").unwrap();
    symlink("..", server.local("folder/up")).unwrap();
    symlink("y", server.local("folder/z")).unwrap();
    fs::write(server.local(".dot"), "").unwrap();
    nix::unistd::mkfifo(&server.local("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(server.local("blank "), "").unwrap();
    let ran = server.run(&[
        "put", "USER2", "Uploads", "missing", "folder", "pipe", ".dot", "blank ",
    ]);
    // The refusals of the server arrive later, in any order.
    let mut lines: Vec<&str> = ran.stderr.lines().collect();
    lines[3..].sort_unstable();
    let ran = Output {
        stderr: lines.join("\n") + "\n",
        ..ran
    };
    ran.assert_ended(
        1,
        &format!(
            "tidegate: missing: no such file or directory in {}\n\
             tidegate: folder: is a directory; use --recursive to upload it\n\
             tidegate: pipe: not a regular file or directory\n\
             tidegate: Uploads/.dot: Names beginning with a dot need the right 'hidden'\n\
             tidegate: Uploads/blank : the protocol cannot express this name\n",
            server.folder.path().display()
        ),
    );
    let ran = server.run(&["put", "--recursive", "USER2", "Uploads", "folder"]);
    ran.assert_ended(
        1,
        "tidegate: folder/up: not following the symbolic link to a directory; name it on the \
         command line\n\
         tidegate: Uploads/folder/.hidden: Names beginning with a dot need the right 'hidden'\n",
    );
    let names: Vec<String> = tree(&server.served("Uploads/folder"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["y", "z"]);
    for (user, directory, why) in [
        ("USER1", "Movies", "You may not upload to this directory"),
        ("USER1", "Nowhere", "No such directory"),
        ("USER2", "Uploads/nowhere", "No such directory"),
    ] {
        server
            .run(&["put", user, directory, "folder/y"])
            .assert_ended(1, &format!("tidegate: {directory}/y: {why}\n"));
    }
    let long = "x".repeat(256);
    let ran = server.run(&[
        "put",
        "USER2",
        &format!("Uploads/{}", "d/".repeat(2500)),
        "folder/y",
    ]);
    assert_eq!(
        (
            ran.status,
            ran.stderr.contains("the protocol cannot express this name")
        ),
        (Some(1), true),
        "{ran:?}"
    );
    let ran = server.run(&["get", "USER1", &format!("Movies/{long}")]);
    ran.assert_ended(
        1,
        &format!(
            "tidegate: Movies/{long}: not a valid file name (1 to 255 bytes, no leading dot, \
        no control characters)\n"
        ),
    );
}

#[test]
fn put_continues_after_a_refused_file() {
    let server = Server::new();
    let huge = fs::File::create(server.local("huge")).unwrap();
    huge.set_len(1 << 60)
        .or_else(|_| huge.set_len(1 << 43))
        .unwrap();
    fs::write(server.local("after"), "after").unwrap();
    fs::write(server.local("before"), "before").unwrap();
    let ran = server.run(&["put", "USER2", "Uploads", "before", "huge", "after"]);
    let size = huge.metadata().unwrap().len();
    ran.assert_ended(
        1,
        &format!(
            "tidegate: Uploads/huge: There is not enough room for that file: the server's disk \
             cannot take its {size} bytes, or the server accepts no file of this size; ask the \
             server's operator\n"
        ),
    );
    assert!(ran.stdout.starts_with("2 files, "), "{ran:?}");
    assert_eq!(fs::read(server.served("Uploads/after")).unwrap(), b"after");
}

#[test]
fn an_unwritable_download_folder_is_reported() {
    let server = Server::new();
    fs::write(server.local("downloads"), "no folder").unwrap();
    server
        .run(&["get", "USER1", "Movies/Joker", "Movies/WAR"])
        .assert_ended(
            1,
            "tidegate: Movies/Joker: downloads/Joker.part: not a directory; choose another folder \
             with --into\n\
             tidegate: Movies/WAR: downloads/WAR.part: not a directory; choose another folder with \
             --into\n",
        );
    assert_eq!(fs::read(server.local("downloads")).unwrap(), b"no folder");
}
