use super::*;

const ROOM: u32 = 0xab;
const MESSAGE: u32 = 0x1_0002;

fn sent(dialect: Dialect, bytes: usize) -> String {
    let mut out = String::new();
    dialect.send(&mut out, "r", (ROOM, MESSAGE), bytes);
    out
}

#[test]
fn a_command_is_json_and_its_content_has_the_length_that_was_asked_for() {
    let text = sent(Dialect::Roomcast, 200);
    let command: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(command["event"], "message:send");
    assert_eq!(command["data"]["content"].as_str().unwrap().len(), 200);
    let id = command["data"]["id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15], &id[19..20]), (36, "7", "8"));

    let mut join = String::new();
    let since = Cursor { epoch: 2, seq: 5, message_id: "m".to_owned() };
    Dialect::Roomcast.join(&mut join, "r", Some(&since));
    let command: serde_json::Value = serde_json::from_str(&join).unwrap();
    assert_eq!(command["data"]["since"]["seq"], 5);
}

#[test]
fn a_message_is_known_by_its_tag_wherever_it_stands() {
    let content = "@000000ab00010002;xx";
    for before in ["", r#""roomId":"r","#, r#""roomId":"room","id":"7","userId":"ann","#] {
        let event = format!(r#"{{"event":"message:new","data":{{{before}"content":"{content}","#)
            + r#""position":{"epoch":1,"seq":4}}}"#;
        let expected = Incoming::Message { room: ROOM, message: MESSAGE };
        assert_eq!(Dialect::Roomcast.read(event.as_bytes()), expected);
        let packet = format!(r#"42["message:new",{{{before}"content":"{content}"}}]"#);
        assert_eq!(Dialect::SocketIo.read(packet.as_bytes()), expected);
    }
    let reply = concat!(
        r#"{"messages":[{"content":"@0000000100000002;x"},{"content":"hello"},"#,
        r#"{"content":"@0000000100000003;"}]}"#
    );
    assert_eq!(messages(reply.as_bytes()).collect::<Vec<_>>(), [(1, 2), (1, 3)]);
    let other = br#"{"event":"message:new","data":{"content":"hello"}}"#;
    assert_eq!(Dialect::Roomcast.read(other), Incoming::Other);
}

#[test]
fn replies_are_told_apart_by_their_ref() {
    let text = sent(Dialect::Roomcast, 20);
    let command: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reply = |rest: &str| format!(r#"{{"event":"reply","ref":{},{rest}}}"#, command["ref"]);
    let good = reply(
        r#""data":{"id":"i","position":{"epoch":3,"seq":42},"duplicate":false,"persisted":true}"#,
    );
    let expected = Incoming::Acked { room: ROOM, message: MESSAGE, seq: 42, is_persisted: true };
    assert_eq!(Dialect::Roomcast.read(good.as_bytes()), expected);
    let bad = reply(r#""error":{"code":"rate_limited"}"#);
    assert_eq!(Dialect::Roomcast.read(bad.as_bytes()), Incoming::Refused);
    let join = br#"{"event":"reply","ref":1,"data":{"recovered":true,"messages":[]}}"#;
    assert_eq!(Dialect::Roomcast.read(join), Incoming::Joined { is_recovered: true });

    let packet = sent(Dialect::SocketIo, 20);
    let reference = packet.strip_prefix("42").unwrap().split('[').next().unwrap();
    let ack = format!("43{reference}[{{}}]");
    let expected = Incoming::Acked { room: ROOM, message: MESSAGE, seq: 0, is_persisted: false };
    assert_eq!(Dialect::SocketIo.read(ack.as_bytes()), expected);
}

#[test]
fn a_cursor_is_read_from_a_message_and_everything_else_is_known_by_name() {
    let event = concat!(
        r#"{"event":"message:new","data":{"roomId":"r","id":"m7","content":"x","#,
        r#""position":{"epoch":3,"seq":41}}}"#
    );
    let expected = Cursor { epoch: 3, seq: 41, message_id: "m7".to_owned() };
    assert_eq!(cursor(event.as_bytes()), Some(expected));
    let read = |text: &str| Dialect::Roomcast.read(text.as_bytes());
    let persisted = r#"{"event":"message:persisted","data":{"upTo":{"epoch":3,"seq":9}}}"#;
    assert_eq!(read(persisted), Incoming::Persisted { seq: 9 });
    assert_eq!(read(r#"{"event":"welcome","data":{}}"#), Incoming::Welcome);
    assert_eq!(read(r#"{"event":"room:error","data":{}}"#), Incoming::Refused);
    assert_eq!(read(r#"{"event":"typing:start","data":{}}"#), Incoming::Other);
    assert_eq!(Dialect::SocketIo.read(b"2"), Incoming::Probe);
    assert_eq!(Dialect::SocketIo.read(b"0{}"), Incoming::Opened);
    assert_eq!(Dialect::SocketIo.read(b"40{}"), Incoming::Welcome);
}
