//! Finding a field in JSON without parsing it.
//!
//! Good enough for texts whose contents this program wrote itself.

use memchr::memmem;
use std::cell::Cell;

thread_local! {
    /// Where the tag stood last: messages of one run are alike.
    static TAG_AT: Cell<usize> = const { Cell::new(0) };
}

/// Where the tag begins; looked for first where it stood last.
#[inline]
pub(crate) fn find_tag(text: &[u8], tag: &[u8]) -> Option<usize> {
    let hint = TAG_AT.get();
    if text.get(hint..).is_some_and(|rest| rest.starts_with(tag)) {
        return Some(hint);
    }
    let at = memmem::find(text, tag)?;
    TAG_AT.set(at);
    Some(at)
}

/// Whether the text has this in it.
pub(crate) fn has(text: &[u8], needle: &[u8]) -> bool {
    memmem::find(text, needle).is_some()
}

/// Every place where it stands.
pub(crate) fn all<'a>(text: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memmem::find_iter(text, needle)
}

/// The text between `opening`, which ends with a quote, and the next quote.
#[inline]
pub(crate) fn text_after<'a>(text: &'a [u8], opening: &[u8]) -> Option<&'a [u8]> {
    // Events begin with their name.
    let start = match text.get(1..).is_some_and(|rest| rest.starts_with(opening)) {
        true => 1 + opening.len(),
        false => memmem::find(text, opening)? + opening.len(),
    };
    let rest = &text[start..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

/// The number after the last `opening`: a message's position is the last of its fields.
pub(crate) fn number_after(text: &[u8], opening: &[u8]) -> Option<u64> {
    leading_number(&text[memmem::rfind(text, opening)? + opening.len()..])
}

/// The number at the beginning.
pub(crate) fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

/// Hexadecimal digits.
#[inline]
pub(crate) fn hex(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u32::from(digit);
    }
    Some(value)
}
