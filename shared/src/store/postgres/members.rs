//! Members of rooms, and revocations.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::pool::{End, Statement, pipeline, statement};
use super::stored::parsed;
use super::value::Moment;
use crate::contract::id::{RoomId, UserId};
use crate::contract::timestamp::Timestamp;
use crate::store::{Member, MemberRole, Members, Revocation, RevokedSubject, StoreError};

const ROLE: &str = "SELECT role FROM room_members WHERE room_id = $1 AND user_id = $2";

const MEMBERS: &str = "
    SELECT user_id, role, added_at FROM room_members
    WHERE room_id = $1 AND role <> 'removed' AND user_id COLLATE \"C\" > $2
    ORDER BY user_id COLLATE \"C\" LIMIT $3";

const REMOVED: &str = "
    SELECT user_id FROM room_members WHERE room_id = $1 AND role = 'removed'
    ORDER BY user_id COLLATE \"C\"";

// Who comes back is a member since then.
const SET: &str = "
    INSERT INTO room_members AS m (room_id, user_id, role, added_at)
    VALUES ($1, $2, $3, clock_timestamp())
    ON CONFLICT (room_id, user_id) DO UPDATE SET role = excluded.role, added_at = CASE
        WHEN m.role = 'removed' AND excluded.role <> 'removed' THEN excluded.added_at
        ELSE m.added_at END";

const FORGET: &str = "DELETE FROM revocations WHERE until <= clock_timestamp()";

const REVOKE: &str = "
    INSERT INTO revocations AS r (kind, subject, revoked_at, until) VALUES ($1, $2, $3, $4)
    ON CONFLICT (kind, subject) DO UPDATE SET
        revoked_at = greatest(r.revoked_at, excluded.revoked_at),
        until = greatest(r.until, excluded.until)";

const REVOCATIONS: &str = "
    SELECT kind, subject, revoked_at, until FROM revocations
    WHERE until > clock_timestamp() AND revoked_at >= $1
    ORDER BY kind, subject";

#[async_trait]
impl Members for PostgresStore {
    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRole>, StoreError> {
        let (room, user) = (room.as_str(), user.as_str());
        let answers = self.pool.read(&[statement!(ROLE, room, user)]).await?;
        let role = answers[0].first().map(|row| row.try_get(0)).transpose()?;
        Ok(role.map(MemberRole::from_stored))
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        // No id is empty.
        let (room, after) = (room.as_str(), after.map_or("", UserId::as_str));
        let limit = i64::from(limit);
        let answers = self.pool.read(&[statement!(MEMBERS, room, after, limit)]).await?;
        answers[0].iter().map(member).collect()
    }

    async fn removed(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
        let room = room.as_str();
        let answers = self.pool.read(&[statement!(REMOVED, room)]).await?;
        answers[0].iter().map(|row| parsed(row.try_get(0)?, UserId::parse)).collect()
    }

    async fn set_member(
        &self,
        room: &RoomId,
        user: &UserId,
        role: MemberRole,
    ) -> Result<(), StoreError> {
        let (room, user, role) = (room.as_str(), user.as_str(), role.as_str());
        self.do_all(&[statement!(SET, room, user, role)]).await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let (kind, subject) = match &revocation.subject {
            RevokedSubject::User(user) => ("user", user.as_str()),
            RevokedSubject::Token(id) => ("token", id.as_str()),
        };
        let (at, until) = (Moment::of(revocation.at)?, Moment::of(revocation.until)?);
        let revoke = statement!(REVOKE, kind, subject, at, until);
        self.do_all(&[statement!(FORGET), revoke]).await
    }

    async fn revocations_since(&self, since: Timestamp) -> Result<Vec<Revocation>, StoreError> {
        let since = Moment::of(since)?;
        let statement = statement!(REVOCATIONS, since);
        let answers = self.pool.read(&[statement]).await?;
        answers[0].iter().map(revocation).collect()
    }
}

impl PostgresStore {
    /// Does the statements in one transaction.
    async fn do_all(&self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        self.pool
            .write(async |transaction| {
                pipeline(transaction.client(), statements).await?;
                Ok(((), End::Commit))
            })
            .await
    }
}

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        user_id: parsed(row.try_get(0)?, UserId::parse)?,
        role: MemberRole::from_stored(row.try_get(1)?),
        added_at: row.try_get::<_, Moment>(2)?.timestamp(),
    })
}

fn revocation(row: &Row) -> Result<Revocation, StoreError> {
    let (kind, subject): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    let subject = match kind {
        "user" => RevokedSubject::User(parsed(subject, UserId::parse)?),
        _ => RevokedSubject::Token(subject.to_owned()),
    };
    Ok(Revocation {
        subject,
        at: row.try_get::<_, Moment>(2)?.timestamp(),
        until: row.try_get::<_, Moment>(3)?.timestamp(),
    })
}
