//! What a node answers over HTTP.

#[cfg_attr(not(test), expect(dead_code, reason = "the route that upgrades is not written yet"))]
pub mod handshake;
