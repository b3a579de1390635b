//! Who is asking: from a proof to an identity and what it may do.

mod tokens;
mod jwks;
mod keys;
mod vault;
mod revocations;
mod identity;

pub(crate) use identity::{Bearer, Identity, Role, RoomClaim};
pub(crate) use revocations::Revocations;
pub(crate) use tokens::{Authenticator, Trust, TrustError};
pub(crate) use vault::{Grant, Kept, Kind, Proof, Vault, VaultError};
