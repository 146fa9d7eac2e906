//! Uploads that keep a part of the existing file (APPE, REST).

use super::*;

#[test]
fn a_continued_upload_replaces_the_file_as_a_whole() {
    let directory = TestDirectory::new();
    for (base, expected) in [
        (UploadBase::Empty, "new"),
        (UploadBase::Prefix(0), "new"),
        (UploadBase::Prefix(3), "oldnew"),
        (UploadBase::Prefix(11), "old content new"),
        (UploadBase::Whole, "old content new"),
    ] {
        fs::write(directory.at("file"), "old content").unwrap();
        let place = directory.place("file", CHANGE);
        let mut upload = create_upload(&directory.kernel, &place, continuing(base)).unwrap();
        assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
        let text = if expected.len() > 6 { " new" } else { "new" };
        upload.write(text.as_bytes()).unwrap();
        assert_eq!(fs::read(directory.at("file")).unwrap(), b"old content");
        upload.publish().unwrap();
        assert_eq!(directory.files(), [file("file", expected)], "{base:?}");
    }
    let new = create_upload(
        &directory.kernel,
        &directory.place("new", CHANGE),
        continuing(UploadBase::Whole),
    )
    .unwrap();
    new.publish().unwrap();
    assert_eq!(fs::read(directory.at("new")).unwrap(), b"");
}

#[test]
fn a_missing_or_short_base_file_is_refused() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "12345").unwrap();
    symlink("file", directory.at("link")).unwrap();
    symlink("../outside/canary", directory.at("out")).unwrap();
    let refused = |below, rights, base| {
        let place = directory.place(below, rights);
        code_of(create_upload(&directory.kernel, &place, continuing(base))).err()
    };
    assert_eq!(
        refused("file", UPLOAD, UploadBase::Whole),
        Some(ErrorCode::FileExists)
    );
    for (below, base) in [
        ("file", 6),
        ("file", u64::MAX),
        ("new", 1),
        ("out", 1),
        ("link", 6),
    ] {
        let base = UploadBase::Prefix(base);
        assert_eq!(
            refused(below, CHANGE, base),
            Some(ErrorCode::OffsetBeyondEnd),
            "{below}"
        );
    }
    // The copy follows a link; the publication replaces it.
    let place = directory.place("link", CHANGE);
    let mut upload =
        create_upload(&directory.kernel, &place, continuing(UploadBase::Whole)).unwrap();
    while upload.copy_base().unwrap() == Step::More {}
    upload.write(b"6").unwrap();
    upload.publish().unwrap();
    assert_eq!(
        directory.files(),
        [file("file", "12345"), file("link", "123456")]
    );
    let canary = fs::read_to_string(directory.at("../outside/canary")).unwrap();
    assert_eq!(canary, CANARY);
}

#[test]
fn continuing_a_file_needs_the_right_to_read() {
    let directory = TestDirectory::with_every_kind();
    let create = |below, rights, base| {
        let place = directory.place(below, rights);
        code_of(create_upload(&directory.kernel, &place, continuing(base)).map(drop))
    };
    let denied = Err(ErrorCode::ReadDenied);
    for (below, base, expected) in [
        ("file", UploadBase::Empty, Ok(())),
        ("file", UploadBase::Prefix(0), Ok(())),
        // The same for every offset and every name, so that no length can be found.
        ("file", UploadBase::Prefix(1), denied),
        ("file", UploadBase::Prefix(5), denied),
        ("file", UploadBase::Prefix(6), denied),
        ("file", UploadBase::Prefix(u64::MAX), denied),
        ("missing", UploadBase::Prefix(1), denied),
        ("link", UploadBase::Prefix(1), denied),
        ("file", UploadBase::Whole, denied),
        ("link", UploadBase::Whole, denied),
        ("missing", UploadBase::Whole, Ok(())),
    ] {
        assert_eq!(
            create(below, CHANGE_UNSEEN, base),
            expected,
            "{below} {base:?}"
        );
    }
    let taken = Err(ErrorCode::FileExists);
    assert_eq!(create("file", DROP_BOX, UploadBase::Whole), taken);
    assert_eq!(create("missing", DROP_BOX, UploadBase::Whole), Ok(()));
}

#[test]
fn a_name_taken_since_the_start_of_appe_is_not_replaced() {
    let directory = TestDirectory::new();
    for rights in [CHANGE, CHANGE_UNSEEN] {
        let place = directory.place("log", rights);
        let spec = continuing(UploadBase::Whole);
        let mut upload = create_upload(&directory.kernel, &place, spec).unwrap();
        assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
        upload.write(b"mine").unwrap();
        fs::write(directory.at("log"), "theirs").unwrap();
        assert_eq!(code_of(upload.publish()), Err(ErrorCode::FileExists));
        assert_eq!(directory.files(), [file("log", "theirs")]);
        fs::remove_file(directory.at("log")).unwrap();
    }
}

/// Two sessions append to one file: publishing the second would lose the bytes of the first.
#[test]
fn a_file_changed_since_the_copy_is_not_replaced() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "old").unwrap();
    let append = |text: &str| {
        let place = directory.place("file", CHANGE);
        let mut upload =
            create_upload(&directory.kernel, &place, continuing(UploadBase::Whole)).unwrap();
        assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
        upload.write(text.as_bytes()).unwrap();
        upload
    };
    let (first, second) = (append("1"), append("2"));
    first.publish().unwrap();
    assert_eq!(code_of(second.publish()), Err(ErrorCode::FileExists));
    assert_eq!(directory.files(), [file("file", "old1")]);
}

/// The same from two threads at once.
#[test]
fn one_of_two_concurrent_appends_is_published() {
    let directory = TestDirectory::in_memory();
    let place = directory.place("file", CHANGE);
    let ledger = Arc::new(QuotaLedger::default());
    for round in 0..400 {
        fs::write(directory.at("file"), "old").unwrap();
        let append = |text: &str| {
            let upload =
                create_upload(&directory.kernel, &place, continuing(UploadBase::Whole)).unwrap();
            let reservation = ledger.reserve(&directory.at("file"), Vec::new());
            let mut upload = upload.with_reservation(reservation).unwrap();
            assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
            upload.write(text.as_bytes()).unwrap();
            upload
        };
        let (first, second) = (append("1"), append("2"));
        let barrier = Barrier::new(2);
        let commit = |upload: StagedUpload<Linux>| {
            barrier.wait();
            code_of(upload.publish())
        };
        let results = std::thread::scope(|scope| {
            let first = scope.spawn(|| commit(first));
            let second = commit(second);
            (first.join().unwrap(), second)
        });
        let content = match results {
            (Ok(()), Err(ErrorCode::FileExists)) => "old1",
            (Err(ErrorCode::FileExists), Ok(())) => "old2",
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(directory.files(), [file("file", content)]);
    }
}

#[test]
fn the_base_file_is_copied_in_slices() {
    let directory = TestDirectory::in_memory();
    let content = vec![b'x'; COPY_SLICE_BYTES + 5];
    fs::write(directory.at("file"), &content).unwrap();
    let place = directory.place("file", CHANGE);
    let create =
        || create_upload(&directory.kernel, &place, continuing(UploadBase::Whole)).unwrap();
    let mut upload = create();
    assert_eq!(upload.copy_base().unwrap(), Step::More);
    assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
    assert_eq!(upload.length(), content.len() as u64);
    let mut upload = create();
    fs::write(directory.at("file"), "short").unwrap();
    assert_eq!(code_of(upload.copy_base()), Err(ErrorCode::OffsetBeyondEnd));
}

#[test]
fn holes_are_kept_when_a_file_is_continued() {
    const SIZE: u64 = 64 << 20;
    let directory = TestDirectory::new();
    let place = directory.place("file", CHANGE);
    let sparse = fs::File::create(directory.at("file")).unwrap();
    sparse.write_all_at(b"middle", SIZE / 2).unwrap();
    sparse.set_len(SIZE).unwrap();
    let blocks = || fs::metadata(directory.at("file")).unwrap().blocks();
    if blocks() > 1_000 {
        eprintln!("skipped: the file system has no holes");
        return;
    }
    let mut expected = fs::read(directory.at("file")).unwrap();
    for bytes in [&b""[..], b"x", b"more"] {
        let spec = continuing(UploadBase::Whole);
        let mut upload = create_upload(&directory.kernel, &place, spec).unwrap();
        while upload.copy_base().unwrap() == Step::More {}
        upload.write(bytes).unwrap();
        upload.publish().unwrap();
        expected.extend(bytes);
        assert!(fs::read(directory.at("file")).unwrap() == expected);
        assert!(blocks() < 1_000, "{} blocks", blocks());
    }
}
