//! Map values of the `run_queue` probe: how long tasks that could run waited for a CPU, per cgroup; and what is noted of
//! each task to know its next wait.

use crate::histogram::Histogram;

/// Upper bounds of the histogram, in nanoseconds.
///
/// On an idle machine a task waits for some microseconds, on a busy one for whole slices of a few milliseconds, and
/// behind a CPU quota for up to a period of 100 ms.
pub const BOUNDS_NS: [u64; 17] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

/// Number of buckets: one per bound, and the one without a bound.
pub const N_BUCKETS: usize = BOUNDS_NS.len() + 1;

/// What the map `WAITS` holds for one cgroup (key: the cgroup's 64-bit id).
pub type Waits = Histogram<N_BUCKETS>;

/// Most cgroups that are counted at once; the map is allocated when it is created.
///
/// Every cgroup with a task gets an entry; a node runs at most a few hundred pods.
pub const MAX_CGROUPS: u32 = 8192;

/// Slots of the array `NOTED`, which a task finds by the low bits of its number: 1 MiB.
///
/// The kernel gives numbers in turn, so two tasks share a slot only if 65,535 were begun between them.
pub const N_SLOTS: u32 = 1 << 16;

/// What the kernel's own account (`task_struct.sched_info`) says of a task that is about to get a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The number of the thread.
    pub pid: u32,
    /// How often it got a CPU before (`pcount`, of which the lower half is enough).
    pub n_arrivals: u32,
    /// For how long it has waited (`run_delay`), in nanoseconds, but for what follows.
    pub run_delay_ns: u64,
    /// For how long it waits on this run queue (since `last_queued`), in nanoseconds.
    pub waiting_ns: u64,
}

/// What `NOTED` holds of a task that got a CPU.
///
/// Two CPUs may write a slot at once, if the numbers of two tasks differ by a multiple of the slots; the words are
/// tied to each other, so that one of each is no note of either task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// What `run_delay` became.
    run_delay_ns: u64,
    /// The task's number, and what `pcount` became below it; both with `run_delay_ns` by exclusive or.
    whose: u64,
}

/// What a task has waited since it last got a CPU that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The wait that ends now, in nanoseconds.
    pub last_ns: u64,
    /// How many waits ended before it without an event.
    pub n_unseen: u64,
    /// The sum of those, in nanoseconds.
    pub unseen_ns: u64,
}

/// Of a word.
const LOWER_HALF: u64 = u32::MAX as u64;

impl Account {
    /// The slot of the task.
    #[must_use]
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.pid & (N_SLOTS - 1)
    }

    /// What to note of it: the account as the kernel closes it now.
    #[must_use]
    #[inline(always)]
    pub const fn note(&self) -> Noted {
        let run_delay_ns = self.total_ns();
        let n_arrivals = self.n_arrivals.wrapping_add(1);
        Noted { run_delay_ns, whose: ((self.pid as u64) << 32 | n_arrivals as u64) ^ run_delay_ns }
    }

    /// What it has waited, by what was noted last.
    ///
    /// Of a task that is not the one of the note, only the wait on this run queue is known, and all if it is its first.
    #[must_use]
    #[inline(always)]
    pub const fn waited(&self, noted: Noted) -> Waited {
        if self.n_arrivals == 0 {
            return Waited { last_ns: self.total_ns(), n_unseen: 0, unseen_ns: 0 };
        }
        let whose = noted.whose ^ noted.run_delay_ns;
        let n_unseen = self.n_arrivals.wrapping_sub((whose & LOWER_HALF) as u32);
        let since_ns = self.total_ns().wrapping_sub(noted.run_delay_ns);
        // Numbers are given again: of an earlier task with this one, there may be more arrivals and delay.
        let is_note_of_it = (whose >> 32) as u32 == self.pid
            && n_unseen <= u32::MAX / 2
            && since_ns >= self.waiting_ns
            && since_ns <= u64::MAX / 2;
        if !is_note_of_it {
            return Waited { last_ns: self.waiting_ns, n_unseen: 0, unseen_ns: 0 };
        }
        if n_unseen == 0 {
            return Waited { last_ns: since_ns, n_unseen: 0, unseen_ns: 0 };
        }
        Waited {
            last_ns: self.waiting_ns,
            n_unseen: n_unseen as u64,
            unseen_ns: since_ns - self.waiting_ns,
        }
    }

    /// What `run_delay` becomes when the task gets the CPU.
    #[inline(always)]
    const fn total_ns(&self) -> u64 {
        self.run_delay_ns.wrapping_add(self.waiting_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Noted, Waited};

    const fn account(n_arrivals: u32, run_delay_ns: u64, waiting_ns: u64) -> Account {
        Account { pid: 70_000, n_arrivals, run_delay_ns, waiting_ns }
    }

    const fn seen(last_ns: u64) -> Waited {
        Waited { last_ns, n_unseen: 0, unseen_ns: 0 }
    }

    #[test]
    fn a_wait_is_what_was_added_since_the_last_arrival() {
        let noted = account(4, 900, 100).note();
        assert_eq!(account(5, 1_000, 30).waited(noted), seen(30));
        // 20 of it on another run queue.
        assert_eq!(account(5, 1_020, 30).waited(noted), seen(50));
    }

    #[test]
    fn arrivals_without_an_event_are_counted_with_the_next_one() {
        let noted = account(4, 900, 100).note();
        let expected = Waited { last_ns: 30, n_unseen: 2, unseen_ns: 70 };
        assert_eq!(account(7, 1_070, 30).waited(noted), expected);
    }

    #[test]
    fn the_first_wait_of_a_task_is_known_whole() {
        assert_eq!(account(0, 20, 30).waited(Noted::default()), seen(50));
        // Also when its number was another task's before.
        assert_eq!(account(0, 20, 30).waited(account(9, 4, 4).note()), seen(50));
    }

    #[test]
    fn of_a_task_that_is_not_noted_the_wait_on_this_run_queue_is_known() {
        let check = |noted| assert_eq!(account(5, 1_020, 30).waited(noted), seen(30));
        check(Noted::default());
        let other = Account { pid: 70_000 + 65_536, ..account(4, 900, 100) };
        assert_eq!(other.slot(), account(4, 900, 100).slot());
        check(other.note());
        // An earlier task with the same number.
        check(account(80, 900, 100).note());
        check(account(4, 90_000, 100).note());
        // One word of each of two notes.
        let (one, other) = (account(4, 900, 100).note(), other.note());
        check(Noted { run_delay_ns: 7, ..one });
        check(Noted { whose: one.whose, ..Account { pid: 1, ..account(4, 90, 0) }.note() });
        assert_ne!(one, other);
    }
}
