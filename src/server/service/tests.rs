use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::kernel::sim::Sim;

#[test]
fn refusals_after_the_end_of_a_session_do_not_name_its_user() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["Credentials", "Directories"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let (home, _) = Home::load(folder.path()).unwrap();
    let sim = Arc::new(Sim::new(1));
    let workers = Workers::without_threads(sim.clone());
    let mut services = Services::new(sim, home, workers, Options::default());
    let mut session_id = SessionId {
        key: 0,
        generation: 1,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        user: None,
    };
    let user = services.begin_session(session_id, "user1").unwrap();
    session_id.user = Some(user);
    services.end_session(user);

    // To look up the user of the ended session would panic.
    for modifies in [false, true] {
        let refused = JobResult::Response {
            owner: Some(session_id),
            result: Err(ErrorCode::OverQuota.into()),
            modifies,
        };
        services.finish(refused, &|_| false);
    }
    let published = JobResult::Published {
        session_id,
        result: Err(ErrorCode::OverQuota.into()),
    };
    services.finish(published, &|_| false);
    let completions = std::iter::from_fn(|| services.next_completion());
    assert_eq!(completions.count(), 3);
}
