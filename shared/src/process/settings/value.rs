//! What a setting's value can be, and how it is written.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How values of a type are written in a file and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any text; quoted in the file.
    Text,
    /// Digits; bare in the file.
    Number,
    /// `true` or `false`; bare in the file, and a flag that needs no value.
    Switch,
    /// Texts with commas between them; an array in the file.
    List,
}

/// A type that a setting can have.
pub trait Setting: Sized {
    /// How its values are written.
    const SHAPE: Shape = Shape::Text;
    /// Whether its values must never be shown.
    const SECRET: bool = false;
    /// What a value is called in an error message: "a whole number".
    const NOUN: &'static str = "a value";
    /// The least and the greatest number it can hold; `None` if it is no number.
    const LIMITS: Option<(u64, u64)> = None;

    /// Reads a value, or says in a few words what is expected ("an IP address"), without limits.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes a value as [`Setting::parse`] reads it; a secret only as `[redacted]`.
    fn show(&self) -> String;

    /// The value as the number that limits apply to, where it is one.
    fn number(&self) -> Option<u64> {
        None
    }
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Switch;

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! number {
    ($($type:ident),+) => {$(
        impl Setting for $type {
            const SHAPE: Shape = Shape::Number;
            const NOUN: &'static str = "a whole number";
            const LIMITS: Option<(u64, u64)> = Some((0, $type::MAX as u64));

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| Self::NOUN.to_owned())
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn number(&self) -> Option<u64> {
                u64::try_from(*self).ok()
            }
        }
    )+};
}

number!(u16, u32, u64, usize);

/// A span of time that is written in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The span as the standard library has it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        millis.duration()
    }
}

impl Setting for Millis {
    const SHAPE: Shape = Shape::Number;
    const NOUN: &'static str = "a whole number of milliseconds";
    const LIMITS: Option<(u64, u64)> = u64::LIMITS;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| Self::NOUN.to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn number(&self) -> Option<u64> {
        Some(self.0)
    }
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Setting for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "an IP address such as 127.0.0.1 or ::1".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// With commas between; white space around an item is dropped, and so is an empty item.
impl Setting for Vec<String> {
    const SHAPE: Shape = Shape::List;

    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(items.map(str::to_owned).collect())
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

/// Empty is `None`.
impl<T: Setting> Setting for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const SECRET: bool = T::SECRET;
    const NOUN: &'static str = T::NOUN;
    const LIMITS: Option<(u64, u64)> = T::LIMITS;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn number(&self) -> Option<u64> {
        self.as_ref().and_then(T::number)
    }
}

/// A text that never prints; empty means that there is none.
#[derive(Clone, Default)]
pub struct Secret(String);

const REDACTED: &str = "[redacted]";

impl Secret {
    /// The secret itself, for the one place that needs it; empty if there is none.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Setting for Secret {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        // Someone saved what --print-config wrote, and uses it as a file.
        if text == REDACTED {
            return Err(format!("the secret itself, not {REDACTED}"));
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        if self.is_set() { REDACTED.to_owned() } else { String::new() }
    }
}
