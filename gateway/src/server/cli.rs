//! The command line of a gateway: settings and subcommands.

use clap::Command;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::settings::{self, Sources, Stop, USAGE};

use crate::auth::api_keys;
use crate::config::GatewaySettings;
use crate::server::mint::{self, TokenRequest};
use crate::server::replay::{self, ReplayRequest};

/// What the program does in place of running a node.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Make a key for the API, and its digest for `ROOMCAST_API_KEYS`
    ApiKey,
    /// Sign a token with `ROOMCAST_JWT_SECRET` and print it
    Token(TokenRequest),
    /// Deal with the journal of a node that is gone
    #[command(subcommand)]
    Journal(JournalCommand),
}

/// What is to be done with a journal.
#[derive(Debug, clap::Subcommand)]
pub enum JournalCommand {
    /// Offer what it holds to the log, and wait until the database has it
    Replay(ReplayRequest),
}

/// The settings and the subcommand, or the reason to stop.
///
/// # Errors
/// The reason to stop.
pub fn start(sources: &Sources) -> Result<(GatewaySettings, Option<Subcommand>), Stop> {
    let program = Command::new("gateway").version(env!("CARGO_PKG_VERSION")).about(
        "One Roomcast node: a realtime gateway for team chat with a database at the end of it.",
    );
    settings::start(sources, program, |settings: &GatewaySettings, asked: Option<&Subcommand>| {
        // What is asked for needs none of what a node needs.
        if asked.is_some() { Vec::new() } else { settings.problems() }
    })
}

/// Does what was asked for in place of running a node, and gives what there is to say; needs a
/// tokio runtime.
pub async fn run(settings: GatewaySettings, subcommand: &Subcommand) -> Stop {
    let fine = |text| Stop { text, code: 0 };
    let wrong = |text: String| Stop { text: format!("{text}\n"), code: USAGE };
    match subcommand {
        Subcommand::ApiKey => {
            let (key, digest) = api_keys::mint();
            fine(format!(
                "key     {key}\ndigest  {digest}\n\nThe key is for the application and is shown \
                 only now; the digest goes into ROOMCAST_API_KEYS of every node.\n"
            ))
        }
        Subcommand::Token(request) => {
            match mint::token(&settings, Clock::system().now_ms(), request) {
                Ok(token) => fine(format!("{token}\n")),
                Err(error) => wrong(error_chain(&error)),
            }
        }
        Subcommand::Journal(_) if !settings.is_cluster() => wrong(
            "a journal is offered to the log of a cluster: set REDIS_URL and DATABASE_URL".into(),
        ),
        Subcommand::Journal(JournalCommand::Replay(request)) => {
            match replay::run(settings, request).await {
                Ok(entries) => fine(format!("{entries} entries are in the database\n")),
                Err(error) => Stop { text: format!("{}\n", error_chain(&error)), code: 1 },
            }
        }
    }
}
