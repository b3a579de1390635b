//! Authentication: from a token, ticket or session to an identity and its permissions.

pub(crate) mod handshake;
pub(crate) mod origin;
pub(crate) mod unproven;
pub(crate) mod client_address;
pub mod api_keys;
mod tokens;
mod jwks;
mod keys;
mod token_store;
mod revocations;
mod identity;
mod random;

pub(crate) use identity::{Identity, Role, RoomClaim, TokenSubject};
pub(crate) use revocations::Revocations;
pub(crate) use token_store::{
    Grant, OpaqueToken, StoredGrant, TokenKind, TokenStore, TokenStoreError,
};
pub(crate) use tokens::{Authenticator, Trust, TrustError};
