//! Layers of settings: flag above environment above file above default.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use clap::builder::Resettable;
use clap::{Args, Command};
use serde::Serialize;
use toml::Value;

use super::Problem;
use super::command_line::{CommandLine, culprit, expected};
use super::sources::Sources;
use super::spec::{SettingSpec, arguments, specs};
use super::value::REDACTED;

/// The values that were found, the uppermost of each setting, and what is wrong with them.
pub(super) struct Layers {
    specs: Vec<SettingSpec>,
    /// By their flags.
    found: BTreeMap<String, Found>,
    problems: Vec<Problem>,
    /// Variables of the settings that are wrong.
    wrong: Vec<String>,
}

struct Found {
    text: String,
    /// What a problem with it is called by: `PORT`, `--port`, `port in roomcast.toml`.
    origin: String,
    /// The file's name, `environment` or `flag`.
    source: String,
}

impl Layers {
    /// Reads the file that the command line names, the environment and the flags.
    pub(super) fn read<S: Args, C>(sources: &Sources, line: &CommandLine<C>) -> Self {
        let (specs, problems) = (specs::<S>(), line.problems.clone());
        let mut layers = Self { specs, found: BTreeMap::new(), problems, wrong: Vec::new() };
        if let Some(path) = &line.flags.config {
            layers.read_file(path);
        }
        for spec in layers.specs.clone() {
            if let Some(value) = sources.variable(&spec.env) {
                layers.find(&spec, value, &spec.env, "environment");
            }
            if let Some(value) = line.values.get(&spec.name) {
                layers.find(&spec, value, &spec.flag, "flag");
            }
        }
        for name in sources.claimed() {
            if layers.specs.iter().all(|spec| spec.env != name) {
                layers.problems.push(Problem::new(name, "no setting has this variable"));
            }
        }
        layers
    }

    fn find(&mut self, spec: &SettingSpec, value: &OsStr, origin: &str, source: &str) {
        let Some(text) = value.to_str() else {
            self.problems.push(Problem::new(origin, "is not UTF-8"));
            return;
        };
        let (origin, source) = (origin.to_owned(), source.to_owned());
        self.found.insert(spec.flag.clone(), Found { text: text.trim().into(), origin, source });
    }

    fn read_file(&mut self, path: &str) {
        let table = table(path).unwrap_or_else(|problem| {
            self.problems.push(problem);
            toml::Table::new()
        });
        for (name, value) in &table {
            let origin = format!("{name} in {path}");
            let spec = self.specs.iter().find(|spec| spec.name == *name).cloned();
            let spec = spec.ok_or("no setting has this name");
            match spec.and_then(|spec| Ok((text_of(&spec, value)?, spec))) {
                Ok((text, spec)) => self.find(&spec, text.as_ref(), &origin, path),
                Err(complaint) => self.problems.push(Problem::new(origin, complaint)),
            }
        }
    }

    /// The settings if nothing was wrong, else everything that was, and that `check` finds between
    /// them. What it finds of a setting that was wrong already is not said twice.
    pub(super) fn settings<S: Args>(
        mut self,
        check: impl FnOnce(&S) -> Vec<Problem>,
    ) -> Result<(S, Self), Vec<Problem>> {
        for spec in &self.specs.clone() {
            let expected = self.found.get(&spec.flag).and_then(|found| mismatch(spec, &found.text));
            if let Some(expected) = expected {
                self.refuse(&spec.flag, &expected);
            }
        }
        let Some(settings) = self.parse::<S>() else { return Err(self.problems) };
        let mut found = check(&settings);
        found.retain(|problem| !self.wrong.contains(&problem.origin));
        self.problems.append(&mut found);
        if self.problems.is_empty() { Ok((settings, self)) } else { Err(self.problems) }
    }

    /// Makes the settings of what was found. What cannot be read is a problem and left out, so that
    /// the default holds.
    fn parse<S: Args>(&mut self) -> Option<S> {
        let flags = arguments::<S>().map(|arg| arg.env(Resettable::Reset));
        let command = Command::new("settings").no_binary_name(true).args(flags);
        loop {
            let matches = command.clone().try_get_matches_from(self.flags());
            let error = match matches.and_then(|matches| S::from_arg_matches(&matches)) {
                Ok(settings) => return Some(settings),
                Err(error) => error,
            };
            let flag = culprit(&error).filter(|flag| self.found.contains_key(flag));
            let Some(flag) = flag else {
                // A declaration without its default.
                self.problems.push(Problem::new("the settings", error.to_string()));
                return None;
            };
            self.refuse(&flag, &expected(&error).unwrap_or_else(|| "a value".to_owned()));
        }
    }

    /// The values that were found, as a command line.
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for spec in &self.specs {
            let Some(found) = self.found.get(&spec.flag) else { continue };
            let items = found.text.split(|c| spec.is_list && c == ',').map(str::trim);
            // Empty, without a default, is not set.
            let items = items.filter(|item| !item.is_empty() || !spec.default.is_empty());
            flags.extend(items.map(|item| format!("{}={item}", spec.flag)));
        }
        flags
    }

    /// Takes out a value that is none of its setting.
    fn refuse(&mut self, flag: &str, expected: &str) {
        let spec = self.specs.iter().find(|spec| spec.flag == flag);
        let (Some(spec), Some(found)) = (spec, self.found.remove(flag)) else { return };
        let value = if spec.secret {
            "; the value is not shown".to_owned()
        } else {
            format!(", not {}", quoted(&found.text))
        };
        self.problems.push(Problem::new(found.origin, format!("expected {expected}{value}")));
        self.wrong.push(spec.env.clone());
    }

    /// The settings as a TOML file, `name = value  # VARIABLE (source)`; secrets are redacted.
    pub(super) fn print<S: Serialize>(&self, settings: &S) -> String {
        let table = toml::Table::try_from(settings).unwrap_or_default();
        let line = |spec: &SettingSpec| {
            let source = self.found.get(&spec.flag).map_or("default", |found| &found.source);
            // What is optional and absent is written as empty.
            let value =
                table.get(&spec.name).map_or_else(|| "\"\"".to_owned(), ToString::to_string);
            format!("{} = {value}  # {} ({source})\n", spec.name, spec.env)
        };
        self.specs.iter().map(line).collect()
    }
}

/// What is expected instead of the text, where it can be told without clap: numbers by their
/// ranges, and a secret that is none because someone saved what `--print-config` wrote.
fn mismatch(spec: &SettingSpec, text: &str) -> Option<String> {
    if spec.secret && text == REDACTED {
        return Some(format!("the secret itself, not {REDACTED}"));
    }
    let (noun, type_max) = spec.number?;
    let (least, most) = spec.range.unwrap_or((0, type_max));
    let is_right = text.parse().is_ok_and(|number: u64| (least..=most).contains(&number));
    let is_unset = text.is_empty() && spec.default.is_empty();
    (!is_right && !is_unset).then(|| format!("{noun} from {least} to {most}"))
}

/// The file's keys and values.
fn table(path: &str) -> Result<toml::Table, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::new(path, format!("cannot be read: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        // Not the error's Display: it quotes the line, which may hold a secret.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Problem::new(format!("{path}, line {line}"), error.message())
    })
}

/// The value as the environment would write it.
fn text_of(spec: &SettingSpec, value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        Value::Array(items) if spec.is_list => {
            let texts = items.iter().map(|item| item.as_str().filter(|text| !text.contains(',')));
            let texts: Option<Vec<&str>> = texts.collect();
            texts.map(|texts| texts.join(",")).ok_or("expected texts without commas in the array")
        }
        Value::Array(_) => Err("expected one value, not an array"),
        Value::Table(_) => Err("expected one value, not a table"),
        Value::Datetime(_) => Err("expected a text, a number or true or false, not a date"),
    }
}

/// A value in an error message: on one line, and not endless.
fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 80;

    let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    format!("{shown:?}{}", if shown == text { "" } else { " and so on" })
}
