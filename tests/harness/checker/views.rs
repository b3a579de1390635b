//! Every screen shows a contiguous piece of the room, in the database's order, up to its end.

use super::Evidence;
use crate::rows::Row;
use crate::sim_client::{Record, View};
use std::collections::HashMap;

pub(super) fn views_are_slices(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let places: HashMap<&str, HashMap<&str, usize>> = evidence
        .rooms
        .iter()
        .map(|(room, rows)| {
            let ids = rows.iter().enumerate().map(|(index, row)| (row.id.as_str(), index));
            (*room, ids.collect())
        })
        .collect();
    let (no_rows, no_places) = (Vec::new(), HashMap::new());
    for record in evidence.records {
        for (room, view) in &record.views {
            let rows = evidence.rooms.get(room.as_str()).unwrap_or(&no_rows);
            let places = places.get(room.as_str()).unwrap_or(&no_places);
            let screen = Screen { evidence, record, room, view, rows, places };
            broken.extend(screen.check());
        }
    }
    broken
}

/// One view beside the rows it should show.
struct Screen<'a> {
    evidence: &'a Evidence<'a>,
    record: &'a Record,
    room: &'a str,
    view: &'a View,
    rows: &'a [&'a Row],
    /// The index of each id in `rows`.
    places: &'a HashMap<&'a str, usize>,
}

impl Screen<'_> {
    /// The first thing that is wrong, since one hole makes everything after it wrong as well.
    fn check(&self) -> Option<String> {
        let whose = format!("{}'s view of {}", self.record.user, self.room);
        let mut shown: Vec<usize> = Vec::new();
        for entry in &self.view.entries {
            if self.evidence.rejected.contains(&(self.room, &*entry.id)) {
                continue;
            }
            let Some(index) = self.places.get(entry.id.as_str()).copied() else {
                let (id, position) = (&entry.id, entry.position);
                return Some(format!("{whose} shows {id} at {position}, which has no row"));
            };
            let row = self.rows[index];
            if entry.position != row.position() {
                let (id, at, stands) = (&entry.id, entry.position, row.position());
                return Some(format!("{whose} shows {id} at {at}, and it stands at {stands}"));
            }
            if entry.user != row.user
                || (self.evidence.expect.contents && entry.content != row.content)
            {
                return Some(format!("{whose} shows {} otherwise than its row", entry.id));
            }
            if let Some(before) = shown.last().copied() {
                let (earlier, later) = (self.rows[before].position(), row.position());
                if index > before + 1 {
                    let lacking = index - before - 1;
                    return Some(format!(
                        "{whose} lacks {lacking} messages between {earlier} and {later}"
                    ));
                } else if index <= before && shown.contains(&index) {
                    return Some(format!("{whose} shows {} twice", entry.id));
                } else if index < before {
                    return Some(format!("{whose} shows {later} after {earlier}"));
                }
            }
            shown.push(index);
        }
        self.check_ends(&whose, &shown)
    }

    fn check_ends(&self, whose: &str, shown: &[usize]) -> Option<String> {
        if !self.view.in_room || !self.evidence.expect.complete {
            return None;
        }
        let first = shown.first().copied().unwrap_or(self.rows.len());
        if self.view.from_start && first > 0 {
            let lacking = if shown.is_empty() { self.rows.len() } else { first };
            return Some(format!("{whose} lacks the first {lacking} messages of the room"));
        }
        let end = shown.last().map_or(0, |last| last + 1);
        if end < self.rows.len() && !shown.is_empty() {
            let lacking = self.rows.len() - end;
            return Some(format!("{whose} lacks the last {lacking} messages of the room"));
        }
        let is_unread = shown.is_empty() && !self.view.from_start && !self.rows.is_empty();
        is_unread.then(|| format!("{whose} is empty, and the room is not"))
    }
}
