//! How a log gets an epoch; and what Redis keeps of an older one under it, and does not believe.

use super::worker::usage;
use super::*;

pub(super) async fn claims_give_one_token_and_only_that_arms(subject: Subject) {
    let (shard, log) = (room("lobby").shard(), &subject.log);
    let tokens = [Uuid::now_v7(), Uuid::now_v7()];
    let first = log.claim(shard, 0, tokens[0]).await.unwrap();
    assert_eq!(first, Claim::Token(tokens[0]));
    assert_eq!(log.claim(shard, 0, tokens[1]).await.unwrap(), first, "the earlier claim stands");
    let epoch = |number| Epoch { number, minted_at: Timestamp(7), quiet: true };
    assert_eq!(log.arm(shard, tokens[1], epoch(5), LogId::ZERO).await.unwrap(), None);
    let armed = log.arm(shard, tokens[0], epoch(5), LogId::ZERO).await.unwrap();
    assert_eq!(armed, Some(epoch(5)));
    let again = log.arm(shard, tokens[0], epoch(6), LogId::ZERO).await.unwrap();
    assert_eq!(again, None, "a token arms once");
    assert_eq!(log.claim(shard, 5, tokens[1]).await.unwrap(), Claim::Armed(epoch(5)));
    assert_eq!(log.claim(shard, 6, tokens[1]).await.unwrap(), Claim::Token(tokens[1]));
    let read = log.read(shard, 5, LogId::ZERO, PageLimit::entries(9)).await;
    assert!(matches!(read, Err(LogError::Stale { .. })), "claimed above, it is no epoch any more");
}

pub(super) async fn an_epoch_over_what_has_yet_to_be_stored_is_not_quiet(subject: Subject) {
    let lobby = room("lobby");
    let (shard, log, store) = (lobby.shard(), &*subject.log, &*subject.store);
    let first = establish(shard, 0, log, store).await.unwrap();
    assert!(first.quiet);
    subject.hydrate(first.number, &lobby, Position::ZERO).await;
    // In memory nothing is answered before it is stored, which nobody does here.
    let one = [entry(&lobby, "ann", "m1", "x")];
    let logged = harness::eventually(PATIENCE, "it is in the log", || async {
        log.len(shard).await.unwrap() == 1
    });
    tokio::select! {
        _ = subject.append(first.number, &one) => {}
        () = logged => {}
    }
    // The database knows nothing of it, and takes the shard for quiet.
    let next = establish(shard, first.number + 1, log, store).await.unwrap();
    assert!(next.number > first.number && !next.quiet, "{next:?}");
    let again = establish(shard, 0, log, store).await.unwrap();
    assert_eq!(again, next);
}

/// Has another epoch armed over what is there, as after a restart.
async fn next_epoch(subject: &Subject, room: &RoomId, cursor: LogId) -> u64 {
    let (log, shard) = (&subject.log, room.shard());
    let newest = subject.store.cursor(shard).await.unwrap().epoch;
    let claim = log.claim(shard, newest + 1, Uuid::now_v7()).await.unwrap();
    let Claim::Token(token) = claim else { panic!("{claim:?}") };
    let number = subject.store.mint(shard, token, 0).await.unwrap().number;
    let epoch = Epoch { number, minted_at: Timestamp(0), quiet: false };
    assert!(log.arm(shard, token, epoch, cursor).await.unwrap().is_some());
    number
}

#[tokio::test]
async fn a_new_epoch_believes_no_head_before_it_was_compared_with_the_databases() {
    let lobby = room("lobby");
    let subject = redis().await;
    let shard = lobby.shard();
    let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let batch = ["m1", "m2", "m3", "m4", "m5"].map(|id| entry(&lobby, "ann", id, "x"));
    subject.append(epoch, &batch).await;
    let logged = subject.log.read(shard, epoch, LogId::ZERO, PageLimit::entries(9)).await.unwrap();
    // The database has three of them.
    let next = next_epoch(&subject, &lobby, logged[2].id).await;
    let left = subject.log.read(shard, next, LogId::ZERO, PageLimit::entries(9)).await.unwrap();
    assert_eq!(left.len(), 2, "the log is cut at the cursor");
    assert!(subject.log.room(&lobby, next, Position::ZERO, 9).await.unwrap().is_none());
    let stopped = subject.append(next, &batch[4..]).await;
    assert_eq!(stopped.stop, Some(AppendStop::Unhydrated), "not even a duplicate is known");
    let known = async |id: &str| {
        let (user, id) = (UserId::parse("ann").unwrap(), MessageId::parse(id).unwrap());
        subject.log.known(&MessageKey { room: lobby.clone(), user, id }).await.unwrap()
    };
    assert_eq!(known("m5").await, None);
    let at = |epoch, seq| Position::new(epoch, seq);
    subject.hydrate(next, &lobby, at(epoch, 3)).await;
    let page = subject.log.room(&lobby, next, Position::ZERO, 9).await.unwrap().unwrap();
    assert_eq!((page.head, page.persisted), (at(epoch, 5), at(epoch, 3)));
    let ring: Vec<Position> = page.entries.iter().map(|entry| entry.position).collect();
    assert_eq!(ring, [at(epoch, 4), at(epoch, 5)], "the database answers for the others");
    assert!(known("m5").await.is_some() && known("m2").await.is_none());
    // What stands in the log stands; what the database would have, and was asked for, is new.
    let answers = subject.append(next, &[batch[4].clone(), batch[1].clone()]).await;
    assert_eq!(places(&answers), [(at(epoch, 5), true), (at(next, 6), false)]);

    // A database that is ahead of everything here.
    let last = next_epoch(&subject, &lobby, LogId { epoch: next, n: 99 }).await;
    subject.hydrate(last, &lobby, at(next, 40)).await;
    let page = subject.log.room(&lobby, last, Position::ZERO, 9).await.unwrap().unwrap();
    assert_eq!((page.head, page.persisted), (at(next, 40), at(next, 40)));
    assert!(page.entries.is_empty() && page.dense_from.is_none());
    let answers = subject.append(last, &batch[4..]).await;
    assert_eq!(places(&answers), [(at(last, 41), false)]);
    subject.hydrate(last, &lobby, at(next, 90)).await;
    let page = subject.log.room(&lobby, last, Position::ZERO, 9).await.unwrap().unwrap();
    assert_eq!(page.head, at(last, 41), "compared once");
}

#[tokio::test]
async fn what_a_cut_takes_from_the_log_counts_as_unsynced_no_longer() {
    let ann = room("ann");
    let subject = redis().await;
    let shard = ann.shard();
    let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
    let spent = [usage("ann", "c1", -5), usage("ann", "c2", -7), usage("ann", "c3", -11)];
    subject.append(epoch, &spent).await;
    let user = UserId::parse("ann").unwrap();
    assert_eq!(subject.log.unsynced(&user).await.unwrap(), -23);
    let logged = subject.log.read(shard, epoch, LogId::ZERO, PageLimit::entries(9)).await.unwrap();
    let next = next_epoch(&subject, &ann, logged[1].id).await;
    assert_eq!(subject.log.unsynced(&user).await.unwrap(), -11);
    assert_eq!(subject.log.synced(shard).await.unwrap(), logged[1].id);
    let again = subject.append(next, &spent).await;
    let duplicates: Vec<bool> = places(&again).into_iter().map(|(_, d)| d).collect();
    assert_eq!(duplicates, [false, false, true], "what was cut, the database was asked for");
    assert_eq!(subject.log.unsynced(&user).await.unwrap(), -23);
}

#[tokio::test]
async fn what_the_database_refused_is_named_before_it_counts_as_persisted() {
    let lobby = room("lobby");
    let (subject, epoch) = redis().await.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let mut unreadable = entry(&lobby, "ann", "m1", "x");
    unreadable.envelope.body = Bytes::from_static(b"{}");
    subject.append(epoch, &[unreadable, entry(&lobby, "ann", "m2", "x")]).await;
    let covered = || async {
        let page = subject.log.room(&lobby, epoch, Position::MAX, 0).await.unwrap().unwrap();
        page.persisted == Position::new(epoch, 2)
    };
    harness::eventually(PATIENCE, "both are persisted, as it seems", covered).await;
    let named = subject.log.refused(&lobby).await.unwrap();
    assert_eq!(named.len(), 1);
    assert_eq!((named[0].id.as_str(), named[0].position), ("m1", Position::new(epoch, 1)));
    let stored = subject.store.refused(std::slice::from_ref(&lobby), Timestamp(0)).await.unwrap();
    assert_eq!(stored, named, "and the database says the same");
    assert!(
        subject.store.refused(&[lobby], Timestamp(4_000_000_000_000)).await.unwrap().is_empty()
    );
}
