use super::*;
use std::sync::atomic::AtomicU32;

fn team(helpers: usize) -> Team {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(helpers);
    Team::new(threads.build().unwrap())
}

#[test]
fn every_piece_runs_once() {
    let team = team(3);
    for round in 0..2000 {
        let count = round % 19;
        let runs: Vec<_> = (0..count).map(|_| AtomicU32::new(0)).collect();
        team.run(count, &|i| {
            runs[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn helpers_come_and_go_between_stays() {
    let team = team(2);
    let done = AtomicUsize::new(0);
    for round in 0..50 {
        team.enter(|| {
            for _ in 0..20 {
                team.run(4, &|_| {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        if round % 10 == 0 {
            // Long enough for them to leave.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    assert_eq!(done.load(Ordering::Relaxed), 50 * 20 * 4);
}

#[test]
fn several_leaders_share_a_team() {
    let team = team(2);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    team.run(5, &|_| {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 3 * 500 * 5);
}

/// Slots that pieces write to, each its own; plain memory, so that only the team orders what is done to it.
struct Slots(Vec<UnsafeCell<usize>>);

// SAFETY: as described; the test below keeps to it.
unsafe impl Sync for Slots {}

#[test]
fn what_pieces_write_is_the_leaders_to_read_and_what_it_writes_is_theirs() {
    let team = team(2);
    let team = &team;
    std::thread::scope(|scope| {
        for leader in 0..3usize {
            scope.spawn(move || {
                let mut slots = Slots((0..7).map(|_| UnsafeCell::new(leader)).collect());
                for round in 0..300 {
                    let shared = &slots;
                    team.run(shared.0.len(), &|i| {
                        // SAFETY: every piece runs once, and the slot is that piece's.
                        unsafe { *shared.0[i].get() += i };
                    });
                    let whole = (0..7).map(|i| leader + (round + 1) * i);
                    assert!(slots.0.iter_mut().map(|slot| *slot.get_mut()).eq(whole));
                    if round % 100 == leader {
                        // Long enough for all to fall asleep, and for helpers to leave.
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                }
            });
        }
    });
}

#[test]
fn a_piece_may_itself_be_divided() {
    let team = team(1);
    let done = AtomicUsize::new(0);
    team.run(4, &|_| {
        team.run(3, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(done.load(Ordering::Relaxed), 12);
}

#[test]
fn a_panic_reaches_the_caller_and_leaves_the_team_usable() {
    let team = team(2);
    let done = AtomicUsize::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        team.run(8, &|i| {
            assert_ne!(i, 5, "meant to happen");
            done.fetch_add(1, Ordering::Relaxed);
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(done.load(Ordering::Relaxed), 7);
    team.run(8, &|_| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.load(Ordering::Relaxed), 15);
}
