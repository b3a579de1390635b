//! Settles where each setting comes from, and gathers what is wrong.

use std::collections::BTreeMap;
use std::fmt;

use super::command_line::CommandLine;
use super::sources::Sources;
use super::value::{Setting, Shape};
use super::{Key, Problem};

/// One reading of the sources: for every key the text that holds, and the problems so far.
///
/// What [`settings!`](crate::settings!) is made of; nothing else needs it.
#[derive(Debug)]
pub struct Reading {
    keys: &'static [Key],
    found: BTreeMap<&'static str, Found>,
    problems: Vec<Problem>,
    /// Variables of the settings that are wrong.
    wrong: Vec<&'static str>,
}

struct Found {
    text: String,
    /// What a problem with it is called by: `PORT`, `--port`, `port in roomcast.toml`.
    origin: String,
    /// Which of the four sources: `default`, the file's name, `environment`, `flag`.
    source: String,
}

/// Without the text, which may be a secret.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Reading {
    /// Reads the sources, and the file that the command line names.
    #[must_use]
    pub fn new(sources: &Sources, keys: &'static [Key]) -> Self {
        let line = CommandLine::read(sources.arguments(), keys, &super::Program::default());
        let (found, wrong) = (BTreeMap::new(), Vec::new());
        let mut reading = Self { keys, found, problems: line.problems, wrong };
        if let Some(path) = &line.file {
            reading.read_file(path);
        }
        reading.read_environment(sources);
        for (name, text) in line.flags {
            let flag = format!("--{}", name.replace('_', "-"));
            reading.find(name, text, flag, "flag");
        }
        reading
    }

    /// The value of one setting, or the default where it is a problem; `None` if that is one too.
    pub fn field<T: Setting>(&mut self, name: &str) -> Option<T> {
        let key = self.keys.iter().find(|key| key.name == name)?;
        self.value(key).or_else(|| {
            self.wrong.push(key.env);
            T::parse(key.default).ok().filter(|value| is_within(value.number(), key.range))
        })
    }

    fn value<T: Setting>(&mut self, key: &Key) -> Option<T> {
        let name = key.name;
        let (origin, text) = match self.found.get(name) {
            Some(found) => (found.origin.clone(), found.text.trim()),
            None => (format!("the default of {name}"), key.default),
        };
        let expected = match T::parse(text) {
            Ok(value) if is_within(value.number(), key.range) => return Some(value),
            Ok(_) => T::NOUN.to_owned(),
            Err(expected) => expected,
        };
        let limits =
            key.range.or(T::LIMITS).map(|(least, most)| format!(" from {least} to {most}"));
        let expected = format!("expected {expected}{}", limits.unwrap_or_default());
        let complaint = if key.secret {
            format!("{expected}; the value is not shown")
        } else {
            format!("{expected}, not {}", quoted(text))
        };
        self.problems.push(Problem::new(origin, complaint));
        None
    }

    /// The settings if nothing was wrong, else everything that was, and that `check` finds between
    /// them. What it finds of a setting that was wrong already is not said twice.
    pub fn finish<S>(
        self,
        settings: Option<S>,
        check: impl FnOnce(&S) -> Vec<Problem>,
    ) -> Result<S, Vec<Problem>> {
        let Reading { mut problems, wrong, .. } = self;
        let Some(settings) = settings else { return Err(problems) };
        let is_new = |problem: &Problem| !wrong.contains(&problem.origin.as_str());
        problems.extend(check(&settings).into_iter().filter(is_new));
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// `name = value  # VARIABLE (source)`, as a line of a TOML file.
    #[must_use]
    pub fn line<T: Setting>(&self, name: &str, value: &T) -> String {
        let shown = value.show();
        let toml = match T::SHAPE {
            Shape::List => {
                let items = shown.split(',').filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| item.to_owned().into()).collect()).to_string()
            }
            // What is optional and absent is written as empty, whatever its shape.
            Shape::Number | Shape::Switch if !shown.is_empty() => shown,
            Shape::Text | Shape::Number | Shape::Switch => toml::Value::String(shown).to_string(),
        };
        let env = self.keys.iter().find(|key| key.name == name).map_or("", |key| key.env);
        let source = self.found.get(name).map_or("default", |found| &found.source);
        format!("{name} = {toml}  # {env} ({source})\n")
    }

    fn find(&mut self, name: &'static str, text: String, origin: String, source: &str) {
        self.found.insert(name, Found { text, origin, source: source.to_owned() });
    }

    fn read_environment(&mut self, sources: &Sources) {
        for key in self.keys {
            match sources.variable(key.env).map(|value| value.to_str()) {
                Some(Some(text)) => {
                    self.find(key.name, text.to_owned(), key.env.to_owned(), "environment");
                }
                Some(None) => self.problems.push(Problem::new(key.env, "is not UTF-8")),
                None => {}
            }
        }
        for name in sources.claimed() {
            if !self.keys.iter().any(|key| key.env == name) {
                self.problems.push(Problem::new(name, "no setting has this variable"));
            }
        }
    }

    fn read_file(&mut self, path: &str) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(Problem::new(path, format!("cannot be read: {error}")));
                return;
            }
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => {
                // Not the error's Display: it quotes the line, which may hold a secret.
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
                let line = before.matches('\n').count() + 1;
                let origin = format!("{path}, line {line}");
                self.problems.push(Problem::new(origin, error.message()));
                return;
            }
        };
        for (name, value) in &table {
            self.read_file_entry(path, name, value);
        }
    }

    fn read_file_entry(&mut self, path: &str, name: &str, value: &toml::Value) {
        let origin = format!("{name} in {path}");
        let Some(key) = self.keys.iter().find(|key| key.name == name) else {
            self.problems.push(Problem::new(origin, "no setting has this name"));
            return;
        };
        match text_of(key, value) {
            Ok(text) => self.find(key.name, text, origin, path),
            Err(complaint) => self.problems.push(Problem::new(origin, complaint)),
        }
    }
}

/// The value as the environment would write it.
fn text_of(key: &Key, value: &toml::Value) -> Result<String, &'static str> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(switch) => Ok(switch.to_string()),
        toml::Value::Array(items) if key.shape == Shape::List => {
            let texts = items.iter().map(|item| item.as_str().filter(|text| !text.contains(',')));
            let texts: Option<Vec<&str>> = texts.collect();
            texts.map(|texts| texts.join(",")).ok_or("expected texts without commas in the array")
        }
        toml::Value::Array(_) => Err("expected one value, not an array"),
        toml::Value::Table(_) => Err("expected one value, not a table"),
        toml::Value::Datetime(_) => Err("expected a text, a number or true or false, not a date"),
    }
}

/// Without a range everything is within; what is optional and absent is within any.
fn is_within(number: Option<u64>, range: Option<(u64, u64)>) -> bool {
    match (number, range) {
        (Some(number), Some((least, most))) => (least..=most).contains(&number),
        (None, _) | (_, None) => true,
    }
}

/// A value in an error message: on one line, and not endless.
fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 80;

    if text.chars().count() <= SHOWN_CHARACTERS_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    format!("{start:?} and so on")
}
