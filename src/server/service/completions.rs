//! What workers have done, and what becomes of it: a reply, a line of the log, the next slice.
//!
//! Must not know: what was asked for, sockets, the dialects' words.

use std::io;
use std::sync::Arc;

use log::{debug, info, warn};

use crate::kernel::Kernel;
use crate::protocol::{Answer, Refusal};
use crate::server::Ticket;
use crate::server::conn::transfer::Held;
use crate::server::log::Escaped;
use crate::server::service::listing_cache::Asked;
use crate::server::service::{House, Reply, listed, shown};
use crate::server::workers::{Done, Job};
use crate::storage::{Change, Fault, Listing, Refused};

impl<K: Kernel> House<K> {
    /// Looks after one thing that a worker has done.
    pub(crate) fn finish(&mut self, done: Done<K>, is_waiting: &impl Fn(Ticket) -> bool) {
        let (ticket, reply) = match done {
            Done::Verified { proof, right } => return self.verified(proof, right),
            Done::Listed { asked, result } => return self.listing_made(&asked, result),
            Done::Created {
                ticket,
                result: Ok(incoming),
                unique,
            } => match is_waiting(ticket) {
                true => {
                    let answer = match unique {
                        true => Answer::CreatedAs {
                            name: incoming.name().to_owned(),
                        },
                        false => Answer::Created,
                    };
                    (ticket, Reply::Answer(answer, Held::Incoming(incoming)))
                }
                false => return self.abandon(incoming),
            },
            Done::Created {
                ticket,
                result: Err(refused),
                ..
            } => (ticket, self.job_refused(ticket, refused, is_waiting)),
            Done::Filled { ticket, incoming } => match is_waiting(ticket) {
                true => return self.workers.submit(Job::Fill { ticket, incoming }),
                false => return self.abandon(incoming),
            },
            Done::Committed {
                ticket,
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
                        ticket.serial
                    );
                }
                // A quota that was too small was logged when the bytes came.
                let result = result.map_err(|refused| self.log_fault(ticket, refused));
                (ticket, Reply::Moved(result))
            }
            Done::WarmedUp { ticket, result } => (ticket, Reply::Warm(result)),
            Done::Made { ticket, result } => {
                self.listings.changed();
                (ticket, self.plain(ticket, result, Answer::Made))
            }
            Done::Changed {
                ticket,
                change,
                result,
            } => {
                self.listings.changed();
                let reply = match result {
                    Ok(()) => {
                        log_change(ticket, &change);
                        Reply::Answer(Answer::Done, Held::Nothing)
                    }
                    Err(refused) => self.job_refused(ticket, refused, is_waiting),
                };
                (ticket, reply)
            }
            Done::Slice(checksum) => {
                if is_waiting(checksum.ticket) {
                    self.workers.submit(Job::Checksum(checksum));
                }
                return;
            }
            Done::Checksummed { ticket, result } => match result {
                Ok((digest, end)) => {
                    let answer = Answer::Checksum { digest, end };
                    (ticket, Reply::Answer(answer, Held::Nothing))
                }
                Err(refused) => (ticket, self.refused(ticket, refused)),
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
        self.replies.push_back((ticket, reply));
    }

    /// A worker has refused what a session asked for. Who has left meanwhile is not told, and his user's key may be another's
    /// by now.
    fn job_refused(
        &mut self,
        ticket: Ticket,
        refused: Refused,
        is_waiting: &impl Fn(Ticket) -> bool,
    ) -> Reply<K> {
        match is_waiting(ticket) {
            true => self.refused(ticket, refused),
            false => {
                let refusal = self.log_fault(ticket, refused);
                Reply::Answer(Answer::Refused(refusal), Held::Nothing)
            }
        }
    }

    fn listing_made(&mut self, asked: &Asked, result: Result<Listing, Refused>) {
        let tickets = self.listings.made(asked);
        match result {
            Ok(mut listing) => {
                if let (Some(fault), Some(ticket)) = (listing.fault.take(), tickets.first()) {
                    self.log(*ticket, &fault);
                }
                let listing = Arc::new(listing);
                self.listings.keep(asked, &listing, self.now);
                for ticket in tickets {
                    self.replies.push_back((ticket, listed(listing.clone())));
                }
            }
            Err(refused) => self.refuse_listing(&tickets, refused),
        }
    }

    /// Refuses the listings that have waited for memory for too long.
    pub(crate) fn give_up_listings(&mut self) {
        while let Some((asked, tickets)) = self.listings.give_up(self.now) {
            let source = io::Error::other("no memory for one more");
            let fault = Fault {
                doing: "listing",
                path: asked.path(),
                source,
            };
            let refused = Refused {
                refusal: Refusal::DirectoryUnreadable,
                fault: Some(fault),
            };
            self.refuse_listing(&tickets, refused);
        }
    }

    fn refuse_listing(&mut self, tickets: &[Ticket], refused: Refused) {
        let refusal = match tickets.first() {
            Some(ticket) => self.log_fault(*ticket, refused),
            None => refused.refusal,
        };
        for ticket in tickets {
            let reply = Reply::Answer(Answer::Refused(refusal), Held::Nothing);
            self.replies.push_back((*ticket, reply));
        }
    }
}

fn log_change(ticket: Ticket, change: &Change) {
    let serial = ticket.serial;
    match change {
        Change::Rename { from, to } => {
            let (from, to) = (shown(from), shown(to));
            info!("session={serial} event=rename from={from} to={to}");
        }
        Change::Remove(place) => info!("session={serial} event=remove path={}", shown(place)),
        Change::RemoveDirectory(place) => {
            info!(
                "session={serial} event=remove-directory path={}",
                shown(place)
            );
        }
        Change::SetModified(place, modified) => {
            let path = shown(place);
            debug!("session={serial} event=set-modified path={path} modified={modified}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::config::Home;
    use crate::config::directories::{Grant, Rights};
    use crate::domain::user_limits::UserLimits;
    use crate::kernel::sim::Sim;
    use crate::protocol::{Place, Refusal};
    use crate::server::Options;
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
        let mut house = House::new(sim, home, workers, Options::default());
        let user = (house.users).enter("user1", UserLimits::default(), house.now);
        let ticket = Ticket {
            key: 0,
            serial: 1,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            user,
        };
        house.leave(user.expect("he may"));

        let refused = || Err(Refused::from(Refusal::OverQuota));
        let rights = Rights::default();
        let grant = Arc::new(Grant {
            name: "Box".to_owned(),
            rights,
            path: "/srv/Box".into(),
        });
        let below = "x".to_owned();
        let change = Change::Remove(Place { grant, below });
        let jobs = [
            Done::Created {
                ticket,
                result: Err(Refusal::OverQuota.into()),
                unique: false,
            },
            Done::Changed {
                ticket,
                change,
                result: refused(),
            },
            Done::Committed {
                ticket,
                path: "/srv/Box/x".into(),
                length: 0,
                result: refused(),
                record: None,
            },
        ];
        for done in jobs {
            house.finish(done, &|_| false);
        }
        assert_eq!(house.replies.len(), 3);
    }
}
