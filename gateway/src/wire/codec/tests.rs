use super::*;

fn refused(text: &str) -> (Option<u64>, Refusal) {
    let request = read(text.as_bytes());
    (request.reference, request.command.expect_err(text))
}

/// A frame, and the `ref`, code and field of its refusal.
type Case = (&'static str, Option<u64>, RefusalCode, Option<&'static str>);

const NO_COMMANDS: &[Case] = &[
    ("nonsense", None, RefusalCode::BadRequest, None),
    ("[]", None, RefusalCode::BadRequest, None),
    ("{\"ref\":3}", Some(3), RefusalCode::BadRequest, None),
    ("{\"event\":\"heartbeat\",\"ref\":-1}", None, RefusalCode::BadRequest, None),
    (
        "{\"event\":\"heartbeat\",\"ref\":9007199254740992}",
        None,
        RefusalCode::BadRequest,
        Some("ref"),
    ),
    ("{\"event\":\"heartbeat\",\"ref\":4,\"x\":1}", Some(4), RefusalCode::BadRequest, None),
    ("{\"event\":\"dance\",\"ref\":5}", Some(5), RefusalCode::UnknownEvent, Some("event")),
    ("{\"event\":\"room:join\",\"ref\":5}", Some(5), RefusalCode::InvalidField, Some("roomId")),
    (
        "{\"event\":\"room:join\",\"ref\":5,\"data\":[]}",
        Some(5),
        RefusalCode::InvalidField,
        Some("data"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":\"a b\"}}",
        None,
        RefusalCode::InvalidField,
        Some("roomId"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":7}}",
        None,
        RefusalCode::InvalidField,
        Some("roomId"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":\"a\",\"x\":1}}",
        None,
        RefusalCode::InvalidField,
        Some("x"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":\"a\",\"since\":{\"epoch\":1}}}",
        None,
        RefusalCode::InvalidField,
        Some("since.seq"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":\"a\",\"since\":{\"epoch\":1,\"seq\":1,\"y\":2}}}",
        None,
        RefusalCode::InvalidField,
        Some("since.y"),
    ),
    (
        "{\"event\":\"message:send\",\"data\":{\"roomId\":\"a\",\"content\":\"\\ud800\"}}",
        None,
        RefusalCode::InvalidField,
        Some("content"),
    ),
    (
        "{\"event\":\"message:send\",\"data\":{\"roomId\":\"a\",\"id\":\"\",\"content\":\"\"}}",
        None,
        RefusalCode::BadId,
        Some("id"),
    ),
    (
        "{\"event\":\"message:send\",\"data\":{\"roomId\":\"a\",\"content\":\"\",\"type\":\"robot\"}}",
        None,
        RefusalCode::InvalidField,
        Some("type"),
    ),
    ("[\"heartbeat\",3,{}]", None, RefusalCode::BadRequest, None),
    ("[3]", None, RefusalCode::BadRequest, None),
    (
        "{\"event\":\"room:leave\",\"ref\":5,\"data\":[\"a\"]}",
        Some(5),
        RefusalCode::InvalidField,
        Some("data"),
    ),
    (
        "{\"event\":\"room:join\",\"data\":{\"roomId\":\"a\",\"since\":[1,2]}}",
        None,
        RefusalCode::InvalidField,
        Some("since"),
    ),
    (
        "{\"event\":\"room:leave\",\"data\":{\"roomId\":\"a\",\"roomId\":\"b\"}}",
        None,
        RefusalCode::InvalidField,
        Some("roomId"),
    ),
];

#[test]
fn what_is_no_command_is_refused_by_name() {
    for (text, reference, code, field) in NO_COMMANDS {
        let (got_reference, refusal) = refused(text);
        assert_eq!(got_reference, *reference, "{text}");
        assert_eq!(refusal.code, *code, "{text}: {refusal:?}");
        if let Some(field) = field {
            assert_eq!(refusal.field.as_deref(), Some(*field), "{text}: {refusal:?}");
        }
    }
}

#[test]
fn metadata_too_deep_to_be_read_are_too_large() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let send = |rest: &str| {
        let data = format!("{{\"roomId\":\"a\",\"content\":\"\",{rest}}}");
        format!("{{\"event\":\"message:send\",\"ref\":1,\"data\":{data}}}")
    };
    // A message's are taken as text, and looked through when they are checked.
    let text = send(&format!("\"metadata\":{{\"b\":{deep}}}"));
    let Ok(Command::MessageSend(data)) = read(text.as_bytes()).command else {
        panic!("{text:.80}")
    };
    let checked = crate::operation::validate::message_metadata(data.metadata).unwrap_err();
    // Those of credits are read, which serde_json gives up.
    let cost = send(&format!("\"credits\":{{\"amount\":1,\"metadata\":{{\"b\":{deep}}}}}"));
    let (reference, read) = refused(&cost);
    assert_eq!(reference, Some(1));
    for refusal in [checked, read] {
        assert_eq!(refusal.code, RefusalCode::TooLarge);
        assert_eq!(refusal.field.as_deref(), Some("metadata"));
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
