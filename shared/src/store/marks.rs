//! The receipts of a batch: of each reader in each room the furthest counts.

use std::collections::BTreeMap;

use super::Row;
use crate::contract::signal::ReadMark;

/// The furthest mark of each (room, reader), in one order everywhere; of equals the first.
pub(super) fn furthest(rows: &[Row]) -> BTreeMap<(&str, &str), &ReadMark> {
    let mut marks: BTreeMap<(&str, &str), &ReadMark> = BTreeMap::new();
    for row in rows {
        let Row::Receipt { room, mark } = row else { continue };
        let standing = marks.entry((room.as_str(), mark.user.as_str())).or_insert(mark);
        if mark.position > standing.position {
            *standing = mark;
        }
    }
    marks
}
