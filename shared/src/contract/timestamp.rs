//! A timestamp on the wire: ISO 8601, UTC, milliseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01T00:00:00Z; on the wire `2026-11-22T17:04:05.123Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A text that is no moment.
#[derive(Debug, thiserror::Error)]
#[error("not an ISO 8601 time")]
pub struct TimestampError(#[from] jiff::Error);

impl Timestamp {
    /// Reads any RFC 3339 moment, cutting it to milliseconds.
    ///
    /// # Errors
    /// When the text is no such moment.
    pub fn parse(text: &str) -> Result<Timestamp, TimestampError> {
        let moment: jiff::Timestamp = text.parse()?;
        Ok(Timestamp(moment.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Out of jiff's range (years ±9999) only if a clock is broken; the epoch is then as good.
        let moment =
            jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{moment:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Timestamp::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_with_milliseconds_and_read_back() {
        let moment = Timestamp(1_795_367_045_120);
        assert_eq!(moment.to_string(), "2026-11-22T17:04:05.120Z");
        assert_eq!(Timestamp::parse(&moment.to_string()).unwrap(), moment);
        assert!(Timestamp::parse("yesterday").is_err());
    }
}
