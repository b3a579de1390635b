use super::*;

fn refused(text: &str) -> (Option<u64>, Refusal) {
    let request = read(text.as_bytes());
    (request.reference, request.command.expect_err(text))
}

/// A text, and of its refusal the `ref`, the code and the field.
type Case<'a> = (&'a str, Option<u64>, RefusalCode, Option<&'a str>);

fn check(cases: &[Case<'_>]) {
    for (text, reference, code, field) in cases {
        let (got_reference, refusal) = refused(text);
        assert_eq!(got_reference, *reference, "{text}");
        assert_eq!(refusal.code, *code, "{text}: {refusal:?}");
        if field.is_some() {
            assert_eq!(refusal.field.as_deref(), *field, "{text}: {refusal:?}");
        }
    }
}

#[test]
fn what_is_no_command_is_refused_by_name() {
    use RefusalCode::{BadRequest, UnknownEvent};
    check(&[
        ("nonsense", None, BadRequest, None),
        ("[]", None, BadRequest, None),
        (r#"{"ref":3}"#, Some(3), BadRequest, None),
        (r#"{"event":"heartbeat","ref":-1}"#, None, BadRequest, None),
        (r#"{"event":"heartbeat","ref":9007199254740992}"#, None, BadRequest, Some("ref")),
        (r#"{"event":"heartbeat","ref":4,"x":1}"#, Some(4), BadRequest, None),
        (r#"{"event":"dance","ref":5}"#, Some(5), UnknownEvent, Some("event")),
    ]);
}

#[test]
fn a_field_at_fault_is_refused_by_name() {
    use RefusalCode::{BadId, InvalidField};
    let join = |data: &str| format!(r#"{{"event":"room:join","ref":5,"data":{data}}}"#);
    let send = |rest: &str| {
        format!(r#"{{"event":"message:send","ref":5,"data":{{"roomId":"a",{rest}}}}}"#)
    };
    let cases = [
        (r#"{"event":"room:join","ref":5}"#.to_owned(), InvalidField, "roomId"),
        (join("[]"), InvalidField, "data"),
        (join(r#"{"roomId":"a b"}"#), InvalidField, "roomId"),
        (join(r#"{"roomId":7}"#), InvalidField, "roomId"),
        (join(r#"{"roomId":"a","x":1}"#), InvalidField, "x"),
        (join(r#"{"roomId":"a","since":{"epoch":1}}"#), InvalidField, "since.seq"),
        (join(r#"{"roomId":"a","since":{"epoch":1,"seq":1,"y":2}}"#), InvalidField, "since.y"),
        (send(r#""content":"\ud800""#), InvalidField, "content"),
        (send(r#""id":"","content":"""#), BadId, "id"),
        (send(r#""content":"","type":"robot""#), InvalidField, "type"),
    ];
    for (text, code, field) in &cases {
        check(&[(text, Some(5), *code, Some(field))]);
    }
}

#[test]
fn a_logged_event_gives_its_data_back() {
    let data = with_position(b"{\"id\":\"m\"}", Position::new(3, 41));
    let frame = raw_event(EventName::MessageNew, &data);
    assert_eq!(
        frame.payload(),
        b"{\"event\":\"message:new\",\"data\":{\"id\":\"m\",\"position\":{\"epoch\":3,\"seq\":41}}}"
    );
    assert_eq!(data_of(&frame, EventName::MessageNew), data);
}

#[test]
fn replies_carry_their_ref_and_messages_are_spliced_in() {
    #[derive(Serialize)]
    struct Page {
        has_more: bool,
    }
    let data = with_messages(&Page { has_more: true }, &[Bytes::from("{}"), Bytes::from("{}")]);
    assert_eq!(data, b"{\"has_more\":true,\"messages\":[{},{}]}");
    assert_eq!(reply(7, &data).payload()[..32], *b"{\"event\":\"reply\",\"ref\":7,\"data\":");
}
