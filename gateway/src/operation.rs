//! Operations that commands and the HTTP API share. Callers authorize first.

pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod credit;
pub(crate) mod member;
pub(crate) mod receipt;
pub(crate) mod change;
pub(crate) mod post;
pub(crate) mod authorize;
pub(crate) mod authenticate;
pub(crate) mod validate;
