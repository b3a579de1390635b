use super::*;
use crate::sim_client::{Ack, Entry, Sent, View};
use crate::wire::Refused;

/// Two people who said ten things in one room and saw all of them, over two epochs.
fn true_history() -> (Vec<Record>, Vec<Row>) {
    let rows: Vec<Row> = (1..=10_u64)
        .map(|seq| Row {
            room: "r".to_owned(),
            epoch: if seq <= 6 { 1 } else { 2 },
            seq,
            id: format!("m{seq:02}"),
            user: if seq % 2 == 0 { "alice" } else { "bob" }.to_owned(),
            content: format!("text {seq}"),
        })
        .collect();
    let records = ["alice", "bob"].map(|user| record_of(user, &rows));
    (records.to_vec(), rows)
}

fn record_of(user: &str, rows: &[Row]) -> Record {
    let mut record = Record { user: user.to_owned(), connections: 1, ..Record::default() };
    let mut view = View { in_room: true, from_start: true, ..View::default() };
    for (offer, row) in (0..).zip(rows) {
        record.note_position(&row.room, row.position(), &row.id);
        view.entries.push(Entry {
            position: row.position(),
            id: row.id.clone(),
            user: row.user.clone(),
            content: row.content.clone(),
        });
        if row.user != user {
            continue;
        }
        let (room, id, content) = (row.room.clone(), row.id.clone(), row.content.clone());
        record.sent.push(Sent { room: room.clone(), id: id.clone(), content });
        record.persisted.insert(id.clone());
        let position = Some(row.position());
        record
            .acked
            .insert(id, vec![Ack { room, position, duplicate: false, connection: 1, offer }]);
    }
    record.views.insert("r".to_owned(), view);
    record
}

fn refused() -> Refused {
    let (code, message) = ("rejected".to_owned(), String::new());
    Refused { code, message, retry_after_ms: None, field: None, limit: None, server_time: None }
}

fn view(records: &mut [Record]) -> &mut View {
    records[0].views.get_mut("r").unwrap()
}

fn ack<'a>(records: &'a mut [Record], id: &str) -> &'a mut Vec<Ack> {
    records.iter_mut().find_map(|record| record.acked.get_mut(id)).unwrap()
}

type Mutation = fn(&mut Vec<Record>, &mut Vec<Row>);

/// Each breaks the true history in one way; the text is what one of the sentences must hold.
const MUTANTS: &[(&str, Mutation)] = &[
    ("m04 of alice was acked and has no row", |_, rows| {
        rows.remove(3);
    }),
    ("m04 was acked to alice in r and stands as mallory's in r", |_, rows| {
        rows[3].user = "mallory".to_owned();
    }),
    ("m11 of bob in r was sent by nobody", |_, rows| {
        let row = Row { id: "m11".to_owned(), seq: 11, user: "bob".to_owned(), ..rows[9].clone() };
        rows.push(row);
    }),
    ("the row m02 does not say what was sent", |_, rows| rows[1].content.clear()),
    ("m02 was refused to alice and has a row", |records, _| {
        records[0].acked.remove("m02");
        records[0].refused.insert("m02".to_owned(), refused());
    }),
    ("m05 has more than one row", |_, rows| rows.push(Row { seq: 11, ..rows[4].clone() })),
    ("on (1, 5) of r stand m05 and, for the database, m06", |_, rows| rows[5].seq = 5),
    ("on (2, 7) of r stand m07 and, for alice, ghost", |records, _| {
        let positions = records[0].positions.get_mut("r").unwrap();
        positions.insert(Position::new(2, 7), "ghost".to_owned());
    }),
    ("before (1, 4) of r, numbers from 3..4 lack", |_, rows| {
        rows.remove(2);
    }),
    ("before (1, 2) of r, numbers from 1..2 lack", |_, rows| {
        rows.remove(0);
    }),
    ("m02 was acked at (1, 1) and then at (1, 2)", |records, _| {
        let acks = ack(records, "m02");
        let earlier = Ack { position: Some(Position::new(1, 1)), ..acks[0].clone() };
        acks.insert(0, earlier);
    }),
    ("m08 was acked at (2, 9) and stands at (2, 8)", |records, _| {
        ack(records, "m08")[0].position = Some(Position::new(2, 9));
    }),
    ("alice offered m04 before m02 in r, and they stand at (1, 4) and (1, 2)", |records, _| {
        ack(records, "m02")[0].offer = 4;
    }),
    ("bob was told that m11 is persisted; no row", |records, _| {
        records[1].persisted.insert("m11".to_owned());
    }),
    ("m03 of r was called rejected and has a row", |records, _| {
        records[1].rejected.insert(("r".to_owned(), "m03".to_owned()), refused());
    }),
    ("alice's view of r lacks 1 messages between (1, 3) and (1, 5)", |records, _| {
        view(records).entries.remove(3);
    }),
    ("alice's view of r lacks 2 messages between (1, 5) and (2, 8)", |records, _| {
        view(records).entries.drain(5..7);
    }),
    ("alice's view of r shows m04 twice", |records, _| {
        let entry = view(records).entries[3].clone();
        view(records).entries.push(entry);
    }),
    ("alice's view of r shows (1, 4) after (1, 5)", |records, _| {
        view(records).entries.drain(..3);
        view(records).entries.swap(0, 1);
    }),
    ("alice's view of r shows m02 at (1, 1), and it stands at (1, 2)", |records, _| {
        view(records).entries.remove(0);
        view(records).entries[0].position = Position::new(1, 1);
    }),
    ("alice's view of r shows ghost at (1, 2), which has no row", |records, _| {
        view(records).entries[1].id = "ghost".to_owned();
    }),
    ("alice's view of r shows m01 otherwise than its row", |records, _| {
        view(records).entries[0].user = "alice".to_owned();
    }),
    ("alice's view of r lacks the last 1 messages", |records, _| {
        view(records).entries.pop();
    }),
    ("alice's view of r lacks the first 2 messages", |records, _| {
        view(records).entries.drain(..2);
    }),
    ("alice's view of r lacks the first 10 messages", |records, _| view(records).entries.clear()),
    ("alice's view of r is empty, and the room is not", |records, _| {
        view(records).entries.clear();
        view(records).from_start = false;
    }),
    ("bob saw: something odd", |records, _| records[1].faults.push("something odd".to_owned())),
];

#[test]
fn a_true_history_breaks_no_promise() {
    let (records, rows) = true_history();
    assert_eq!(check_all(&records, &rows, &Expect::default()), Vec::<String>::new());
}

#[test]
fn every_mutant_is_caught() {
    for (sentence, mutate) in MUTANTS {
        let (mut records, mut rows) = true_history();
        mutate(&mut records, &mut rows);
        let broken = check_all(&records, &rows, &Expect::default());
        assert!(broken.iter().any(|said| said.contains(sentence)), "{sentence:?} in {broken:#?}");
    }
}

#[test]
fn a_view_may_begin_later_and_end_where_it_was_left() {
    let (mut records, rows) = true_history();
    view(&mut records).entries.drain(..4);
    view(&mut records).from_start = false;
    let left = records[1].views.get_mut("r").unwrap();
    left.entries.truncate(7);
    left.in_room = false;
    assert_eq!(check_all(&records, &rows, &Expect::default()), Vec::<String>::new());
}

#[test]
fn a_rejected_message_is_neither_lost_nor_a_hole() {
    let (mut records, mut rows) = true_history();
    rows.remove(3);
    records[0].persisted.remove("m04");
    records[0].rejected.insert(("r".to_owned(), "m04".to_owned()), refused());
    assert_eq!(check_all(&records, &rows, &Expect::default()), Vec::<String>::new());
}

#[test]
fn many_sentences_of_one_kind_are_counted() {
    let (records, _rows) = true_history();
    let broken = check_all(&records, &[], &Expect::default());
    assert!(broken.iter().any(|said| said.contains("more like this")), "{broken:#?}");
    assert!(broken.len() < 30);
}
