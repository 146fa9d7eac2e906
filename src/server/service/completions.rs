//! What workers have done, and what becomes of it: a reply, a line of the log, the next slice.
//!
//! Must not know: what was asked for, sockets, the dialects' words.

use std::io;
use std::sync::Arc;

use log::{debug, info, warn};

use crate::domain::error::ErrorCode;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::server::conn::transfer::OpenHandle;
use crate::server::log::escape::Escaped;
use crate::server::service::listing_cache::Asked;
use crate::server::service::{Completion, Services, listed, shown};
use crate::server::session_id::SessionId;
use crate::server::workers::listing::Listing;
use crate::server::workers::{Done, Job};
use crate::storage::{FileFault, Modification, StorageError};

impl<K: Kernel> Services<K> {
    /// Looks after one thing that a worker has done.
    pub(crate) fn finish(&mut self, done: Done<K>, is_waiting: &impl Fn(SessionId) -> bool) {
        let (session_id, reply) = match done {
            Done::Verified { proof, right } => return self.verified(proof, right),
            Done::ListingTarget { asked, result } => return self.listing_made(&asked, result),
            Done::Created {
                session_id,
                result: Ok(upload),
                unique,
            } => match is_waiting(session_id) {
                true => {
                    let answer = match unique {
                        true => Response::CreatedUnique {
                            name: upload.name().to_owned(),
                        },
                        false => Response::Created,
                    };
                    (
                        session_id,
                        Completion::Response(answer, OpenHandle::Upload(upload)),
                    )
                }
                false => return self.abandon(upload),
            },
            Done::Created {
                session_id,
                result: Err(refused),
                ..
            } => (
                session_id,
                self.job_refused(session_id, refused, is_waiting),
            ),
            Done::Filled { session_id, upload } => match is_waiting(session_id) {
                true => return self.workers.submit(Job::Fill { session_id, upload }),
                false => return self.abandon(upload),
            },
            Done::Committed {
                session_id,
                path,
                length,
                result,
                mut record,
            } => {
                self.listings.changed();
                if result.is_ok() {
                    if let Some(record) = &mut record {
                        record.complete();
                    }
                    let path = path.to_string_lossy();
                    let path = Escaped(&path);
                    info!(
                        "session={} event=upload path={path} length={length}",
                        session_id.generation
                    );
                }
                // A quota that was too small was logged when the bytes came.
                let result = result.map_err(|refused| self.log_fault(session_id, refused));
                (session_id, Completion::TransferDone(result))
            }
            Done::WarmedUp { session_id, result } => (session_id, Completion::Warm(result)),
            Done::Made { session_id, result } => {
                self.listings.changed();
                (
                    session_id,
                    self.plain(session_id, result, Response::DirectoryCreated),
                )
            }
            Done::Changed {
                session_id,
                change,
                result,
            } => {
                self.listings.changed();
                let reply = match result {
                    Ok(()) => {
                        log_change(session_id, &change);
                        Completion::Response(Response::Done, OpenHandle::Nothing)
                    }
                    Err(refused) => self.job_refused(session_id, refused, is_waiting),
                };
                (session_id, reply)
            }
            Done::Slice(checksum) => {
                if is_waiting(checksum.session_id) {
                    self.workers.submit(Job::Checksum(checksum));
                }
                return;
            }
            Done::Checksummed { session_id, result } => match result {
                Ok((digest, end)) => {
                    let answer = Response::Checksum { digest, end };
                    (
                        session_id,
                        Completion::Response(answer, OpenHandle::Nothing),
                    )
                }
                Err(refused) => (session_id, self.refused(session_id, refused)),
            },
            Done::Reloaded(reloaded) => return self.reloaded(*reloaded),
            Done::Swept(leftovers) => {
                let removed = leftovers.removed();
                if removed > 0 {
                    info!("event=sweep removed={removed}");
                }
                if let Some(fault) = leftovers.fault() {
                    warn!("event=fault what={}", Escaped(&fault.to_string()));
                }
                return;
            }
            Done::Counted(fault) => return self.counted(fault),
            Done::Abandoned => return,
        };
        self.replies.push_back((session_id, reply));
    }

    /// A worker has refused what a session asked for. Who has left meanwhile is not told, and his user's key may be another's
    /// by now.
    fn job_refused(
        &mut self,
        session_id: SessionId,
        refused: StorageError,
        is_waiting: &impl Fn(SessionId) -> bool,
    ) -> Completion<K> {
        match is_waiting(session_id) {
            true => self.refused(session_id, refused),
            false => {
                let refusal = self.log_fault(session_id, refused);
                Completion::Response(Response::Refused(refusal), OpenHandle::Nothing)
            }
        }
    }

    fn listing_made(&mut self, asked: &Asked, result: Result<Listing, StorageError>) {
        let session_ids = self.listings.made(asked);
        match result {
            Ok(mut listing) => {
                if let (Some(fault), Some(session_id)) = (listing.fault.take(), session_ids.first())
                {
                    self.log(*session_id, &fault);
                }
                let listing = Arc::new(listing);
                self.listings.keep(asked, &listing, self.now);
                for session_id in session_ids {
                    self.replies
                        .push_back((session_id, listed(listing.clone())));
                }
            }
            Err(refused) => self.refuse_listing(&session_ids, refused),
        }
    }

    /// Refuses the listings that have waited for memory for too long.
    pub(crate) fn give_up_listings(&mut self) {
        while let Some((asked, session_ids)) = self.listings.give_up(self.now) {
            let source = io::Error::other("no memory for one more");
            let fault = FileFault {
                operation: "listing",
                path: asked.path(),
                source,
            };
            let refused = StorageError {
                code: ErrorCode::DirectoryUnreadable,
                fault: Some(fault),
            };
            self.refuse_listing(&session_ids, refused);
        }
    }

    fn refuse_listing(&mut self, session_ids: &[SessionId], refused: StorageError) {
        let refusal = match session_ids.first() {
            Some(session_id) => self.log_fault(*session_id, refused),
            None => refused.code,
        };
        for session_id in session_ids {
            let reply = Completion::Response(Response::Refused(refusal), OpenHandle::Nothing);
            self.replies.push_back((*session_id, reply));
        }
    }
}

fn log_change(session_id: SessionId, change: &Modification) {
    let generation = session_id.generation;
    match change {
        Modification::Rename { from, to } => {
            let (from, to) = (shown(from), shown(to));
            info!("session={generation} event=rename from={from} to={to}");
        }
        Modification::Remove(place) => {
            info!("session={generation} event=remove path={}", shown(place))
        }
        Modification::RemoveDirectory(place) => {
            info!(
                "session={generation} event=remove-directory path={}",
                shown(place)
            );
        }
        Modification::SetModified(place, modified) => {
            let path = shown(place);
            debug!("session={generation} event=set-modified path={path} modified={modified}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::config::Home;
    use crate::domain::access::{Grant, Rights};
    use crate::domain::error::ErrorCode;
    use crate::domain::path::GrantedPath;
    use crate::domain::user_limits::UserLimits;
    use crate::kernel::sim::Sim;
    use crate::server::options::Options;
    use crate::server::workers::Workers;

    #[test]
    fn what_a_quota_refuses_behind_the_end_of_a_users_last_session_takes_nobody_along() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["Credentials", "Directories"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let (home, _) = Home::load(folder.path()).unwrap();
        let sim = Arc::new(Sim::new(1));
        let workers = Workers::without_threads(sim.clone());
        let mut services = Services::new(sim, home, workers, Options::default());
        let user = (services.users).enter("user1", UserLimits::default(), services.now);
        let session_id = SessionId {
            key: 0,
            generation: 1,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            user,
        };
        services.leave(user.expect("he may"));

        let refused = || Err(StorageError::from(ErrorCode::OverQuota));
        let rights = Rights::default();
        let grant = Arc::new(Grant {
            name: "Box".to_owned(),
            rights,
            path: "/srv/Box".into(),
        });
        let below = "x".to_owned();
        let change = Modification::Remove(GrantedPath {
            grant,
            relative: below,
        });
        let jobs = [
            Done::Created {
                session_id,
                result: Err(ErrorCode::OverQuota.into()),
                unique: false,
            },
            Done::Changed {
                session_id,
                change,
                result: refused(),
            },
            Done::Committed {
                session_id,
                path: "/srv/Box/x".into(),
                length: 0,
                result: refused(),
                record: None,
            },
        ];
        for done in jobs {
            services.finish(done, &|_| false);
        }
        assert_eq!(services.replies.len(), 3);
    }
}
