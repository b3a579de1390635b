//! Declares a process's settings, each in one place: field, sentence, default, variable.
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

mod reading;
mod command_line;
mod sources;
mod value;

use std::fmt::Write;
use std::ops::RangeInclusive;

pub use command_line::{Program, Stop, begin, subcommand};
pub use reading::Reading;
pub use sources::Sources;
pub use value::{Millis, Secret, Setting, Shape};

/// A setting as it is declared, for help, tables and error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The field, and the key in the file; with dashes, the flag.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// What holds if nothing else is said, written as an operator would.
    pub default: &'static str,
    /// What it means, in a sentence.
    pub doc: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// The least and the greatest value, where they are narrower than the type.
    pub range: Option<(u64, u64)>,
    /// How it is written.
    pub shape: Shape,
}

impl Key {
    /// The flag without its dashes: `room-count` for `room_count`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

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

/// The settings as a Markdown table, one row each, in the order of the fields.
#[must_use]
pub fn markdown_table(keys: &[Key]) -> String {
    let mut table =
        String::from("| Variable | In the file | Default | Meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = match key.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let range = key.range.map(|(least, most)| format!(" From {least} to {most}."));
        let meaning = format!("{}{}", key.doc, range.unwrap_or_default()).replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | `{}` | {default} | {meaning} |", key.env, key.name);
    }
    table
}

/// A doc comment without the space that `///` leaves; for [`settings!`](crate::settings!).
#[must_use]
pub const fn sentence(doc: &'static str) -> &'static str {
    doc.trim_ascii()
}

/// The ends of a range; for [`settings!`](crate::settings!).
#[must_use]
pub const fn limits<T: Setting>(range: &RangeInclusive<u64>) -> (u64, u64) {
    assert!(T::LIMITS.is_some(), "only a number can be limited to a range");
    (*range.start(), *range.end())
}

/// Declares a struct of settings.
///
/// A field is `name: Type = "default", env "VARIABLE";`, with its doc comment above. The default
/// goes through the same parser and the same limits as what an operator writes. After it may stand
/// `in 1..=200` (numbers and [`Millis`]), at the end `, secret`, which only compiles for a type
/// that keeps its secret when printed ([`Secret`]; such a type is secret without the word too).
///
/// The struct gets `KEYS`, `load`, `start`, `print` and `markdown_table`.
///
/// ```
/// use shared::process::settings::{Secret, Sources};
///
/// shared::settings! {
///     /// What the mill can be told.
///     pub struct MillSettings {
///         /// How many wheels turn at once.
///         wheels: u32 = "2" in 1..=8, env "MILL_WHEELS";
///         /// The key of the granary.
///         granary_key: Option<Secret> = "", env "MILL_GRANARY_KEY", secret;
///     }
/// }
/// let settings = MillSettings::load(&Sources::from_map(&[("MILL_WHEELS", "4")])).unwrap();
/// assert_eq!(settings.wheels, 4);
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:literal $(in $range:expr)?,
                env $env:literal $(, $mark:ident)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(#[doc = $doc])+ $vis $field: $type,)+
        }

        $($($crate::settings!(@$mark $type);)?)+

        impl $name {
            /// Every setting, in the order of the fields.
            $vis const KEYS: &'static [$crate::process::settings::Key] = &[
                $($crate::process::settings::Key {
                    name: stringify!($field),
                    env: $env,
                    default: $default,
                    doc: $crate::process::settings::sentence(concat!($($doc),+)),
                    secret: <$type as $crate::process::settings::Setting>::SECRET,
                    range: $crate::settings!(@range $type $(, $range)?),
                    shape: <$type as $crate::process::settings::Setting>::SHAPE,
                },)+
            ];

            /// Reads every setting, or says everything that is wrong with them.
            $vis fn load(
                sources: &$crate::process::settings::Sources,
            ) -> Result<Self, Vec<$crate::process::settings::Problem>> {
                Self::checked(sources, |_| Vec::new())
            }

            /// The same with a check between the settings; where one of them is wrong, it sees the
            /// default, and so says at once what else is.
            fn checked(
                sources: &$crate::process::settings::Sources,
                check: impl FnOnce(&Self) -> Vec<$crate::process::settings::Problem>,
            ) -> Result<Self, Vec<$crate::process::settings::Problem>> {
                let mut reading = $crate::process::settings::Reading::new(sources, Self::KEYS);
                $(let $field: Option<$type> = reading.field(stringify!($field));)+
                let whole = move || Some(Self { $($field: $field?,)+ });
                reading.finish(whole(), check)
            }

            /// Does what the command line asks: gives settings and the subcommand, or
            /// the reason to stop (help, version, a printed or checked configuration, problems).
            ///
            /// `check` finds what is wrong between settings that are right one by one.
            $vis fn start(
                sources: &$crate::process::settings::Sources,
                program: &$crate::process::settings::Program,
                check: impl FnOnce(&Self) -> Vec<$crate::process::settings::Problem>,
            ) -> Result<(Self, Vec<String>), $crate::process::settings::Stop> {
                let load = || Self::checked(sources, check);
                let print = |settings: &Self| settings.print(sources);
                $crate::process::settings::begin(sources, Self::KEYS, program, load, print)
            }

            /// The settings as a TOML file, with where each comes from; secrets are redacted.
            #[must_use]
            $vis fn print(&self, sources: &$crate::process::settings::Sources) -> String {
                let reading = $crate::process::settings::Reading::new(sources, Self::KEYS);
                [$(reading.line(stringify!($field), &self.$field),)+].concat()
            }

            /// The settings as a Markdown table.
            #[must_use]
            $vis fn markdown_table() -> String {
                $crate::process::settings::markdown_table(Self::KEYS)
            }
        }
    };

    (@range $type:ty) => { None };
    (@range $type:ty, $range:expr) => {
        Some($crate::process::settings::limits::<$type>(&$range))
    };

    (@secret $type:ty) => {
        const _: () = assert!(
            <$type as $crate::process::settings::Setting>::SECRET,
            "a setting marked secret must have a type that keeps it: Secret or Option<Secret>",
        );
    };
}

#[cfg(test)]
mod tests;
