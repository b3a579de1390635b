//! Every command by every role in every relation to a room, against the rules in a few lines.

use super::{SECRET, client};
use crate::fixtures::one_gateway::{assert_no_panic, gateway_with};
use crate::fixtures::{database, until_heard};
use fleet::{Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::wire::Refused;
use harness::{Client, token, unique_id};
use serde_json::{Value, json};

/// A token's `role`; the first is what a token without one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Absent,
    Member,
    Moderator,
    Assistant,
    Service,
}

/// What of a room a user's token claims, what the database says of them, and whether it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relation {
    name: &'static str,
    claimed: bool,
    row: Option<&'static str>,
    exists: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    HistoryBefore,
    Join,
    JoinAgain,
    History,
    SendUser,
    SendAssistant,
    SendSystem,
    EditOwn,
    EditOther,
    DeleteOwn,
    DeleteOther,
    TypingStart,
    TypingStop,
    Receipt,
    PresenceIdle,
    StreamAssistant,
    StreamSystem,
    OwnCredits,
    OthersCredits,
    TrackUsage,
    TrackPurchase,
    Leave,
    SendAfterLeaving,
}

const ROLES: [Role; 5] =
    [Role::Absent, Role::Member, Role::Moderator, Role::Assistant, Role::Service];

const RELATIONS: [Relation; 11] = [
    relation("claimed", true, None, true),
    relation("claimed-new", true, None, false),
    relation("member", false, Some("member"), true),
    relation("member-new", false, Some("member"), false),
    relation("moderator", false, Some("moderator"), true),
    relation("claimed-member", true, Some("member"), true),
    relation("claimed-moderator", true, Some("moderator"), true),
    relation("removed", false, Some("removed"), true),
    relation("claimed-removed", true, Some("removed"), true),
    relation("not-yours", false, None, true),
    relation("unknown", false, None, false),
];

/// In this order: each finds what the ones before it left.
const ASKS: [Ask; 23] = [
    Ask::HistoryBefore,
    Ask::Join,
    Ask::JoinAgain,
    Ask::History,
    Ask::SendUser,
    Ask::SendAssistant,
    Ask::SendSystem,
    Ask::EditOwn,
    Ask::EditOther,
    Ask::DeleteOwn,
    Ask::DeleteOther,
    Ask::TypingStart,
    Ask::TypingStop,
    Ask::Receipt,
    Ask::PresenceIdle,
    Ask::StreamAssistant,
    Ask::StreamSystem,
    Ask::OwnCredits,
    Ask::OthersCredits,
    Ask::TrackUsage,
    Ask::TrackPurchase,
    Ask::Leave,
    Ask::SendAfterLeaving,
];

const fn relation(
    name: &'static str,
    claimed: bool,
    row: Option<&'static str>,
    exists: bool,
) -> Relation {
    Relation { name, claimed, row, exists }
}

/// The rules: `None` is done, else the refusal's code.
fn expected(role: Role, relation: Relation, ask: Ask) -> Option<&'static str> {
    let belongs = matches!(relation.row, Some("member" | "moderator"));
    let enters = belongs || (relation.claimed && relation.row.is_none());
    let trusted = matches!(role, Role::Assistant | Role::Service);
    let moderates =
        matches!(role, Role::Moderator | Role::Service) || relation.row == Some("moderator");
    let to_enter = (!enters).then_some("forbidden");
    let inside = (!enters).then_some("not_joined");
    let of_role = |allowed: bool| (!allowed).then_some("forbidden");
    match ask {
        Ask::HistoryBefore | Ask::Join | Ask::JoinAgain | Ask::History => to_enter,
        Ask::SendUser | Ask::EditOwn | Ask::DeleteOwn => inside,
        Ask::TypingStart | Ask::TypingStop | Ask::Receipt | Ask::PresenceIdle => inside,
        Ask::SendAssistant | Ask::StreamAssistant => inside.or(of_role(trusted)),
        Ask::SendSystem | Ask::StreamSystem => inside.or(of_role(role == Role::Service)),
        Ask::EditOther | Ask::DeleteOther => inside.or(of_role(moderates)),
        Ask::TrackUsage => of_role(trusted),
        Ask::OthersCredits | Ask::TrackPurchase => of_role(role == Role::Service),
        Ask::OwnCredits | Ask::Leave => None,
        Ask::SendAfterLeaving => Some("not_joined"),
    }
}

/// One user in one room.
struct Column {
    role: Role,
    relation: Relation,
    user: String,
    room: String,
    /// What the user says first there, and what somebody else had said.
    own: String,
    others: String,
}

impl Column {
    fn new(role: Role, relation: Relation) -> Column {
        let name = format!("{role:?}-{}", relation.name);
        let (user, room) = (format!("user-{name}"), format!("room-{name}"));
        Column { role, relation, user, room, own: unique_id(), others: unique_id() }
    }

    fn token(&self) -> String {
        let rooms = if self.relation.claimed { vec![self.room.clone()] } else { Vec::new() };
        let mut claims = json!({ "rooms": rooms });
        if self.role != Role::Absent {
            claims["role"] = json!(format!("{:?}", self.role).to_lowercase());
        }
        token(SECRET, &self.user, 600, &claims)
    }

    fn command(&self, ask: Ask) -> (&'static str, Value) {
        let room = &self.room;
        let on = |id: &str| json!({ "roomId": room, "id": id });
        let say = |id: &str, kind: &str| {
            let mut message = on(id);
            message["content"] = json!("x");
            message["type"] = json!(kind);
            message
        };
        let change = |id: &str| json!({ "roomId": room, "id": id, "content": "y" });
        let track = |kind: &str| json!({ "userId": self.user, "amount": 1, "kind": kind });
        let stream = |kind: &str| json!({ "roomId": room, "type": kind });
        let in_room = json!({ "roomId": room });
        match ask {
            Ask::HistoryBefore | Ask::History => ("history:get", in_room),
            Ask::Join | Ask::JoinAgain => ("room:join", in_room),
            Ask::SendUser => ("message:send", say(&self.own, "user")),
            Ask::SendAssistant => ("message:send", say(&unique_id(), "assistant")),
            Ask::SendSystem => ("message:send", say(&unique_id(), "system")),
            Ask::EditOwn => ("message:edit", change(&self.own)),
            Ask::EditOther => ("message:edit", change(&self.others)),
            Ask::DeleteOwn => ("message:delete", on(&self.own)),
            Ask::DeleteOther => ("message:delete", on(&self.others)),
            Ask::TypingStart => ("typing:start", in_room),
            Ask::TypingStop => ("typing:stop", in_room),
            Ask::Receipt => {
                ("receipt:update", json!({ "roomId": room, "lastReadMessageId": self.others }))
            }
            Ask::PresenceIdle => ("presence:update", json!({ "roomId": room, "status": "idle" })),
            Ask::StreamAssistant => ("message:stream:start", stream("assistant")),
            Ask::StreamSystem => ("message:stream:start", stream("system")),
            Ask::OwnCredits => ("credits:get", json!({})),
            Ask::OthersCredits => ("credits:get", json!({ "userId": "somebody" })),
            Ask::TrackUsage => ("credits:track", track("usage")),
            Ask::TrackPurchase => ("credits:track", track("purchase")),
            Ask::Leave => ("room:leave", in_room),
            Ask::SendAfterLeaving => ("message:send", say(&unique_id(), "user")),
        }
    }
}

/// What came of all cells.
#[derive(Default)]
struct Outcomes {
    cells: usize,
    wrong: Vec<String>,
    /// Refusals of rooms, which have to be the same to the letter.
    closed: Vec<Refused>,
    unbuilt: Vec<Ask>,
}

impl Outcomes {
    fn take(&mut self, column: &Column, ask: Ask, outcome: Result<Value, ClientError>) {
        self.cells += 1;
        let expected = expected(column.role, column.relation, ask);
        let refused = match outcome {
            Ok(_) => None,
            Err(ClientError::Refused(refused)) => Some(refused),
            Err(other) => panic!("{}, {ask:?}: {other:?}", column.user),
        };
        if refused.as_ref().is_some_and(|refused| refused.message == "not built yet") {
            self.unbuilt.push(ask);
            return;
        }
        let code = refused.as_ref().map(|refused| refused.code.as_str());
        if code != expected {
            let Column { role, relation, .. } = column;
            let name = relation.name;
            self.wrong.push(format!("{role:?} {name} {ask:?}: {refused:?} and not {expected:?}"));
        }
        let of_room = matches!(ask, Ask::HistoryBefore | Ask::Join | Ask::JoinAgain | Ask::History);
        self.closed.extend(refused.filter(|_| of_room));
    }
}

/// What the database says of people and rooms, before anybody comes.
fn prepare(fleet: &Fleet, columns: &[Column]) {
    let database = database(fleet.gateway());
    for column in columns {
        let Some(role) = column.relation.row else { continue };
        let insert = "INSERT INTO room_members (room_id, user_id, role, added_at)
                      VALUES (?1, ?2, ?3, 0)";
        let row = [column.room.as_str(), column.user.as_str(), role];
        database.execute(insert, row).unwrap();
    }
}

/// Somebody else has spoken in every room that exists, and in those that come to exist by a join.
async fn speak(root: &Client, column: &Column) {
    root.join(&column.room, None).await.unwrap();
    root.send(&column.room, &column.others, "x").await.unwrap();
    root.command("room:leave", json!({ "roomId": column.room })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_every_role_in_every_room_is_done_or_refused_by_the_rules() {
    let fleet = gateway_with(GatewayOptions::default().with_jwt_secret(SECRET)).await;
    let columns: Vec<Column> = ROLES
        .into_iter()
        .flat_map(|role| RELATIONS.map(|relation| Column::new(role, relation)))
        .collect();
    prepare(&fleet, &columns);
    let everything = json!({ "rooms": ["*"], "role": "service" });
    let root = client(&fleet, token(SECRET, "root", 600, &everything)).await;
    let mut outcomes = Outcomes::default();
    for column in &columns {
        if column.relation.exists {
            speak(&root, column).await;
        }
        let mut asking = client(&fleet, column.token()).await;
        for ask in ASKS {
            let (event, data) = column.command(ask);
            let outcome = asking.command(event, data).await;
            if ask == Ask::SendUser && outcome.is_ok() {
                until_heard(&mut asking, &column.own).await;
                if !column.relation.exists {
                    speak(&root, column).await;
                    until_heard(&mut asking, &column.others).await;
                }
            }
            outcomes.take(column, ask, outcome);
        }
    }
    let Outcomes { cells, wrong, closed, unbuilt } = outcomes;
    assert!(wrong.is_empty(), "{} of {cells}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells >= 500 && closed.len() >= 80, "{cells} {}", closed.len());
    assert!(closed.iter().all(|refused| *refused == closed[0]), "{closed:?}");
    assert!(unbuilt.is_empty(), "{} of {cells} not built: {unbuilt:?}", unbuilt.len());
    assert_no_panic(&fleet);
}
