//! Parses the command line: flags of settings, flags of every program, subcommands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, Command, FromArgMatches, Subcommand, value_parser};
use clap_complete::Shell;

use super::Problem;
use super::sources::Sources;
use super::spec::arguments;

/// The reason not to run: what was asked for has been done, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What there is to say, with its last line ended.
    pub text: String,
    /// 0, or 64 if something is wrong with the settings (`EX_USAGE`).
    pub code: u8,
}

/// `EX_USAGE` of sysexits.h: called wrongly, so starting again does not help.
pub const USAGE: u8 = 64;

impl Stop {
    /// Says it, on standard output or, if something is wrong, on standard error.
    #[must_use]
    pub fn exit(&self) -> ExitCode {
        let text = self.text.as_bytes();
        // Nobody may be listening; the code says it too.
        let _ = if self.code == 0 {
            io::stdout().write_all(text)
        } else {
            io::stderr().write_all(text)
        };
        ExitCode::from(self.code)
    }

    pub(super) fn fine(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 0 }
    }
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self { text: error.to_string(), code: if error.use_stderr() { USAGE } else { 0 } }
    }
}

impl From<Vec<Problem>> for Stop {
    fn from(problems: Vec<Problem>) -> Self {
        let lines = problems.iter().map(|problem| format!("{problem}\n"));
        Self { text: lines.collect(), code: USAGE }
    }
}

/// What the command line says; the values of settings are not judged yet.
pub(super) struct CommandLine<C> {
    /// By the names of the settings.
    pub(super) values: BTreeMap<String, OsString>,
    pub(super) flags: ConfigFlags,
    pub(super) command: Option<C>,
    /// Whether a word is no subcommand, nor an argument of one.
    pub(super) has_stray_word: bool,
    pub(super) problems: Vec<Problem>,
}

/// Flags of every program.
#[derive(Args)]
#[command(next_help_heading = "Configuration")]
pub(super) struct ConfigFlags {
    /// Read settings from a TOML file, such as `log_format = "json"` for `--log-format json`
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<String>,
    /// Say what is wrong with the settings, and end
    #[arg(long)]
    pub(super) check_config: bool,
    /// Print the settings and where each comes from, without secrets, and end
    #[arg(long)]
    pub(super) print_config: bool,
}

/// Subcommands of every program.
#[derive(Subcommand)]
enum CommonCommand {
    /// Print a completion script for a shell
    Completions {
        /// The shell that is to complete commands
        shell: Shell,
    },
}

/// No subcommands but those of every program.
#[derive(Subcommand)]
pub(super) enum NoCommand {}

impl<C: Subcommand> CommandLine<C> {
    /// Reads on after each problem, without what caused it, so that all are found at once; an error
    /// if there is nothing to go on with.
    pub(super) fn read<S: Args>(sources: &Sources, program: Command) -> Result<Self, Stop> {
        use ErrorKind::{
            DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand as NoSubcommand, DisplayVersion,
        };
        let mut command = command::<S, C>(program);
        let mut arguments = sources.arguments().to_vec();
        let (mut problems, mut has_stray_word) = (Vec::<Problem>::new(), false);
        let matches = loop {
            let error = match command.try_get_matches_from_mut(&arguments) {
                Ok(matches) => break matches,
                Err(error) => error,
            };
            if matches!(error.kind(), DisplayHelp | DisplayVersion | NoSubcommand) {
                return Err(error.into());
            }
            let culprit = culprit(&error).unwrap_or_else(|| "the command line".to_owned());
            has_stray_word |= !culprit.starts_with('-');
            // What is missing because it was taken out has been complained of.
            if problems.iter().all(|problem| problem.origin != culprit) {
                problems.push(Problem::new(&culprit, complaint(&error, &culprit)));
            }
            if !remove(&mut arguments, &culprit) {
                return Err(problems.into());
            }
        };
        if let Ok(CommonCommand::Completions { shell }) = CommonCommand::from_arg_matches(&matches)
        {
            let (name, mut script) = (command.get_name().to_owned(), Vec::new());
            clap_complete::generate(shell, &mut command, name, &mut script);
            return Err(Stop::fine(String::from_utf8_lossy(&script)));
        }
        let given = matches.ids().map(clap::Id::as_str).filter_map(|name| {
            let is_given = matches.value_source(name) == Some(ValueSource::CommandLine);
            // Only those of settings are left as they are.
            let value: &OsString = matches.try_get_one(name).ok().flatten().filter(|_| is_given)?;
            Some((name.to_owned(), value.clone()))
        });
        Ok(Self {
            values: given.collect(),
            flags: ConfigFlags::from_arg_matches(&matches)?,
            command: C::from_arg_matches(&matches).ok(),
            has_stray_word,
            problems,
        })
    }
}

/// The program as its help shows it; the values of settings are taken as they are.
fn command<S: Args, C: Subcommand>(program: Command) -> Command {
    let as_it_is = |arg: Arg| arg.action(ArgAction::Set).value_parser(value_parser!(OsString));
    let (name, about) = (program.get_name().to_owned(), program.get_about().cloned());
    let program = CommonCommand::augment_subcommands(C::augment_subcommands(program));
    ConfigFlags::augment_args(program)
        // The derives would have it say what they are.
        .about(Resettable::from(about))
        .bin_name(name)
        .no_binary_name(true)
        // Said twice, the later holds; as with the sources.
        .args_override_self(true)
        .next_line_help(true)
        .args(arguments::<S>().map(as_it_is))
}

/// The argument or subcommand that clap complains of, without its value: `--port`.
pub(super) fn culprit(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    let text = match kinds.iter().find_map(|kind| error.get(*kind))? {
        ContextValue::String(text) => text,
        ContextValue::Strings(texts) => texts.first()?,
        _ => return None,
    };
    text.split([' ', '=', '[']).next().map(str::to_owned)
}

/// What is wrong, without the usage that clap adds.
fn complaint(error: &clap::Error, culprit: &str) -> String {
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string);
    match (error.kind(), value, expected(error)) {
        (ErrorKind::UnknownArgument, ..) if culprit.starts_with('-') => "no such flag".to_owned(),
        (ErrorKind::UnknownArgument, ..) => "not expected here".to_owned(),
        (ErrorKind::InvalidSubcommand, ..) => "no such command".to_owned(),
        (ErrorKind::MissingRequiredArgument, ..) => "missing".to_owned(),
        (ErrorKind::TooManyValues, ..) => "takes no value".to_owned(),
        (ErrorKind::InvalidValue, Some(value), Some(expected)) if !value.is_empty() => {
            format!("expected {expected}, not {value:?}")
        }
        (ErrorKind::InvalidValue, ..) => "expected a value".to_owned(),
        (ErrorKind::ValueValidation, _, Some(expected)) => expected,
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// What a value was expected to be: one of a few words, or what its type says.
pub(super) fn expected(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => Some(texts.join(" or ")),
        _ => std::error::Error::source(error).map(ToString::to_string),
    }
}

/// Takes an argument out, with the value that seems to be its; a word with all that follows. False
/// if it is not there.
fn remove(arguments: &mut Vec<OsString>, culprit: &str) -> bool {
    let with_value = format!("{culprit}=");
    let position = arguments.iter().position(|argument| {
        argument.to_str().is_some_and(|text| text == culprit || text.starts_with(&with_value))
    });
    let Some(position) = position else { return false };
    let is_value = |next: &OsString| !next.to_string_lossy().starts_with('-');
    let has_value =
        arguments[position] == culprit && arguments.get(position + 1).is_some_and(is_value);
    let end = if culprit.starts_with('-') {
        position + 1 + usize::from(has_value)
    } else {
        arguments.len()
    };
    arguments.drain(position..end);
    true
}
