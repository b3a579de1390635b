//! Messages that are erased while the log still holds them.

use std::sync::Mutex;

use shared::contract::signal::{NodeSignal, Signal};
use shared::erase::{Progress, erase};
use shared::store::{Erased, ErasedStep, Span};

use super::*;

pub(super) async fn what_is_erased_is_forgotten_by_database_log_and_nodes(subject: Subject) {
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    let said = |user, n| entry(&lobby, user, &format!("m{n}"), "a secret");
    let batch = [said("ann", 1), said("bob", 2), said("ann", 3)];
    subject.append(epoch, &batch).await;

    // Whether it was in the database by now or not.
    let told = Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push(progress);
    let whose = Erased::User(UserId::parse("ann").unwrap());
    let total = erase(&*subject.log, &*subject.store, &whose, &tell).await.unwrap();
    assert_eq!((total.messages, total.rooms), (2, vec![lobby.clone()]));
    let told = told.into_inner().unwrap();
    assert_eq!(told.last(), Some(&Progress::Forgetting { rooms: 1 }), "{told:?}");

    let stored = subject.store.messages(&lobby, Span::After(Position::ZERO), 9).await.unwrap();
    let contents: Vec<&str> = stored.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["", "a secret", ""]);
    let page = subject.log.room(&lobby, epoch, Position::ZERO, 9).await.unwrap().unwrap();
    assert_eq!(page.head, Position::new(epoch, 3));
    assert!(page.entries.is_empty(), "the ring has forgotten what is persisted");
    loop {
        match subject.delivery().await {
            Delivery::Signal(Signal::Nodes(NodeSignal::Erased { room })) => {
                assert_eq!(room, lobby);
                break;
            }
            Delivery::Entry(_) | Delivery::Watermark(_) => {}
            other @ (Delivery::Signal(_) | Delivery::Gap) => panic!("{other:?}"),
        }
    }
    let next = subject.append(epoch, &[said("bob", 4)]).await;
    assert_eq!(places(&next), [(Position::new(epoch, 4), false)]);
    let again = subject.append(epoch, &batch[..1]).await;
    assert_eq!(places(&again), [(Position::new(epoch, 1), true)], "its id stays known");
    let step = subject.store.erase(&whose, Position::ZERO, 9).await.unwrap();
    assert_eq!(step, ErasedStep { messages: 0, rooms: vec![lobby], more: None });
}
