//! The text of an answer so far; it grows by deltas that carry their offset.
//!
//! Places are counted in UTF-16 code units, as JavaScript counts a text's length; a piece of JSON
//! that would end within a character is no text and never gets here.

use shared::contract::limits::CONTENT_BYTES_MAX;
use shared::contract::refusal::{Refusal, RefusalCode};

/// A text and its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamText {
    text: String,
    units: u64,
}

/// Why a piece is not added; the text stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PieceError {
    /// Something before it is missing.
    #[error("the text ends at {units}; go on from there")]
    Gap {
        /// Where the text ends.
        units: u64,
    },
    /// The end of the text lies within one of its characters: it is no continuation of this text.
    #[error("it does not go on with this text, which ends within one of its characters")]
    Split,
    /// Over the limit together.
    #[error("the whole text would have more than {CONTENT_BYTES_MAX} bytes")]
    TooLong,
    /// What Postgres cannot store.
    #[error("the character U+0000 cannot be stored")]
    Nul,
}

impl From<PieceError> for Refusal {
    fn from(error: PieceError) -> Refusal {
        let text = error.to_string();
        let invalid = |field| Refusal::new(RefusalCode::InvalidField, text.clone()).field(field);
        match error {
            PieceError::Gap { units } => {
                invalid("offset").limit(usize::try_from(units).unwrap_or(usize::MAX))
            }
            PieceError::Split => invalid("offset"),
            PieceError::Nul => invalid("delta"),
            PieceError::TooLong => {
                let refusal = Refusal::new(RefusalCode::TooLarge, text);
                refusal.field("delta").limit(CONTENT_BYTES_MAX)
            }
        }
    }
}

impl StreamText {
    /// All of it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Its length, in UTF-16 code units.
    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    /// Adds what of the piece is new; gives how many bytes that is.
    pub(crate) fn add(&mut self, offset: u64, piece: &str) -> Result<usize, PieceError> {
        let known = self.units.checked_sub(offset).ok_or(PieceError::Gap { units: self.units })?;
        if piece.contains('\0') {
            return Err(PieceError::Nul);
        }
        let fresh = &piece[cut(piece, known)?..];
        if self.text.len() + fresh.len() > CONTENT_BYTES_MAX {
            return Err(PieceError::TooLong);
        }
        self.text.push_str(fresh);
        self.units += units(fresh);
        Ok(fresh.len())
    }
}

impl From<String> for StreamText {
    fn from(text: String) -> StreamText {
        let units = units(&text);
        StreamText { text, units }
    }
}

/// A text's length in UTF-16 code units.
pub(crate) fn units(text: &str) -> u64 {
    text.chars().map(|c| c.len_utf16() as u64).sum()
}

/// The byte behind the first `known` units; the end where there are no more.
fn cut(piece: &str, known: u64) -> Result<usize, PieceError> {
    let mut passed = 0;
    for (at, c) in piece.char_indices() {
        if passed == known {
            return Ok(at);
        }
        if passed > known {
            return Err(PieceError::Split);
        }
        passed += c.len_utf16() as u64;
    }
    // A character that reaches beyond the end can only be the last.
    if passed > known { Err(PieceError::Split) } else { Ok(piece.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(so_far: &StreamText) -> (&str, u64) {
        (so_far.as_str(), so_far.units())
    }

    #[test]
    fn places_are_counted_as_javascript_counts() {
        let mut so_far = StreamText::default();
        assert_eq!(so_far.add(0, "né"), Ok(3));
        assert_eq!(so_far.add(2, "👩"), Ok(4));
        assert_eq!(so_far.units(), 4, "an emoji is a surrogate pair");
        // A family of several emoji may come apart between them.
        assert_eq!(so_far.add(4, "\u{200d}👧"), Ok(7));
        assert_eq!(so_far.add(7, "!"), Ok(1));
        assert_eq!(text(&so_far), ("né👩\u{200d}👧!", 8));
        assert_eq!(StreamText::from("né👩\u{200d}👧!".to_owned()), so_far);
    }

    #[test]
    fn what_is_there_already_is_cut_off() {
        let mut so_far = StreamText::default();
        so_far.add(0, "ab👍").unwrap();
        for (offset, piece) in [(0, "ab👍"), (0, "a"), (1, "b👍"), (2, "👍"), (4, ""), (0, "")]
        {
            assert_eq!(so_far.add(offset, piece), Ok(0), "{offset} {piece}");
        }
        assert_eq!(so_far.add(1, "b👍cd"), Ok(2));
        assert_eq!(so_far.add(2, "👍cd👍"), Ok(4));
        assert_eq!(text(&so_far), ("ab👍cd👍", 8));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut so_far = StreamText::from("abc".to_owned());
        assert_eq!(so_far.add(4, "x"), Err(PieceError::Gap { units: 3 }));
        assert_eq!(so_far.add(2, "👍"), Err(PieceError::Split));
        assert_eq!(so_far.add(2, "👍x"), Err(PieceError::Split));
        assert_eq!(so_far.add(3, "a\0"), Err(PieceError::Nul));
        assert_eq!(so_far.add(3, &"x".repeat(CONTENT_BYTES_MAX - 2)), Err(PieceError::TooLong));
        assert_eq!(text(&so_far), ("abc", 3));
        assert_eq!(so_far.add(3, &"x".repeat(CONTENT_BYTES_MAX - 3)), Ok(CONTENT_BYTES_MAX - 3));
        assert_eq!(so_far.add(0, "abc"), Ok(0), "a full text still knows what it has");
    }
}
