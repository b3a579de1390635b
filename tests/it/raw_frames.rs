//! Frames that no WebSocket library sends: each ends its connection with the code RFC 6455 gives
//! it, in order and without a reset, or is none of the server's trouble.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod allowed;
mod broken;
mod sizes;

use crate::fixtures::one_gateway::SOON;
use fleet::Fleet;
use harness::raw::{Ending, RawSocket};
use harness::raw::{RawError, ServerFrame, frame, opcode};
use serde_json::Value;

/// A connection that has been welcomed.
async fn welcomed(fleet: &Fleet) -> RawSocket {
    let port = fleet.gateway().port();
    let mut socket = RawSocket::upgraded(port, "/ws?user=raw", SOON).await.unwrap();
    let welcome = socket.next_frame(SOON).await.unwrap();
    assert!(welcome.text().contains("\"event\":\"welcome\""), "{welcome:?}");
    socket
}

/// Sends `bytes` on a connection of its own, and says how the server ends it. After the close
/// frame nothing more comes, and the stream ends in order: a reset could overtake the close frame.
async fn ending_of(fleet: &Fleet, bytes: &[u8]) -> Result<Option<u16>, String> {
    let mut socket = welcomed(fleet).await;
    let say = |error: &dyn std::fmt::Debug| format!("{error:?}");
    socket.send(bytes).await.map_err(|error| say(&error))?;
    let Ending::Close(code) = socket.ending(SOON).await.map_err(|error| say(&error))? else {
        return Err("it ended without a close frame".to_owned());
    };
    match socket.next_frame(SOON).await {
        Err(RawError::Eof) => Ok(code),
        other => Err(format!("after the close frame with {code:?} came {other:?}")),
    }
}

/// Every case ends its connection with its code; all that do not are named at once.
async fn assert_endings(fleet: &Fleet, cases: &[(String, Vec<u8>, u16)]) {
    let mut wrong = Vec::new();
    for (name, bytes, code) in cases {
        let ending = ending_of(fleet, bytes).await;
        if ending != Ok(Some(*code)) {
            wrong.push(format!("{name}: {ending:?} and not {code}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The next frame that answers a command.
async fn reply(socket: &mut RawSocket) -> Value {
    let frame = socket.next_frame(SOON).await.unwrap();
    let ServerFrame { fin, rsv, opcode, masked, .. } = frame;
    assert_eq!((fin, rsv, opcode, masked), (true, 0, opcode::TEXT, false), "{}", frame.text());
    serde_json::from_slice(&frame.payload).unwrap()
}

/// The connection still answers.
async fn assert_alive(socket: &mut RawSocket, reference: u64) {
    socket.send(&harness::raw::text(&heartbeat(reference))).await.unwrap();
    let answer = reply(socket).await;
    assert_eq!((&answer["event"], &answer["ref"]), (&"reply".into(), &reference.into()));
}

fn heartbeat(reference: u64) -> String {
    format!("{{\"event\":\"heartbeat\",\"ref\":{reference}}}")
}

/// A masked frame.
fn masked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(fin, 0, opcode, true, payload)
}

/// A case of [`assert_endings`].
fn case(name: impl Into<String>, frames: &[Vec<u8>], code: u16) -> (String, Vec<u8>, u16) {
    (name.into(), frames.concat(), code)
}
