//! The operator's limits on uploads.

use std::path::{Path, PathBuf};

use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::UploadBase;
use crate::kernel::Kernel;
use crate::server::options::Options;
use crate::server::service::context::Context;
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Creation, Job, Task};
use crate::server::workers::query::Query;
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
        session_id: SessionId,
        path: GrantedPath,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        context.query(session_id, Query::CheckUpload(path))
    }

    /// Checks that there is room for an upload in a granted directory, or else in the home. Quotas
    /// permit `left` bytes.
    pub(crate) fn check_space<K: Kernel>(
        &self,
        session_id: SessionId,
        grant: Option<&Grant>,
        (length, left): (u64, u64),
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        self.check_size(length)?;
        if left < length {
            return Err(ErrorCode::OverQuota.into());
        }
        let granted = grant.map(|grant| &*grant.path).into_iter();
        let directories: Vec<PathBuf> = granted
            .chain([context.home.path()])
            .map(Path::to_owned)
            .collect();
        // The last one that the event loop may not call, or else the last one.
        let roots = directories.iter();
        let root = roots.max_by_key(|path| !context.device(path).is_inline());
        let root = root.expect("the home is a directory").clone();
        let bytes = length.saturating_add(self.keep_free);
        let query = Query::CheckSpace {
            directories,
            root,
            bytes,
        };
        context.query(session_id, query)
    }

    /// Starts a job that creates an upload.
    pub(crate) fn create<K: Kernel>(
        &self,
        session_id: SessionId,
        path: GrantedPath,
        (length, base): (Option<u64>, UploadBase),
        reservation: QuotaReservation,
        context: &Context<K>,
    ) -> Handled<K> {
        let lane = context.lane(&path.grant);
        let creation = Creation {
            path,
            spec: self.spec(length, base),
            reservation,
            devices: context.devices.clone(),
        };
        let job = Job::owned(session_id, lane, Task::Create(creation));
        context.workers.submit(job);
        Handled::Later
    }

    /// Starts a job that creates an upload with a generated name.
    pub(crate) fn create_unique<K: Kernel>(
        &self,
        session_id: SessionId,
        directory: GrantedPath,
        reservation: QuotaReservation,
        context: &Context<K>,
    ) -> Handled<K> {
        let lane = context.lane(&directory.grant);
        let creation = Creation {
            path: directory,
            spec: self.spec(None, UploadBase::Empty),
            reservation,
            devices: context.devices.clone(),
        };
        let job = Job::owned(session_id, lane, Task::CreateUnique(creation));
        context.workers.submit(job);
        Handled::Later
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::Response;
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
        let check = |bytes| {
            let query = Query::CheckSpace {
                root: PathBuf::new(),
                directories: vec![missing.clone(), folder.path().to_owned()],
                bytes,
            };
            query.run(&kernel).map_err(|error| error.code)
        };
        assert!(matches!(check(1), Ok(Response::Allowed)));
        assert!(matches!(check(u64::MAX), Err(ErrorCode::NoSpace)));
    }
}
