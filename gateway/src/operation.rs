//! What can be done, by commands over a socket and over HTTP alike: they check who asks first.

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
