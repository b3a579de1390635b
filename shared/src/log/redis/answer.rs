//! Reads the replies of scripts: nested arrays of texts and bytes.

use bytes::Bytes;
use redis::Value;

use crate::contract::position::Position;
use crate::log::LogId;

/// Redis answered what none of the scripts answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis gave an answer of another form than the script's")]
pub(crate) struct MalformedAnswer;

/// An array; its items are texts, bytes, or arrays again.
#[derive(Debug)]
pub(crate) struct Answer(Vec<Value>);

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        match value {
            Value::Array(items) => Answer(items),
            other => Answer(vec![other]),
        }
    }
}

impl Answer {
    /// The first item: how it went.
    pub(crate) fn status(&self) -> Result<&str, MalformedAnswer> {
        self.text(0)
    }

    /// What follows the status, each an array.
    pub(crate) fn rest(&self) -> impl Iterator<Item = Result<Answer, MalformedAnswer>> {
        self.0.iter().skip(1).map(|item| match item {
            Value::Array(_) => Ok(Answer::from(item.clone())),
            _ => Err(MalformedAnswer),
        })
    }

    pub(crate) fn text(&self, place: usize) -> Result<&str, MalformedAnswer> {
        match self.0.get(place) {
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(bytes).map_err(|_| MalformedAnswer)
            }
            Some(Value::SimpleString(text)) => Ok(text),
            _ => Err(MalformedAnswer),
        }
    }

    pub(crate) fn bytes(&self, place: usize) -> Result<Bytes, MalformedAnswer> {
        match self.0.get(place) {
            Some(Value::BulkString(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
            _ => Err(MalformedAnswer),
        }
    }

    pub(crate) fn number(&self, place: usize) -> Result<u64, MalformedAnswer> {
        self.text(place)?.parse().map_err(|_| MalformedAnswer)
    }

    pub(crate) fn position(&self, place: usize) -> Result<Position, MalformedAnswer> {
        let (epoch, seq) = pair(self.text(place)?)?;
        Ok(Position { epoch, seq })
    }

    pub(crate) fn log_id(&self, place: usize) -> Result<LogId, MalformedAnswer> {
        let (epoch, n) = pair(self.text(place)?)?;
        Ok(LogId { epoch, n })
    }
}

/// How a log ends.
#[derive(Debug)]
pub(super) struct LogEnd {
    pub(super) last: LogId,
    /// Entries, those included that are persisted and kept a while.
    pub(super) length: u64,
    /// Of the envelope of one that is not persisted, about.
    pub(super) entry_bytes: u64,
}

/// The end of a log, by what is noted of it (its last entry; entries and bytes that were ever
/// appended, and that are persisted) and by its length; `None` for an empty one.
pub(super) fn end_of_log(found: &[Value]) -> Result<Option<LogEnd>, MalformedAnswer> {
    match found {
        [Value::Array(noted), Value::Int(length @ 1..)] => {
            let Some(Value::BulkString(last)) = noted.first() else { return Ok(None) };
            let (epoch, n) = pair(std::str::from_utf8(last).map_err(|_| MalformedAnswer)?)?;
            let number = |place: usize| match noted.get(place) {
                Some(Value::BulkString(text)) => {
                    let text = std::str::from_utf8(text).ok();
                    text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
                }
                _ => 0,
            };
            let entries = number(1).saturating_sub(number(3)).max(1);
            let entry_bytes = number(2).saturating_sub(number(4)) / entries;
            Ok(Some(LogEnd {
                last: LogId { epoch, n },
                length: length.unsigned_abs(),
                entry_bytes,
            }))
        }
        _ => Ok(None),
    }
}

pub(super) fn pair(text: &str) -> Result<(u64, u64), MalformedAnswer> {
    let (first, second) = text.split_once('-').ok_or(MalformedAnswer)?;
    let number = |text: &str| text.parse().map_err(|_| MalformedAnswer);
    Ok((number(first)?, number(second)?))
}
