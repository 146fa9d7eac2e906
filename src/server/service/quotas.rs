//! Quotas: how many bytes users may add, and how many they use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use crate::config::Home;
use crate::domain::access::{Access, Grant};
use crate::domain::path::GrantedPath;
use crate::domain::quota::Quota;
use crate::domain::request::{QuotaUsage, Request, Response};
use crate::kernel::Kernel;
use crate::limits::QUOTA_COUNT_AGE;
use crate::server::log::escape::Escaped;
use crate::server::service::auth::Auth;
use crate::server::service::context::Context;
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Job, Lane, Task};
use crate::storage::{
    FileFault, Modification, QuotaLedger, QuotaLimit, QuotaReservation, UsageScan,
};

/// The usage of all directories with a quota, and the requests that wait until it is counted.
pub(crate) struct Quotas {
    ledger: Arc<QuotaLedger>,
    /// Time of the last count.
    counted_at: Instant,
    /// By the generation of the session.
    deferred: BTreeMap<u64, (SessionId, Request)>,
}

/// The quota of a user over all directories to which the user may add files.
#[derive(Default)]
pub(crate) struct UserQuota {
    /// The limit.
    pub(crate) limit: Option<Quota>,
    /// The user's access, if the login is still valid.
    pub(crate) access: Option<Arc<Access>>,
}

impl UserQuota {
    /// Returns the quota of a session's user if the request depends on it.
    pub(crate) fn of(
        session_id: SessionId,
        request: &Request,
        auth: &mut Auth,
        home: &Home,
    ) -> UserQuota {
        if session_id.user.is_none() || !Quotas::concern(request) {
            return UserQuota::default();
        }
        let user = auth.user_name(session_id).to_owned();
        UserQuota {
            limit: home.limits(&user).quota,
            access: auth.access(&user, home),
        }
    }
}

impl Quotas {
    pub(crate) fn new(now: Instant) -> Quotas {
        Quotas {
            ledger: Arc::default(),
            counted_at: now,
            deferred: BTreeMap::new(),
        }
    }

    /// Counts the directories that have a quota in the current configuration.
    pub(crate) fn reload<K: Kernel>(&mut self, context: &Context<K>) {
        let paths = context.home.counted_paths();
        self.ledger.track(paths.into_iter());
        self.count(context);
    }

    /// Counts again if the last count is old: files may be changed by other programs.
    fn refresh<K: Kernel>(&mut self, context: &Context<K>) {
        if context.now.saturating_duration_since(self.counted_at) >= QUOTA_COUNT_AGE {
            self.count(context);
        }
    }

    fn count<K: Kernel>(&mut self, context: &Context<K>) {
        self.counted_at = context.now;
        for path in self.ledger.paths() {
            if let Some(count) = UsageScan::begin(&self.ledger, &path) {
                let lane = Lane::Background(context.device(&path));
                let job = Job::detached(lane, Task::Count(count));
                context.workers.submit(job);
            }
        }
    }

    /// Takes the end of a count; the requests that waited for it are to be handled again.
    pub(crate) fn finish_count(&mut self, fault: Option<FileFault>) -> Vec<(SessionId, Request)> {
        if let Some(fault) = fault {
            warn!("event=fault what={}", Escaped(&fault.to_string()));
        }
        std::mem::take(&mut self.deferred).into_values().collect()
    }

    /// Keeps a request until the next count is done.
    pub(crate) fn defer(&mut self, session_id: SessionId, request: Request) {
        let generation = session_id.generation;
        self.deferred.insert(generation, (session_id, request));
    }

    /// Drops the deferred request of a session that ended.
    pub(crate) fn cancel(&mut self, session_id: SessionId) {
        self.deferred.remove(&session_id.generation);
    }

    /// Returns whether a request depends on quotas.
    pub(crate) fn concern(request: &Request) -> bool {
        matches!(
            request,
            Request::Create { .. }
                | Request::CreateUnique { .. }
                | Request::MakeDirectory { .. }
                | Request::Rename { .. }
                | Request::CheckSpace { .. }
                | Request::Space { .. }
                | Request::Quota
        )
    }

    /// Returns whether all usage that the request depends on is counted.
    pub(crate) fn is_ready(&self, request: &Request, user: &UserQuota) -> bool {
        let limits = match request {
            Request::Create { path, .. }
            | Request::CreateUnique { directory: path }
            | Request::MakeDirectory { path } => limits(&path.grant, user),
            Request::Rename { to, .. } => limits(&to.grant, user),
            Request::Quota => {
                let limits = named_limits(user);
                limits.map(|(_, limit)| limit).collect()
            }
            _ => return true,
        };
        let mut limits = limits.iter();
        limits.all(|limit| self.ledger.is_counted(&limit.paths))
    }

    /// Returns the reservation of a new file or directory. It covers nothing yet: what the path
    /// holds now, and thus what the change adds, is for a worker to find out.
    pub(crate) fn reserve<K: Kernel>(
        &mut self,
        path: &GrantedPath,
        user: &UserQuota,
        context: &Context<K>,
    ) -> QuotaReservation {
        let limits = limits(&path.grant, user);
        if !limits.is_empty() {
            self.refresh(context);
        }
        self.ledger.reserve(&path.full_path(), limits)
    }

    /// Returns the reservation of a modification. It covers nothing until the modification is
    /// made, because the size of a moved directory is not known before.
    pub(crate) fn reserve_modification(
        &self,
        modification: &Modification,
        user: &UserQuota,
    ) -> QuotaReservation {
        match modification {
            Modification::Rename { from, to } => {
                let limits = limits(&to.grant, user);
                (self.ledger).reserve_move(&from.full_path(), &to.full_path(), limits)
            }
            Modification::Remove(path)
            | Modification::RemoveDirectory(path)
            | Modification::SetModified(path, _) => {
                let path = path.full_path();
                self.ledger.reserve_move(&path, &path, Vec::new())
            }
        }
    }

    /// Returns the bytes that a user may still add to a granted directory; `u64::MAX` without
    /// quota.
    pub(crate) fn left(&self, grant: &Grant, user: &UserQuota) -> u64 {
        self.ledger.left(&limits(grant, user))
    }

    /// Returns the length of the largest file that a user may have in a granted directory. With
    /// the right to change, it may replace others.
    pub(crate) fn largest(&self, grant: &Grant, user: &UserQuota) -> u64 {
        match grant.rights.change {
            true => {
                let limits = limits(grant, user);
                let bytes = limits.iter().map(|limit| limit.max_bytes);
                bytes.min().unwrap_or(u64::MAX)
            }
            false => self.left(grant, user),
        }
    }

    /// Responds with the usage of a user's quotas.
    pub(crate) fn report<K: Kernel>(
        &mut self,
        user: &UserQuota,
        context: &Context<K>,
    ) -> Handled<K> {
        self.refresh(context);
        Handled::now(Response::Quota(self.usage(user)))
    }

    /// Returns the usage of a user's quotas: the user's own, then those of directories.
    fn usage(&self, user: &UserQuota) -> Vec<QuotaUsage> {
        let usage = |(directory, limit): (_, QuotaLimit)| {
            let used = self.ledger.usage(&limit.paths);
            QuotaUsage {
                directory,
                used: used.bytes,
                limit: limit.max_bytes,
                files: limit.max_files.map(|max| (used.files, max)),
            }
        };
        named_limits(user).map(usage).collect()
    }
}

/// Returns the limits on the bytes that a user adds to a granted directory.
fn limits(grant: &Grant, user: &UserQuota) -> Vec<QuotaLimit> {
    let own = directory_limit(grant).into_iter();
    own.chain(user_limit(user)).collect()
}

/// Returns all limits of a user, those of directories with their names.
fn named_limits(user: &UserQuota) -> impl Iterator<Item = (Option<String>, QuotaLimit)> {
    let own = user_limit(user).map(|limit| (None, limit));
    let grants = user.access.iter().flat_map(|access| &access.grants);
    let directories =
        grants.filter_map(|grant| Some((Some(grant.name.clone()), directory_limit(grant)?)));
    own.into_iter().chain(directories)
}

fn directory_limit(grant: &Grant) -> Option<QuotaLimit> {
    let quota = grant.rights.quota?;
    let paths = vec![grant.path.clone()];
    Some(QuotaLimit {
        paths,
        max_bytes: quota.bytes,
        max_files: quota.files,
    })
}

/// Returns the limit over all directories to which the user may add files. Nested directories are
/// counted once.
fn user_limit(user: &UserQuota) -> Option<QuotaLimit> {
    let (quota, access) = (user.limit?, user.access.as_ref()?);
    let grants = access.grants.iter().filter(|grant| grant.rights.may_add());
    let mut all: Vec<&Path> = grants.map(|grant| &*grant.path).collect();
    // A directory sorts before those inside it, but not necessarily right before them.
    all.sort_unstable();
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in all {
        if !paths.iter().any(|outer| path.starts_with(outer)) {
            paths.push(path.to_owned());
        }
    }
    Some(QuotaLimit {
        paths,
        max_bytes: quota.bytes,
        max_files: quota.files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Home;
    use crate::domain::access::Rights;
    use crate::domain::error::ErrorCode;
    use crate::domain::request::UploadBase;
    use crate::storage::StorageUse;

    fn grant(name: &str, path: PathBuf, upload: bool, quota: Option<u64>) -> Arc<Grant> {
        Arc::new(Grant {
            name: name.to_owned(),
            rights: Rights {
                read: true,
                upload,
                change: false,
                hidden: false,
                quota: quota.map(of_bytes),
            },
            path,
        })
    }

    fn of_bytes(bytes: u64) -> Quota {
        let files = Some(2);
        Quota { bytes, files }
    }

    fn user(limit: Option<u64>, grants: Vec<Arc<Grant>>) -> UserQuota {
        UserQuota {
            limit: limit.map(of_bytes),
            access: Some(Arc::new(Access {
                user: "ann".to_owned(),
                grants,
            })),
        }
    }

    #[test]
    fn a_user_quota_counts_nested_directories_once() {
        let grants = [
            ("all", "/srv", true),
            ("more", "/srv-2", true),
            ("box", "/srv/box", true),
            ("read-only", "/other", false),
        ];
        let grants = grants.map(|(name, path, upload)| grant(name, path.into(), upload, None));
        let limit = user_limit(&user(Some(7), grants.into())).unwrap();
        assert_eq!(limit.paths, [Path::new("/srv"), Path::new("/srv-2")]);
        assert!(user_limit(&user(None, Vec::new())).is_none());
    }

    #[test]
    fn uploads_wait_for_the_first_count_then_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        std::fs::create_dir_all(home.join("files/Box")).unwrap();
        std::fs::write(home.join("files/Box/file"), "12345").unwrap();
        std::fs::write(home.join("Credentials"), "").unwrap();
        std::fs::write(home.join("Directories"), "*:Box:upload,quota=10\n").unwrap();
        let home = Home::load(home).unwrap().0;
        let context = Context::for_tests(home);

        let mut quotas = Quotas::new(context.now);
        quotas.reload(&context);
        let grant = grant("Box", context.home.path().join("files/Box"), true, Some(10));
        let user = user(None, vec![grant.clone()]);
        let path = GrantedPath {
            grant: grant.clone(),
            relative: "new".to_owned(),
        };
        let request = Request::Create {
            path: path.clone(),
            length: None,
            base: UploadBase::Empty,
        };
        assert!(!quotas.is_ready(&request, &user));
        while context.workers.queued() > 0 {
            context.workers.run_nth(0);
        }
        assert!(quotas.is_ready(&request, &user));

        let mut reservation = quotas.reserve(&path, &user, &context);
        assert_eq!(reservation.grow_to(StorageUse::file(4)), Ok(()));
        assert_eq!(quotas.left(&grant, &user), 0, "no file more");
        let mut other = quotas.reserve(&path, &user, &context);
        let refused = other.grow_to(StorageUse::file(2));
        assert_eq!(refused, Err(ErrorCode::OverQuota));
        let usage = QuotaUsage {
            directory: Some("Box".to_owned()),
            used: 9,
            limit: 10,
            files: Some((2, 2)),
        };
        assert_eq!(quotas.usage(&user), [usage]);
        drop(reservation);
        assert_eq!(quotas.left(&grant, &user), 5);
    }
}
