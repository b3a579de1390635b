//! Members of rooms, and revocations.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteStore;
use super::stored::{checked, text};
use crate::contract::id::{RoomId, UserId};
use crate::contract::timestamp::Timestamp;
use crate::store::{Member, MemberRole, Members, Revocation, RevokedSubject, StoreError};

#[async_trait]
impl Members for SqliteStore {
    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRole>, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.read(move |connection| {
            let role = connection
                .prepare_cached(
                    "SELECT role FROM room_members WHERE room_id = ?1 AND user_id = ?2",
                )?
                .query_row([room.as_str(), user.as_str()], |row| {
                    Ok(MemberRole::from_stored(text(row, 0)?))
                })
                .optional()?;
            Ok(role)
        })
        .await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        // No id is empty.
        let (room, after) = (room.clone(), after.map_or(String::new(), UserId::to_string));
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT user_id, role, added_at FROM room_members
                 WHERE room_id = ?1 AND role <> 'removed' AND user_id > ?2
                 ORDER BY user_id LIMIT ?3",
            )?;
            let members = statement.query_map(params![room.as_str(), after, limit], member)?;
            Ok(members.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn removed(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
        let room = room.clone();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT user_id FROM room_members WHERE room_id = ?1 AND role = 'removed'
                 ORDER BY user_id",
            )?;
            let removed = statement
                .query_map([room.as_str()], |row| checked(text(row, 0)?, 0, UserId::parse))?;
            Ok(removed.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn set_member(
        &self,
        room: &RoomId,
        user: &UserId,
        role: MemberRole,
    ) -> Result<(), StoreError> {
        let (room, user, now_ms) = (room.clone(), user.clone(), self.clock.now_ms());
        self.write(move |connection| {
            connection
                // Who comes back is a member since then.
                .prepare_cached(
                    "INSERT INTO room_members AS m (room_id, user_id, role, added_at)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (room_id, user_id) DO UPDATE SET role = excluded.role,
                         added_at = iif(m.role = 'removed' AND excluded.role <> 'removed',
                             excluded.added_at, m.added_at)",
                )?
                .execute(params![room.as_str(), user.as_str(), role.as_str(), now_ms])?;
            Ok(())
        })
        .await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let (revocation, now_ms) = (revocation.clone(), self.clock.now_ms());
        self.write(move |connection| {
            let (kind, subject) = match &revocation.subject {
                RevokedSubject::User(user) => ("user", user.as_str()),
                RevokedSubject::Token(id) => ("token", id.as_str()),
            };
            connection
                .prepare_cached("DELETE FROM revocations WHERE until <= ?1")?
                .execute([now_ms])?;
            connection
                .prepare_cached(
                    "INSERT INTO revocations AS r (kind, subject, revoked_at, until)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (kind, subject) DO UPDATE SET
                         revoked_at = max(r.revoked_at, excluded.revoked_at),
                         until = max(r.until, excluded.until)",
                )?
                .execute(params![kind, subject, revocation.at.0, revocation.until.0])?;
            Ok(())
        })
        .await
    }

    async fn revocations_since(&self, since: Timestamp) -> Result<Vec<Revocation>, StoreError> {
        let now_ms = self.clock.now_ms();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT kind, subject, revoked_at, until FROM revocations
                 WHERE until > ?1 AND revoked_at >= ?2 ORDER BY kind, subject",
            )?;
            let revocations = statement.query_map([now_ms, since.0], revocation)?;
            Ok(revocations.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn member(row: &Row<'_>) -> Result<Member, rusqlite::Error> {
    Ok(Member {
        user_id: checked(text(row, 0)?, 0, UserId::parse)?,
        role: MemberRole::from_stored(text(row, 1)?),
        added_at: Timestamp(row.get(2)?),
    })
}

fn revocation(row: &Row<'_>) -> Result<Revocation, rusqlite::Error> {
    let subject = match text(row, 0)? {
        "user" => RevokedSubject::User(checked(text(row, 1)?, 1, UserId::parse)?),
        _ => RevokedSubject::Token(row.get(1)?),
    };
    Ok(Revocation { subject, at: Timestamp(row.get(2)?), until: Timestamp(row.get(3)?) })
}
