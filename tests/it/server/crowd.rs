//! Many clients at the same time.

use std::thread;

use crate::support::{Client, Server, connect_from};

/// Connects a thousand clients at the same time, from these addresses in turn, and returns the
/// results of `visit`.
pub(super) fn connect_a_thousand<T: Send>(
    server: &Server,
    addresses: &[&str],
    visit: impl Fn(usize, Client) -> T + Sync,
) -> Vec<T> {
    let to = server.address();
    thread::scope(|scope| {
        let visit = &visit;
        let parts: Vec<_> = (0..8)
            .map(|part| {
                scope.spawn(move || {
                    let numbers = 125 * part..125 * (part + 1);
                    let from = |number| addresses[number % addresses.len()];
                    let connect = |number| Client::from_stream(connect_from(from(number), to));
                    let clients: Vec<_> = numbers.clone().map(connect).collect();
                    let visits = numbers.zip(clients);
                    visits
                        .map(|(number, client)| visit(number, client))
                        .collect::<Vec<T>>()
                })
            })
            .collect();
        let parts = parts
            .into_iter()
            .map(|part| part.join().expect("each gets a message"));
        parts.flatten().collect()
    })
}
