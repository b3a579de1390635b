//! The files for Kubernetes: what belongs together agrees, and they scale as they say.
//!
//! What schemas and policies of others say of them is asked by `tests/deployment/check`.

mod belongs_together;
mod journal;
mod pods;
mod programs;
mod hpa;
mod render;
