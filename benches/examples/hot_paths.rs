//! Runs one of the two hottest paths so often, for a counter of instructions; see
//! `benches/instructions`.

#[path = "../benches/inputs.rs"]
mod inputs;

use std::process::ExitCode;

use bytes::Bytes;
use gateway::micro::{FanOut, read_commands};

const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Members of a room.
const MEMBERS: usize = 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_default();
    let times = arguments.next().and_then(|times| times.parse::<usize>().ok()).unwrap_or(0);
    let done = match path.as_str() {
        "command" => read_commands(inputs::frames(times), MESSAGE_BYTES_MAX),
        "delivery" => {
            let room = FanOut::new(MEMBERS);
            let raw = Bytes::from(inputs::envelope().encode().expect("it fits"));
            (1..=times as u64).filter(|seq| room.publish(&raw, *seq) > 0).count()
        }
        _ => return ExitCode::from(2),
    };
    if done == times { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
