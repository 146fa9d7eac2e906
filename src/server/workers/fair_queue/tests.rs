use super::*;

const ONE: Allowance = Allowance {
    concurrent: 1,
    cost: 1,
};
const THREE: Allowance = Allowance {
    concurrent: 3,
    cost: 1,
};
const MS: Duration = Duration::from_millis(1);

/// Runs the next `count` items, each for `elapsed`, and returns their shares.
fn run(queue: &mut FairQueue<char>, count: usize, elapsed: Duration) -> String {
    let mut shares = String::new();
    for _ in 0..count {
        let (key, _) = queue.pop().unwrap();
        queue.end(key, elapsed);
        shares.push(key);
    }
    shares
}

#[test]
fn a_share_with_many_items_delays_only_itself() {
    let mut queue = FairQueue::new();
    for item in 0..100 {
        queue.push('a', ONE, item);
    }
    assert_eq!(run(&mut queue, 10, 5 * MS), "aaaaaaaaaa");
    for item in 100..103 {
        queue.push('b', ONE, item);
    }
    queue.push('c', ONE, 103);
    let order = run(&mut queue, 8, 5 * MS);
    assert!(order.starts_with("bc") || order.starts_with("cb") || order.starts_with("abc"));
    assert_eq!(
        order.chars().filter(|key| *key == 'b').count(),
        3,
        "{order}"
    );
    assert_eq!(queue.len(), 86);
}

#[test]
fn shares_get_equal_time_rather_than_equal_items() {
    let mut queue = FairQueue::new();
    for item in 0..200 {
        queue.push('a', ONE, 2 * item);
        queue.push('b', ONE, 2 * item + 1);
    }
    let mut used = [Duration::ZERO; 2];
    for _ in 0..110 {
        let (key, _) = queue.pop().unwrap();
        let elapsed = if key == 'a' { 10 * MS } else { MS };
        used[usize::from(key == 'b')] += elapsed;
        queue.end(key, elapsed);
    }
    assert!(used[0].abs_diff(used[1]) <= 10 * MS, "{used:?}");
}

#[test]
fn items_of_a_share_are_first_in_first_out() {
    let mut queue = FairQueue::new();
    for item in [1, 2, 3] {
        queue.push('a', THREE, item);
    }
    assert!(queue.remove('a', 2) && !queue.remove('a', 2));
    assert!(!queue.remove('b', 1));
    assert_eq!(queue.pop(), Some(('a', 1)));
    assert_eq!(queue.pop(), Some(('a', 3)));
    assert_eq!(queue.pop(), None);
}

#[test]
fn a_share_runs_a_bounded_number_at_once() {
    let mut queue = FairQueue::new();
    for item in 0..5 {
        queue.push('a', THREE, item);
    }
    queue.push('b', ONE, 5);
    let mut started = Vec::new();
    while let Some((key, _)) = queue.pop() {
        started.push(key);
    }
    started.sort_unstable();
    assert_eq!(started, ['a', 'a', 'a', 'b']);
    assert_eq!((queue.len(), queue.startable()), (2, 0));
    queue.end('a', MS);
    assert_eq!((queue.startable(), queue.pop()), (2, Some(('a', 3))));
}

#[test]
fn idle_workers_are_shared_before_any_time_is_known() {
    let mut queue = FairQueue::new();
    for item in 0..9 {
        queue.push('a', THREE, item);
    }
    queue.push('b', THREE, 9);
    queue.push('c', THREE, 10);
    let first: String = (0..3).map(|_| queue.pop().unwrap().0).collect();
    assert_eq!(first, "abc");
}

#[test]
fn one_slow_item_does_not_shut_a_share_out() {
    let mut queue = FairQueue::new();
    for item in 0..1000 {
        queue.push('b', ONE, item);
    }
    queue.push('a', ONE, 1000);
    queue.push('a', ONE, 1001);
    let (key, _) = queue.pop().unwrap();
    let other = queue.pop().unwrap().0;
    queue.end(key, MS);
    queue.end(other, MS);
    queue.push('a', ONE, 1002);
    while queue.pop().unwrap().0 != 'a' {
        queue.end('b', MS);
    }
    queue.end('a', 3600 * Duration::from_secs(1));
    let waits = run(&mut queue, 999, 2 * MS).find('a').unwrap();
    assert!(waits <= 251, "{waits} of two ms each");
}

#[test]
fn background_work_gets_a_smaller_part() {
    let mut queue = FairQueue::new();
    let background = Allowance {
        concurrent: 1,
        cost: 4,
    };
    for item in 0..100 {
        queue.push('a', ONE, 2 * item);
        queue.push('z', background, 2 * item + 1);
    }
    let order = run(&mut queue, 50, 10 * MS);
    let part = order.chars().filter(|key| *key == 'z').count();
    assert!((9..=12).contains(&part), "{order}");
}

#[test]
fn an_idle_queue_keeps_no_share() {
    let mut queue = FairQueue::new();
    for item in 0..100 {
        queue.push(char::from(item as u8), ONE, item);
    }
    run(&mut queue, 90, MS);
    let mut left = queue.drain();
    left.sort_unstable();
    assert_eq!(left.len(), 10);
    assert!(queue.shares.is_empty() && queue.order.is_empty());
    assert_eq!((queue.len(), queue.startable(), queue.pop()), (0, 0, None));
}
