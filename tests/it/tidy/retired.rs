//! Names that were given up for the words of the field, and must not come back.
//!
//! Of identifiers only: prose may say that somebody spoke. A name that is still a good one
//! somewhere else cannot be in the list.

use super::source::Source;

/// What was given up, and what it is called now.
const RETIRED: &[(&str, &str)] = &[
    // Modules of the gateway.
    ("posting", "operation::post"),
    ("changing", "operation::change"),
    ("crediting", "operation::credit"),
    ("answering", "operation::stream"),
    ("synchronise", "sync"),
    ("attending", "ephemeral"),
    ("joining", "join"),
    ("removing", "members"),
    ("resynchronise", "resync"),
    ("assembler", "decoder"),
    ("appender", "append_queue"),
    ("herald", "signals"),
    ("roster", "room_quota"),
    ("vault", "token_store"),
    // Presence.
    ("People", "LocalMembers"),
    ("Here", "LocalMember"),
    ("Tab", "ConnectionId"),
    ("Judgement", "LeasePoll"),
    ("Tidings", "LeaseReport"),
    ("reap", "clean_up"),
    // Rooms.
    ("Logged", "RoomEntry"),
    ("is_said_to", "counts_as_unread_for"),
    ("Recent", "RoomCache"),
    ("SourceError", "HistoryError"),
    ("Books", "SideState"),
    ("books", "side_state"),
    ("Refill", "Snapshot"),
    ("refill", "snapshot"),
    ("Flights", "SingleFlight"),
    ("Miss", "JoinRetry"),
    ("Company", "Ephemeral"),
    ("company", "ephemeral"),
    ("Board", "RoomPresence, RoomTyping, RoomReceipts or RoomStreams"),
    ("greet", "send_initial_state"),
    ("arrive", "add_presence"),
    ("spoke", "clear_typing"),
    ("mend", "resend_missed"),
    ("expel", "kick"),
    ("send_away", "reset_members"),
    ("reset_member", "reset_members"),
    ("attendance", "present"),
    ("begin_attendance", "begin_reading_presence"),
    ("finish_attendance", "finish_reading_presence"),
    ("heed_presence", "signal"),
    ("heed_typing", "signal"),
    ("see_to_receipts", "change"),
    ("tell_in_turn", "tell_receipts"),
    ("Roster", "RoomQuota"),
    ("RosterPlace", "RoomSlot"),
    // The way to the log.
    ("What", "ChangeKind or SubmittedEntry"),
    ("Herald", "SignalPublisher"),
    ("Appender", "AppendQueue"),
    ("ShardWay", "ShardHandle"),
    ("ShardAppender", "ShardQueue"),
    ("Retained", "Unpersisted"),
    ("Answers", "AppendBatchResult"),
    // Answers that are being written.
    ("Shelf", "StreamStore"),
    ("ShelfError", "StreamStoreError"),
    ("MemoryShelf", "MemoryStreamStore"),
    ("RedisShelf", "RedisStreamStore"),
    ("SoFar", "StreamText"),
    ("AnswerKey", "StreamKey"),
    ("Beginning", "StreamHeader"),
    ("Lively", "StillActive"),
    // Who is asking, and how often.
    ("Vault", "TokenStore"),
    ("VaultError", "TokenStoreError"),
    ("ProofError", "AuthError"),
    ("Allowance", "RateClass"),
    ("Counted", "RatePermit"),
    ("give_back", "refund"),
    ("cut_hammerer", "close_if_abusive"),
    ("whole_life", "serve"),
    ("Assembler", "Decoder"),
    // What a process depends on, and the stores.
    ("attendant", "task"),
    ("attendants", "background_tasks"),
    ("Complaint", "ThrottledWarning"),
    ("Way", "Queue"),
    ("Fold", "WritePlan"),
    // Tests.
    ("Chatter", "SimClient"),
    ("Talk", "Crowd"),
    ("who_is_asking", "auth"),
    ("shelf_contract", "stream_store_contract"),
    ("stand_in", "fake_server"),
    ("Site", "RunDir"),
    ("server_user", "os_user"),
    // Participles that meant several things each.
    ("Standing", "ExistingRow or ConditionState"),
    ("Wanted", "a query or a filter"),
    ("RowsOf", "Span"),
    // One append for both logs.
    ("AppendResult", "Appended"),
    ("MemoryBroker", "MemoryLog"),
    ("KnownId", "Appended"),
    ("BrokerError", "LogError"),
    ("ArmedEpoch", "Epoch"),
    ("TrackResult", "BatchResult"),
];

pub(crate) fn check(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in source.bare().lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let Some((_, now)) = RETIRED.iter().find(|(retired, _)| *retired == word) else {
                continue;
            };
            let place = format!("{}:{}", source.path, number + 1);
            complaints.push(format!("{place}: {word} is called {now} now"));
        }
    }
    complaints
}

#[test]
fn retired_names_are_found_as_identifiers_only() {
    let found = |text: &str| check(&Source::new("a/src/b.rs", text)).len();
    assert_eq!(found("struct Desks;\nfn regreet() {}\n// Company\nlet a = \"Shelf\";"), 0);
    assert_eq!(found("struct Company;\nmod posting;\nfn a(b: &Shelf) { b.greet() }"), 4);
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use super::Roster;\n}"), 1);
}
