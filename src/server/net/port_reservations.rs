//! Where clients are awaited for their data connections: who has which port, for whom, and until when.
//!
//! A listener is shared by many sessions. What belongs to one session at a time is the pair of a listener and a client's
//! address, so that a few ports serve as many clients as there are addresses. A pair that nobody came to rests for a
//! while, since who is late would else meet the next session.
//!
//! Pure bookkeeping. Must not know: sockets, sessions, what a port's number is.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::limits::{DATA_CONNECTION_TIMEOUT, PASSIVE_PORT_TIMEOUT, RESERVATION_COOL_DOWN};
use crate::server::session_id::SessionId;

/// The pairs of listeners and client addresses that are not free, and who waits for one.
#[derive(Default)]
pub(crate) struct PortReservations {
    /// By listener, then by the client's address.
    pairs: HashMap<usize, HashMap<IpAddr, Pair>>,
    waiting: VecDeque<Waiting>,
}

enum Pair {
    /// Its owner awaits the client until then.
    Taken { owner: SessionId, until: Instant },
    /// Nobody came, and nobody may have it before then.
    Resting { until: Instant },
}

/// A session that asked for a pair when none was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) owner: SessionId,
    /// The session's own end of its control connection.
    pub(crate) local: SocketAddr,
    until: Instant,
}

impl Waiting {
    /// The client's address, and the one of ours that it has come to: who has the same waits for the same pairs.
    pub(crate) fn ends(&self) -> (IpAddr, IpAddr) {
        (self.owner.peer.ip(), self.local.ip())
    }
}

impl PortReservations {
    /// Whether nobody has a pair, and it does not rest either.
    pub(crate) fn is_free(&self, listener: usize, client: IpAddr) -> bool {
        let there = self.pairs.get(&listener);
        there.is_none_or(|there| !there.contains_key(&client))
    }

    /// Whether anybody is awaited at a listener.
    pub(crate) fn is_awaited(&self, listener: usize) -> bool {
        let there = self.pairs.get(&listener);
        let mut there = there.into_iter().flat_map(HashMap::values);
        there.any(|pair| matches!(pair, Pair::Taken { .. }))
    }

    /// Gives a free pair to a session.
    pub(crate) fn take(&mut self, listener: usize, owner: SessionId, now: Instant) {
        let until = now + DATA_CONNECTION_TIMEOUT;
        let taken = Pair::Taken { owner, until };
        let there = self.pairs.entry(listener).or_default();
        let before = there.insert(owner.peer.ip(), taken);
        assert!(before.is_none(), "the pair was free");
    }

    /// The client is awaited for as long from now on: its session waits for it.
    pub(crate) fn extend(&mut self, listener: usize, owner: SessionId, now: Instant) {
        let there = self.pairs.get_mut(&listener);
        let pair = there.and_then(|there| there.get_mut(&owner.peer.ip()));
        if let Some(Pair::Taken { until, .. }) = pair {
            *until = now + DATA_CONNECTION_TIMEOUT;
        }
    }

    /// Somebody has come to a listener: who awaits him. The pair is free again.
    pub(crate) fn arrived(&mut self, listener: usize, client: IpAddr) -> Option<SessionId> {
        let there = self.pairs.get_mut(&listener)?;
        let Some(Pair::Taken { owner, .. }) = there.get(&client) else {
            return None;
        };
        let owner = *owner;
        there.remove(&client);
        Some(owner)
    }

    /// Gives back a pair that nobody came to.
    pub(crate) fn give_back(&mut self, listener: usize, client: IpAddr, now: Instant) {
        let until = now + RESERVATION_COOL_DOWN;
        let resting = Pair::Resting { until };
        let there = self.pairs.entry(listener).or_default();
        let before = there.insert(client, resting);
        assert!(before.is_some(), "the pair was taken");
    }

    /// Forgets a listener that is no more.
    pub(crate) fn forget(&mut self, listener: usize) {
        self.pairs.remove(&listener);
    }

    /// Lets a session wait until a pair is free.
    pub(crate) fn wait(&mut self, owner: SessionId, local: SocketAddr, now: Instant) {
        let until = now + PASSIVE_PORT_TIMEOUT;
        self.waiting.push_back(Waiting {
            owner,
            local,
            until,
        });
    }

    /// A session waits no longer.
    pub(crate) fn leave(&mut self, owner: SessionId) {
        self.waiting.retain(|waiting| waiting.owner != owner);
    }

    /// Who waits, in the order in which they came.
    pub(crate) fn waiting(&self) -> &VecDeque<Waiting> {
        &self.waiting
    }

    /// What the time has brought: pairs that have rested are free, and these are who has awaited a client, or a pair, for
    /// long enough. A pair that was awaited in vain rests from now on.
    pub(crate) fn sweep(&mut self, now: Instant) -> Late {
        let mut late = Late::default();
        for (&listener, there) in &mut self.pairs {
            there.retain(|_, pair| match pair {
                Pair::Resting { until } => *until > now,
                Pair::Taken { owner, until } if *until <= now => {
                    late.unmet.push((listener, *owner));
                    let until = now + RESERVATION_COOL_DOWN;
                    *pair = Pair::Resting { until };
                    true
                }
                Pair::Taken { .. } => true,
            });
        }
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.until <= now) {
            late.without.push(waiting.owner);
        }
        late
    }

    /// PortReservations that are taken, without those that rest.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, SessionId)> {
        let pairs = self.pairs.iter();
        let pairs =
            pairs.flat_map(|(&listener, there)| there.values().map(move |pair| (listener, pair)));
        pairs.filter_map(|(listener, pair)| match pair {
            Pair::Taken { owner, .. } => Some((listener, *owner)),
            Pair::Resting { .. } => None,
        })
    }
}

/// Who has waited in vain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Late {
    /// Those whose client has not come, and the listeners.
    pub(crate) unmet: Vec<(usize, SessionId)>,
    /// Those who have got no pair.
    pub(crate) without: Vec<SessionId>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: [u8; 4] = [127, 0, 0, 1];
    const OTHER: [u8; 4] = [127, 0, 0, 2];

    fn session(generation: u64, client: [u8; 4]) -> SessionId {
        SessionId {
            key: generation as usize,
            generation,
            peer: (client, 40_000).into(),
            user: None,
        }
    }

    #[test]
    fn a_listener_serves_each_client_address_for_one_session_at_a_time() {
        let (mut pairs, now) = (PortReservations::default(), Instant::now());
        let (first, second, stranger) = (session(1, ONE), session(2, OTHER), [127, 0, 0, 3]);
        pairs.take(7, first, now);
        assert!(!pairs.is_free(7, ONE.into()) && pairs.is_free(7, OTHER.into()));
        assert!(pairs.is_free(8, ONE.into()));
        assert!(pairs.is_awaited(7) && !pairs.is_awaited(8));
        pairs.take(7, second, now);
        assert_eq!(pairs.arrived(7, stranger.into()), None);
        assert_eq!(pairs.arrived(8, ONE.into()), None);
        assert_eq!(pairs.arrived(7, OTHER.into()), Some(second));
        assert_eq!(pairs.arrived(7, OTHER.into()), None);
        assert_eq!(pairs.taken().collect::<Vec<_>>(), [(7, first)]);
        assert!(
            pairs.is_free(7, OTHER.into()),
            "a pair that was met is free at once"
        );
    }

    #[test]
    fn a_pair_that_nobody_came_to_rests() {
        let (mut pairs, now) = (PortReservations::default(), Instant::now());
        pairs.take(7, session(1, ONE), now);
        pairs.give_back(7, ONE.into(), now);
        assert!(!pairs.is_awaited(7));
        // Who is late meets nobody.
        assert_eq!(pairs.arrived(7, ONE.into()), None);
        let almost = now + RESERVATION_COOL_DOWN - Duration::from_millis(1);
        assert_eq!(pairs.sweep(almost), Late::default());
        assert!(!pairs.is_free(7, ONE.into()));
        assert_eq!(pairs.sweep(now + RESERVATION_COOL_DOWN), Late::default());
        assert!(pairs.is_free(7, ONE.into()));
        pairs.take(7, session(2, ONE), now + RESERVATION_COOL_DOWN);
        pairs.forget(7);
        assert!(pairs.is_free(7, ONE.into()));
    }

    #[test]
    fn nobody_is_awaited_for_ever() {
        let (mut pairs, now) = (PortReservations::default(), Instant::now());
        pairs.take(7, session(1, ONE), now);
        let wished = now + Duration::from_secs(20);
        pairs.extend(7, session(1, ONE), wished);
        assert_eq!(pairs.sweep(now + DATA_CONNECTION_TIMEOUT), Late::default());
        let then = wished + DATA_CONNECTION_TIMEOUT;
        assert_eq!(pairs.sweep(then).unmet, [(7, session(1, ONE))]);
        assert!(!pairs.is_free(7, ONE.into()), "it rests first");
        assert_eq!(pairs.sweep(then + RESERVATION_COOL_DOWN), Late::default());
        assert!(pairs.is_free(7, ONE.into()));
    }

    #[test]
    fn who_waits_for_a_pair_waits_in_order_and_not_for_ever() {
        let (mut pairs, now) = (PortReservations::default(), Instant::now());
        let local = (ONE, 21).into();
        let second = Duration::from_secs(1);
        for generation in 1..4 {
            pairs.wait(
                session(generation, ONE),
                local,
                now + second * generation as u32,
            );
        }
        pairs.leave(session(2, ONE));
        let waiting = pairs
            .waiting()
            .iter()
            .map(|waiting| waiting.owner.generation);
        assert_eq!(waiting.collect::<Vec<_>>(), [1, 3]);
        let late = pairs.sweep(now + second + PASSIVE_PORT_TIMEOUT);
        assert_eq!(late.without, [session(1, ONE)]);
        assert_eq!(pairs.waiting().len(), 1);
    }
}
