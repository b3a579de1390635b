//! Malformed commands from a seed, each with the answer it has to get.

use super::ROOM;
use harness::wire::Refused;

/// Where `ref` stands and how, and what of it the answer repeats.
const NO_REFS: [&str; 14] = [
    "9007199254740992",
    "9223372036854775809",
    "18446744073709551616",
    "1e400",
    "-1",
    "1.5",
    "\"7\"",
    "true",
    "[1]",
    "{}",
    "007",
    "0x7",
    "NaN",
    "+1",
];
/// Those that need a `roomId` come first, the one that does not last.
const COMMANDS: [&str; 14] = [
    "room:join",
    "room:leave",
    "message:send",
    "message:edit",
    "message:delete",
    "message:stream:start",
    "message:stream:append",
    "message:stream:end",
    "history:get",
    "typing:start",
    "typing:stop",
    "receipt:update",
    "presence:update",
    "auth",
];
const OF_A_ROOM: usize = COMMANDS.len() - 1;
const NO_IDS: [&str; 10] = [
    "\"\"",
    "\"a b\"",
    "\"a{b\"",
    "\"b}\"",
    "\"a\\tb\"",
    "\"a\\u0000b\"",
    "\"\\u2028\"",
    "\"\\ud800\"",
    "7",
    "[\"a\"]",
];
const NO_OBJECTS: [&str; 8] =
    ["[]", "[\"the-room\"]", "\"the-room\"", "5", "true", "[[]]", "1e9", "\"{}\""];
const NO_COMMANDS: [&str; 12] = [
    "",
    " ",
    "null",
    "7",
    "\"heartbeat\"",
    "[]",
    "[\"heartbeat\"]",
    "[\"heartbeat\",3]",
    "[\"heartbeat\",3,{}]",
    "{event:\"heartbeat\",ref:3}",
    "{'event':'heartbeat','ref':3}",
    "{\"event\":\"heartbeat\",\"ref\":3,}",
];

/// A malformed command.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub(super) text: String,
    /// The `ref` of the reply; none: a `room:error`.
    reference: Option<u64>,
    code: &'static str,
    field: Option<&'static str>,
}

impl Bad {
    pub(super) fn is_answered_by(&self, (reference, refused): &(Option<u64>, Refused)) -> bool {
        *reference == self.reference
            && refused.code == self.code
            && !refused.message.is_empty()
            && refused.message.len() < 1_000
            && self.field.is_none_or(|field| refused.field.as_deref() == Some(field))
    }
}

/// `SplitMix64`: the same commands for the same seed, whatever happens elsewhere.
#[derive(Debug)]
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// A `ref` three times out of four.
    fn reference(&mut self) -> Option<u64> {
        let reference = self.next() >> 11;
        (!reference.is_multiple_of(4)).then_some(reference)
    }

    /// The next command.
    pub(super) fn command(&mut self) -> Bad {
        match self.below(16) {
            0 => self.truncated(),
            1 => self.no_command(),
            2 => self.unknown_event(),
            3 => self.faulty_frame(),
            4 => self.faulty_reference(),
            5 => self.data_that_is_no_object(),
            6 => self.missing_field(),
            7 => self.unknown_field(),
            8 => self.doubled_field(),
            9 => self.faulty_id(),
            10 => self.faulty_type(),
            11 => self.faulty_limit(),
            12 => self.faulty_text(),
            13 => self.depth_bomb(),
            14 => self.too_large(),
            _ => self.faulty_position(),
        }
    }

    /// A command whose data are at fault.
    fn with(&mut self, event: &str, data: &str, code: &'static str, field: &'static str) -> Bad {
        let reference = self.reference();
        let named = reference.map_or(String::new(), |reference| format!("\"ref\":{reference},"));
        let text = format!("{{\"event\":\"{event}\",{named}\"data\":{data}}}");
        Bad { text, reference, code, field: Some(field) }
    }

    /// Text that is no command and has no `ref` that could be read.
    fn unreadable(text: impl Into<String>) -> Bad {
        Bad { text: text.into(), reference: None, code: "bad_request", field: None }
    }

    fn truncated(&mut self) -> Bad {
        let reference = self.next() >> 11;
        let whole = format!(
            "{{\"event\":\"message:send\",\"ref\":{reference},\"data\":{{\"roomId\":\"{ROOM}\",\
             \"content\":\"héllo \\u20ac\",\"metadata\":{{\"a\":[1,2.5e3,null]}}}}}}"
        );
        let cuts: Vec<usize> = whole.char_indices().map(|(at, _)| at).skip(1).collect();
        let cut = cuts[self.below(cuts.len())];
        // Or something after its end.
        match self.below(8) {
            0 => Bad { field: None, ..Generator::unreadable(format!("{whole}{whole}")) },
            1 => Generator::unreadable(format!("{whole}]")),
            2 => Generator::unreadable(format!("\u{feff}{whole}")),
            _ => Generator::unreadable(&whole[..cut]),
        }
    }

    fn no_command(&mut self) -> Bad {
        if self.below(3) > 0 {
            return Generator::unreadable(self.of(&NO_COMMANDS));
        }
        let length = self.below(400);
        let printable = |n: u64| char::from(b' ' + u8::try_from(n % 95).unwrap());
        let noise: String = (0..length).map(|_| printable(self.next())).collect();
        // Not by chance an object.
        Generator::unreadable(format!("~{noise}"))
    }

    fn unknown_event(&mut self) -> Bad {
        const EVENTS: [&str; 9] = [
            "",
            "room:Join",
            "message:new",
            "reply",
            "welcome",
            "room:join ",
            "__proto__",
            "\\u0000",
            "message:send\\n",
        ];
        let random = format!("{:x}", self.next());
        let event = if self.below(4) == 0 { random.as_str() } else { self.of(&EVENTS) };
        self.with(event, "{}", "unknown_event", "event")
    }

    /// What stands around the data is at fault, and the `ref` can be read.
    fn faulty_frame(&mut self) -> Bad {
        const FRAMES: [&str; 9] = [
            "\"event\":7",
            "\"event\":null",
            "\"event\":{}",
            "\"data\":{}",
            "\"event\":\"heartbeat\",\"x\":1",
            "\"event\":\"heartbeat\",\"Data\":{}",
            "\"event\":\"heartbeat\",\"event\":\"heartbeat\"",
            "\"event\":\"heartbeat\",\"data\":{},\"data\":{}",
            "\"event\":\"\\udfff\"",
        ];
        let reference = self.next() >> 11;
        let text = format!("{{{},\"ref\":{reference}}}", self.of(&FRAMES));
        Bad { text, reference: Some(reference), code: "bad_request", field: None }
    }

    fn faulty_reference(&mut self) -> Bad {
        let reference = self.of(&NO_REFS);
        let doubled = if self.below(4) == 0 { "\"ref\":1," } else { "" };
        let event = self.of(&["heartbeat", "room:join", "no such"]);
        Generator::unreadable(format!("{{\"event\":\"{event}\",{doubled}\"ref\":{reference}}}"))
    }

    fn data_that_is_no_object(&mut self) -> Bad {
        let (event, data) = (self.of(&COMMANDS), self.of(&NO_OBJECTS));
        self.with(event, data, "invalid_field", "data")
    }

    fn missing_field(&mut self) -> Bad {
        let content = "{\"roomId\":\"the-room\"}";
        match self.below(4) {
            0 => self.with("auth", "{}", "invalid_field", "token"),
            1 => self.with("message:send", content, "invalid_field", "content"),
            2 => self.with("history:get", "null", "invalid_field", "roomId"),
            _ => {
                let event = self.of(&COMMANDS[..OF_A_ROOM]);
                self.with(event, "{}", "invalid_field", "roomId")
            }
        }
    }

    fn unknown_field(&mut self) -> Bad {
        let value = self.of(&["1", "null", "{}", "[]", "\"x\"", "1e999"]);
        match self.below(3) {
            0 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"content\":\"\",\"userId\":{value}}}");
                self.with("message:send", &data, "invalid_field", "userId")
            }
            1 => {
                let since = format!("{{\"epoch\":1,\"seq\":1,\"y\":{value}}}");
                let data = format!("{{\"roomId\":\"{ROOM}\",\"since\":{since}}}");
                self.with("room:join", &data, "invalid_field", "since.y")
            }
            _ => {
                let event = self.of(&COMMANDS);
                let data = format!("{{\"unheard-of\":{value}}}");
                self.with(event, &data, "invalid_field", "unheard-of")
            }
        }
    }

    fn doubled_field(&mut self) -> Bad {
        let event = self.of(&COMMANDS[..OF_A_ROOM]);
        let data = format!("{{\"roomId\":\"{ROOM}\",\"roomId\":\"{ROOM}\"}}");
        self.with(event, &data, "invalid_field", "roomId")
    }

    fn faulty_id(&mut self) -> Bad {
        let long = format!("\"{}\"", "a".repeat(129 + self.below(5_000)));
        let id = if self.below(5) == 0 { long.as_str() } else { self.of(&NO_IDS) };
        match self.below(3) {
            0 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"content\":\"\",\"id\":{id}}}");
                self.with("message:send", &data, "bad_id", "id")
            }
            1 => {
                let since = format!("{{\"epoch\":1,\"seq\":1,\"messageId\":{id}}}");
                let data = format!("{{\"roomId\":\"{ROOM}\",\"since\":{since}}}");
                self.with("room:join", &data, "bad_id", "since.messageId")
            }
            _ => {
                let event = self.of(&COMMANDS[..OF_A_ROOM]);
                self.with(event, &format!("{{\"roomId\":{id}}}"), "invalid_field", "roomId")
            }
        }
    }

    fn faulty_type(&mut self) -> Bad {
        let (field, values): (&'static str, &[&str]) = match self.below(4) {
            0 => ("type", &["\"robot\"", "\"User\"", "1", "null", "{}", "\"\""]),
            1 => ("content", &["1", "null", "[]", "{}", "true", "[\"text\"]"]),
            2 => ("metadata", &["1", "null", "[]", "\"{}\"", "true"]),
            _ => ("roomId", &["1", "null", "[]", "{}", "false"]),
        };
        let mut data = serde_json::json!({ "roomId": ROOM, "content": "" });
        data[field] = serde_json::from_str(self.of(values)).unwrap();
        self.with("message:send", &data.to_string(), "invalid_field", field)
    }

    fn faulty_limit(&mut self) -> Bad {
        const LIMITS: [&str; 9] =
            ["0", "201", "-1", "1.5", "\"50\"", "4294967296", "9223372036854775809", "[]", "{}"];
        let (event, limit) = (self.of(&["room:join", "history:get"]), self.of(&LIMITS));
        let data = format!("{{\"roomId\":\"{ROOM}\",\"limit\":{limit}}}");
        self.with(event, &data, "invalid_field", "limit")
    }

    fn faulty_text(&mut self) -> Bad {
        const TEXTS: [&str; 7] = [
            "\"a\\u0000b\"",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "\"\\ud83e\"",
            "\"\\u0000\"",
            "\"\\ud83e\\u0041\"",
            "\"end \\udfff\"",
        ];
        let text = self.of(&TEXTS);
        match self.below(4) {
            0 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"content\":{text}}}");
                self.with("message:send", &data, "invalid_field", "content")
            }
            1 => {
                let metadata = self.of(&["{\"\\u0000\":1}", "{\"a\":[\"\\u0000\"]}"]);
                let fields = format!("\"content\":\"\",\"metadata\":{metadata}");
                let data = format!("{{\"roomId\":\"{ROOM}\",{fields}}}");
                self.with("message:send", &data, "invalid_field", "metadata")
            }
            2 => {
                let raw = self.of(&["\0", "\u{1}", "\n", "\u{1f}", "\\x", "\\u12g4", "\\"]);
                let command = "{\"event\":\"room:leave\",\"ref\":1,\"data\":{\"roomId\":\"";
                Generator::unreadable(format!("{command}{raw}\"}}}}"))
            }
            _ => {
                let token = self.of(&["\"\\ud800\"", "7", "null", "[\"x\"]"]);
                self.with("auth", &format!("{{\"token\":{token}}}"), "invalid_field", "token")
            }
        }
    }

    fn depth_bomb(&mut self) -> Bad {
        let levels = match self.below(4) {
            0 => 17 + self.below(100),
            1 => 120 + self.below(20),
            2 => 1_000 + self.below(1_000),
            _ => 20_000 + self.below(20_000),
        };
        let (open, close) = if self.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
        let inside = if open == "[" { "" } else { "1" };
        let bomb = format!("{}{inside}{}", open.repeat(levels), close.repeat(levels));
        match self.below(5) {
            0 => {
                let data = format!(
                    "{{\"roomId\":\"{ROOM}\",\"content\":\"\",\"metadata\":{{\"b\":{bomb}}}}}"
                );
                self.with("message:send", &data, "too_large", "metadata")
            }
            1 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"content\":{bomb}}}");
                self.with("message:send", &data, "invalid_field", "content")
            }
            2 => self.with("room:leave", &format!("{{\"x\":{bomb}}}"), "invalid_field", "x"),
            3 => Generator::unreadable(open.repeat(levels)),
            _ => {
                let reference = self.next() >> 11;
                let text = format!("{{\"ref\":{reference},\"deep\":{bomb}}}");
                Bad { text, reference: Some(reference), code: "bad_request", field: None }
            }
        }
    }

    /// Some of them only now and then: a quarter of a megabyte each.
    fn too_large(&mut self) -> Bad {
        let (content, bytes) = match self.below(10) {
            0 => ("x", 256 * 1024 + 1),
            1 => ("é", 128 * 1024 + 1),
            _ => {
                let metadata = "m".repeat(16 * 1024 - 8 + 1 + self.below(2_000));
                let data = format!(
                    "{{\"roomId\":\"{ROOM}\",\"content\":\"\",\"metadata\":{{\"k\":\"{metadata}\"}}}}"
                );
                return self.with("message:send", &data, "too_large", "metadata");
            }
        };
        let content = content.repeat(bytes);
        let data = format!("{{\"roomId\":\"{ROOM}\",\"content\":\"{content}\"}}");
        self.with("message:send", &data, "too_large", "content")
    }

    fn faulty_position(&mut self) -> Bad {
        const NUMBERS: [&str; 6] =
            ["9007199254740992", "9223372036854775809", "-1", "0.5", "\"1\"", "null"];
        let number = self.of(&NUMBERS);
        let checked = number.starts_with('9');
        let position = format!("{{\"epoch\":1,\"seq\":{number}}}");
        match self.below(4) {
            0 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"since\":{position}}}");
                let field = if checked { "since" } else { "since.seq" };
                self.with("room:join", &data, "invalid_field", field)
            }
            1 => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"before\":{position}}}");
                let field = if checked { "before" } else { "before.seq" };
                self.with("history:get", &data, "invalid_field", field)
            }
            2 => {
                let both = "\"before\":{\"epoch\":1,\"seq\":1},\"after\":{\"epoch\":1,\"seq\":1}";
                let data = format!("{{\"roomId\":\"{ROOM}\",{both}}}");
                self.with("history:get", &data, "invalid_field", "after")
            }
            _ => {
                let data = format!("{{\"roomId\":\"{ROOM}\",\"since\":[1,2]}}");
                self.with("room:join", &data, "invalid_field", "since")
            }
        }
    }
}
