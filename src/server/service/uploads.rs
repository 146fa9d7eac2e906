//! The operator's limits on uploads.

use std::path::Path;

use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::{Response, UploadBase};
use crate::kernel::Kernel;
use crate::server::options::Options;
use crate::server::service::context::Context;
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Creation, Job, Task};
use crate::storage;
use crate::storage::{QuotaReservation, StorageError, UploadSpec};

/// Maximum size and reserved free space of uploads.
pub(crate) struct Uploads {
    /// Maximum size of a file in bytes.
    bytes_max: Option<u64>,
    /// Bytes to leave free on a file system.
    keep_free: u64,
}

impl Uploads {
    pub(crate) fn new(options: &Options) -> Uploads {
        Uploads {
            bytes_max: options.max_upload,
            keep_free: options.keep_free,
        }
    }

    /// Checks that an upload to this path would be accepted.
    pub(crate) fn check<K: Kernel>(
        &self,
        path: &GrantedPath,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        storage::check_upload(&*context.kernel, path)?;
        Ok(Handled::now(Response::Allowed))
    }

    /// Checks that there is room for an upload in a granted directory, or else in the home. Quotas
    /// permit `left` bytes.
    pub(crate) fn check_space<K: Kernel>(
        &self,
        grant: Option<&Grant>,
        length: u64,
        left: u64,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        self.check_size(length)?;
        if left < length {
            return Err(ErrorCode::OverQuota.into());
        }
        let granted = grant.map(|grant| &*grant.path).into_iter();
        let directories = granted.chain([context.home.path()]);
        self.check_free_space(&*context.kernel, directories, length)?;
        Ok(Handled::now(Response::Allowed))
    }

    /// Starts a job that creates an upload. If the quotas refused the `reservation`, an error about
    /// the name of the file takes precedence.
    pub(crate) fn create<K: Kernel>(
        &self,
        session_id: SessionId,
        path: GrantedPath,
        (length, base): (Option<u64>, UploadBase),
        reservation: Result<QuotaReservation, ErrorCode>,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        if reservation.is_err() {
            storage::check_upload(&*context.kernel, &path)?;
        }
        let lane = context.lane(&path.grant);
        let creation = Creation {
            path,
            spec: self.spec(length, base),
            reservation: reservation?,
        };
        let job = Job::owned(session_id, lane, Task::Create(creation));
        context.workers.submit(job);
        Ok(Handled::Later)
    }

    /// Starts a job that creates an upload with a generated name.
    pub(crate) fn create_unique<K: Kernel>(
        &self,
        session_id: SessionId,
        directory: GrantedPath,
        reservation: Result<QuotaReservation, ErrorCode>,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        let lane = context.lane(&directory.grant);
        let creation = Creation {
            path: directory,
            spec: self.spec(None, UploadBase::Empty),
            reservation: reservation?,
        };
        let job = Job::owned(session_id, lane, Task::CreateUnique(creation));
        context.workers.submit(job);
        Ok(Handled::Later)
    }

    fn spec(&self, length: Option<u64>, base: UploadBase) -> UploadSpec {
        UploadSpec {
            length,
            max_length: self.bytes_max.unwrap_or(u64::MAX),
            base,
            keep_free: self.keep_free,
        }
    }

    /// Checks the announced length of an upload against the maximum.
    fn check_size(&self, length: u64) -> Result<(), StorageError> {
        match self.bytes_max {
            Some(max) if length > max => Err(ErrorCode::TooLarge.into()),
            _ => Ok(()),
        }
    }

    /// Checks that the file system of the first of these directories that can be opened has room
    /// for an upload. Passes if none can be opened.
    fn check_free_space<'a, K: Kernel>(
        &self,
        kernel: &K,
        directories: impl Iterator<Item = &'a Path>,
        length: u64,
    ) -> Result<(), StorageError> {
        let bytes = length.saturating_add(self.keep_free);
        for directory in directories {
            match storage::check_free_space(kernel, directory, bytes) {
                Ok(()) => return Ok(()),
                Err(error) if error.code == ErrorCode::NoSpace => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::linux::Linux;

    #[test]
    fn uploads_stay_within_size_and_free_space() {
        let uploads = |max_upload, keep_free| {
            Uploads::new(&Options {
                max_upload,
                keep_free,
                ..Options::default()
            })
        };
        let limited = uploads(Some(10), 0);
        assert!(limited.check_size(10).is_ok());
        assert_eq!(
            limited.check_size(11).unwrap_err().code,
            ErrorCode::TooLarge
        );
        assert!(uploads(None, 0).check_size(u64::MAX).is_ok());

        let (kernel, folder) = (Linux::new().unwrap(), tempfile::tempdir().unwrap());
        let missing = folder.path().join("missing");
        let check = |keep_free, length| {
            let directories = [&*missing, folder.path()].into_iter();
            let checked = uploads(None, keep_free).check_free_space(&kernel, directories, length);
            checked.map_err(|error| error.code)
        };
        assert_eq!(check(0, 1), Ok(()));
        assert_eq!(check(u64::MAX / 2, 1), Err(ErrorCode::NoSpace));
        assert_eq!(check(0, u64::MAX), Err(ErrorCode::NoSpace));
    }
}
