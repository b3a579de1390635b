//! Opaque tokens that the server issues: one-time tickets and session tokens.
//!
//! Whoever reads the store cannot use what lies there: only the SHA-256 of a proof is kept, which
//! needs no salt where the proof is 256 random bits. In a cluster the store is Redis, and any node
//! takes what any other has given out.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::contract::id::UserId;
use shared::contract::keys;
use shared::contract::limits::TOKEN_STORE_ENTRIES_MAX;
use shared::contract::timestamp::Timestamp;
use shared::log::redis::connection::RedisConnection;

use super::identity::{Identity, Role, RoomClaim};
use super::random::random_hex;

/// Which kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    /// Opens one connection.
    Ticket,
    /// Is as good as a token, until it expires or is taken back.
    Session,
}

impl TokenKind {
    /// What such a proof begins with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            TokenKind::Ticket => "rct_",
            TokenKind::Session => "rcs_",
        }
    }
}

/// What somebody is let in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Who.
    pub(crate) user: UserId,
    /// The rooms they may enter, each a [`RoomClaim`].
    pub(crate) rooms: Vec<String>,
    /// What they may do.
    pub(crate) role: Role,
    /// The one web origin it holds for, in its plain form; `None` for any.
    pub(crate) origin: Option<String>,
}

/// What lies under a proof's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredGrant {
    user: UserId,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    /// Absent in what another program wrote there; then it counts as given out long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
}

impl StoredGrant {
    pub(crate) fn new(grant: Grant, issued_at: Timestamp, expires_at: Timestamp) -> StoredGrant {
        let Grant { user, rooms, role, origin } = grant;
        StoredGrant { user, rooms, role, origin, issued_at: Some(issued_at), expires_at }
    }

    /// Who it is, until then.
    pub(crate) fn identity(self, until: Timestamp, proof: &OpaqueToken) -> Identity {
        Identity {
            user: self.user,
            expires_at: Some(until),
            role: self.role,
            rooms: RoomClaim::all_of(&self.rooms),
            anything: false,
            issued_at: self.issued_at,
            proof_id: Some(proof.id()),
        }
    }
}

/// A proof as its bearer brings it, by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OpaqueToken {
    kind: TokenKind,
    hash: [u8; 32],
}

impl OpaqueToken {
    /// A new one, and the text that its bearer gets.
    pub(crate) fn random(kind: TokenKind) -> (OpaqueToken, String) {
        let text = format!("{}{}", kind.prefix(), random_hex());
        (OpaqueToken::hashed(kind, &text), text)
    }

    /// What a text may be, where it looks like one.
    pub(crate) fn parse(kind: TokenKind, text: &str) -> Option<OpaqueToken> {
        let digits = text.strip_prefix(kind.prefix())?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = digits.len() == 64 && digits.bytes().all(is_hex);
        fits.then(|| OpaqueToken::hashed(kind, text))
    }

    fn hashed(kind: TokenKind, text: &str) -> OpaqueToken {
        OpaqueToken { kind, hash: Sha256::digest(text.as_bytes()).into() }
    }

    /// Names it where it may be revoked alone.
    pub(crate) fn id(&self) -> String {
        hex::encode(self.hash)
    }

    fn key(&self) -> String {
        match self.kind {
            TokenKind::Ticket => keys::ticket(&self.id()),
            TokenKind::Session => keys::session(&self.id()),
        }
    }
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenStoreError {
    /// Redis does not answer, or refuses.
    #[error("redis does not keep or give proofs")]
    Redis(#[from] redis::RedisError),
    /// There is no room for more in this process's memory.
    #[error("{TOKEN_STORE_ENTRIES_MAX} proofs are outstanding")]
    Full,
    /// What lies there cannot be written or read.
    #[error("what is kept under a proof is no grant")]
    Form(#[from] serde_json::Error),
}

/// Where proofs lie; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) enum TokenStore {
    /// In this process, and gone with it.
    Memory(Arc<Mutex<HashMap<OpaqueToken, StoredGrant>>>),
    /// In the cluster's Redis.
    Redis(Box<RedisConnection>),
}

impl TokenStore {
    /// One in this process's memory.
    pub(crate) fn memory() -> TokenStore {
        TokenStore::Memory(Arc::default())
    }

    /// Keeps a proof until it expires.
    pub(crate) async fn keep(
        &self,
        proof: &OpaqueToken,
        kept: StoredGrant,
        now_ms: i64,
    ) -> Result<(), TokenStoreError> {
        match self {
            TokenStore::Memory(entries) => {
                let mut entries = entries.lock();
                if entries.len() >= TOKEN_STORE_ENTRIES_MAX {
                    entries.retain(|_, kept| kept.expires_at.0 > now_ms);
                }
                if entries.len() >= TOKEN_STORE_ENTRIES_MAX {
                    return Err(TokenStoreError::Full);
                }
                entries.insert(*proof, kept);
                Ok(())
            }
            TokenStore::Redis(redis) => {
                let left_ms = (kept.expires_at.0 - now_ms).max(1);
                let mut pipe = redis::pipe();
                let value = serde_json::to_string(&kept)?;
                pipe.cmd("SET").arg(proof.key()).arg(value).arg("PX").arg(left_ms).ignore();
                Ok(redis.pipeline(&pipe).await?)
            }
        }
    }

    /// Takes a proof out; of those who try, one gets it.
    pub(crate) async fn take(
        &self,
        proof: &OpaqueToken,
        now_ms: i64,
    ) -> Result<Option<StoredGrant>, TokenStoreError> {
        self.read(proof, now_ms, true).await
    }

    /// What lies under a proof, which stays there.
    pub(crate) async fn look(
        &self,
        proof: &OpaqueToken,
        now_ms: i64,
    ) -> Result<Option<StoredGrant>, TokenStoreError> {
        self.read(proof, now_ms, false).await
    }

    async fn read(
        &self,
        proof: &OpaqueToken,
        now_ms: i64,
        take: bool,
    ) -> Result<Option<StoredGrant>, TokenStoreError> {
        let kept: Option<StoredGrant> = match self {
            TokenStore::Memory(entries) if take => entries.lock().remove(proof),
            TokenStore::Memory(entries) => entries.lock().get(proof).cloned(),
            TokenStore::Redis(redis) => {
                let mut pipe = redis::pipe();
                pipe.cmd(if take { "GETDEL" } else { "GET" }).arg(proof.key());
                let (value,): (Option<String>,) = redis.pipeline(&pipe).await?;
                value.map(|value| serde_json::from_str(&value)).transpose()?
            }
        };
        Ok(kept.filter(|kept| kept.expires_at.0 > now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn kept(expires_ms: i64) -> StoredGrant {
        let user = UserId::parse("ann").unwrap();
        let grant = Grant { user, rooms: vec!["a".into()], role: Role::Member, origin: None };
        StoredGrant::new(grant, Timestamp(NOW_MS), Timestamp(expires_ms))
    }

    #[test]
    fn a_proof_is_long_random_and_known_by_its_form() {
        let (proof, text) = OpaqueToken::random(TokenKind::Ticket);
        assert_eq!(OpaqueToken::parse(TokenKind::Ticket, &text), Some(proof));
        assert_ne!(OpaqueToken::random(TokenKind::Ticket).1, text);
        assert!(!format!("{proof:?}{}", proof.key()).contains(&text[4..]));
        assert_eq!(OpaqueToken::parse(TokenKind::Session, &text), None);
        let digits = &text[4..];
        for bad in [
            digits.to_owned(),
            format!("rct_{}", &digits[1..]),
            format!("rct_{digits}0"),
            format!("rct_{}G", &digits[1..]),
            format!("rct_{}", digits.to_uppercase()).replace(char::is_numeric, "A"),
            "rct_".to_owned(),
        ] {
            assert_eq!(OpaqueToken::parse(TokenKind::Ticket, &bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_taken_is_gone_and_what_has_expired_is_not_given() {
        let store = TokenStore::memory();
        let (proof, _) = OpaqueToken::random(TokenKind::Ticket);
        store.keep(&proof, kept(NOW_MS + 10), NOW_MS).await.unwrap();
        assert_eq!(store.look(&proof, NOW_MS + 10).await.unwrap(), None);
        assert_eq!(store.take(&proof, NOW_MS).await.unwrap(), Some(kept(NOW_MS + 10)));
        assert_eq!(store.take(&proof, NOW_MS).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_vault_in_memory_is_bounded_and_makes_room_of_what_has_expired() {
        let store = TokenStore::memory();
        for _ in 0..TOKEN_STORE_ENTRIES_MAX {
            let (proof, _) = OpaqueToken::random(TokenKind::Ticket);
            store.keep(&proof, kept(NOW_MS + 10), NOW_MS).await.unwrap();
        }
        let (proof, _) = OpaqueToken::random(TokenKind::Ticket);
        let full = store.keep(&proof, kept(NOW_MS + 20), NOW_MS).await;
        assert!(matches!(full, Err(TokenStoreError::Full)), "{full:?}");
        store.keep(&proof, kept(NOW_MS + 20), NOW_MS + 10).await.unwrap();
    }
}
