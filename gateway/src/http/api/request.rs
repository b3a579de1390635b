//! Reads a request: path, query, headers, body. Each error names the part that is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use shared::contract::id::{IdError, MessageId, RoomId, UserId};
use shared::contract::limits::{
    API_BODY_BYTES_MAX, API_BODY_TIMEOUT_MS, IDEMPOTENCY_KEY_BYTES_MAX,
};
use shared::contract::position::Position;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::process::byte_budget::ByteShare;
use tokio::time::Instant;
use uuid::Uuid;

use super::problem::Problem;
use crate::http::encoding::{percent_decoded, query_decoded};
use crate::operation::validate;
use crate::wire::codec;

/// When to ask again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// The name space of ids made of an `Idempotency-Key`; chosen once.
const IDEMPOTENCY: Uuid = Uuid::from_u128(0x5d0c_46f1_8a7b_5e29_a3c4_524f_4f4d_4361);

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What came with a request, its body read to the end.
#[derive(Debug)]
pub(super) struct ApiRequest<'a> {
    /// What stands in the path for the route's names, not decoded.
    pub(super) segments: Vec<&'a str>,
    /// Behind the question mark.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
}

impl ApiRequest<'_> {
    /// The room that the path names first.
    pub(super) fn room(&self) -> Result<RoomId, Problem> {
        self.segment(0, "room", RoomId::parse, RefusalCode::InvalidField)
    }

    /// The user that the path names at `place`.
    pub(super) fn user(&self, place: usize) -> Result<UserId, Problem> {
        self.segment(place, "user", UserId::parse, RefusalCode::InvalidField)
    }

    /// The message that the path names behind the room.
    pub(super) fn message(&self) -> Result<MessageId, Problem> {
        self.segment(1, "id", MessageId::parse, RefusalCode::BadId)
    }

    fn segment<T>(
        &self,
        place: usize,
        name: &str,
        parse: fn(&str) -> Result<T, IdError>,
        code: RefusalCode,
    ) -> Result<T, Problem> {
        let encoded = self.segments.get(place).copied().unwrap_or_default();
        let text = percent_decoded(encoded).ok_or_else(|| not_encoded(name))?;
        parse(&text).map_err(|error| Refusal::new(code, error.to_string()).field(name).into())
    }

    /// The query's parameters, all of which have to be among `known`.
    pub(super) fn query(&self, known: &[&'static str]) -> Result<Query, Problem> {
        Query::read(self.query, known)
    }

    /// The body as an object of type `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.check_type()?;
        Ok(object(&self.body)?)
    }

    /// The same where a body may be absent.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// A page on another site can send anything but this type without asking first.
    fn check_type(&self) -> Result<(), Problem> {
        let header = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = header.and_then(|value| value.split(';').next()).unwrap_or_default();
        let json = media.trim().eq_ignore_ascii_case("application/json");
        if json { Ok(()) } else { Err(Problem::no_json()) }
    }

    /// The request's `Idempotency-Key`, checked whether it is needed or not.
    pub(super) fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let mut keys = self.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(None) };
        let text = key.to_str().ok().filter(|_| keys.next().is_none());
        let fits = |text: &&str| {
            (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) && !text.contains('\t')
        };
        if let Some(key) = text.filter(fits) {
            return Ok(Some(key));
        }
        let text = format!("one key of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters");
        let refusal = Refusal::new(RefusalCode::InvalidField, text).field("Idempotency-Key");
        Err(refusal.limit(IDEMPOTENCY_KEY_BYTES_MAX).into())
    }

    /// The id that an `Idempotency-Key` stands for: the same for the same key of the same user in
    /// the same room, and in a batch at the same place.
    pub(super) fn idempotent_id(
        &self,
        room: &RoomId,
        user: &UserId,
        place: Option<usize>,
    ) -> Result<Option<MessageId>, Problem> {
        let Some(key) = self.idempotency_key()? else { return Ok(None) };
        // Ids have no white space, so that the first two spaces make the text unambiguous.
        let name = format!("{room} {user} {key}");
        let one = Uuid::new_v5(&IDEMPOTENCY, name.as_bytes());
        let id = place.map_or(one, |place| Uuid::new_v5(&one, place.to_string().as_bytes()));
        Ok(Some(MessageId::from_uuid(id)))
    }
}

/// The parameters of a query, each at most once.
#[derive(Debug)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    fn read(query: &str, known: &[&'static str]) -> Result<Query, Problem> {
        let wrong = |name: &str, text: &str| {
            let shown: String = name.chars().take(64).collect();
            Problem::from(Refusal::new(RefusalCode::InvalidField, text).field(shown))
        };
        let mut parameters: Vec<(&'static str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(found) = known.iter().find(|known| **known == name) else {
                return Err(wrong(name, "there is no such parameter"));
            };
            if parameters.iter().any(|(name, _)| name == found) {
                return Err(wrong(name, "this parameter stands twice"));
            }
            let value = query_decoded(value).ok_or_else(|| not_encoded(name))?;
            parameters.push((found, value));
        }
        Ok(Query(parameters))
    }

    /// The value of a parameter, where it is given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// How many of something a page may have.
    pub(super) fn limit(&self) -> Result<u32, Refusal> {
        let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
        validate::page_rows(self.get("limit").map(number))
    }

    /// A position, written `EPOCH-SEQ`.
    pub(super) fn position(&self, name: &str) -> Result<Option<Position>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let Some(position) = position(text) else {
            let text = "a position is EPOCH-SEQ, such as 3-41";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field(name));
        };
        validate::position(name, position).map(Some)
    }
}

/// Reads `EPOCH-SEQ`; neither part has a sign or is empty.
pub(super) fn position(text: &str) -> Option<Position> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // What no u64 holds is over the limit too, and refused as that.
        plain.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let (epoch, seq) = text.split_once('-')?;
    Some(Position::new(number(epoch)?, number(seq)?))
}

/// Reads a JSON object, and names the field where it is another than `T` has.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(Refusal::new(RefusalCode::BadRequest, "the body is not UTF-8"));
    };
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let text = format!("the body is not JSON: {}", codec::plain(&error));
        return Err(Refusal::new(RefusalCode::BadRequest, text));
    }
    let text = text.trim_ascii();
    if !text.starts_with('{') {
        return Err(Refusal::new(RefusalCode::BadRequest, "the body is an object"));
    }
    let object = codec::parse(text)?;
    no_nulls(text, "")?;
    Ok(object)
}

/// What is not there is left out: a null is none of the texts and numbers that the description has,
/// wherever a null would be taken for nothing.
fn no_nulls(text: &str, path: &str) -> Result<(), Refusal> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    for (name, value) in fields {
        if value.get() == "null" {
            let text = "null is no value; leave the field out";
            let refusal = Refusal::new(RefusalCode::InvalidField, text);
            return Err(refusal.field(format!("{path}{name}")));
        }
        // Of the fields that are objects, the others are kept as they come.
        if path.is_empty() && name == "credits" && value.get().starts_with('{') {
            no_nulls(value.get(), "credits.")?;
        }
    }
    Ok(())
}

/// Reads the body to its end, within its limits of size and time, and of what all bodies of the
/// process may take, of which it takes its `share`. What is too large is read on for a while and
/// forgotten, so that a client that is still writing comes to read the answer.
pub(super) async fn body(mut body: Incoming, share: &mut ByteShare) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + Duration::from_millis(API_BODY_TIMEOUT_MS);
    let mut read = BytesMut::new();
    let mut surplus = 0;
    loop {
        let data = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(None) if surplus == 0 => return Ok(read.freeze()),
            Ok(None) => return Err(too_large()),
            Ok(Some(Err(_))) => {
                let text = "the body ended early or is not what its headers say";
                return Err(Problem::new(RefusalCode::BadRequest, text).unread());
            }
            Err(_) if surplus == 0 => return Err(Problem::too_slow(API_BODY_TIMEOUT_MS)),
            Err(_) => return Err(too_large().unread()),
        };
        if surplus == 0 && read.len() + data.len() <= API_BODY_BYTES_MAX {
            if !share.grow(data.len()) {
                return Err(busy().unread());
            }
            read.extend_from_slice(&data);
        } else {
            read = BytesMut::new();
            surplus += data.len();
        }
        if surplus > API_BODY_BYTES_MAX {
            return Err(too_large().unread());
        }
    }
}

fn busy() -> Problem {
    let text = "too much is being asked of this node at a time";
    Refusal::new(RefusalCode::Backpressure, text).retry_after_ms(RETRY_AFTER_MS).into()
}

fn too_large() -> Problem {
    let text = format!("a body has at most {API_BODY_BYTES_MAX} bytes");
    Refusal::new(RefusalCode::TooLarge, text).limit(API_BODY_BYTES_MAX).into()
}

fn not_encoded(name: &str) -> Problem {
    let text = "this is not percent-encoded UTF-8";
    Refusal::new(RefusalCode::InvalidField, text).field(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_two_numbers() {
        assert_eq!(position("3-41"), Some(Position::new(3, 41)));
        let huge = position("99999999999999999999-1").unwrap();
        assert!(validate::position("after", huge).is_err());
        for bad in ["", "3", "-", "3-", "-41", "3-4-1", "+3-41", "3--1", "a-b", "019ab123-4567"] {
            let found = position(bad);
            assert!(found.is_none(), "{bad}: {found:?}");
        }
    }

    #[test]
    fn a_query_has_known_parameters_once_each() {
        let known = ["after", "limit"];
        let query = Query::read("after=3-41&limit=7&", &known).unwrap();
        assert_eq!(query.position("after").unwrap(), Some(Position::new(3, 41)));
        assert_eq!(query.limit().unwrap(), 7);
        assert_eq!(query.get("before"), None);
        for bad in ["before=1-1", "after=1-1&after=1-2", "after=%", "Limit=1", "=1"] {
            assert!(Query::read(bad, &known).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "201", "ten", "", "1e1", "99999999999"] {
            let query = Query::read(&format!("limit={bad}"), &known).unwrap();
            assert!(query.limit().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_is_one_object_of_known_fields() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Body {
            #[serde(rename = "userId")]
            _user: UserId,
        }
        let read = |text: &[u8]| object::<Body>(text).map_err(|refusal| refusal.code);
        assert!(read(b" {\"userId\": \"ann\"}\n").is_ok());
        let cases: [(&[u8], RefusalCode); 9] = [
            (b"", RefusalCode::BadRequest),
            (b"[\"ann\"]", RefusalCode::BadRequest),
            (b"{\"userId\": \"ann\"", RefusalCode::BadRequest),
            (b"{\"userId\": \"ann\"} {}", RefusalCode::BadRequest),
            (b"{\"userId\": \"\xff\"}", RefusalCode::BadRequest),
            (b"{\"userId\": \"\\ud800\"}", RefusalCode::InvalidField),
            (b"{\"userId\": \"ann\", \"x\": 1}", RefusalCode::InvalidField),
            (b"{}", RefusalCode::InvalidField),
            (b"{\"userId\": null}", RefusalCode::InvalidField),
        ];
        for (text, code) in cases {
            assert_eq!(read(text).unwrap_err(), code, "{:?}", String::from_utf8_lossy(text));
        }
    }
}
