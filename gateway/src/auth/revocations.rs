//! Revoked tokens and users, as this node last read them from the database.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use shared::contract::id::UserId;
use shared::contract::timestamp::Timestamp;
use shared::store::{Revocation, RevokedSubject};
use tokio::sync::Notify;

use super::identity::TokenSubject;

/// Every revocation that this node knows of.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    known: Mutex<Option<RevocationSet>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct RevocationSet {
    users: HashMap<UserId, Timestamp>,
    proofs: HashSet<String>,
}

impl RevocationSet {
    fn add(&mut self, revocation: Revocation) {
        match revocation.subject {
            RevokedSubject::User(user) => {
                let at = self.users.entry(user).or_insert(revocation.at);
                *at = (*at).max(revocation.at);
            }
            RevokedSubject::Token(id) => {
                self.proofs.insert(id);
            }
        }
    }

    fn covers(&self, subject: &TokenSubject) -> bool {
        // What does not say when it was given out may be from before.
        let before = |at: &Timestamp| subject.issued_at.is_none_or(|issued_at| issued_at < *at);
        self.users.get(&subject.user).is_some_and(before)
            || subject.proof_id.as_ref().is_some_and(|id| self.proofs.contains(id))
    }
}

impl Revocations {
    /// Whether they were ever read; before that nobody can be told to hold.
    pub(crate) fn are_known(&self) -> bool {
        self.known.lock().is_some()
    }

    /// Whether this proof was taken back.
    pub(crate) fn cover(&self, subject: &TokenSubject) -> bool {
        self.known.lock().as_ref().is_some_and(|known| known.covers(subject))
    }

    /// What the database has, in place of what was known.
    pub(crate) fn replace(&self, revocations: Vec<Revocation>) {
        let mut known = RevocationSet::default();
        revocations.into_iter().for_each(|revocation| known.add(revocation));
        *self.known.lock() = Some(known);
    }

    /// What the database has got since it was last read, and more of what it had.
    pub(crate) fn extend(&self, revocations: Vec<Revocation>) {
        revocations.into_iter().for_each(|revocation| self.add(revocation));
    }

    /// One more, which the database has just taken. Before the first reading, that will find it.
    pub(crate) fn add(&self, revocation: Revocation) {
        if let Some(known) = self.known.lock().as_mut() {
            known.add(revocation);
        }
    }

    /// Somebody says that there are new ones.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Until somebody says so.
    pub(crate) async fn woken(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(user: &str, issued_ms: Option<i64>, id: Option<&str>) -> TokenSubject {
        let user = UserId::parse(user).unwrap();
        let (issued_at, proof_id) = (issued_ms.map(Timestamp), id.map(str::to_owned));
        TokenSubject { user, issued_at, proof_id }
    }

    fn revoked(subject: RevokedSubject, at_ms: i64) -> Revocation {
        Revocation { subject, at: Timestamp(at_ms), until: Timestamp(i64::MAX) }
    }

    #[test]
    fn a_user_loses_what_was_issued_before_and_a_token_loses_itself() {
        let revocations = Revocations::default();
        assert!(!revocations.are_known());
        let ann = RevokedSubject::User(UserId::parse("ann").unwrap());
        let token = RevokedSubject::Token("t1".to_owned());
        revocations.replace(vec![
            revoked(ann.clone(), 2_000),
            revoked(ann, 1_000),
            revoked(token, 1_000),
        ]);
        assert!(revocations.are_known());
        let cases = [
            (subject("ann", Some(1_999), None), true),
            (subject("ann", Some(2_000), None), false),
            (subject("ann", None, None), true),
            (subject("bob", None, None), false),
            (subject("bob", Some(1), Some("t1")), true),
            (subject("bob", Some(9_999), Some("t1")), true),
            (subject("bob", Some(1), Some("t2")), false),
        ];
        for (subject, covered) in cases {
            assert_eq!(revocations.cover(&subject), covered, "{subject:?}");
        }
        revocations.replace(Vec::new());
        assert!(!revocations.cover(&subject("ann", None, None)));
    }
}
