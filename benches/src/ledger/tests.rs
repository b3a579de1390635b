use super::*;

/// A room of three with so many messages sent.
fn three(messages: u32) -> Ledger {
    let mut ledger = Ledger::default();
    let room = ledger.add_room();
    for _ in 0..3 {
        ledger.add_member(room);
    }
    for _ in 0..messages {
        ledger.send(room);
    }
    ledger
}

fn deliver(ledger: &mut Ledger, member: usize, messages: &[u32]) {
    for message in messages {
        ledger.deliver(member, 0, *message);
    }
}

#[test]
fn the_same_order_for_all_is_no_fault_whatever_the_order_is() {
    let mut ledger = three(3);
    for member in 0..3 {
        assert!(!ledger.is_complete());
        deliver(&mut ledger, member, &[1, 0, 2]);
    }
    assert!(ledger.is_complete());
    assert_eq!(ledger.close(), (vec![], 0));
}

#[test]
fn a_message_is_through_when_the_last_member_has_it() {
    let mut ledger = three(1);
    let through: Vec<bool> = (0..3).map(|member| ledger.deliver(member, 0, 0)).collect();
    assert_eq!(through, [false, false, true]);
}

#[test]
fn a_loss_in_the_middle_is_found_when_the_next_message_comes() {
    let mut ledger = three(3);
    deliver(&mut ledger, 0, &[0, 1, 2]);
    deliver(&mut ledger, 1, &[0, 1, 2]);
    deliver(&mut ledger, 2, &[0, 2]);
    let (faults, count) = ledger.close();
    assert_eq!(count, 1);
    assert_eq!(faults, ["room 0: member 2 missed 1 before message 2"]);
}

#[test]
fn a_loss_at_the_end_is_found_at_the_end() {
    let mut ledger = three(2);
    deliver(&mut ledger, 0, &[0, 1]);
    deliver(&mut ledger, 1, &[0, 1]);
    deliver(&mut ledger, 2, &[0]);
    assert!(!ledger.is_complete());
    assert_eq!(ledger.close(), (vec!["room 0: member 2 lacks the last 1".to_owned()], 1));
}

#[test]
fn a_message_that_reaches_nobody_is_lost() {
    let mut ledger = three(2);
    (0..3).for_each(|member| deliver(&mut ledger, member, &[0]));
    assert!(!ledger.is_complete());
    assert_eq!(ledger.close(), (vec!["room 0: 1 messages reached nobody".to_owned()], 1));
}

#[test]
fn a_double_is_found_for_one_member_and_for_all() {
    let mut ledger = three(2);
    deliver(&mut ledger, 0, &[0, 0, 1]);
    let (faults, count) = ledger.close();
    assert_eq!(faults[0], "room 0: member 0 got message 0 twice, or late");
    assert!(count >= 1);

    let mut ledger = three(2);
    (0..3).for_each(|member| deliver(&mut ledger, member, &[0, 1, 0]));
    assert_eq!(ledger.close().1, 3);
}

#[test]
fn a_swap_is_found() {
    let mut ledger = three(2);
    deliver(&mut ledger, 0, &[0, 1]);
    deliver(&mut ledger, 1, &[0, 1]);
    deliver(&mut ledger, 2, &[1, 0]);
    let (faults, count) = ledger.close();
    assert_eq!(count, 2, "{faults:?}");
    assert_eq!(faults[1], "room 0: member 2 got message 0 twice, or late");

    // Both have half of it: whoever comes second is the one that differs.
    let mut ledger = three(2);
    deliver(&mut ledger, 0, &[0]);
    deliver(&mut ledger, 1, &[1]);
    assert_eq!(ledger.close().0[0], "room 0: member 1 got message 1 at place 0, others 0");
}

#[test]
fn what_was_never_sent_or_is_of_another_room_is_a_fault() {
    let mut ledger = three(1);
    let other = ledger.add_room();
    ledger.send(other);
    ledger.deliver(0, 0, 7);
    ledger.deliver(0, other, 0);
    assert_eq!(ledger.close().1, 2 + 1, "and the one message reached nobody");
}

#[test]
fn who_comes_back_without_a_cursor_goes_on_from_what_it_gets_first() {
    let mut ledger = three(4);
    deliver(&mut ledger, 0, &[0, 1, 2, 3]);
    deliver(&mut ledger, 1, &[0, 1, 2, 3]);
    deliver(&mut ledger, 2, &[0]);
    ledger.leave(2);
    assert!(ledger.is_complete());
    ledger.come_back(2, false);
    deliver(&mut ledger, 2, &[2, 3]);
    assert_eq!(ledger.close(), (vec![], 0));

    ledger.leave(2);
    ledger.deliver(2, 0, 3);
    assert_eq!(ledger.close().1, 1);
}

#[test]
fn who_comes_back_with_a_cursor_may_miss_nothing() {
    for (replayed, faults) in [(&[1, 2, 3], 0), (&[2, 3, 3], 2)] {
        let mut ledger = three(4);
        deliver(&mut ledger, 0, &[0, 1, 2, 3]);
        deliver(&mut ledger, 1, &[0, 1, 2, 3]);
        deliver(&mut ledger, 2, &[0]);
        ledger.leave(2);
        ledger.come_back(2, true);
        assert!(!ledger.is_complete());
        deliver(&mut ledger, 2, replayed);
        assert_eq!(ledger.close().1, faults, "{replayed:?}");
    }
}
