//! Ids of the rows the extension makes itself: time-ordered UUIDs (RFC 9562, version 7), so that rows made together lie
//! together in the index. Random ones cost a page of WAL each after every checkpoint. They are no secrets.

use pgrx::Uuid;

/// A new id.
pub fn time_ordered() -> Uuid {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since_1970.as_millis()).unwrap_or(0);
    let value = (u128::from(milliseconds) << 80) | (fastrand::u128(..) & ((1 << 80) - 1));
    let mut bytes = value.to_be_bytes();
    bytes[6] = (bytes[6] & 0x0F) | 0x70;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    Uuid::from_bytes(bytes)
}

/// So many new ids.
pub fn several(count: usize) -> Vec<Uuid> {
    std::iter::repeat_with(time_ordered).take(count).collect()
}
