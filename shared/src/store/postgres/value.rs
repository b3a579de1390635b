//! Numbers and timestamps in the database's types.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::failure::out_of_range;
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::log::LogId;
use crate::store::StoreError;

/// Why a value cannot be written or read.
pub(super) type BoxedError = Box<dyn std::error::Error + Sync + Send>;

/// 2000-01-01T00:00:00Z, from which the database counts, in Unix milliseconds.
const DATABASE_BEGINS_MS: i64 = 946_684_800_000;

/// A `timestamptz`: microseconds since the year 2000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(i64);

impl Moment {
    /// The database's form of a moment.
    ///
    /// # Errors
    /// Of the data, when it lies so far away that the database could not count to it.
    pub(super) fn of(timestamp: Timestamp) -> Result<Moment, StoreError> {
        let since = timestamp.0.checked_sub(DATABASE_BEGINS_MS);
        since.and_then(|ms| ms.checked_mul(1000)).map(Moment).ok_or_else(|| out_of_range("a time"))
    }

    /// Cut to milliseconds.
    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp(self.0.div_euclid(1000).saturating_add(DATABASE_BEGINS_MS))
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _type: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Moment, BoxedError> {
        Ok(Moment(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

/// A place as two columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) epoch: i64,
    pub(super) seq: i64,
}

impl Place {
    /// For a comparison: any position above all that the database could hold is as good as the
    /// last of them.
    pub(super) fn near(position: Position) -> Place {
        let cut = |part| i64::try_from(part).unwrap_or(i64::MAX);
        Place { epoch: cut(position.epoch), seq: cut(position.seq) }
    }

    /// To be kept.
    ///
    /// # Errors
    /// Of the data, when the database's integers do not reach it.
    pub(super) fn exactly(position: Position) -> Result<Place, StoreError> {
        Ok(Place { epoch: number(position.epoch)?, seq: number(position.seq)? })
    }
}

/// As the database's integer.
///
/// # Errors
/// Of the data, when it does not reach it.
pub(super) fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| out_of_range("a number"))
}

/// From the database's integer, which no one makes negative.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// From two columns.
pub(super) fn position(epoch: i64, seq: i64) -> Position {
    Position::new(count(epoch), count(seq))
}

/// From two columns.
pub(super) fn log_id(epoch: i64, n: i64) -> LogId {
    LogId { epoch: count(epoch), n: count(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_kept_to_the_millisecond() {
        for ms in [0, 1_700_000_000_123, -1, DATABASE_BEGINS_MS, -62_000_000_000_001] {
            assert_eq!(Moment::of(Timestamp(ms)).unwrap().timestamp(), Timestamp(ms));
        }
        assert_eq!(Moment(1999).timestamp(), Timestamp(DATABASE_BEGINS_MS + 1));
        assert_eq!(Moment(-1).timestamp(), Timestamp(DATABASE_BEGINS_MS - 1));
    }

    #[test]
    fn what_the_database_cannot_count_to_is_an_error_of_the_data() {
        for ms in [i64::MAX, i64::MIN, i64::MAX / 100] {
            let refused = Moment::of(Timestamp(ms));
            assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "22003"));
        }
        assert!(Place::exactly(Position::new(1, u64::MAX)).is_err());
        assert_eq!(Place::near(Position::new(1, u64::MAX)).seq, i64::MAX);
    }
}
