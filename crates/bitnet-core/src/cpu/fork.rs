//! Fork-join with a latency of about a microsecond: a team that stays together while a token is computed.
//!
//! A decoded token is some hundred and fifty pieces of work of 10 to 200 µs each, shared by all threads. A pool that puts its
//! threads to sleep between them and wakes them again would pay more for that than for the work. So helpers are
//! borrowed from a thread pool for as long as [`Team::enter`] lasts, wait for work by looking at one number in memory,
//! and fall asleep only when nothing came for some time: a busy machine gets its cores back.
//!
//! Pieces are taken one at a time by whoever is free. Nobody waits for a helper that has not taken one, so a team whose
//! helpers are late, or are not given a core at all, does the work with fewer threads.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Looks at what is awaited before a thread falls asleep: for some 50 µs, longer than the serial parts of a token.
/// WebAssembly has no instruction that lets a core rest between two looks, so that they follow each other in less than a
/// nanosecond; and waking a thread takes longer there.
const LOOKS: u32 = if cfg!(target_family = "wasm") {
    120_000
} else {
    2000
};

/// Helpers from a pool of threads, and what they share.
pub(super) struct Team {
    threads: rayon::ThreadPool,
    helpers: usize,
    table: Arc<Table>,
}

impl Team {
    /// A team that is led by whoever calls it, helped by every thread of `threads`.
    pub(super) fn new(threads: rayon::ThreadPool) -> Self {
        Self {
            helpers: threads.current_num_threads(),
            threads,
            table: Arc::default(),
        }
    }

    /// Keeps the helpers near while `work` runs.
    pub(super) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(self);
        work()
    }

    /// Calls `piece(i)` once for each `i` below `count`, on all threads. On the caller's alone if the team has other
    /// work, as when a piece is itself divided.
    ///
    /// # Panics
    /// If a piece panics, after all others have ended.
    pub(super) fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let table = &*self.table;
        let Some(tickets) = u32::try_from(count).ok().filter(|count| *count > 1) else {
            return (0..count).for_each(piece);
        };
        if table.is_led.swap(true, Ordering::Acquire) {
            return (0..count).for_each(piece);
        }
        let led = Led(table);
        self.enter(|| led.run(tickets, piece));
    }
}

/// A stay of the helpers.
struct Entered<'a>(&'a Table);

impl<'a> Entered<'a> {
    fn new(team: &'a Team) -> Self {
        let table = &*team.table;
        // Before the helpers are counted: one that is leaving either sees this and stays, or is no longer counted.
        table.entered.fetch_add(1, Ordering::SeqCst);
        let mut present = table.present.load(Ordering::SeqCst);
        while present < team.helpers {
            match table.present.compare_exchange_weak(
                present,
                present + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => {
                    let table = Arc::clone(&team.table);
                    team.threads.spawn(move || table.help());
                    present += 1;
                }
                Err(found) => present = found,
            }
        }
        Self(table)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.0.entered.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.for_helpers.notify();
        }
    }
}

/// On a cache line of its own, or two that are fetched together.
#[derive(Default)]
#[repr(align(128))]
struct Alone<T>(T);

/// What leader and helpers see.
#[derive(Default)]
struct Table {
    /// A number that changes with every job, above [`TICKETS`] bits that count its pieces that nobody has taken.
    tickets: Alone<AtomicU64>,
    /// The job's pieces that have ended.
    ended: Alone<AtomicUsize>,
    /// Whether one of them panicked.
    panicked: AtomicBool,
    /// Whether somebody leads the team.
    is_led: AtomicBool,
    /// Calls of [`Team::enter`] that have not ended.
    entered: AtomicUsize,
    /// Helpers that wait or work, or are on their way.
    present: AtomicUsize,
    /// The pieces; read by whoever has taken one, written by the leader when none is taken.
    job: UnsafeCell<Option<Job>>,
    for_helpers: Signal,
    for_leader: Signal,
}

/// Bits of a count of pieces.
const TICKETS: u32 = 32;

/// `count` calls of `piece`.
#[derive(Clone, Copy)]
struct Job {
    piece: *const (dyn Fn(usize) + Sync),
    count: u32,
}

// SAFETY: `job` is written by the leader alone, of whom `is_led` allows one, and only while no piece is taken. It is
// read between taking a piece and counting it as ended, and the leader waits for all pieces to have ended. What it
// points to may be called from any thread, being `Sync`.
unsafe impl Sync for Table {}
// SAFETY: as above; nothing else in it belongs to a thread.
unsafe impl Send for Table {}

impl Table {
    /// Takes one piece and does it, if there is one.
    fn take(&self) -> bool {
        let mut tickets = self.tickets.0.load(Ordering::Relaxed);
        loop {
            let left = tickets as u32;
            if left == 0 {
                return false;
            }
            // Acquires what the leader released with the number.
            match self.tickets.0.compare_exchange_weak(
                tickets,
                tickets - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.work(left);
                    return true;
                }
                Err(found) => tickets = found,
            }
        }
    }

    /// Does the piece that was taken when `left` were left.
    fn work(&self, left: u32) {
        // SAFETY: a piece was taken and has not ended: the leader does not write.
        let job = unsafe { *self.job.get() };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            if let Some(job) = job {
                // SAFETY: the leader lent it until all pieces have ended.
                let piece = unsafe { &*job.piece };
                piece((job.count - left) as usize);
            }
        }));
        if worked.is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        // From here on the leader may go on.
        self.ended.0.fetch_add(1, Ordering::Release);
        self.for_leader.notify();
    }

    /// What a helper does from its arrival until the team is no longer needed.
    fn help(&self) {
        loop {
            while self.take() {}
            let is_awake = self.for_helpers.wait_until(
                || self.tickets.0.load(Ordering::Relaxed) as u32 > 0,
                || self.entered.load(Ordering::SeqCst) == 0,
            );
            if is_awake {
                continue;
            }
            self.present.fetch_sub(1, Ordering::SeqCst);
            if self.entered.load(Ordering::SeqCst) == 0 {
                return;
            }
            // Somebody entered meanwhile, and may have counted on this helper.
            self.present.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The right to lead.
struct Led<'a>(&'a Table);

impl Led<'_> {
    fn run(&self, count: u32, piece: &(dyn Fn(usize) + Sync)) {
        let table = self.0;
        let piece = std::ptr::from_ref(piece);
        // SAFETY: only the lifetime changes. This function returns when all pieces have ended, and none panics through it.
        let piece = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(piece)
        };
        table.ended.0.store(0, Ordering::Relaxed);
        table.panicked.store(false, Ordering::Relaxed);
        // SAFETY: this thread leads and no piece is taken: those of the last job have ended.
        unsafe { *table.job.get() = Some(Job { piece, count }) };
        let last = table.tickets.0.load(Ordering::Relaxed);
        let number = (last >> TICKETS).wrapping_add(1) << TICKETS;
        table
            .tickets
            .0
            .store(number | u64::from(count), Ordering::Release);
        table.for_helpers.notify();
        while table.take() {}
        let all = count as usize;
        table
            .for_leader
            .wait_until(|| table.ended.0.load(Ordering::Acquire) == all, || false);
        if table.panicked.load(Ordering::Relaxed) {
            resume_unwind(Box::new("a piece of work panicked on one of the threads"));
        }
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        self.0.is_led.store(false, Ordering::Release);
    }
}

/// Waiting first with open eyes, then asleep.
#[derive(Default)]
struct Signal {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// Waits until `ready`, which gives true, or until `over` once it has looked long enough, which gives false.
    fn wait_until(&self, ready: impl Fn() -> bool, over: impl Fn() -> bool) -> bool {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Against the fence of `notify`: either this thread sees the change, or its sleep is seen.
        fence(Ordering::SeqCst);
        let is_ready = loop {
            if ready() {
                break true;
            }
            if over() {
                break false;
            }
            guard = self
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        is_ready
    }

    /// To be called after a change that others may wait for.
    fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
