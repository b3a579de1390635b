//! A process's settings: a struct with clap's derive, one field and one declaration for each.
//!
//! A setting comes from its default, below the TOML file (`--config FILE`, flat keys with the
//! fields' names), below the environment, below its flag (`--room-count 5` for `room_count`). All
//! of them are read once, at the start, and every [`Problem`] is reported at once, under the name
//! of the place where the value stands. What nobody knows is a problem too: an unknown key or flag,
//! and any unknown variable that begins with `ROOMCAST_` or `WEBSOCKET_RATE_LIMIT_`, because a
//! misspelt setting would otherwise keep its default in silence.
//!
//! An empty variable counts as not set, and white space around a value is dropped, since files and
//! orchestrators like to add both. An empty value in the file or after a flag is taken at its word:
//! it empties a text or a list and takes away an optional value.
//!
//! Every field needs `long`, `env` and, unless it is an `Option`, a list or a switch, a
//! `default_value`. A number may have a range, by [`SettingArg::range`]. A help heading holds for
//! the fields that follow it, too.
//!
//! ```
//! use clap::Args;
//! use serde::Serialize;
//! use shared::process::settings::{self, Secret, SettingArg, Sources};
//!
//! /// What the mill can be told.
//! #[derive(Debug, Args, Serialize)]
//! struct MillSettings {
//!     /// How many wheels turn at once.
//!     #[arg(long, env = "MILL_WHEELS", default_value = "2", range = 1..=8)]
//!     wheels: u32,
//!     /// The key of the granary.
//!     #[arg(long, env = "MILL_GRANARY_KEY")]
//!     granary_key: Option<Secret>,
//! }
//! let sources = Sources::from_map(&[("MILL_WHEELS", "4")]);
//! let settings: MillSettings = settings::load(&sources).unwrap();
//! assert_eq!(settings.wheels, 4);
//! ```

mod layers;
mod command_line;
mod spec;
mod sources;
mod value;

use clap::{Args, Command, Subcommand};
use serde::Serialize;

use command_line::{CommandLine, NoCommand};
use layers::Layers;

pub use command_line::{Stop, USAGE};
pub use sources::Sources;
pub use spec::{SettingArg, SettingSpec, markdown_table, specs};
pub use value::{Millis, Secret};

/// Something wrong with the settings, under the name of the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {complaint}")]
pub struct Problem {
    /// A variable, a flag, or a key and its file.
    pub origin: String,
    /// What is wrong, and what is expected instead.
    pub complaint: String,
}

impl Problem {
    /// For checks across settings, which only the caller can make.
    pub fn new(origin: impl Into<String>, complaint: impl Into<String>) -> Self {
        Self { origin: origin.into(), complaint: complaint.into() }
    }
}

/// Does what the command line asks: gives settings and the subcommand, or the reason to stop (help,
/// version, completions, a printed or checked configuration, problems).
///
/// `program` has the name, the version and what the program is. `check` finds what is wrong between
/// settings that are right one by one, for what is asked of the program; where one of them is
/// wrong, it sees the default, and so says at once what else is.
///
/// # Errors
/// The reason to stop.
pub fn start<S: Args + Serialize, C: Subcommand>(
    sources: &Sources,
    program: Command,
    check: impl FnOnce(&S, Option<&C>) -> Vec<Problem>,
) -> Result<(S, Option<C>), Stop> {
    let mut line = CommandLine::<C>::read::<S>(sources, program)?;
    let command = line.command.take();
    // Of a word that is no subcommand nobody knows what it needs.
    let check = |settings: &S| {
        if line.has_stray_word { Vec::new() } else { check(settings, command.as_ref()) }
    };
    let layers = Layers::read::<S, C>(sources, &line);
    let (settings, layers) = layers.settings(check)?;
    if line.flags.print_config {
        return Err(Stop::fine(layers.print(&settings)));
    }
    if line.flags.check_config {
        return Err(Stop::fine("the configuration is valid\n"));
    }
    Ok((settings, command))
}

/// Settings without a check between them, of a program without subcommands.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load<S: Args + Serialize>(sources: &Sources) -> Result<S, Stop> {
    start::<S, NoCommand>(sources, Command::new("settings"), |_, _| Vec::new())
        .map(|(settings, _)| settings)
}

#[cfg(test)]
mod tests;
