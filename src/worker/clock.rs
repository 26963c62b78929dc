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
        if self.offset_us.is_some_and(|known| (clock_offset() - known).abs() <= CLOCK_TOLERANCE_US) {
            return Ok(None);
        }
        let agreed = tx::owner_transaction(agree)?;
        // Another worker may have moved the times already; this process has to forget its own all the same.
        let own = self.offset_us.replace(agreed.offset_us).map(|before| agreed.offset_us - before);
        Ok(own.or(agreed.moved_by_us))
    }
}

struct Agreed {
    offset_us: i64,
    moved_by_us: Option<i64>,
}

/// Compares with what the database knows, and moves times if nobody has done so yet.
fn agree() -> Result<Agreed> {
    let known = clock::lock()?;
    // Read under the lock: who waited for it would save a clock that has been set again meanwhile.
    let (offset_us, now, boot_id) = (clock_offset(), Timestamp::now(), boot_id());
    let by_us = known.filter(|known| known.boot_id == boot_id).map_or(0, |known| offset_us - known.offset_us);
    let moved_by_us = Some(by_us).filter(|by_us| by_us.abs() > CLOCK_TOLERANCE_US);
    if let Some(by_us) = moved_by_us {
        clock::move_times(by_us, now)?;
    }
    clock::bring_back(now)?;
    clock::save(&Standing { boot_id, offset_us })?;
    Ok(Agreed { offset_us, moved_by_us })
}

/// Which start of which machine this is. Where the kernel does not tell, every process is taken for a new one.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
