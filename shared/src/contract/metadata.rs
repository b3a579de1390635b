//! Metadata of a message: a JSON object, kept as the text that it came as.
//!
//! Whoever sent it gets it back byte for byte, everywhere: numbers of any size, keys in any order
//! or twice, escapes and white space. It is never read into values and written again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use super::limits::{
    METADATA_BYTES_MAX, METADATA_LEVELS_MAX, NUMBER_BYTES_MAX, NUMBER_EXPONENT_MAX,
};

/// A text field that may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Over the limit.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// U+0000, which Postgres cannot store.
    #[error("the character U+0000 cannot be stored")]
    Nul,
    /// Half of a character beyond U+FFFF, which is no Unicode.
    #[error("a lone surrogate is no character")]
    Surrogate,
    /// Objects within objects.
    #[error("nested deeper than {METADATA_LEVELS_MAX} levels")]
    TooDeep,
}

/// A JSON object of bounded size and depth, kept as the text it travels as.
#[derive(Clone)]
pub struct Metadata(Box<RawValue>);

impl Metadata {
    /// Checks what a client sent: at most [`METADATA_BYTES_MAX`] as it came,
    /// [`METADATA_LEVELS_MAX`] levels, no U+0000 and no lone surrogate in any key or text.
    ///
    /// # Errors
    /// Says which limit it breaks.
    pub fn check(&self) -> Result<(), TextError> {
        let text = self.as_str();
        if text.len() > METADATA_BYTES_MAX {
            return Err(TextError::TooLong { bytes: text.len(), limit: METADATA_BYTES_MAX });
        }
        let mut levels = 0_usize;
        for token in tokens(text) {
            match token {
                Token::Opens => levels += 1,
                Token::Closes => levels = levels.saturating_sub(1),
                Token::Text(text) => check_escapes(text)?,
                Token::Number(_) => {}
            }
            if levels > METADATA_LEVELS_MAX {
                return Err(TextError::TooDeep);
            }
        }
        Ok(())
    }

    /// What the database kept; anything but an object counts as empty.
    #[must_use]
    pub fn from_stored(text: &str) -> Metadata {
        if !text.trim_start().starts_with('{') {
            return Metadata::default();
        }
        RawValue::from_string(text.to_owned()).map_or_else(|_| Metadata::default(), Metadata)
    }

    /// Its JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether both say the same: as the same text, or as the same values, since not every
    /// database keeps the text.
    #[must_use]
    pub fn means(&self, other: &Metadata) -> bool {
        let value =
            |metadata: &Metadata| serde_json::from_str::<serde_json::Value>(metadata.as_str()).ok();
        self.as_str() == other.as_str()
            || value(self).zip(value(other)).is_some_and(|(one, other)| one == other)
    }

    /// What stands under its keys; of one that stands twice, the last. Values are not looked into.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// The same for a database that keeps numbers as decimals: one that would be thousands of
    /// digits there, or too many, is a text.
    #[must_use]
    pub fn for_decimals(&self) -> Cow<'_, str> {
        let text = self.as_str();
        let is_wild = |token: &Token<'_>| matches!(token, Token::Number(number) if is_wild(number));
        if !tokens(text).any(|token| is_wild(&token)) {
            return Cow::Borrowed(text);
        }
        let (mut tame, mut done) = (String::with_capacity(text.len()), 0);
        for token in tokens(text).filter(is_wild) {
            let Token::Number(number) = token else { continue };
            let at = number.as_ptr().addr() - text.as_ptr().addr();
            tame.push_str(&text[done..at]);
            tame.extend(["\"", number, "\""]);
            done = at + number.len();
        }
        tame.push_str(&text[done..]);
        Cow::Owned(tame)
    }
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata(RawValue::from_string("{}".into()).expect("an empty object is JSON"))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(Metadata(raw))
        } else {
            Err(de::Error::custom("metadata is an object"))
        }
    }
}

/// A part of a JSON text that matters here.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// `{` or `[`.
    Opens,
    /// `}` or `]`.
    Closes,
    /// What stands between quotation marks.
    Text(&'a str),
    /// A number.
    Number(&'a str),
}

/// The parts of a text that is JSON, in their order.
fn tokens(json: &str) -> impl Iterator<Item = Token<'_>> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (first, from) = (*bytes.get(at)?, at);
            at += 1;
            match first {
                b'{' | b'[' => return Some(Token::Opens),
                b'}' | b']' => return Some(Token::Closes),
                b'"' => {
                    while *bytes.get(at)? != b'"' {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                    at += 1;
                    return Some(Token::Text(&json[from + 1..at - 1]));
                }
                b'-' | b'0'..=b'9' => {
                    let more =
                        |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    at += bytes[at..].iter().take_while(|byte| more(byte)).count();
                    return Some(Token::Number(&json[from..at]));
                }
                _ => {}
            }
        }
    })
}

/// Checks a text's `\u` escapes.
fn check_escapes(text: &str) -> Result<(), TextError> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let Some(code) = unit(&rest[at..]) else {
            // Another escape: its second character may be a backslash itself.
            rest = rest.get(at + 2..).unwrap_or_default();
            continue;
        };
        rest = rest.get(at + 6..).unwrap_or_default();
        match code {
            0 => return Err(TextError::Nul),
            0xd800..=0xdbff if matches!(unit(rest), Some(0xdc00..=0xdfff)) => {
                rest = rest.get(6..).unwrap_or_default();
            }
            0xd800..=0xdfff => return Err(TextError::Surrogate),
            _ => {}
        }
    }
    Ok(())
}

/// The code unit of the `\u` escape with which a text begins.
fn unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Whether a number is longer, or reaches further, than anything that programs calculate with.
fn is_wild(number: &str) -> bool {
    let exponent = number.split(['e', 'E']).nth(1);
    let far = exponent.is_some_and(|exponent| {
        let exponent = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>();
        exponent.map_or(true, |exponent| exponent.abs() > NUMBER_EXPONENT_MAX)
    });
    far || number.len() > NUMBER_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Metadata {
        serde_json::from_str(text).unwrap()
    }

    fn check(text: &str) -> Result<(), TextError> {
        metadata(text).check()
    }

    #[test]
    fn metadata_are_the_text_that_came() {
        for text in [
            "{}",
            r#"{"b":1, "a":[true,null]}"#,
            r#"{ "n":12345678901234567890123, "n":1e-400,	"x":1.50,"y":1E+2,"z":-0.0 }"#,
            "{\n\"\\u00e9\":\"\\/é\\ud83d\\ude00\"\n}",
            r#"{"a":1e999999999999}"#,
        ] {
            let metadata = metadata(text);
            assert_eq!(metadata.check(), Ok(()), "{text}");
            assert_eq!(metadata.as_str(), text);
            assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
            assert_eq!(Metadata::from_stored(text), metadata);
        }
        for none in ["null", "[]", "1", r#""{}""#] {
            assert!(serde_json::from_str::<Metadata>(none).is_err(), "{none}");
        }
    }

    #[test]
    fn metadata_are_limited_in_depth_and_size_and_characters() {
        let deep = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert!(check(&deep(METADATA_LEVELS_MAX)).is_ok());
        assert_eq!(check(&deep(METADATA_LEVELS_MAX + 1)), Err(TextError::TooDeep));
        // What stands in a text opens nothing.
        assert!(check(&format!("{{\"a\":\"{}\"}}", "[".repeat(99))).is_ok());
        assert!(check(r#"{"a":[{},{},[[]],{}],"b":{}}"#).is_ok());
        for nul in [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":"\\\u0000"}"#] {
            assert_eq!(check(nul), Err(TextError::Nul), "{nul}");
        }
        assert!(check(r#"{"a":"\\u0000","b":"\"\\"}"#).is_ok());
        for lone in [
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":1}"#,
            r#"{"a":"\ud83dx\ude00"}"#,
            r#"{"a":"\ud83d\ud83d\ude00"}"#,
            r#"{"a":"\uD83D\n"}"#,
            r#"{"a":"\ud83d\\ude00"}"#,
        ] {
            assert_eq!(check(lone), Err(TextError::Surrogate), "{lone}");
        }
        let long = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(check(&long(METADATA_BYTES_MAX)).is_ok());
        assert!(matches!(check(&long(METADATA_BYTES_MAX + 1)), Err(TextError::TooLong { .. })));
        // White space counts: what is bounded is what is kept.
        let wide = format!("{{{}}}", " ".repeat(METADATA_BYTES_MAX));
        assert!(matches!(check(&wide), Err(TextError::TooLong { .. })));
    }

    #[test]
    fn a_number_that_a_decimal_database_could_not_bear_is_a_text_there() {
        let tame = r#"{"1e999":"1e999","a":[1e308,-1.5E-324,12345678901234567890123,0]}"#;
        assert_eq!(metadata(tame).for_decimals(), tame);
        let wild = r#"{"1e999":[1e999, -1E-99999999999999,1e+5],"b":1e401}"#;
        let tamed = r#"{"1e999":["1e999", "-1E-99999999999999",1e+5],"b":"1e401"}"#;
        assert_eq!(metadata(wild).for_decimals(), tamed);
        let long = format!("{{\"a\":0.{}}}", "1".repeat(NUMBER_BYTES_MAX));
        assert!(metadata(&long).for_decimals().contains("\"0.1"));
    }
}
