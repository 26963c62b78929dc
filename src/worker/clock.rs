//! Notices that the machine's clock was set. Limits are about spans of true time and are counted by the wall clock, because
//! they must outlast the process and the machine; so when the wall clock is set, the times written down move with it.
//! The clock that counts from the start of the machine cannot be set, and tells.

use crate::error::Result;
use crate::store::clock::{self, Standing};
use crate::time::{CLOCK_TOLERANCE_US, Timestamp, clock_offset};
use crate::tx;

/// How the clock stood when this process last looked.
#[derive(Default)]
pub struct Clock {
    offset_us: Option<i64>,
}

impl Clock {
    /// Looks at the clock; when it was set, moves the times with it and answers by how many microseconds.
    pub fn look(&mut self) -> Result<Option<i64>> {
        let offset_us = clock_offset();
        let is_first = self.offset_us.is_none();
        if self.offset_us.is_some_and(|known| (offset_us - known).abs() <= CLOCK_TOLERANCE_US) {
            return Ok(None);
        }
        let moved = tx::owner_transaction(|| agree(offset_us))?;
        let before = self.offset_us.replace(offset_us);
        // Another worker may have moved the times already; this process has to forget its own all the same.
        Ok(before.map(|before| offset_us - before).or(moved).filter(|_| !is_first || moved.is_some()))
    }
}

/// Compares with what the database knows, and moves times if nobody has done so yet.
fn agree(offset_us: i64) -> Result<Option<i64>> {
    let boot_id = boot_id();
    let now = Timestamp::now();
    let by_us = match clock::lock()? {
        Some(known) if known.boot_id == boot_id => offset_us - known.offset_us,
        Some(_) => {
            clock::bring_back(now)?;
            0
        }
        None => 0,
    };
    let is_set = by_us.abs() > CLOCK_TOLERANCE_US;
    if is_set {
        clock::move_times(by_us, now)?;
    }
    clock::save(&Standing { boot_id, offset_us })?;
    Ok(is_set.then_some(by_us))
}

/// Which start of which machine this is. Where the kernel does not tell, every process is taken for a new one.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
