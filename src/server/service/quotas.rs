//! Quotas: what an upload may take, and what a user is told of his.
//!
//! Must not know: how bytes are counted, the dialects' words.

use std::path::PathBuf;

use log::warn;

use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::{QuotaUsage, Request, Response, UploadBase};
use crate::kernel::Kernel;
use crate::limits::QUOTA_COUNT_AGE;
use crate::server::conn::transfer::OpenHandle;
use crate::server::log::escape::Escaped;
use crate::server::service::{Completion, Services};
use crate::server::session_id::SessionId;
use crate::server::workers::Job;
use crate::storage;
use crate::storage::{
    FileFault, Modification, QuotaLimit, QuotaReservation, StorageError, UploadSpec, UsageScan,
};

impl<K: Kernel> Services<K> {
    /// Makes ready to receive a file, within what its user may still have.
    pub(crate) fn create(
        &mut self,
        session_id: SessionId,
        place: GrantedPath,
        length: Option<u64>,
        base: UploadBase,
    ) -> Option<Completion<K>> {
        let claim = match self.claim(session_id, &place, length.unwrap_or(0)) {
            Some(claim) => claim,
            None => {
                let request = Request::Create {
                    path: place,
                    length,
                    base,
                };
                self.uncounted.push((session_id, request));
                return None;
            }
        };
        match claim {
            Ok(claim) => self.later(Job::Create {
                session_id,
                place,
                wanted: self.wanted(length, base),
                claim,
            }),
            // What else speaks against the upload is said before its size.
            Err(refusal) => {
                let judged = storage::check_upload(&*self.kernel, &place);
                let refused = judged.err().unwrap_or(StorageError::from(refusal));
                Some(self.refused(session_id, refused))
            }
        }
    }

    /// Makes ready to receive a file under a name that nobody has.
    pub(crate) fn create_unique(
        &mut self,
        session_id: SessionId,
        directory: GrantedPath,
    ) -> Option<Completion<K>> {
        match self.claim(session_id, &directory, 0) {
            None => {
                self.uncounted
                    .push((session_id, Request::CreateUnique { directory }));
                None
            }
            Some(Ok(claim)) => self.later(Job::CreateUnique {
                session_id,
                directory,
                wanted: self.wanted(None, UploadBase::Empty),
                claim,
            }),
            Some(Err(refusal)) => Some(self.refused(session_id, refusal.into())),
        }
    }

    /// Tells a user of his quotas.
    pub(crate) fn quota(&mut self, session_id: SessionId) -> Option<Completion<K>> {
        let bounds = self.bounds_of(session_id);
        let mut all = bounds.iter();
        if !all.all(|(_, bound)| self.ledger.is_counted(&bound.paths)) {
            self.uncounted.push((session_id, Request::Quota));
            return None;
        }
        self.count_again();
        let quotas = bounds
            .into_iter()
            .map(|(directory, bound)| QuotaUsage {
                directory,
                used: self.ledger.bytes(&bound.paths),
                limit: bound.max_bytes,
            })
            .collect();
        Some(Completion::Response(
            Response::Quota(quotas),
            OpenHandle::Nothing,
        ))
    }

    /// What a change may take and gives back of quotas; the request again, while that is not known.
    pub(crate) fn claim_for(
        &mut self,
        session_id: SessionId,
        change: &Modification,
    ) -> Result<QuotaReservation, Request> {
        let path = |place: &GrantedPath| place.grant.path.join(&place.relative);
        Ok(match change {
            Modification::Rename { from, to } => {
                let bounds = self.bounds_at(session_id, &to.grant);
                if !self.are_counted(&bounds) {
                    let (from, to) = (from.clone(), to.clone());
                    return Err(Request::Rename { from, to });
                }
                self.ledger.reserve_move(&path(from), &path(to), bounds)
            }
            // Nothing comes from elsewhere.
            Modification::Remove(place)
            | Modification::RemoveDirectory(place)
            | Modification::SetModified(place, _) => {
                let path = path(place);
                self.ledger.reserve_move(&path, &path, Vec::new())
            }
        })
    }

    /// Counts from now on what the home wants counted.
    pub(crate) fn take_up_quotas(&mut self) {
        self.ledger.track(self.home.counted_paths().into_iter());
        self.count();
    }

    /// A count has come to its end, or as far as the fault let it.
    pub(crate) fn counted(&mut self, fault: Option<FileFault>) {
        if let Some(fault) = fault {
            warn!("event=fault what={}", Escaped(&fault.to_string()));
        }
        for (session_id, request) in std::mem::take(&mut self.uncounted) {
            if let Some(reply) = self.ask(session_id, request) {
                self.replies.push_back((session_id, reply));
            }
        }
    }

    fn wanted(&self, length: Option<u64>, base: UploadBase) -> UploadSpec {
        UploadSpec {
            length,
            max_length: self.options.max_upload.unwrap_or(u64::MAX),
            base,
            keep_free: self.options.keep_free,
        }
    }

    /// What a file to be may take; `None` while that is not known.
    fn claim(
        &mut self,
        session_id: SessionId,
        place: &GrantedPath,
        bytes: u64,
    ) -> Option<Result<QuotaReservation, ErrorCode>> {
        let bounds = self.bounds_at(session_id, &place.grant);
        if !self.are_counted(&bounds) {
            return None;
        }
        if !bounds.is_empty() {
            self.count_again();
        }
        let path = place.grant.path.join(&place.relative);
        Some(self.ledger.reserve(&path, bounds, bytes))
    }

    fn are_counted(&self, bounds: &[QuotaLimit]) -> bool {
        let mut bounds = bounds.iter();
        bounds.all(|bound| self.ledger.is_counted(&bound.paths))
    }

    /// Bytes that somebody may still add in a granted directory, as far as quotas go.
    pub(crate) fn left(&mut self, session_id: SessionId, grant: &Grant) -> u64 {
        let bounds = self.bounds_at(session_id, grant);
        self.ledger.left(&bounds)
    }

    /// What bounds the bytes that somebody adds in a granted directory.
    fn bounds_at(&mut self, session_id: SessionId, grant: &Grant) -> Vec<QuotaLimit> {
        let paths = vec![grant.path.clone()];
        let most = grant.rights.quota;
        let of_directory = most.map(|most| QuotaLimit {
            paths,
            max_bytes: most,
        });
        (of_directory.into_iter())
            .chain(self.bound_of_user(session_id))
            .collect()
    }

    /// The quotas of who asks: his own, and those of his directories by their names.
    fn bounds_of(&mut self, session_id: SessionId) -> Vec<(Option<String>, QuotaLimit)> {
        let own = self.bound_of_user(session_id).map(|bound| (None, bound));
        let access = self.access_of(session_id);
        let grants = access.iter().flat_map(|access| &access.grants);
        let directories = grants.filter_map(|grant| {
            let paths = vec![grant.path.clone()];
            let bound = grant.rights.quota.map(|most| QuotaLimit {
                paths,
                max_bytes: most,
            })?;
            Some((Some(grant.name.clone()), bound))
        });
        own.into_iter().chain(directories).collect()
    }

    /// The quota of who asks, over all directories that he may add files to.
    fn bound_of_user(&mut self, session_id: SessionId) -> Option<QuotaLimit> {
        let user = self.users.name(session_id.user?);
        let most = self.home.limits(user).quota?;
        let access = self.access_of(session_id)?;
        let grants = access.grants.iter().filter(|grant| grant.rights.may_add());
        let mut all: Vec<PathBuf> = grants.map(|grant| grant.path.clone()).collect();
        all.sort_unstable();
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in all {
            // What lies in another one counts there; the one around it sorts before it, though not right before.
            if !paths.iter().any(|around| path.starts_with(around)) {
                paths.push(path);
            }
        }
        Some(QuotaLimit {
            paths,
            max_bytes: most,
        })
    }

    fn access_of(
        &mut self,
        session_id: SessionId,
    ) -> Option<std::sync::Arc<crate::domain::access::Access>> {
        let user = self.users.name(session_id.user?).to_owned();
        self.access(&user)
    }

    /// Counts once more where the last count is old: people change files beside the server.
    fn count_again(&mut self) {
        if self.now.saturating_duration_since(self.counted_at) >= QUOTA_COUNT_AGE {
            self.count();
        }
    }

    fn count(&mut self) {
        self.counted_at = self.now;
        for path in self.ledger.paths() {
            if let Some(count) = UsageScan::begin(&self.ledger, &path) {
                self.workers.submit(Job::Count(count));
            }
        }
    }

    /// Whether an upload of this length could be taken, as far as its grant tells, or else the home's file system.
    pub(crate) fn room(
        &mut self,
        session_id: SessionId,
        grant: Option<&Grant>,
        length: u64,
    ) -> Result<(), StorageError> {
        self.within_size(length)?;
        if let Some(grant) = grant
            && self.left(session_id, grant) < length
        {
            return Err(ErrorCode::OverQuota.into());
        }
        let paths = grant.map(|grant| &*grant.path).into_iter();
        for path in paths.chain([self.home.path()]) {
            match storage::check_free_space(
                &*self.kernel,
                path,
                length.saturating_add(self.options.keep_free),
            ) {
                Ok(()) => return Ok(()),
                Err(refused) if refused.code == ErrorCode::NoSpace => return Err(refused),
                // A directory that cannot be opened tells nothing of room.
                Err(_) => {}
            }
        }
        Ok(())
    }
}
