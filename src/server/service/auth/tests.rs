use super::*;
use crate::kernel::linux::Linux;
use crate::server::service::response::Completion;
use crate::server::workers::job::JobResult;

/// A server for the users `ann`, whose password is `secret`, and `guest`, without a password.
struct World {
    auth: Auth,
    context: Context<Linux>,
    folder: tempfile::TempDir,
}

impl World {
    fn new(options: Options) -> World {
        let folder = tempfile::tempdir().unwrap();
        let home = load(&folder, "ann:plain:secret\nguest:anyone\n");
        World {
            auth: Auth::new(&options),
            context: Context::for_tests(home),
            folder,
        }
    }

    fn log_in(&mut self, session_id: SessionId, user: &str, password: &str) -> Option<Response> {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let login = LoginAttempt::new(user.to_owned(), password, false);
        match self.auth.authenticate(session_id, login, &self.context) {
            Handled::Now(Completion::Response(response, _)) => Some(response),
            Handled::Now(_) => panic!("no response"),
            Handled::Later => None,
        }
    }

    /// Runs the queued password checks; returns how many there were.
    fn run_checks(&mut self) -> usize {
        while self.context.workers.queued() > 0 {
            self.context.workers.run_nth(0);
        }
        self.finish_checks()
    }

    /// Takes the results of the checks that have run; returns how many there were.
    fn finish_checks(&mut self) -> usize {
        let (mut results, mut count) = (Vec::new(), 0);
        self.context.workers.collect(&mut results);
        for result in results {
            if let JobResult::PasswordChecked { check, is_correct } = result {
                self.auth.finish_check(check, is_correct, &self.context);
                count += 1;
            }
        }
        count
    }

    /// Returns the sessions whose responses are due, and whether they are logged in.
    fn responses(&mut self, after: Duration) -> Vec<(u64, bool)> {
        let now = self.context.now + after;
        let due = std::iter::from_fn(|| self.auth.pop_response(now));
        due.map(|(session_id, response)| {
            let is_logged_in = matches!(response, Response::Authenticated(Some(_)));
            (session_id.generation, is_logged_in)
        })
        .collect()
    }
}

fn load(folder: &tempfile::TempDir, credentials: &str) -> Home {
    std::fs::write(folder.path().join("Credentials"), credentials).unwrap();
    std::fs::write(folder.path().join("Directories"), "").unwrap();
    Home::load(folder.path()).unwrap().0
}

/// Sessions of even generations come from one address, the others from another one.
fn session(generation: u64) -> SessionId {
    SessionId {
        key: 0,
        generation,
        peer: ([127, 0, 0, 1 + (generation % 2) as u8], 1).into(),
        user: None,
    }
}

#[test]
fn equal_logins_are_checked_once_and_remembered() {
    let mut world = World::new(Options::default());
    assert!(world.log_in(session(2), "ann", "secret").is_none());
    assert!(world.log_in(session(4), "ann", "secret").is_none());
    assert_eq!(world.run_checks(), 1);
    let responses = world.responses(Duration::ZERO);
    assert_eq!(responses, [(2, true), (4, true)]);
    let again = world.log_in(session(6), "ann", "secret");
    assert!(matches!(again, Some(Response::Authenticated(Some(_)))));
    let guest = world.log_in(session(8), "guest", "anything");
    assert!(matches!(guest, Some(Response::Authenticated(Some(_)))));
}

#[test]
fn a_check_without_sessions_is_cancelled() {
    let mut world = World::new(Options::default());
    for generation in [2, 4] {
        world.log_in(session(generation), "ann", "secret");
    }
    world.auth.cancel(session(2), &world.context);
    assert_eq!(world.context.workers.queued(), 1);
    world.auth.cancel(session(4), &world.context);
    assert_eq!(world.context.workers.queued(), 0);
}

#[test]
fn a_reload_during_a_check_repeats_it() {
    let mut world = World::new(Options::default());
    world.log_in(session(2), "ann", "secret");
    world.context.workers.run_nth(0);
    world.context.home = Arc::new(load(&world.folder, "ann:plain:changed\n"));
    world.auth.reset(&HashSet::new(), &world.context.home);
    assert_eq!(world.run_checks(), 1, "the result of the old record");
    assert_eq!(world.responses(Duration::ZERO), []);
    assert_eq!(world.run_checks(), 1, "the result of the new one");
    assert_eq!(world.responses(Duration::ZERO), [(2, false)]);
}

#[test]
fn a_verified_login_is_revoked_before_its_delivery() {
    let mut world = World::new(Options::default());
    world.log_in(session(2), "ann", "secret");
    world.run_checks();
    let revoked = HashSet::from(["ann".to_owned()]);
    world.auth.reset(&revoked, &world.context.home);
    assert_eq!(world.responses(Duration::ZERO), [(2, false)]);
}

#[test]
fn brute_force_is_delayed_then_blocked_at_one_address() {
    let mut world = World::new(Options {
        max_failures: 4,
        ..Options::default()
    });
    for guess in 0..4 {
        let session_id = session(2 * guess);
        assert!(
            world
                .log_in(session_id, "ann", &guess.to_string())
                .is_none()
        );
        world.run_checks();
        let is_undelayed = guess < 2;
        let responses = world.responses(Duration::ZERO);
        assert_eq!(responses.len(), usize::from(is_undelayed), "guess {guess}");
    }
    assert_eq!(world.responses(Duration::from_secs(2)).len(), 2);
    let blocked = world.log_in(session(10), "ann", "secret");
    assert!(matches!(
        blocked,
        Some(Response::Refused(ErrorCode::LoginBlocked))
    ));
    assert!(
        world.log_in(session(11), "ann", "secret").is_none(),
        "the user is not blocked at the other address"
    );
    world.run_checks();
    assert_eq!(world.responses(Duration::ZERO), [(11, true)]);
}

#[test]
fn queued_guesses_of_a_blocked_client_are_refused() {
    let mut world = World::new(Options {
        max_failures: 1,
        ..Options::default()
    });
    for guess in 0..5 {
        world.log_in(session(2 * guess), "ann", &guess.to_string());
    }
    assert!(world.log_in(session(1), "ann", "4").is_none());
    assert_eq!(world.context.workers.queued(), 5);
    for _ in 0..2 {
        world.context.workers.run_nth(0);
    }
    world.run_checks();
    assert!(
        world
            .auth
            .is_client_blocked(ClientPrefix::of(session(2).peer), world.context.now)
    );
    let all = world.responses(Duration::from_secs(2));
    assert_eq!(all.len(), 6, "each session has a response: {all:?}");
}

/// A session of a client at another address.
fn session_from(generation: u64, address: [u8; 4]) -> SessionId {
    SessionId {
        peer: (address, 1).into(),
        ..session(generation)
    }
}

#[test]
fn guesses_from_1000_addresses_delay_no_login_from_elsewhere() {
    let mut world = World::new(Options::default());
    for guess in 0..1000_u64 {
        let address = [10, 0, (guess / 250) as u8, (guess % 250) as u8];
        let user = if guess % 2 == 0 { "ann" } else { "bob" };
        world.log_in(session_from(guess, address), user, &guess.to_string());
    }
    // The password of a user is guessed; those of others are not.
    world.log_in(session_from(2000, [192, 0, 2, 1]), "eve", "secret");
    for _ in 0..5 {
        world.context.workers.run_nth(0);
    }
    world.finish_checks();
    let responses = world.responses(Duration::from_secs(2));
    assert!(responses.contains(&(2000, false)), "{responses:?}");
}

#[test]
fn a_login_from_a_familiar_network_overtakes_all_guesses() {
    let mut world = World::new(Options::default());
    world.log_in(session_from(1, [192, 0, 2, 1]), "ann", "secret");
    world.run_checks();
    assert_eq!(world.responses(Duration::ZERO), [(1, true)]);
    // A reload forgets the verified passwords, but not the networks of the users.
    world.auth.reset(&HashSet::new(), &world.context.home);
    for guess in 0..1000_u64 {
        let address = [10, (guess / 250) as u8, (guess % 250) as u8, 1];
        world.log_in(session_from(10 + guess, address), "ann", &guess.to_string());
    }
    world.log_in(session_from(2000, [192, 0, 2, 77]), "ann", "secret");
    world.context.workers.run_nth(0);
    world.finish_checks();
    assert_eq!(world.responses(Duration::ZERO), [(2000, true)]);
}

#[test]
fn unknown_users_are_revealed_unless_hidden() {
    for hide_usernames in [false, true] {
        let mut world = World::new(Options {
            hide_usernames,
            ..Options::default()
        });
        let (auth, context) = (&mut world.auth, &world.context);
        let known = auth.look_up_user(session(2), "ann", context);
        assert!(matches!(known, Handled::Now(_)));
        let unknown = auth.look_up_user(session(4), "bob", context);
        assert_eq!(matches!(unknown, Handled::Now(_)), hide_usernames);
    }
}

#[test]
fn sessions_are_limited_per_user() {
    let mut world = World::new(Options::default());
    let first = world
        .auth
        .begin_session(session(2), "ann", Some(1))
        .unwrap();
    let second = world.auth.begin_session(session(4), "ann", Some(1));
    assert_eq!(second, Err(ErrorCode::TooManySessions));
    let mut session_id = session(2);
    session_id.user = Some(first);
    assert_eq!(world.auth.user_name(session_id), "ann");
    assert!(
        world.auth.end_session(first),
        "the last session of the user"
    );
    assert_eq!(world.auth.sessions(), 0);
}
