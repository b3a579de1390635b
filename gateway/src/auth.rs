//! Who is asking: from a proof to an identity and what it may do.

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

pub(crate) use identity::{Bearer, Identity, Role, RoomClaim};
pub(crate) use revocations::Revocations;
pub(crate) use token_store::{Grant, Kept, Kind, Proof, Vault, VaultError};
pub(crate) use tokens::{Authenticator, Trust, TrustError};
