//! Reservations of passive ports: which session expects its client at which port, and until when.
//!
//! Many sessions share a port. A reservation is for the pair of a port and a client address, so a
//! few ports serve as many clients as there are addresses. After a missed connection the pair has a
//! cool-down, so that a late client cannot reach another session.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::limits::{DATA_CONNECTION_TIMEOUT, PASSIVE_PORT_TIMEOUT, RESERVATION_COOL_DOWN};
use crate::server::session_id::SessionId;

/// All reservations, and the sessions that wait for one.
#[derive(Default)]
pub(crate) struct PortReservations {
    /// By port, then by client address.
    pairs: HashMap<usize, HashMap<IpAddr, Reservation>>,
    waiters: VecDeque<PortWaiter>,
}

/// The state of a port for one client address. Without an entry the pair is free.
enum Reservation {
    /// The session expects its client until this time.
    Reserved { owner: SessionId, until: Instant },
    /// A client has missed its connection.
    CoolDown { until: Instant },
}

/// A session that asked for a port while none was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortWaiter {
    pub(crate) owner: SessionId,
    /// The server's address of the control connection.
    pub(crate) local: SocketAddr,
    until: Instant,
}

impl PortWaiter {
    /// Returns the client's and the server's address. Sessions with the same two wait for the same
    /// ports.
    pub(crate) fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.owner.peer.ip(), self.local.ip())
    }
}

/// Reservations and waits that a sweep found overdue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unmet {
    /// Ports and sessions whose clients have not connected.
    pub(crate) reservations: Vec<(usize, SessionId)>,
    /// Sessions that got no port.
    pub(crate) waiters: Vec<SessionId>,
}

impl PortReservations {
    /// Whether a port is neither reserved for a client address nor in its cool-down.
    pub(crate) fn is_free(&self, port: usize, client: IpAddr) -> bool {
        let pairs = self.pairs.get(&port);
        pairs.is_none_or(|pairs| !pairs.contains_key(&client))
    }

    /// Whether any session expects its client at a port.
    pub(crate) fn is_reserved(&self, port: usize) -> bool {
        let pairs = self.pairs.get(&port);
        let mut reservations = pairs.into_iter().flat_map(HashMap::values);
        reservations.any(|reservation| matches!(reservation, Reservation::Reserved { .. }))
    }

    /// Reserves a free port for the client of a session.
    pub(crate) fn reserve(&mut self, port: usize, owner: SessionId, now: Instant) {
        let until = now + DATA_CONNECTION_TIMEOUT;
        let reserved = Reservation::Reserved { owner, until };
        let pairs = self.pairs.entry(port).or_default();
        let before = pairs.insert(owner.peer.ip(), reserved);
        assert!(before.is_none(), "the port was free for the client");
    }

    /// Restarts the time of a reservation: the session is waiting for it.
    pub(crate) fn extend(&mut self, port: usize, owner: SessionId, now: Instant) {
        let pairs = self.pairs.get_mut(&port);
        let reservation = pairs.and_then(|pairs| pairs.get_mut(&owner.peer.ip()));
        if let Some(Reservation::Reserved { until, .. }) = reservation {
            *until = now + DATA_CONNECTION_TIMEOUT;
        }
    }

    /// Ends the reservation of a client that has connected and returns its session, if there is
    /// one.
    pub(crate) fn redeem(&mut self, port: usize, client: IpAddr) -> Option<SessionId> {
        let pairs = self.pairs.get_mut(&port)?;
        let Some(Reservation::Reserved { owner, .. }) = pairs.get(&client) else {
            return None;
        };
        let owner = *owner;
        pairs.remove(&client);
        Some(owner)
    }

    /// Ends the reservation of a client that has not connected.
    pub(crate) fn release(&mut self, port: usize, client: IpAddr, now: Instant) {
        let until = now + RESERVATION_COOL_DOWN;
        let pairs = self.pairs.entry(port).or_default();
        let before = pairs.insert(client, Reservation::CoolDown { until });
        assert!(before.is_some(), "the port was reserved");
    }

    /// Forgets a port that is closed.
    pub(crate) fn forget(&mut self, port: usize) {
        self.pairs.remove(&port);
    }

    /// Queues a session until a port is free.
    pub(crate) fn wait(&mut self, owner: SessionId, local: SocketAddr, now: Instant) {
        let until = now + PASSIVE_PORT_TIMEOUT;
        self.waiters.push_back(PortWaiter {
            owner,
            local,
            until,
        });
    }

    /// Takes a session out of the queue.
    pub(crate) fn cancel_wait(&mut self, owner: SessionId) {
        self.waiters.retain(|waiter| waiter.owner != owner);
    }

    /// Returns the sessions that wait for a port, the first one first.
    pub(crate) fn waiters(&self) -> &VecDeque<PortWaiter> {
        &self.waiters
    }

    /// Ends cool-downs, overdue reservations and overdue waits, and returns the latter two. An
    /// overdue reservation becomes a cool-down.
    pub(crate) fn sweep(&mut self, now: Instant) -> Unmet {
        let mut unmet = Unmet::default();
        for (&port, pairs) in &mut self.pairs {
            pairs.retain(|_, reservation| match reservation {
                Reservation::CoolDown { until } => *until > now,
                Reservation::Reserved { owner, until } if *until <= now => {
                    unmet.reservations.push((port, *owner));
                    let until = now + RESERVATION_COOL_DOWN;
                    *reservation = Reservation::CoolDown { until };
                    true
                }
                Reservation::Reserved { .. } => true,
            });
        }
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.until <= now) {
            unmet.waiters.push(waiter.owner);
        }
        unmet
    }

    /// Returns the reservations, without cool-downs.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = (usize, SessionId)> {
        let pairs = self.pairs.iter().flat_map(|(&port, pairs)| {
            let reservations = pairs.values();
            reservations.map(move |reservation| (port, reservation))
        });
        pairs.filter_map(|(port, reservation)| match reservation {
            Reservation::Reserved { owner, .. } => Some((port, *owner)),
            Reservation::CoolDown { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: [u8; 4] = [127, 0, 0, 1];
    const OTHER: [u8; 4] = [127, 0, 0, 2];
    const THIRD: [u8; 4] = [127, 0, 0, 3];

    fn session(generation: u64, client: [u8; 4]) -> SessionId {
        SessionId {
            key: generation as usize,
            generation,
            peer: (client, 40_000).into(),
            user: None,
        }
    }

    #[test]
    fn port_serves_one_session_per_client_address() {
        let (mut ports, now) = (PortReservations::default(), Instant::now());
        let (first, second) = (session(1, ONE), session(2, OTHER));
        ports.reserve(7, first, now);
        assert!(!ports.is_free(7, ONE.into()) && ports.is_free(7, OTHER.into()));
        assert!(ports.is_free(8, ONE.into()));
        assert!(ports.is_reserved(7) && !ports.is_reserved(8));
        ports.reserve(7, second, now);
        assert_eq!(ports.redeem(7, THIRD.into()), None);
        assert_eq!(ports.redeem(8, ONE.into()), None);
        assert_eq!(ports.redeem(7, OTHER.into()), Some(second));
        assert_eq!(ports.redeem(7, OTHER.into()), None);
        assert_eq!(ports.reserved().collect::<Vec<_>>(), [(7, first)]);
        assert!(
            ports.is_free(7, OTHER.into()),
            "a redeemed reservation leaves no cool-down"
        );
    }

    #[test]
    fn missed_connection_starts_a_cool_down() {
        let (mut ports, now) = (PortReservations::default(), Instant::now());
        ports.reserve(7, session(1, ONE), now);
        ports.release(7, ONE.into(), now);
        assert!(!ports.is_reserved(7));
        assert_eq!(ports.redeem(7, ONE.into()), None, "the client is late");
        let almost = now + RESERVATION_COOL_DOWN - Duration::from_millis(1);
        assert_eq!(ports.sweep(almost), Unmet::default());
        assert!(!ports.is_free(7, ONE.into()));
        assert_eq!(ports.sweep(now + RESERVATION_COOL_DOWN), Unmet::default());
        assert!(ports.is_free(7, ONE.into()));
        ports.reserve(7, session(2, ONE), now + RESERVATION_COOL_DOWN);
        ports.forget(7);
        assert!(ports.is_free(7, ONE.into()));
    }

    #[test]
    fn reservation_expires() {
        let (mut ports, now) = (PortReservations::default(), Instant::now());
        ports.reserve(7, session(1, ONE), now);
        let extended = now + Duration::from_secs(20);
        ports.extend(7, session(1, ONE), extended);
        assert_eq!(ports.sweep(now + DATA_CONNECTION_TIMEOUT), Unmet::default());
        let then = extended + DATA_CONNECTION_TIMEOUT;
        assert_eq!(ports.sweep(then).reservations, [(7, session(1, ONE))]);
        assert!(!ports.is_free(7, ONE.into()), "the cool-down comes first");
        assert_eq!(ports.sweep(then + RESERVATION_COOL_DOWN), Unmet::default());
        assert!(ports.is_free(7, ONE.into()));
    }

    #[test]
    fn waiters_are_served_in_order_and_expire() {
        let (mut ports, now) = (PortReservations::default(), Instant::now());
        let local = (ONE, 21).into();
        let second = Duration::from_secs(1);
        for generation in 1..4 {
            let then = now + second * generation as u32;
            ports.wait(session(generation, ONE), local, then);
        }
        ports.cancel_wait(session(2, ONE));
        let waiters = ports.waiters().iter();
        let generations: Vec<u64> = waiters.map(|waiter| waiter.owner.generation).collect();
        assert_eq!(generations, [1, 3]);
        let unmet = ports.sweep(now + second + PASSIVE_PORT_TIMEOUT);
        assert_eq!(unmet.waiters, [session(1, ONE)]);
        assert_eq!(ports.waiters().len(), 1);
    }
}
