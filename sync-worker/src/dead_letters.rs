//! The subcommand `dead-letters`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::ParseIntError;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use shared::contract::envelope::{Envelope, EnvelopeError};
use shared::log::{LogEntry, LogLoad};
use shared::process::error_chain::error_chain;
use shared::store::postgres::{DrivenAgain, NumberedLetter, PostgresStore, Redriven};
use shared::store::{DeadLetter, Row, StoreError};
use tokio::time::Instant;

use crate::batch::row;
use crate::reconcile::printable;

/// Letters that are read at once; each holds its whole entry.
const PAGE: u32 = 100;
/// How long the subcommand waits for a worker to drive a letter, and how often it looks.
const WORKER_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Characters of an error in the list.
const ERROR_CHARS: usize = 60;

const HEADINGS: [&str; 8] =
    ["number", "room", "user", "message id", "position", "code", "first seen", "error"];

/// Why a subcommand was not done.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// There is none of that number.
    #[error("there is no dead letter {0}")]
    Nothing(u64),
    /// Its bytes are no envelope.
    #[error("dead letter {0} cannot be decoded and stays")]
    Undecodable(u64, #[source] EnvelopeError),
    /// Its envelope makes no row.
    #[error("dead letter {0} makes no row and stays")]
    NoRow(u64, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It takes a place, and nothing is to be stored.
    #[error("dead letter {0} holds nothing to store and stays")]
    Void(u64),
    /// There is no message that it edits.
    #[error("dead letter {0} edits a message that does not stand and stays")]
    Orphaned(u64),
    /// The database refuses it still.
    #[error("dead letter {number} is refused and stays: SQLSTATE {code}: {detail}")]
    Refused {
        /// Which one.
        number: u64,
        /// The database's code.
        code: String,
        /// What it said.
        detail: String,
    },
    /// No worker has done it yet.
    #[error(
        "dead letter {0} is to be driven again and waits for a worker, which does it when one runs"
    )]
    Waiting(u64),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody listens.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
}

/// What can be done about dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List all of them, with their numbers
    List,
    /// Show one and what is in it
    Show {
        /// Its number in the list
        number: u64,
    },
    /// Store one, or all, once their cause is gone
    Redrive {
        /// A number in the list, or `all`
        #[arg(value_name = "NUMBER|all")]
        which: Which,
    },
}

/// The dead letters that are to be redriven.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// Every one.
    All,
    /// That of this number.
    Number(u64),
}

impl FromStr for Which {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Which, ParseIntError> {
        if text == "all" { Ok(Which::All) } else { text.parse().map(Which::Number) }
    }
}

/// Runs the subcommand, and gives the exit code.
///
/// # Errors
/// Says what could not be done; of `redrive all` only what ends it early.
pub async fn run(store: &PostgresStore, asked: DeadLetters) -> Result<ExitCode, LetterError> {
    match asked {
        DeadLetters::List => list(store).await?,
        DeadLetters::Show { number } => show(store, number).await?,
        DeadLetters::Redrive { which: Which::All } => return redrive_all(store).await,
        DeadLetters::Redrive { which: Which::Number(number) } => {
            let letter = store.dead_letter(number).await?.ok_or(LetterError::Nothing(number))?;
            say(&redrive(store, &letter).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<(), LetterError> {
    Ok(io::stdout().write_all(format!("{text}\n").as_bytes())?)
}

async fn list(store: &PostgresStore) -> Result<(), LetterError> {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    let mut after = 0;
    loop {
        let page = store.numbered_dead_letters(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        lines.extend(page.iter().map(cells));
    }
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0))
        .collect();
    for cells in lines {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        say(padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn cells(numbered: &NumberedLetter) -> [String; 8] {
    let letter = &numbered.letter;
    [
        numbered.number.to_string(),
        or_dash(letter.room.as_ref()),
        or_dash(letter.user.as_ref()),
        or_dash(letter.id.as_ref()),
        or_dash(letter.position),
        letter.code.clone(),
        numbered.first_seen.to_string(),
        printable(&letter.error).chars().take(ERROR_CHARS).collect(),
    ]
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

async fn show(store: &PostgresStore, number: u64) -> Result<(), LetterError> {
    let numbered = store.dead_letter(number).await?.ok_or(LetterError::Nothing(number))?;
    let DeadLetter { log_id, raw, error, .. } = &numbered.letter;
    let mut text = String::new();
    for (heading, cell) in HEADINGS.iter().zip(cells(&numbered)).take(HEADINGS.len() - 1) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading}: {cell}");
    }
    let _ = writeln!(text, "log id: {}-{}", log_id.epoch, log_id.n);
    let _ = writeln!(text, "error: {}", printable(error));
    let _ = match Envelope::decode(raw) {
        Ok(envelope) => write!(text, "{}", decoded(&envelope)),
        Err(error) => write!(text, "raw: {} bytes, {}", raw.len(), error_chain(&error)),
    };
    say(&text)
}

fn decoded(envelope: &Envelope) -> String {
    let body = match serde_json::from_slice::<serde_json::Value>(&envelope.body) {
        Ok(json) => format!("{json:#}"),
        Err(_) => String::from_utf8_lossy(&envelope.body).escape_debug().to_string(),
    };
    let (kind, change) = (envelope.kind, or_dash(envelope.change_id.as_ref()));
    format!("kind: {kind:?}\nchange id: {change}\naccepted: {}\nbody: {body}", envelope.accepted_at)
}

async fn redrive_all(store: &PostgresStore) -> Result<ExitCode, LetterError> {
    let (mut driven, mut failed, mut after) = (0_u64, 0_u64, 0);
    loop {
        let page = store.numbered_dead_letters(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        // All of a page are on their way together.
        let mut begun = Vec::with_capacity(page.len());
        for letter in &page {
            begun.push(begin(store, letter).await);
        }
        for (letter, begun) in page.iter().zip(begun) {
            let done = match begun {
                Ok(begun) => outcome(store, letter, begun).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(text) => {
                    driven += 1;
                    say(&text)?;
                }
                Err(error) => {
                    failed += 1;
                    say(&error_chain(&error))?;
                }
            }
        }
    }
    say(&format!("{driven} driven, {failed} not"))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn redrive(store: &PostgresStore, numbered: &NumberedLetter) -> Result<String, LetterError> {
    let begun = begin(store, numbered).await?;
    outcome(store, numbered, begun).await
}

/// Whether a letter is done with, or a worker has to do it.
#[derive(Clone, Copy)]
enum Begun {
    Done(Redriven),
    /// It takes a place in its room again, where those who are there see it.
    InTheLog,
}

async fn begin(store: &PostgresStore, numbered: &NumberedLetter) -> Result<Begun, LetterError> {
    let number = numbered.number;
    let row = row_of(numbered)?;
    let refused = |error| match error {
        StoreError::Data { code, detail } => LetterError::Refused { number, code, detail },
        error @ (StoreError::Fenced { .. } | StoreError::Unavailable(_)) => error.into(),
    };
    if matches!(row, Row::Message(_) | Row::Change(_)) {
        let would = store.consider(number, &row).await.map_err(refused)?;
        if would == Redriven::Stored {
            let is_there = store.want_driven(number).await?;
            return Ok(if is_there { Begun::InTheLog } else { Begun::Done(Redriven::Gone) });
        }
        if would != Redriven::Stood {
            return Ok(Begun::Done(would));
        }
    }
    Ok(Begun::Done(store.redrive(number, &row).await.map_err(refused)?))
}

async fn outcome(
    store: &PostgresStore,
    numbered: &NumberedLetter,
    begun: Begun,
) -> Result<String, LetterError> {
    let number = numbered.number;
    match begun {
        Begun::Done(Redriven::Stored) => Ok(format!("dead letter {number} is stored")),
        Begun::Done(Redriven::Stood) => {
            Ok(format!("dead letter {number} had nothing left to store"))
        }
        Begun::Done(Redriven::Quarantined) => Ok(format!(
            "dead letter {number} is in quarantine: the ledger has its id with another user or \
             amount"
        )),
        Begun::Done(Redriven::Orphaned) => Err(LetterError::Orphaned(number)),
        Begun::Done(Redriven::Gone) => Err(LetterError::Nothing(number)),
        Begun::InTheLog => {
            let began = Instant::now();
            while began.elapsed() < WORKER_PATIENCE {
                match store.driven_again(numbered).await? {
                    Some(DrivenAgain::Stored) => {
                        return Ok(format!("dead letter {number} is stored"));
                    }
                    Some(DrivenAgain::Refused { code, detail }) => {
                        return Err(LetterError::Refused { number, code, detail });
                    }
                    None => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
            Err(LetterError::Waiting(number))
        }
    }
}

fn row_of(numbered: &NumberedLetter) -> Result<Row, LetterError> {
    let NumberedLetter { number, letter, .. } = numbered;
    let envelope =
        Envelope::decode(&letter.raw).map_err(|e| LetterError::Undecodable(*number, e))?;
    let (id, position, raw) = (letter.log_id, letter.position, letter.raw.clone());
    let entry = LogEntry { id, position, raw, load: LogLoad::default() };
    let row = row(&entry, &envelope);
    row.map_err(|e| LetterError::NoRow(*number, Box::from(error_chain(&e))))?
        .ok_or(LetterError::Void(*number))
}
