//! Metadata come back byte for byte as they came, live and read back, from wherever that is.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use harness::raw::{self, RawSocket};
use harness::{Api, eventually, unique_id};

use crate::fixtures::{SOON, gateway};

/// What a database of decimals would change or could not take, keys twice and in no order, escapes
/// and white space.
const FIRST: &str = concat!(
    r#"{ "n" : [12345678901234567890123, 1e-400, 1e308, 1e999, -0.0, 1.50],"#,
    "\n\t",
    r#""b":1,"a":2,"b":3, "\u00e9":"\/\ud83d\ude00" }"#
);

const SECOND: &str = r#"{"z":0.1000,"y":{"x":[ ]}}"#;

/// A connection in the room.
async fn open(port: u16, user: &str, room: &str) -> (RawSocket, String) {
    let mut socket = RawSocket::upgraded(port, &format!("/ws?user={user}"), SOON).await.unwrap();
    let joined = ask(&mut socket, "room:join", 1, &format!(r#"{{"roomId":"{room}"}}"#)).await;
    (socket, joined)
}

async fn ask(socket: &mut RawSocket, event: &str, reference: u64, data: &str) -> String {
    let command = format!(r#"{{"event":"{event}","ref":{reference},"data":{data}}}"#);
    socket.send(&raw::text(&command)).await.unwrap();
    until(socket, &format!(r#""ref":{reference},"#)).await
}

/// The next text frame with this in it.
async fn until(socket: &mut RawSocket, part: &str) -> String {
    loop {
        let text = socket.next_frame(SOON).await.unwrap().text();
        if text.contains(part) {
            return text;
        }
    }
}

#[track_caller]
fn has(text: &str, metadata: &str) {
    assert!(text.contains(&format!(r#""metadata":{metadata}"#)), "{text}");
}

/// Says something through the first node, and looks at it everywhere; the message's id.
pub(crate) async fn are_the_same_everywhere(ports: &[u16], room: &str) -> String {
    let mut sockets = Vec::new();
    for port in ports {
        sockets.push(open(*port, "ann", room).await.0);
    }
    let id = unique_id();
    let data = format!(r#"{{"roomId":"{room}","id":"{id}","content":"x","metadata": {FIRST} }}"#);
    let said = ask(&mut sockets[0], "message:send", 2, &data).await;
    assert!(said.contains(r#""duplicate":false"#), "{said}");
    // Offered again it is the same.
    let again = ask(&mut sockets[0], "message:send", 3, &data).await;
    assert!(again.contains(r#""duplicate":true"#), "{again}");
    let (mut late, _) = open(ports[0], "late", room).await;
    // Whether it comes as an event or with the join is a matter of luck for the first.
    read_back(ports, room, FIRST).await;
    let change = |content: &str, metadata: &str| {
        format!(r#"{{"roomId":"{room}","id":"{id}","content":"{content}"{metadata}}}"#)
    };
    ask(&mut late, "message:edit", 4, &change("y", &format!(r#","metadata":{SECOND}"#))).await;
    for socket in &mut sockets {
        has(&until(socket, "message:update").await, SECOND);
    }
    read_back(ports, room, SECOND).await;
    ask(&mut late, "message:edit", 5, &change("z", &format!(r#","metadata":{FIRST}"#))).await;
    ask(&mut late, "message:edit", 6, &change("kept", "")).await;
    for socket in &mut sockets {
        has(&until(socket, r#""content":"kept""#).await, FIRST);
    }
    read_back(ports, room, FIRST).await;
    id
}

/// By a join, by history, and over HTTP, through each node.
pub(crate) async fn read_back(ports: &[u16], room: &str, metadata: &str) {
    for port in ports {
        let (mut reader, joined) = open(*port, "reader", room).await;
        has(&joined, metadata);
        let page = ask(&mut reader, "history:get", 2, &format!(r#"{{"roomId":"{room}"}}"#)).await;
        has(&page, metadata);
        let page = Api::new(*port).get(&format!("/api/rooms/{room}/messages")).await;
        if page.status == 200 {
            has(&String::from_utf8_lossy(&page.body), metadata);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_come_back_as_they_came_from_memory_and_from_the_file() {
    let mut fleet = gateway().await;
    let port = fleet.gateway().port();
    are_the_same_everywhere(&[port], "r").await;
    assert!(fleet.gateway_mut().terminate(SOON).await.unwrap().success());
    fleet.gateway_mut().restart(SOON).await.unwrap();
    read_back(&[fleet.gateway().port()], "r", FIRST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_come_back_as_they_came_from_redis_and_from_postgres() {
    let mut fleet = crate::cluster::cluster().await;
    let ports: Vec<u16> = fleet.gateways().iter().map(fleet::GatewayNode::port).collect();
    let id = are_the_same_everywhere(&ports, "r").await;
    let sql = async |fleet: &fleet::Fleet, sql: &str| {
        fleet.postgres().query(fleet.database(), sql).await.map_err(|error| error.to_string())
    };
    let stored = || async {
        let content = format!("SELECT content FROM team_chat_messages WHERE id = '{id}'");
        let rows = sql(&fleet, &content).await?;
        if rows == [[Some("kept".to_owned())]] { Ok(()) } else { Err(format!("{rows:?}")) }
    };
    eventually(SOON, "the last edit is stored", stored).await;
    // Without Redis's memory everything comes from the database.
    for node in fleet.gateways_mut() {
        assert!(node.terminate(SOON).await.unwrap().success());
    }
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    for node in fleet.gateways_mut() {
        node.restart(SOON).await.unwrap();
    }
    let ports: Vec<u16> = fleet.gateways().iter().map(fleet::GatewayNode::port).collect();
    read_back(&ports, "r", FIRST).await;
    // What another program has changed counts.
    let other = format!("UPDATE team_chat_messages SET metadata = '[]' WHERE id = '{id}'");
    sql(&fleet, &other.replace("'[]'", r#"'{"seen": true}'"#)).await.unwrap();
    let (mut reader, _) = open(ports[0], "reader", "r").await;
    let page = ask(&mut reader, "history:get", 2, r#"{"roomId":"r"}"#).await;
    has(&page, r#"{"seen": true}"#);
}
