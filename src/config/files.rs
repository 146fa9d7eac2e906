//! Reading the two files of a home.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::config::credentials::Credentials;
use crate::config::directories::Directories;
use crate::config::error::HomeError;
use crate::limits::HOME_FILE_BYTES_MAX;

/// The name of the file of accounts.
pub(super) const CREDENTIALS: &str = "Credentials";

/// The name of the file of grants and limits.
pub(super) const DIRECTORIES: &str = "Directories";

/// Reads and parses both files. Returns the faults of both.
pub(super) fn read_home(home: &Path) -> Result<(Credentials, Directories), Vec<HomeError>> {
    check_home(home).map_err(|fault| vec![fault])?;
    let file = home.join(CREDENTIALS);
    let credentials = read_file(&file)
        .map_err(|error| vec![error])
        .and_then(|text| Credentials::parse(&file, text));
    let file = home.join(DIRECTORIES);
    let directories = read_file(&file)
        .map_err(|error| vec![error])
        .and_then(|text| Directories::parse(&file, text, home));
    match (credentials, directories) {
        (Ok(credentials), Ok(directories)) => Ok((credentials, directories)),
        (credentials, directories) => {
            let faults = [credentials.err(), directories.err()];
            Err(faults.into_iter().flatten().flatten().collect())
        }
    }
}

/// Checks that `home` can be a home: reports a wrong path once, instead of both files as missing.
fn check_home(home: &Path) -> Result<(), HomeError> {
    let is_missing = |path: &Path| {
        let found = fs::symlink_metadata(path);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    match fs::metadata(home) {
        Ok(found) if !found.is_dir() => Err(HomeError::HomeIsFile(home.to_owned())),
        Ok(_)
            if [CREDENTIALS, DIRECTORIES]
                .iter()
                .all(|file| is_missing(&home.join(file))) =>
        {
            Err(HomeError::NotAHome(home.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(HomeError::NoHome(home.to_owned()))
        }
        // Other errors are reported for the files.
        _ => Ok(()),
    }
}

/// Reads a regular file of bounded size. Does not block on a FIFO.
fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let failed = |source: io::Error| {
        let file = file.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => HomeError::Missing { file },
            _ => HomeError::Read { file, source },
        }
    };
    let too_large = || HomeError::TooLarge {
        file: file.to_path_buf(),
    };
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(file)
        .map_err(failed)?;
    let metadata = open.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(HomeError::NotAFile {
            file: file.to_path_buf(),
        });
    }
    if metadata.len() > HOME_FILE_BYTES_MAX {
        return Err(too_large());
    }
    // One byte more than the file, so that the buffer never grows and leaves a copy of a password
    // behind.
    let mut text = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    open.take(HOME_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > HOME_FILE_BYTES_MAX {
        return Err(too_large());
    }
    Ok(text)
}
