//! Which messages were accepted, and how often: the proof of no loss and no duplicate.
//!
//! Counted by `biz_opaque_callback_data`, which carries the sender's own id, or by wamid when a message
//! has none. About 100 bytes per id of 36 characters; [`Options::max_tracked_ids`](crate::Options)
//! bounds the sum. Sharded, so that concurrent sends do not queue for one lock.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

const SHARDS: usize = 32;

#[derive(Debug)]
pub(crate) struct Ledger {
    shards: [Mutex<HashMap<Box<str>, u32>>; SHARDS],
    hasher: RandomState,
    max_ids: usize,
    ids: AtomicUsize,
    accepted: AtomicU64,
    duplicated: AtomicU64,
    untracked: AtomicU64,
}

/// The ledger in sums.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) distinct: u64,
    pub(crate) duplicated: u64,
    pub(crate) untracked: u64,
}

impl Ledger {
    pub(crate) fn new(max_ids: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            max_ids,
            ids: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            duplicated: AtomicU64::new(0),
            untracked: AtomicU64::new(0),
        }
    }

    /// Counts one acceptance of `id`.
    pub(crate) fn accept(&self, id: &str) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(id).lock();
        if let Some(count) = shard.get_mut(id) {
            if *count == 1 {
                self.duplicated.fetch_add(1, Ordering::Relaxed);
            }
            *count = count.saturating_add(1);
        } else if self.ids.fetch_add(1, Ordering::Relaxed) < self.max_ids {
            shard.insert(id.into(), 1);
        } else {
            self.ids.fetch_sub(1, Ordering::Relaxed);
            self.untracked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often `id` was accepted.
    pub(crate) fn count(&self, id: &str) -> u32 {
        self.shard(id).lock().get(id).copied().unwrap_or(0)
    }

    /// Ids accepted more than once, with their counts.
    pub(crate) fn duplicates(&self) -> Vec<(String, u32)> {
        self.collect(|count| count > 1)
    }

    /// Every id with its count.
    pub(crate) fn all(&self) -> Vec<(String, u32)> {
        self.collect(|_| true)
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.load(Ordering::Relaxed),
            distinct: self.ids.load(Ordering::Relaxed) as u64,
            duplicated: self.duplicated.load(Ordering::Relaxed),
            untracked: self.untracked.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reset(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.ids.fetch_sub(shard.len(), Ordering::Relaxed);
            *shard = HashMap::new();
        }
        self.accepted.store(0, Ordering::Relaxed);
        self.duplicated.store(0, Ordering::Relaxed);
        self.untracked.store(0, Ordering::Relaxed);
    }

    fn collect(&self, wanted: impl Fn(u32) -> bool) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            found.extend(shard.iter().filter(|(_, count)| wanted(**count)).map(|(id, count)| (id.to_string(), *count)));
        }
        found.sort();
        found
    }

    fn shard(&self, id: &str) -> &Mutex<HashMap<Box<str>, u32>> {
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        &self.shards[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_accepted_twice_is_a_duplicate_and_one_accepted_once_is_not() {
        let ledger = Ledger::new(10);
        for id in ["a", "b", "a"] {
            ledger.accept(id);
        }
        assert_eq!((ledger.count("a"), ledger.count("b"), ledger.count("c")), (2, 1, 0));
        assert_eq!(ledger.duplicates(), [("a".to_owned(), 2)]);
        assert_eq!(ledger.all().len(), 2);
        let expected = Totals { accepted: 3, distinct: 2, duplicated: 1, untracked: 0 };
        assert_eq!(ledger.totals(), expected);
    }

    #[test]
    fn ids_beyond_the_bound_are_counted_as_untracked_and_known_ids_still_count() {
        let ledger = Ledger::new(2);
        for id in ["a", "b", "c", "a"] {
            ledger.accept(id);
        }
        assert_eq!((ledger.count("a"), ledger.count("c")), (2, 0));
        let expected = Totals { accepted: 4, distinct: 2, duplicated: 1, untracked: 1 };
        assert_eq!(ledger.totals(), expected);
        ledger.reset();
        assert_eq!(ledger.totals(), Totals::default());
        ledger.accept("c");
        assert_eq!(ledger.count("c"), 1);
    }
}
