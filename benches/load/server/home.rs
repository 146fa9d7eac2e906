//! The home of the server under load: its users, grants and files in a temporary folder.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fixture::{DIRECTORY, TINY_FILE, UPLOADS, USERS};

/// The temporary home. Dropping it deletes it.
pub(crate) struct BenchHome {
    folder: TempDir,
}

impl BenchHome {
    /// Creates a home with the users of `testdata/home`, who may all read [`DIRECTORY`] and change
    /// [`UPLOADS`]. It is created in `parent`, by default the folder for temporary files.
    pub(crate) fn new(parent: Option<&Path>) -> io::Result<BenchHome> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = TempDir::with_prefix_in("tidegate-load-", parent)?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/home/Credentials");
        fs::copy(example, folder.path().join("Credentials"))?;
        fs::write(
            folder.path().join("Directories"),
            format!("*:{DIRECTORY}:read\n*:{UPLOADS}:read,change:files/{DIRECTORY}/{UPLOADS}\n"),
        )?;
        let home = BenchHome { folder };
        // HTTP peers serve DIRECTORY and take uploads in a subdirectory of it. FTP peers serve
        // `files`, where a symbolic link gives UPLOADS the path that tidegate's users see.
        fs::create_dir_all(home.directory().join(UPLOADS))?;
        let link = home.files().join(UPLOADS);
        symlink(Path::new(DIRECTORY).join(UPLOADS), link)?;
        allow_all(home.path())?;
        allow_all(&home.directory().join(UPLOADS))?;
        home.add_file(TINY_FILE, 1024)?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The parent of all served directories.
    pub(crate) fn files(&self) -> PathBuf {
        self.path().join("files")
    }

    /// The path of [`DIRECTORY`].
    pub(crate) fn directory(&self) -> PathBuf {
        self.files().join(DIRECTORY)
    }

    /// Adds a directory that every user may read.
    pub(crate) fn add_directory(&self, name: &str) -> io::Result<PathBuf> {
        let directories = self.path().join("Directories");
        let grants = fs::read_to_string(&directories)?;
        fs::write(directories, format!("{grants}*:{name}:read\n"))?;
        let directory = self.files().join(name);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Adds users `cold0`, `cold1`, … with the password hash of the first of [`USERS`]. The server
    /// has verified none of their passwords yet.
    pub(crate) fn add_users(&self, count: usize) -> io::Result<()> {
        let path = self.path().join("Credentials");
        let mut credentials = fs::read_to_string(&path)?;
        let first = format!("{}:", USERS[0].0);
        let hash = credentials
            .lines()
            .find_map(|line| line.strip_prefix(&first))
            .ok_or_else(|| io::Error::other("testdata/home has no user 'user1'"))?
            .to_owned();
        for number in 0..count {
            credentials += &format!("cold{number}:{hash}\n");
        }
        fs::write(path, credentials)
    }

    /// Adds a file of `size` pseudo-random bytes to [`DIRECTORY`] and returns its SHA-256.
    pub(crate) fn add_file(&self, name: &str, size: usize) -> io::Result<[u8; 32]> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut content = Vec::with_capacity(size + 8);
        while content.len() < size {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend_from_slice(&state.to_le_bytes());
        }
        content.truncate(size);
        fs::write(self.directory().join(name), &content)?;
        Ok(Sha256::digest(&content).into())
    }
}

/// Gives the peers' own users access.
fn allow_all(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}
