//! The command line: a flag for every setting, and what both processes can be asked to do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::sources::Sources;
use super::value::Shape;
use super::{Key, Problem};

/// What `--help` and `--version` say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Program {
    /// As it is called.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The subcommand that may follow the flags, such as `[token …]`; `None` if there is none, and
    /// then a word is a problem. Everything after the first word is left to it, flags included.
    pub subcommand: Option<&'static str>,
}

/// The reason not to run: what was asked for has been done, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What there is to say, with its last line ended.
    pub text: String,
    /// 0, or 64 if something is wrong with the settings (`EX_USAGE`).
    pub code: u8,
}

/// `EX_USAGE` of sysexits.h: called wrongly, so starting again does not help.
const USAGE: u8 = 64;

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

    fn fine(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 0 }
    }

    fn wrong(problems: &[Problem]) -> Self {
        let lines = problems.iter().map(|problem| format!("{problem}\n"));
        Self { text: lines.collect(), code: USAGE }
    }
}

/// Does what the command line asks; what `start` of [`settings!`](crate::settings!) is made of.
pub fn begin<S>(
    sources: &Sources,
    keys: &'static [Key],
    program: &Program,
    load: impl FnOnce() -> Result<S, Vec<Problem>>,
    print: impl FnOnce(&S) -> String,
) -> Result<(S, Vec<String>), Stop> {
    let line = CommandLine::read(sources.arguments(), keys, program);
    if let Some(text) = line.answer {
        return Err(Stop::fine(text));
    }
    let stray = match (program.subcommand, line.subcommand.first()) {
        (None, Some(word)) => Some(Problem::new(word, "no such command")),
        (Some(_), _) | (None, None) => None,
    };
    let settings = match (load(), stray) {
        (Ok(settings), None) => settings,
        (Ok(_), Some(stray)) => return Err(Stop::wrong(&[stray])),
        (Err(mut problems), stray) => {
            problems.extend(stray);
            return Err(Stop::wrong(&problems));
        }
    };
    match line.request {
        Request::Run => Ok((settings, line.subcommand)),
        Request::Check => Err(Stop::fine("the configuration is valid\n")),
        Request::Print => Err(Stop::fine(print(&settings))),
    }
}

/// The subcommand and its arguments, for a check that depends on what is asked; [`begin`] judges
/// the line.
#[must_use]
pub fn subcommand(sources: &Sources, keys: &'static [Key], program: &Program) -> Vec<String> {
    CommandLine::read(sources.arguments(), keys, program).subcommand
}

/// What the command line says, read and not judged, except by itself.
#[derive(Default)]
pub(super) struct CommandLine {
    /// By the names of the keys.
    pub(super) flags: BTreeMap<&'static str, String>,
    /// The value of `--config`.
    pub(super) file: Option<String>,
    pub(super) problems: Vec<Problem>,
    /// The help or the version, if asked for.
    answer: Option<String>,
    subcommand: Vec<String>,
    request: Request,
}

#[derive(Default)]
enum Request {
    #[default]
    Run,
    Check,
    Print,
}

// Ids that no field can have.
const CONFIG: &str = "--config";
const CHECK: &str = "--check-config";
const PRINT: &str = "--print-config";
const SUBCOMMAND: &str = "[words]";

impl CommandLine {
    /// Reads on after each problem, without what caused it, so that all are found at once.
    pub(super) fn read(arguments: &[OsString], keys: &'static [Key], program: &Program) -> Self {
        let mut arguments = arguments.to_vec();
        let mut problems = Vec::new();
        loop {
            let error = match command(keys, program).try_get_matches_from(&arguments) {
                Ok(matches) => return Self::from_matches(&matches, keys, problems),
                Err(error) => error,
            };
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                return Self { answer: Some(error.to_string()), ..Self::default() };
            }
            let culprit = culprit(&error);
            problems.push(Problem::new(
                culprit.clone().unwrap_or_else(|| "the command line".to_owned()),
                complaint(&error),
            ));
            if !culprit.is_some_and(|culprit| remove(&mut arguments, &culprit)) {
                return Self { problems, ..Self::default() };
            }
        }
    }

    fn from_matches(matches: &ArgMatches, keys: &'static [Key], problems: Vec<Problem>) -> Self {
        let flags = keys.iter().filter_map(|key| {
            let value: &String = matches.get_one(key.name)?;
            Some((key.name, value.clone()))
        });
        let request = match (matches.get_flag(CHECK), matches.get_flag(PRINT)) {
            (_, true) => Request::Print,
            (true, false) => Request::Check,
            (false, false) => Request::Run,
        };
        let subcommand = matches.get_many::<String>(SUBCOMMAND).unwrap_or_default();
        Self {
            flags: flags.collect(),
            file: matches.get_one::<String>(CONFIG).cloned(),
            problems,
            answer: None,
            subcommand: subcommand.cloned().collect(),
            request,
        }
    }
}

fn command(keys: &'static [Key], program: &Program) -> Command {
    let asked = |id: &'static str, help: &'static str| {
        Arg::new(id).long(&id[2..]).action(ArgAction::SetTrue).help(help)
    };
    let subcommand = Arg::new(SUBCOMMAND)
        .num_args(0..)
        .trailing_var_arg(true)
        .value_name(program.subcommand.unwrap_or_default())
        .hide(program.subcommand.is_none());
    Command::new(program.name)
        .about(program.about)
        .version(program.version)
        .no_binary_name(true)
        // Said twice, the later holds; as with the sources.
        .args_override_self(true)
        .arg(Arg::new(CONFIG).long(&CONFIG[2..]).value_name("FILE").help("A TOML file to read."))
        .arg(asked(CHECK, "Reads the settings, says what is wrong with them, and ends."))
        .arg(asked(PRINT, "Prints the settings and where each comes from, and ends."))
        .arg(subcommand)
        .args(keys.iter().map(flag))
}

fn flag(key: &Key) -> Arg {
    let range = key.range.map(|(least, most)| format!(", {least} to {most}"));
    let default = match key.default {
        "" => "none",
        default => default,
    };
    let help = format!("{} [{}, default {default}{}]", key.doc, key.env, range.unwrap_or_default());
    let arg = Arg::new(key.name).long(key.flag()).value_name("VALUE").help(help);
    match key.shape {
        // `--dev`, and `--dev=false` against a variable that says true.
        Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::Text | Shape::Number | Shape::List => arg,
    }
}

/// The argument that clap complains of, without its value: `--port`.
fn culprit(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(argument) => argument.split([' ', '=', '[']).next().map(str::to_owned),
        _ => None,
    }
}

/// What is wrong, without the usage that clap adds.
fn complaint(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::UnknownArgument => "no such flag".to_owned(),
        ErrorKind::InvalidValue | ErrorKind::NoEquals => "expected a value".to_owned(),
        ErrorKind::TooManyValues => "takes no value".to_owned(),
        ErrorKind::InvalidUtf8 => "is not UTF-8".to_owned(),
        kind => kind.as_str().unwrap_or("is not understood").to_owned(),
    }
}

/// Takes an argument out, with the value that seems to be its; false if it is not there.
fn remove(arguments: &mut Vec<OsString>, culprit: &str) -> bool {
    let with_value = format!("{culprit}=");
    let position = arguments.iter().position(|argument| {
        argument.to_str().is_some_and(|text| text == culprit || text.starts_with(&with_value))
    });
    let Some(position) = position else { return false };
    let removed = arguments.remove(position);
    let next = arguments.get(position).map(|next| next.to_string_lossy().starts_with('-'));
    if removed == culprit && next == Some(false) {
        arguments.remove(position);
    }
    true
}
