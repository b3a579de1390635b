//! What a room should look like after what was said and changed in it, and what a client makes of
//! what it is sent.

use std::collections::BTreeMap;

use harness::wire::{Incoming, Since};
use harness::{Client, Position, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{delete, edit};

/// What happened at a place.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send { id: String, content: String, metadata: Value },
    Edit { id: String, content: String },
    Delete { id: String },
}

/// A place in the order.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) position: Position,
    /// The id of the message or of the change.
    pub(crate) key: String,
    pub(crate) step: Step,
}

/// A message as it looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    pub(crate) at: Position,
    pub(crate) changed: Position,
    pub(crate) content: String,
    pub(crate) metadata: Value,
    pub(crate) edited: bool,
    pub(crate) deleted: bool,
}

/// Messages by id.
pub(crate) type View = BTreeMap<String, Shown>;

/// Numbers that look random, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// A room's order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    pub(crate) ops: Vec<Op>,
}

impl Model {
    /// Says or changes something, and remembers where it stands.
    pub(crate) async fn act(&mut self, client: &Client, room: &str, dice: &mut Dice) {
        let standing = self.after(self.ops.len());
        let alive: Vec<&String> =
            standing.iter().filter(|(_, shown)| !shown.deleted).map(|(id, _)| id).collect();
        let any = (!alive.is_empty()).then(|| alive[dice.below(alive.len().max(1))].clone());
        let (key, content) = (unique_id(), format!("text {}", dice.below(1_000_000)));
        let op = match (dice.below(10), any) {
            (0..4, Some(id)) => {
                let changed = edit(client, room, (&id, &key), &content).await.unwrap();
                Op { position: changed.position, key, step: Step::Edit { id, content } }
            }
            (4, Some(id)) => {
                let changed = delete(client, room, (&id, &key)).await.unwrap();
                Op { position: changed.position, key, step: Step::Delete { id } }
            }
            _ => {
                let metadata = json!({ "n": dice.below(100) });
                let data = json!({
                    "roomId": room, "id": key, "content": content, "metadata": metadata
                });
                let answer = client.command("message:send", data).await.unwrap();
                let position = Position::deserialize(&answer["position"]).unwrap();
                Op { position, key: key.clone(), step: Step::Send { id: key, content, metadata } }
            }
        };
        self.ops.push(op);
    }

    /// What the room looks like after the first `count` of its places.
    pub(crate) fn after(&self, count: usize) -> View {
        let mut view = View::new();
        for Op { position, step, .. } in &self.ops[..count] {
            match step.clone() {
                Step::Send { id, content, metadata } => {
                    let (at, changed) = (*position, *position);
                    let shown =
                        Shown { at, changed, content, metadata, edited: false, deleted: false };
                    view.insert(id, shown);
                }
                Step::Edit { id, content } => {
                    let shown = view.get_mut(&id).unwrap();
                    (shown.content, shown.edited, shown.changed) = (content, true, *position);
                }
                Step::Delete { id } => {
                    let shown = view.get_mut(&id).unwrap();
                    (shown.content, shown.metadata) = (String::new(), json!({}));
                    (shown.deleted, shown.changed) = (true, *position);
                }
            }
        }
        view
    }

    /// The cursor of a client that got the first `count` of its places, and what it shows.
    pub(crate) fn client_at(&self, count: usize) -> (Since, View) {
        let Op { position, key, .. } = &self.ops[count - 1];
        (Since { position: *position, message_id: key.clone() }, self.after(count))
    }

    /// The messages in their order, as pages of history show them.
    pub(crate) fn in_order(&self) -> Vec<Shown> {
        let mut all: Vec<Shown> = self.after(self.ops.len()).into_values().collect();
        all.sort_by_key(|shown| shown.at);
        all
    }
}

/// A message object as a client shows it.
pub(crate) fn shown(message: &Value) -> Shown {
    let position = |value: &Value| Position::deserialize(value).unwrap();
    let at = position(&message["position"]);
    let changed = message.get("changedPosition").map_or(at, position);
    Shown {
        at,
        changed,
        content: message["content"].as_str().unwrap().to_owned(),
        metadata: message["metadata"].clone(),
        edited: message.get("editedAt").is_some(),
        deleted: message.get("deletedAt").is_some(),
    }
}

/// What a client's screen shows, by the rules of `PROTOCOL.md`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Screen {
    pub(crate) view: View,
    pub(crate) cursor: Option<Since>,
}

impl Screen {
    /// The reply to a join; `fresh` forgets what there was.
    pub(crate) fn joined(&mut self, reply: &Value, fresh: bool) {
        if fresh {
            *self = Screen::default();
        }
        for message in reply["messages"].as_array().unwrap() {
            self.message(message);
        }
    }

    fn message(&mut self, message: &Value) {
        let id = message["id"].as_str().unwrap().to_owned();
        let new = shown(message);
        self.cursor = Some(Since { position: new.changed, message_id: id.clone() });
        match self.view.get(&id) {
            Some(old) if old.changed >= new.changed => {}
            Some(_) | None => drop(self.view.insert(id, new)),
        }
    }

    /// An event of the room.
    pub(crate) fn event(&mut self, name: &str, data: &Value) {
        if name == "message:new" {
            return self.message(data);
        }
        let (id, key) = (data["id"].as_str().unwrap(), data["changeId"].as_str().unwrap());
        let position = Position::deserialize(&data["position"]).unwrap();
        self.cursor = Some(Since { position, message_id: key.to_owned() });
        let Some(shown) = self.view.get_mut(id).filter(|shown| shown.changed < position) else {
            return;
        };
        match name {
            "message:delete" => {
                (shown.content, shown.metadata) = (String::new(), json!({}));
                (shown.deleted, shown.changed) = (true, position);
            }
            "message:update" if !shown.deleted => {
                shown.content = data["content"].as_str().unwrap().to_owned();
                shown.metadata = data["metadata"].clone();
                (shown.edited, shown.changed) = (true, position);
            }
            _ => {}
        }
    }

    /// Everything of the room that came after the first `from` frames.
    pub(crate) fn events(&mut self, client: &Client, room: &str, from: usize) {
        for incoming in client.log().iter().skip(from) {
            let Incoming::Event { name, data } = incoming else { continue };
            let logged =
                matches!(name.as_str(), "message:new" | "message:update" | "message:delete");
            if logged && data["roomId"] == room {
                self.event(name, data);
            }
        }
    }
}

/// Says where two views differ.
pub(crate) fn difference(found: &View, wanted: &View) -> Result<(), String> {
    // Who hears only that a message is gone does not hear that it had been edited.
    let told = |view: &View, id: &String| {
        let shown = view.get(id).cloned();
        shown.map(|shown| Shown { edited: shown.edited && !shown.deleted, ..shown })
    };
    let ids = found.keys().chain(wanted.keys());
    let differ = ids.filter(|id| told(found, id) != told(wanted, id));
    let said: Vec<String> = differ
        .take(3)
        .map(|id| format!("{id}: {:?} instead of {:?}", found.get(id), wanted.get(id)))
        .collect();
    if said.is_empty() { Ok(()) } else { Err(said.join("\n  ")) }
}
