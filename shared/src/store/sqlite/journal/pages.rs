//! Rows of a file of `SQLite` by its pages, where what leads to them is damaged
//! (<https://sqlite.org/fileformat2.html>).
//!
//! Every leaf of a table says by itself which rows it has; what of them belongs to the journal is
//! known by its form, and what is whole by its checksum.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::row::{Column, Noting, Row};

/// Bytes of a page, which is `SQLite`'s default.
const PAGE: usize = 4096;
/// The first byte of a table's leaf.
const LEAF: u8 = 0x0d;
/// Where its cells begin to be listed.
const LIST: usize = 8;
/// Most bytes that a cell keeps in its leaf, and least where it goes on in other pages.
const LOCAL_MAX: usize = PAGE - 35;
const LOCAL_MIN: usize = (PAGE - 12) * 32 / 255 - 23;
/// No row of a journal is larger; what says so is damaged.
const ROW_BYTES_MAX: usize = 16 << 20;
/// Columns of the journal's table.
const COLUMNS: usize = 13;

/// Sizes in a write-ahead log.
pub(super) const WAL_HEADER: u64 = 32;
pub(super) const FRAME_HEADER: u64 = 24;

/// Where a row lies, after its number, which is its place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) n: i64,
    page: u32,
    cell: usize,
}

/// What lies at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A row of a journal that is whole.
    Row(Box<Row>, Noting),
    /// One that is not, or cannot be read.
    Damaged,
    /// What belongs to another table.
    Other,
}

/// A file's pages, as its write-ahead log left them.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    count: u32,
    wal: Option<File>,
    /// Where the last of each page begins in the write-ahead log.
    frames: HashMap<u32, u64>,
}

impl Pages {
    /// Of the write-ahead log every frame counts that is whole from byte `from` on, whatever it is
    /// worth.
    pub(super) fn new(file: File, wal: Option<(File, u64)>) -> io::Result<Pages> {
        let number = |bytes: u64| u32::try_from(bytes / PAGE as u64).unwrap_or(u32::MAX);
        let mut count = number(file.metadata()?.len());
        let mut frames = HashMap::new();
        if let Some((wal, from)) = &wal {
            let end = wal.metadata()?.len();
            let mut at = *from;
            while at + FRAME_HEADER + PAGE as u64 <= end {
                let mut page = [0; 4];
                wal.read_exact_at(&mut page, at)?;
                let page = u32::from_be_bytes(page);
                frames.insert(page, at + FRAME_HEADER);
                at += FRAME_HEADER + PAGE as u64;
            }
            count = count.max(frames.keys().copied().max().unwrap_or(0).min(number(end) + count));
        }
        Ok(Pages { file, count, wal: wal.map(|(wal, _)| wal), frames })
    }

    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE];
        let read = match (self.frames.get(&number), &self.wal) {
            (Some(at), Some(wal)) => wal.read_exact_at(&mut page, *at),
            _ => {
                self.file.read_exact_at(&mut page, u64::from(number.checked_sub(1)?) * PAGE as u64)
            }
        };
        read.ok().map(|()| page)
    }

    /// Pages that are not in use and keep what they had, as far as that is to be trusted.
    fn free(&self) -> HashSet<u32> {
        let listed = || {
            let first = self.page(1).filter(|first| first.starts_with(b"SQLite format 3"))?;
            let (mut free, mut next) = (HashSet::new(), number(&first[32..])?);
            while next != 0 {
                let trunk = self.page(next).filter(|_| free.insert(next))?;
                let count = usize::try_from(number(&trunk[4..])?).ok()?;
                let leaves = trunk[8..].get(..count.checked_mul(4)?)?;
                free.extend(leaves.chunks_exact(4).filter_map(number));
                next = number(&trunk)?;
            }
            free.iter().all(|page| (2..=self.count).contains(page)).then_some(free)
        };
        listed().unwrap_or_default()
    }

    /// Every row that a leaf lists, in their order.
    pub(super) fn places(&self) -> Vec<Place> {
        let free = self.free();
        let in_use = (1..=self.count).filter(|page| !free.contains(page));
        self.listed(in_use)
    }

    /// The same of the pages of the write-ahead log alone.
    pub(super) fn places_in_log(&self) -> Vec<Place> {
        self.listed(self.frames.keys().copied())
    }

    fn listed(&self, pages: impl Iterator<Item = u32>) -> Vec<Place> {
        let mut places = Vec::new();
        for page in pages {
            let Some(bytes) = self.page(page).filter(|bytes| bytes[0] == LEAF) else { continue };
            let listed = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
            for entry in bytes[LIST..].chunks_exact(2).take(listed) {
                let cell = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
                let n = bytes.get(cell..).and_then(|mut cell| {
                    varint(&mut cell)?;
                    varint(&mut cell)
                });
                places.extend(n.map(|n| Place { n: n.cast_signed(), page, cell }));
            }
        }
        places.sort_unstable();
        places
    }

    /// What lies at this place.
    pub(super) fn row(&self, place: Place) -> Found {
        let Some(record) = self.record(place) else { return Found::Damaged };
        match columns(&record).and_then(|columns| Row::from_columns(&columns)) {
            Some((row, noting)) if row.is_whole() => Found::Row(Box::new(row), noting),
            Some(_) => Found::Damaged,
            None => Found::Other,
        }
    }

    fn record(&self, place: Place) -> Option<Vec<u8>> {
        let bytes = self.page(place.page)?;
        let mut cell = bytes.get(place.cell..)?;
        let size = usize::try_from(varint(&mut cell)?).ok().filter(|size| *size < ROW_BYTES_MAX)?;
        varint(&mut cell)?;
        self.payload(cell, size)
    }

    /// The bytes of a cell, with what of them lies in other pages.
    fn payload(&self, cell: &[u8], size: usize) -> Option<Vec<u8>> {
        if size <= LOCAL_MAX {
            return cell.get(..size).map(<[u8]>::to_vec);
        }
        let wanted = LOCAL_MIN + (size - LOCAL_MIN) % (PAGE - 4);
        let local = if wanted <= LOCAL_MAX { wanted } else { LOCAL_MIN };
        let mut payload = cell.get(..local)?.to_vec();
        let mut next = number(cell.get(local..)?)?;
        while payload.len() < size {
            let page = self.page(next)?;
            next = number(&page)?;
            let rest = (size - payload.len()).min(PAGE - 4);
            payload.extend_from_slice(&page[4..4 + rest]);
        }
        Some(payload)
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A number of one to nine bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(number << 8 | u64::from(*byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// The columns of a record, if it has as many as one of a journal.
fn columns(record: &[u8]) -> Option<[Column<'_>; COLUMNS]> {
    let mut header = record;
    let header_bytes = usize::try_from(varint(&mut header)?).ok()?;
    let mut body = record.get(header_bytes..)?;
    let mut types = record.get(record.len() - header.len()..header_bytes)?;
    let mut columns = Vec::with_capacity(COLUMNS);
    while !types.is_empty() && columns.len() <= COLUMNS {
        let kind = varint(&mut types)?;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => (kind.checked_sub(12)?) / 2,
        };
        let (value, rest) = body.split_at_checked(usize::try_from(bytes).ok()?)?;
        body = rest;
        columns.push(match kind {
            0 => Column::Null,
            1..=6 => Column::Integer(integer(value)),
            8 | 9 => Column::Integer(i64::from(kind == 9)),
            7 => return None,
            _ if kind % 2 == 0 => Column::Blob(value),
            _ => Column::Text(value),
        });
    }
    columns.try_into().ok()
}

/// A big-endian number with its sign.
fn integer(bytes: &[u8]) -> i64 {
    let sign = bytes.first().map_or(0, |first| i64::from(first.cast_signed() >> 7));
    bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}
