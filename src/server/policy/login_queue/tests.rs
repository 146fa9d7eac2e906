use super::*;

/// A client in a network of its own.
fn client(number: u8) -> ClientPrefix {
    client_in(number, 1)
}

fn client_in(network: u8, number: u8) -> ClientPrefix {
    ClientPrefix::of(([10, 0, network, number], 1).into())
}

/// A login of a user of its own.
fn origin(client: ClientPrefix, user: u64) -> LoginOrigin {
    LoginOrigin {
        client,
        user,
        is_familiar: false,
        failures: 0,
        network_failures: 0,
    }
}

fn failed(client: ClientPrefix, user: u64, failures: u32) -> LoginOrigin {
    LoginOrigin {
        failures,
        ..origin(client, user)
    }
}

fn familiar(client: ClientPrefix, user: u64) -> LoginOrigin {
    LoginOrigin {
        is_familiar: true,
        ..origin(client, user)
    }
}

fn drain(logins: &mut LoginQueue<u64>) -> Vec<u64> {
    std::iter::from_fn(|| logins.pop()).collect()
}

#[test]
fn a_flood_of_logins_delays_only_its_own_client() {
    let mut logins = LoginQueue::new();
    for guess in 0..4 {
        logins.push(origin(client(1), guess), guess);
    }
    logins.push(failed(client(2), 10, 1), 10);
    logins.push(failed(client(2), 11, 1), 11);
    logins.push(failed(client(3), 20, 2), 20);
    logins.push(origin(client(4), 30), 30);
    // Another client of the network of the flood.
    logins.push(origin(client_in(1, 2), 40), 40);
    assert_eq!(logins.len(), 9);
    assert_eq!(drain(&mut logins), [0, 30, 1, 40, 2, 3, 10, 11, 20]);
    assert_eq!(logins.len(), 0);
}

#[test]
fn clients_of_equal_rank_take_turns() {
    let mut logins = LoginQueue::new();
    for round in 0..3 {
        for number in [1, 2, 3] {
            let login = 10 * round + u64::from(number);
            logins.push(origin(client(number), login), login);
        }
    }
    assert_eq!(drain(&mut logins), [1, 2, 3, 11, 12, 13, 21, 22, 23]);
}

#[test]
fn guesses_from_many_addresses_of_a_network_delay_no_other() {
    let mut logins = LoginQueue::new();
    for guess in 0..250 {
        logins.push(origin(client_in(1, guess as u8), guess), guess);
        logins.push(origin(client_in(2, guess as u8), 300 + guess), 300 + guess);
    }
    logins.push(origin(client(3), 1000), 1000);
    let order = drain(&mut logins);
    assert!(order[..3].contains(&1000), "{:?}", &order[..3]);
    assert_eq!(order.len(), 501);
}

#[test]
fn guesses_of_one_users_password_delay_no_other_user() {
    let mut logins = LoginQueue::new();
    for network in 0..200 {
        logins.push(origin(client(network), 1), u64::from(network));
    }
    logins.push(origin(client(201), 2), 1000);
    assert_eq!(drain(&mut logins)[1], 1000);
}

#[test]
fn a_familiar_user_overtakes_guesses_from_everywhere() {
    let mut logins = LoginQueue::new();
    for network in 0..200 {
        logins.push(origin(client(network), u64::from(network)), 1);
    }
    logins.push(familiar(client(201), 1000), 1000);
    let mistyped = LoginOrigin {
        failures: UNDELAYED_FAILURES,
        ..familiar(client(202), 1001)
    };
    logins.push(mistyped, 1001);
    let guessing = LoginOrigin {
        failures: UNDELAYED_FAILURES + 1,
        ..familiar(client(203), 1002)
    };
    logins.push(guessing, 1002);
    let order = drain(&mut logins);
    assert_eq!(order[..3], [1000, 1001, 1]);
    assert_eq!(order[202], 1002);
}

#[test]
fn a_network_with_failed_logins_gets_a_smaller_share() {
    let mut logins = LoginQueue::new();
    for number in 0..9 {
        let guess = LoginOrigin {
            network_failures: 4 * LOGIN_COST_FAILURES,
            ..origin(client_in(1, number), u64::from(number))
        };
        logins.push(guess, 1);
        logins.push(origin(client_in(2, number), 100 + u64::from(number)), 2);
    }
    let order = drain(&mut logins);
    let ones = order[..10].iter().filter(|login| **login == 1).count();
    assert!((2..=3).contains(&ones), "{order:?}");
}

#[test]
fn a_login_is_overtaken_by_a_bounded_number_of_later_ones() {
    let mut logins = LoginQueue::new();
    for login in 0..10_000 {
        logins.push(origin(client(1), 1), login);
    }
    // Clients of ever new networks arrive faster than they are served.
    let mut ours = Vec::new();
    for number in 0..2 * LOGIN_LEAD_MAX as u32 {
        let client = ClientPrefix::of((std::net::Ipv4Addr::from(number << 8), 1).into());
        logins.push(origin(client, u64::from(number) + 2), 10_000);
        logins.push(origin(client, u64::from(number) + 2), 10_000);
        ours.extend(logins.pop().filter(|login| *login < 10_000));
    }
    assert!(ours.len() as u64 >= LOGIN_LEAD_MAX / LOGIN_COST, "{ours:?}");
}

#[test]
fn a_first_login_overtakes_queued_brute_force() {
    let mut logins = LoginQueue::new();
    for guess in 0..200 {
        logins.push(origin(client(1 + (guess % 50) as u8), guess), guess);
    }
    assert_eq!(logins.pop(), Some(0));
    for number in 1..=50 {
        logins.set_failures(client(number), 1);
    }
    assert_eq!(logins.pop_unsuspected(), None);
    // Two logins of a client that never failed.
    logins.push(origin(client(100), 1001), 1001);
    logins.push(origin(client(100), 1002), 1002);
    assert_eq!(logins.pop_unsuspected(), Some(1001));
    assert_eq!(logins.pop(), Some(1002));
    // One failure goes before clients with more failures.
    (1..=50).for_each(|number| logins.set_failures(client(number), 2));
    logins.push(failed(client(100), 1003, 1), 1003);
    assert_eq!(logins.pop_unsuspected(), None);
    assert_eq!(logins.pop(), Some(1003));
    assert_eq!(drain(&mut logins), (1..200).collect::<Vec<_>>());
}

#[test]
fn removed_logins_leave_no_entry() {
    let mut logins = LoginQueue::new();
    let places = [(1, 1), (2, 2), (1, 3), (3, 4)].map(|(number, login)| {
        let failures = u32::from(number == 3);
        logins.push(failed(client(number), login, failures), login)
    });
    logins.push(familiar(client(1), 5), 5);
    assert_eq!(logins.remove(places[1]), Some(2));
    assert_eq!(logins.remove(places[1]), None);
    assert_eq!(logins.remove_client(client(1)), [5, 1, 3]);
    assert!(logins.remove_client(client(1)).is_empty());
    logins.push(origin(client(2), 6), 6);
    assert_eq!(drain(&mut logins), [6, 4]);
    assert!(logins.sources.is_empty() && logins.order.is_empty());
    assert!(logins.users.next.is_empty() && logins.now == 0);
}
