//! Who got what in which order: whether anything was lost, doubled, or seen in two orders.
//!
//! The first member that gets a room's n-th message says which one that is; every other member has
//! to get the same one there. So each delivery is one comparison, and what differs is found when it
//! comes, not after the run.

/// Of so many faults the text is kept; the others are counted.
const FAULTS_KEPT: usize = 12;
/// A place in a room's order that is not known.
const NOWHERE: u32 = u32::MAX;

/// The deliveries of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    rooms: Vec<Room>,
    members: Vec<Member>,
    faults: Vec<String>,
    fault_count: u64,
}

#[derive(Debug, Default)]
struct Room {
    /// The messages, as the first member to get each saw them.
    order: Vec<u32>,
    /// How many members got the message at that place.
    received: Vec<u32>,
    /// The place of each message that was sent.
    places: Vec<u32>,
    /// How many members are there.
    members: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    room: u32,
    /// The place of the next message; not known for who comes when others have spoken already.
    next: u32,
    is_there: bool,
}

impl Ledger {
    /// One more room, with nobody in it.
    pub fn add_room(&mut self) -> u32 {
        self.rooms.push(Room::default());
        u32::try_from(self.rooms.len() - 1).expect("fewer rooms than 2^32")
    }

    /// One more member of a room, from the room's present end on.
    pub fn add_member(&mut self, room: u32) -> usize {
        let state = &mut self.rooms[room as usize];
        let next = u32::try_from(state.order.len()).unwrap_or(NOWHERE);
        state.members += 1;
        self.members.push(Member { room, next, is_there: true });
        self.members.len() - 1
    }

    /// The member hears no more.
    pub fn leave(&mut self, member: usize) {
        let member = &mut self.members[member];
        if std::mem::replace(&mut member.is_there, false) {
            self.rooms[member.room as usize].members -= 1;
        }
    }

    /// The member is back. Either it gets everything from where it stood when it left, or it hears
    /// from some place on, and what it gets first says from where.
    pub fn come_back(&mut self, member: usize, from_where_it_stood: bool) {
        let member = &mut self.members[member];
        if !std::mem::replace(&mut member.is_there, true) {
            self.rooms[member.room as usize].members += 1;
            if !from_where_it_stood {
                member.next = NOWHERE;
            }
        }
    }

    /// A message of the room is about to be sent; its number, from 0.
    pub fn send(&mut self, room: u32) -> u32 {
        let places = &mut self.rooms[room as usize].places;
        places.push(NOWHERE);
        u32::try_from(places.len() - 1).expect("fewer messages than 2^32")
    }

    /// How many messages of the room were sent.
    pub fn sent(&self, room: u32) -> usize {
        self.rooms[room as usize].places.len()
    }

    /// A member got a message. True if it was the last of the members to get it.
    #[inline]
    pub fn deliver(&mut self, member: usize, room: u32, message: u32) -> bool {
        let state = &mut self.members[member];
        if state.room == room && state.is_there {
            let place = state.next as usize;
            let of_room = &mut self.rooms[room as usize];
            if of_room.order.get(place) == Some(&message) {
                state.next += 1;
                of_room.received[place] += 1;
                return of_room.received[place] == of_room.members;
            }
        }
        self.deliver_slowly(member, room, message)
    }

    /// The first delivery of a message, the first to a member who came back, and every fault.
    #[cold]
    #[inline(never)]
    fn deliver_slowly(&mut self, member: usize, room: u32, message: u32) -> bool {
        let Member { room: own, next, is_there } = self.members[member];
        if own != room || !is_there {
            self.fault(format!(
                "member {member} got message {message} of room {room}, where it is not"
            ));
            return false;
        }
        let of_room = &mut self.rooms[room as usize];
        let end = u32::try_from(of_room.order.len()).unwrap_or(NOWHERE);
        let Some(place) = of_room.places.get(message as usize).copied() else {
            self.fault(format!(
                "member {member} got message {message} of room {room}, which nobody sent"
            ));
            return false;
        };
        if place == NOWHERE && (next == end || next == NOWHERE) {
            of_room.places[message as usize] = end;
            of_room.order.push(message);
            of_room.received.push(1);
            self.members[member].next = end + 1;
            return of_room.members == 1;
        }
        if place == NOWHERE {
            let other = of_room.order[next as usize];
            self.fault(format!(
                "room {room}: member {member} got message {message} at place {next}, others {other}"
            ));
            return false;
        }
        if next != NOWHERE && place < next {
            self.fault(format!(
                "room {room}: member {member} got message {message} twice, or late"
            ));
            return false;
        }
        of_room.received[place as usize] += 1;
        let is_last = of_room.received[place as usize] == of_room.members;
        self.members[member].next = place + 1;
        if next != NOWHERE {
            let missing = place - next;
            self.fault(format!(
                "room {room}: member {member} missed {missing} before message {message}"
            ));
        }
        is_last
    }

    /// Something else that must not be.
    pub fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(text);
        }
    }

    /// What went wrong first.
    pub fn first_fault(&self) -> Option<String> {
        self.faults.first().cloned()
    }

    /// Whether every member has every message that was sent.
    pub fn is_complete(&self) -> bool {
        let whole = |room: &Room| room.order.len() == room.places.len();
        self.rooms.iter().all(whole) && self.members.iter().all(|member| self.is_up_to_date(member))
    }

    fn is_up_to_date(&self, member: &Member) -> bool {
        let order = &self.rooms[member.room as usize].order;
        !member.is_there || member.next == NOWHERE || member.next as usize == order.len()
    }

    /// What is missing now counts as lost. All faults, and how many there were.
    pub fn close(&mut self) -> (Vec<String>, u64) {
        let mut lost = Vec::new();
        for (number, room) in self.rooms.iter().enumerate().filter(|(_, room)| room.members > 0) {
            let nobody = room.places.iter().filter(|place| **place == NOWHERE).count();
            if nobody > 0 {
                lost.push(format!("room {number}: {nobody} messages reached nobody"));
            }
        }
        for (number, member) in self.members.iter().enumerate() {
            if !self.is_up_to_date(member) {
                let missing = self.rooms[member.room as usize].order.len() - member.next as usize;
                let room = member.room;
                lost.push(format!("room {room}: member {number} lacks the last {missing}"));
            }
        }
        lost.into_iter().for_each(|text| self.fault(text));
        (self.faults.clone(), self.fault_count)
    }
}

#[cfg(test)]
mod tests;
