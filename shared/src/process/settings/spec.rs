//! The specification of a setting, for help, tables and error messages.

use std::any::TypeId;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Command};

use super::value::{Millis, Secret};

/// A setting as it is declared.
#[derive(Debug, Clone)]
pub struct SettingSpec {
    /// The field, and the key in the file.
    pub name: String,
    /// With its dashes: `--room-count` for `room_count`.
    pub flag: String,
    /// The environment variable.
    pub env: String,
    /// What holds if nothing else is said, written as an operator would; empty for nothing.
    pub default: String,
    /// What it means, in a sentence.
    pub doc: String,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// The least and the greatest value, where they are narrower than the type.
    pub range: Option<(u64, u64)>,
    /// What a number is called in an error message, and the greatest that its type holds.
    pub(super) number: Option<(&'static str, u64)>,
    /// Texts with commas between them; an array in the file.
    pub(super) is_list: bool,
}

/// What clap's derive has no word for, as `#[arg(range = 1..=200)]`.
pub trait SettingArg {
    /// Limits a number to a range, which the help shows in place of the value.
    #[must_use]
    fn range(self, range: RangeInclusive<u64>) -> Self;
}

impl SettingArg for Arg {
    fn range(self, range: RangeInclusive<u64>) -> Self {
        self.value_name(format!("{}{TO}{}", range.start(), range.end()))
    }
}

/// Between the ends of a range.
const TO: &str = "..";

/// The settings' arguments, completed by what the derive leaves out.
pub(super) fn arguments<S: Args>() -> impl Iterator<Item = Arg> {
    let declared = S::augment_args(Command::new("settings"));
    let mut heading = String::new();
    declared.get_arguments().cloned().collect::<Vec<_>>().into_iter().map(move |arg| {
        if let Some(text) = arg.get_help_heading() {
            heading = text.to_owned();
        }
        // With a long help, variable and default have lines of their own.
        let help = arg.get_help().cloned().unwrap_or_default();
        let arg = arg.help_heading(heading.clone()).hide_env_values(true).long_help(help);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            // `--dev`, and `--dev=false` against a variable that says true.
            let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true);
            let arg = arg.value_parser(switch).value_name("true|false");
            return arg.default_value("false").default_missing_value("true");
        }
        if has_type::<IpAddr>(&arg) {
            return arg.value_parser(address);
        }
        // Clap takes no empty path.
        if has_type::<PathBuf>(&arg) { arg.value_parser(path) } else { arg }
    })
}

fn has_type<T: 'static>(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<T>()
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "an IP address such as 127.0.0.1 or ::1")
}

fn path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(text.into())
}

/// The sentence of the doc comment, of which the derive takes the period.
fn doc(arg: &Arg) -> String {
    format!("{}.", arg.get_help().map(ToString::to_string).unwrap_or_default())
}

/// The settings of a struct, in the order of its fields.
#[must_use]
pub fn specs<S: Args>() -> Vec<SettingSpec> {
    arguments::<S>().map(|arg| SettingSpec::of(&arg)).collect()
}

impl SettingSpec {
    fn of(arg: &Arg) -> Self {
        let numbers = [
            (has_type::<u16>(arg), "a whole number", u16::MAX.into()),
            (has_type::<u32>(arg), "a whole number", u32::MAX.into()),
            (has_type::<u64>(arg), "a whole number", u64::MAX),
            (has_type::<usize>(arg), "a whole number", u64::MAX),
            (has_type::<Millis>(arg), "a whole number of milliseconds", u64::MAX),
        ];
        let number = numbers.into_iter().find(|(is_it, ..)| *is_it);
        let ends = arg.get_value_names().and_then(|names| names.first()?.split_once(TO));
        let default = arg.get_default_values().first();
        Self {
            name: arg.get_id().to_string(),
            flag: format!("--{}", arg.get_long().unwrap_or_default()),
            env: arg.get_env().unwrap_or_default().to_string_lossy().into_owned(),
            default: default.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default(),
            doc: doc(arg),
            secret: has_type::<Secret>(arg),
            range: ends.and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?))),
            number: number.map(|(_, noun, most)| (noun, most)),
            is_list: matches!(arg.get_action(), ArgAction::Append),
        }
    }
}

/// The settings as a Markdown table, one row each, in the order of the fields.
#[must_use]
pub fn markdown_table<S: Args>() -> String {
    let mut table =
        String::from("| Variable | In the file | Default | Meaning |\n|---|---|---|---|\n");
    for SettingSpec { name, env, default, doc, range, .. } in specs::<S>() {
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        let range = range.map(|(least, most)| format!(" From {least} to {most}."));
        let meaning = format!("{doc}{}", range.unwrap_or_default()).replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{env}` | `{name}` | {default} | {meaning} |");
    }
    table
}
