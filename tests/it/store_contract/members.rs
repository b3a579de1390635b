//! Who belongs to a room, and whose tokens hold no longer.

use std::sync::Arc;

use shared::contract::timestamp::Timestamp;
use shared::store::{MemberRole, Revocation, RevokedSubject, Store};
use uuid::Uuid;

use super::feed::{room, user};

fn now_ms() -> i64 {
    i64::try_from(Uuid::now_v7().get_timestamp().unwrap().to_unix().0).unwrap() * 1000
}

pub(super) async fn a_member_is_what_was_last_said(store: Arc<dyn Store>) {
    let role = async |who| store.member(&room("a"), &user(who)).await.unwrap();
    let set = async |who, role| store.set_member(&room("a"), &user(who), role).await.unwrap();
    assert_eq!(role("ann").await, None);
    for said in [MemberRole::Member, MemberRole::Moderator, MemberRole::Removed, MemberRole::Member]
    {
        set("ann", said).await;
        assert_eq!(role("ann").await, Some(said));
    }
    assert_eq!(store.member(&room("b"), &user("ann")).await.unwrap(), None);
    set("bob", MemberRole::Removed).await;
    set("cy", MemberRole::Removed).await;
    assert_eq!(store.removed(&room("a")).await.unwrap(), ["bob", "cy"].map(user));
    set("bob", MemberRole::Moderator).await;
    assert_eq!(store.removed(&room("a")).await.unwrap(), [user("cy")]);
    assert_eq!(store.removed(&room("b")).await.unwrap(), []);
}

pub(super) async fn members_are_read_page_by_page_without_the_removed(store: Arc<dyn Store>) {
    let people = ["Zoe", "ann", "bob", "ben", "_x", "élise"];
    for who in people {
        store.set_member(&room("a"), &user(who), MemberRole::Member).await.unwrap();
    }
    store.set_member(&room("a"), &user("ben"), MemberRole::Removed).await.unwrap();
    store.set_member(&room("a"), &user("bob"), MemberRole::Moderator).await.unwrap();
    store.set_member(&room("b"), &user("dan"), MemberRole::Member).await.unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.members(&room("a"), after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.user_id.clone());
        assert!(page.len() <= 2);
        all.extend(page);
    }
    let names: Vec<&str> = all.iter().map(|member| member.user_id.as_str()).collect();
    assert_eq!(names, ["Zoe", "_x", "ann", "bob", "élise"]);
    assert_eq!((all[2].role, all[3].role), (MemberRole::Member, MemberRole::Moderator));
    assert!(all.iter().all(|member| (member.added_at.0 - now_ms()).abs() < 60_000));
}

pub(super) async fn the_later_revocation_stays_until_it_can_be_forgotten(store: Arc<dyn Store>) {
    let now = now_ms();
    let revocation = |subject, at, until| Revocation {
        subject,
        at: Timestamp(now + at),
        until: Timestamp(now + until),
    };
    let ann = || RevokedSubject::User(user("ann"));
    let token = || RevokedSubject::Token("ann".to_owned());
    assert_eq!(store.revocations().await.unwrap(), []);
    store.revoke(&revocation(ann(), -5000, 600_000)).await.unwrap();
    store.revoke(&revocation(ann(), -9000, 300_000)).await.unwrap();
    store.revoke(&revocation(token(), -7000, 500_000)).await.unwrap();
    let (anns, tokens) = (revocation(ann(), -5000, 600_000), revocation(token(), -7000, 500_000));
    assert_eq!(store.revocations().await.unwrap(), [tokens.clone(), anns]);
    let later = revocation(ann(), -1000, 900_000);
    store.revoke(&later).await.unwrap();
    // What has expired speaks of nobody.
    store.revoke(&revocation(RevokedSubject::User(user("bob")), -9000, -1000)).await.unwrap();
    assert_eq!(store.revocations().await.unwrap(), [tokens, later]);
}
