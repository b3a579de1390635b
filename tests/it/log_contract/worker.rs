//! What the worker counts and tells, on either log.

use harness::eventually;
use shared::contract::credit::{CreditEntry, CreditKind};
use shared::contract::refusal::RefusalCode;
use shared::store::{Batch, Cursor, DeadLetter, Row};

use super::*;

pub(super) fn usage(user: &str, id: &str, amount: i64) -> Append {
    let entry = CreditEntry {
        amount,
        kind: CreditKind::Usage,
        room_id: None,
        message_id: None,
        metadata: serde_json::Map::new(),
    };
    let body = Bytes::from(serde_json::to_vec(&entry).unwrap());
    unplaced(EntryKind::Usage, user, id, body)
}

fn unplaced(kind: EntryKind, user: &str, id: &str, body: Bytes) -> Append {
    let mut append = entry(&room(user), user, id, "x");
    append.envelope.kind = kind;
    append.envelope.body = body;
    append
}

pub(super) async fn what_comes_to_nothing_is_counted(subject: Subject) {
    let (ann, bob) = (room("ann"), room("bob"));
    let (mut subject, epoch) = subject.at_work(ann.shard()).await;
    let store = Arc::clone(&subject.store);
    let bobs = establish(bob.shard(), 0, &*subject.log, &*store).await.unwrap().number;
    subject.hydrate(epoch, &ann, Position::ZERO).await;
    let mut edit = entry(&ann, "ann", "nowhere", "x");
    edit.envelope.kind = EntryKind::Edit;
    edit.envelope.change_id = Some(MessageId::parse("e1").unwrap());
    subject.append(epoch, &[usage("ann", "c1", -5), edit]).await;
    let balance = async || store.balance(&UserId::parse("ann").unwrap()).await.unwrap();
    eventually(PATIENCE, "it is in the ledger", async || (balance().await == -5).then_some(()))
        .await;
    subject.append(bobs, &[usage("bob", "c1", -5)]).await;
    let metrics = subject.metrics.take().unwrap();
    let counted = async || {
        let now = (metrics.orphaned_total.get(), metrics.quarantined_total.get());
        if now == (1, 1) { Ok(()) } else { Err(format!("{now:?}")) }
    };
    eventually(PATIENCE, "both are counted", counted).await;
    assert_eq!(store.balance(&UserId::parse("bob").unwrap()).await.unwrap(), 0);
}

/// A worker that went after its commit and before its trim leaves it to the next one.
pub(super) async fn dead_letters_of_an_untrimmed_batch_are_refused_by_the_next_owner(
    subject: Subject,
) {
    let lobby = room("lobby");
    let shard = lobby.shard();
    let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let appending = tokio::spawn({
        let log = Arc::clone(&subject.log);
        let batch = ["m1", "m2", "m3"].map(|id| entry(&lobby, "ann", id, "x"));
        async move { log.append(shard, epoch, &batch, Past::Nothing).await }
    });
    let log = Arc::clone(&subject.log);
    let all = async || {
        let entries = log.read(shard, epoch, LogId::ZERO, PageLimit::entries(9)).await.unwrap();
        (entries.len() == 3).then_some(entries)
    };
    let entries = eventually(PATIENCE, "the log has them", all).await;
    let row = |n: usize| {
        let envelope = Envelope::decode(&entries[n].raw).unwrap();
        let mut message: Message = serde_json::from_slice(&envelope.body).unwrap();
        message.position = entries[n].position;
        Row::Message(message)
    };
    let letter = DeadLetter {
        log_id: entries[1].id,
        position: entries[1].position,
        room: Some(lobby.clone()),
        user: Some(UserId::parse("ann").unwrap()),
        id: Some(MessageId::parse("m2").unwrap()),
        raw: entries[1].raw.clone(),
        code: "23503".to_owned(),
        error: "no such user".to_owned(),
    };
    let batch = Batch {
        shard,
        epoch,
        after: LogId::ZERO,
        upto: entries[2].id,
        lease: None,
        rows: vec![row(0), row(2)],
        dead: vec![letter],
        heads: vec![(lobby.clone(), Position::new(epoch, 3))],
        refusals: Vec::new(),
    };
    subject.store.commit(&batch).await.unwrap();
    let cursor = Cursor { upto: entries[2].id, epoch };
    assert_eq!(subject.store.cursor(shard).await.unwrap(), cursor);

    let (subject, _) = subject.at_work(shard).await;
    let known = async |id: &str| {
        let (user, id) = (UserId::parse("ann").unwrap(), MessageId::parse(id).unwrap());
        subject.log.known(&MessageKey { room: lobby.clone(), user, id }).await.unwrap()
    };
    let refused = async || match known("m2").await {
        Some(Appended::Rejected(refusal)) => Ok(refusal.code),
        other => Err(format!("{other:?}")),
    };
    let code = eventually(PATIENCE, "the dead letter is refused", refused).await;
    assert_eq!(code, RefusalCode::Rejected);
    for id in ["m1", "m3"] {
        assert!(matches!(
            known(id).await,
            Some(Appended::Placed(Placement { persisted: true, .. }))
        ));
    }
    assert_eq!(subject.store.dead_letters().await.unwrap().len(), 1);
    appending.await.unwrap().unwrap();
}

/// A room may be called like a user: messages there and that user's movements are two things.
pub(super) async fn a_message_and_a_movement_of_one_id_are_two(subject: Subject) {
    let ann = room("ann");
    let (subject, epoch) = subject.at_work(ann.shard()).await;
    subject.hydrate(epoch, &ann, Position::ZERO).await;
    let said = |id: &str| entry(&ann, "ann", id, "taken");
    let both = [said("c1"), usage("ann", "c1", -5), usage("ann", "c2", -7), said("c2")];
    for duplicate in [false, true] {
        let answers = subject.append(epoch, &both).await;
        let duplicates: Vec<bool> = places(&answers).into_iter().map(|(_, is)| is).collect();
        assert_eq!(duplicates, [duplicate; 4]);
    }
    let store = &subject.store;
    let user = UserId::parse("ann").unwrap();
    let counted = async || (store.balance(&user).await.unwrap() == -12).then_some(());
    eventually(PATIENCE, "both movements count", counted).await;
    let ids = ["c1", "c2"].map(|id| MessageId::parse(id).unwrap());
    for id in ids {
        let identity = MessageKey { room: ann.clone(), user: user.clone(), id };
        let stands = async || store.find(std::slice::from_ref(&identity)).await.unwrap()[0];
        eventually(PATIENCE, "both messages stand", stands).await;
    }
}

pub(super) async fn a_movement_that_the_database_refused_is_told_and_not_a_duplicate(
    mut subject: Subject,
) {
    let ann = room("ann");
    // A balance holds the first, and then not one credit more.
    let (first, second) = (usage("ann", "c1", i64::MAX), usage("ann", "c2", 1));
    let (worked, epoch) = subject.at_work(ann.shard()).await;
    subject = worked;
    let user = UserId::parse("ann").unwrap();
    subject.append(epoch, std::slice::from_ref(&first)).await;
    let synced = async || (subject.log.unsynced(&user).await.unwrap() == 0).then_some(());
    eventually(PATIENCE, "the first is in the ledger", &synced).await;
    let both = [first, second];
    let offered_again = async || match &subject.append(epoch, &both).await.done[..] {
        [Appended::Placed(Placement { duplicate: true, .. }), Appended::Rejected(refusal)] => {
            assert_eq!(refusal.code, RefusalCode::Rejected);
            Ok(())
        }
        other => Err(format!("{other:?}")),
    };
    eventually(PATIENCE, "the second is refused", &offered_again).await;
    offered_again().await.unwrap();
    assert_eq!(subject.store.balance(&user).await.unwrap(), i64::MAX);
    assert_eq!(subject.store.dead_letters().await.unwrap().len(), 1);
    eventually(PATIENCE, "nothing is on its way", &synced).await;
}
