//! Texts in headers and addresses, as their RFCs write them.

use percent_encoding::percent_decode_str;

/// The token of an `Authorization` header; RFC 6750: the scheme's case does not matter.
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Undoes the percent-encoding of RFC 3986. `None` where a percent sign is not followed by two
/// digits, which the crate would take as it stands, or the bytes are no UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let is_pair = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    };
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    text.split('%').skip(1).all(is_pair).then(|| decoded.into_owned())
}

/// The same of a query's value, in which a plus stands for a space.
pub(super) fn query_decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_followed_by_two_digits_of_utf8() {
        assert_eq!(percent_decoded("a%2Fb+c").as_deref(), Some("a/b+c"));
        assert_eq!(query_decoded("a%2fb+c").as_deref(), Some("a/b c"));
        assert_eq!(percent_decoded("%C3%A9").as_deref(), Some("é"));
        for bad in ["%", "%2", "%zz", "%+1", "%-1", "%C3", "%ff", "a%2", "%é"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
            assert_eq!(query_decoded(bad), None, "{bad}");
        }
    }
}
