//! Homes of the tests: copies of the example home, `testdata/home`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::needs;

/// The user ID of the unprivileged user `nobody`, for servers started by tests that run as root.
pub(crate) const NOBODY: u32 = 65_534;

/// The files of the example home by path, as listed in `testdata/home.sha256`.
///
/// Unlisted files are ignored, so that a server running on the example home does not affect the
/// tests: its lock, its socket, and uploads.
static EXAMPLE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let manifest = fs::read_to_string(testdata.join("home.sha256"));
    let manifest = manifest.expect("the manifest of the example home is readable");
    let files = read_listed(&testdata.join("home"), &manifest);
    files.unwrap_or_else(|error| panic!("testdata/home: {error}"))
});

/// Returns the content of a listed file in the folder `files` of the example home.
pub(crate) fn example_file(path: &str) -> Option<&'static [u8]> {
    let content = EXAMPLE.get(&format!("files/{path}"))?;
    Some(content)
}

/// A copy of the example home that the test may change, removed with its last clone.
#[derive(Clone)]
pub(crate) struct Home {
    folder: Arc<TempDir>,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home::below(&std::env::temp_dir())
    }

    /// A home in memory, if the system has a place for it, for tests that are slow on a disk.
    pub(crate) fn in_memory() -> Home {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Home::below(memory),
            false => Home::new(),
        }
    }

    fn below(place: &Path) -> Home {
        let folder = tempfile::tempdir_in(place).expect("a temporary folder is created");
        let folder = Arc::new(folder);
        let home = Home { folder };
        for (path, content) in &*EXAMPLE {
            let path = home.path().join(path);
            let directory = path.parent().expect("a listed file is in the home");
            fs::create_dir_all(directory).expect("a directory of the home is created");
            fs::write(path, content).expect("a file of the home is created");
        }
        home
    }

    /// Makes [`NOBODY`] the owner of the home, and so of the server process, if the tests run as
    /// root. File modes apply to the server then.
    pub(crate) fn chown_to_nobody(&self) {
        if geteuid().is_root() {
            self.chown_to(NOBODY);
        }
    }

    /// Makes a user the owner of the home; only root can.
    pub(crate) fn chown_to(&self, uid: u32) {
        change_owner(self.parent(), uid);
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The temporary folder that contains the home, for other files of the test.
    pub(crate) fn parent(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a served file, for example `Movies/Joker`.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path().join("files").join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(path), content).expect("a served file is written");
    }

    /// Creates a sparse file of `length` bytes.
    pub(crate) fn write_sparse(&self, path: &str, length: u64) -> fs::File {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.file(path))
            .expect("a served file is created");
        file.set_len(length).expect("a sparse file is created");
        file
    }

    /// Appends a line to `Credentials` or `Directories`.
    pub(crate) fn append(&self, file: &str, line: &str) {
        let path = self.path().join(file);
        let file = fs::File::options().append(true).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.expect("the home's file is extended");
    }

    /// Returns all names in a served directory in order, including hidden ones.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.file(directory))
            .expect("a served directory is readable")
            .map(|entry| entry.expect("its entries are readable").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Reads the files listed in `manifest`, which has the format of `sha256sum`. If one is missing or
/// has another hash, because a server on the example home has changed it, the committed content is
/// taken from git.
///
/// Returns an error if that fails, too.
fn read_listed(folder: &Path, manifest: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    for line in manifest.lines() {
        let (hash, path) = line.split_once("  ").ok_or("the manifest is invalid")?;
        let has_hash = |content: &Vec<u8>| {
            let digest = Sha256::digest(content);
            let actual: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            actual == hash
        };
        let found = fs::read(folder.join(path)).ok().filter(has_hash);
        let content = found.or_else(|| read_committed(folder, path).filter(has_hash));
        let restore = "restore it with 'git restore testdata/home'";
        let content = content.ok_or(format!("{path} was changed; {restore}"))?;
        files.insert(path.to_owned(), content);
    }
    Ok(files)
}

/// Returns the last committed content of a file, if git has it.
fn read_committed(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).arg("show");
    let output = git.arg(format!("HEAD:./{path}")).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Changes the owner of a file, or of a folder and everything in it.
fn change_owner(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("root can change owners");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder is readable") {
            change_owner(&entry.expect("its entries are readable").path(), uid);
        }
    }
}

#[test]
fn only_listed_files_of_the_example_home_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    fs::create_dir_all(home.join("files/Uploads")).unwrap();
    fs::write(home.join("files/Uploads/listed"), "abc").unwrap();
    fs::write(home.join("files/Uploads/other"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.join(".tidegate.sock")).unwrap();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let manifest = format!("{hash}  files/Uploads/listed\n");
    let expected = BTreeMap::from([("files/Uploads/listed".to_owned(), b"abc".to_vec())]);
    assert_eq!(read_listed(home, &manifest), Ok(expected));

    let changed = "files/Uploads/listed was changed; restore it with 'git restore testdata/home'";
    fs::write(home.join("files/Uploads/listed"), "abd").unwrap();
    assert_eq!(read_listed(home, &manifest), Err(changed.to_owned()));
    fs::remove_file(home.join("files/Uploads/listed")).unwrap();
    assert_eq!(read_listed(home, &manifest), Err(changed.to_owned()));
}

#[test]
fn changed_files_of_the_example_home_are_taken_from_git() {
    if !needs::has("git") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let mut command = Command::new("git");
        command.arg("-C").arg(home).args(identity).args(arguments);
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    };
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let manifest = format!("{hash}  listed\n");
    let expected = BTreeMap::from([("listed".to_owned(), b"abc".to_vec())]);
    fs::write(home.join("listed"), "abc").unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "listed"]);
    git(&["commit", "--quiet", "--message", "home"]);
    fs::write(home.join("listed"), "abd").unwrap();
    assert_eq!(read_listed(home, &manifest), Ok(expected.clone()));
    fs::remove_file(home.join("listed")).unwrap();
    assert_eq!(read_listed(home, &manifest), Ok(expected));
}
