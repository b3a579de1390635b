//! Whole numbers in JSON: `3` and `3.0` are one number, and not every language writes the first.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Unexpected, Visitor};

/// Up to here every whole number is a float too.
const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// A float as the whole number that it is.
#[must_use]
pub fn of_float(number: f64) -> Option<u64> {
    let is_whole = number.fract() == 0.0 && (0.0..=FLOAT_MAX).contains(&number);
    // A float in this range is that number exactly.
    is_whole.then_some(number as u64)
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<T>, E> {
        let wrong = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
        T::try_from(number).map(Some).map_err(wrong)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Option<T>, E> {
        match of_float(number) {
            Some(number) => self.visit_u64(number),
            None => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// Reads one; for `deserialize_with`.
///
/// # Errors
/// When it is no whole number that `T` holds.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let absent = || de::Error::invalid_type(Unexpected::Unit, &"a whole number");
    optional(deserializer)?.ok_or_else(absent)
}

/// Reads one that may be null; for `deserialize_with`.
///
/// # Errors
/// When it is no whole number that `T` holds.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    deserializer.deserialize_any(Whole(PhantomData))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "super::whole")]
        one: u64,
        #[serde(default, deserialize_with = "super::optional")]
        other: Option<u32>,
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (text, one, other) in [
            (r#"{"one":3}"#, 3, None),
            (r#"{"one":3.0,"other":5.00}"#, 3, Some(5)),
            (r#"{"one":2.5128484e7,"other":null}"#, 25_128_484, None),
            (r#"{"one":18446744073709551615}"#, u64::MAX, None),
        ] {
            let read: Numbers = serde_json::from_str(text).unwrap();
            assert_eq!((read.one, read.other), (one, other), "{text}");
        }
        for text in [
            r#"{"one":3.5}"#,
            r#"{"one":-1}"#,
            r#"{"one":-1.0}"#,
            r#"{"one":"3"}"#,
            r#"{"one":null}"#,
            r#"{"one":1e300}"#,
            r#"{"one":1,"other":4294967296}"#,
            r#"{"one":1,"other":4294967296.0}"#,
            r#"{"one":1,"other":[]}"#,
        ] {
            assert!(serde_json::from_str::<Numbers>(text).is_err(), "{text}");
        }
    }
}
