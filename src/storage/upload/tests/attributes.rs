//! The attributes that an upload takes over from the file it replaces.

use super::*;

/// The mode, owner and group of a file.
fn attributes(path: &Path) -> (u32, u32, u32) {
    let status = fs::metadata(path).unwrap();
    (status.mode() & 0o7777, status.uid(), status.gid())
}

#[test]
fn a_replaced_file_passes_on_its_attributes() {
    let is_root = Uid::effective().is_root();
    for create in WAYS {
        let directory = TestDirectory::new();
        let place = directory.place("file", CHANGE);
        let path = directory.at("file");
        for mode in [0o600, 0o640, 0o755, 0o666, 0o444, 0o200] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            if is_root {
                chown(&path, Some(12_345), Some(54_321)).unwrap();
            }
            let before = attributes(&path);
            let mut upload = create(&directory.kernel, &place, 3).unwrap();
            upload.write(b"new").unwrap();
            upload.publish().unwrap();
            assert_eq!(attributes(&path), before);
            assert_eq!(fs::read(&path).unwrap(), b"new");
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn set_user_id_does_not_pass_to_new_content() {
    let directory = TestDirectory::new();
    fs::write(directory.at("run"), "old").unwrap();
    fs::set_permissions(directory.at("run"), PermissionsExt::from_mode(0o6755)).unwrap();
    let place = directory.place("run", CHANGE);
    let upload = create_upload(&directory.kernel, &place, spec(0)).unwrap();
    upload.publish().unwrap();
    assert_eq!(attributes(&directory.at("run")).0, 0o755);
}

#[test]
fn attributes_set_during_an_upload_are_kept() {
    for create in WAYS {
        let directory = TestDirectory::new();
        let place = directory.place("file", CHANGE);
        let mode = |mode| {
            fs::write(directory.at("file"), "old").unwrap();
            fs::set_permissions(directory.at("file"), PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(0o644);
        let upload = create(&directory.kernel, &place, 0).unwrap();
        mode(0o600);
        upload.publish().unwrap();
        assert_eq!(attributes(&directory.at("file")).0, 0o600);
        fs::remove_file(directory.at("file")).unwrap();
        let upload = create(&directory.kernel, &place, 0).unwrap();
        mode(0o640);
        upload.publish().unwrap();
        assert_eq!(attributes(&directory.at("file")).0, 0o640);
    }
}

#[test]
fn a_copy_through_a_link_has_the_mode_of_its_source() {
    let directory = TestDirectory::new();
    fs::write(directory.at("log"), "old").unwrap();
    fs::set_permissions(directory.at("log"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("log", directory.at("link")).unwrap();
    let place = directory.place("link", CHANGE);
    let mut upload =
        create_upload(&directory.kernel, &place, continuing(UploadBase::Whole)).unwrap();
    assert_eq!(upload.copy_base().unwrap(), Step::Done(()));
    upload.publish().unwrap();
    assert!(
        fs::symlink_metadata(directory.at("link"))
            .unwrap()
            .is_file()
    );
    assert_eq!(attributes(&directory.at("link")).0, 0o600);
}

/// Without root the group of another user cannot be kept: its rights must not pass to the group
/// of the server.
#[test]
fn rights_of_a_lost_group_are_not_given_to_another() {
    if !Uid::effective().is_root() {
        println!("skipped: needs root to give a file to another group");
        return;
    }
    let directory = TestDirectory::new();
    directory.open_to_all();
    fs::set_permissions(directory.at(""), PermissionsExt::from_mode(0o777)).unwrap();
    for (old, new) in [(0o660, 0o600), (0o664, 0o644), (0o604, 0o604)] {
        fs::write(directory.at("file"), "old").unwrap();
        fs::set_permissions(directory.at("file"), PermissionsExt::from_mode(old)).unwrap();
        chown(directory.at("file"), Some(12_345), Some(54_321)).unwrap();
        unprivileged(|| {
            let place = directory.place("file", CHANGE);
            let upload = create_upload(&directory.kernel, &place, spec(0)).unwrap();
            upload.publish().unwrap();
        });
        assert_eq!(attributes(&directory.at("file")).0, new, "{old:o}");
        fs::remove_file(directory.at("file")).unwrap();
    }
}
