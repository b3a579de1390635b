//! The credentials that came with a handshake.

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, StatusCode};
use shared::contract::id::UserId;

use super::encoding::{bearer, query_decoded};
use super::{HttpResponse, text};

/// A proof as it came, not looked at yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// In `Authorization: Bearer`.
    Token(String),
    /// In the query, where nothing may stand that is good twice.
    Ticket(String),
    /// In the query, in the development mode.
    User(UserId),
    /// None: the first frame may bring one.
    Nothing,
}

/// Why they cannot even be looked at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialsError {
    /// Addresses end up in logs and histories.
    #[error(
        "a token does not belong into an address; send it in Authorization, in the auth command, \
         or get a one-time ticket"
    )]
    TokenInQuery,
    /// A proxy on the way may have looked at the other one.
    #[error("say who you are once: in Authorization, or with a ticket")]
    Twice,
    /// `?user=`
    #[error("user: {0}")]
    User(String),
    /// Not of the form that RFC 6750 gives it.
    #[error("Authorization is not Bearer and one token")]
    Form,
}

impl CredentialsError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            CredentialsError::TokenInQuery
            | CredentialsError::Twice
            | CredentialsError::User(_) => StatusCode::BAD_REQUEST,
            CredentialsError::Form => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn answer(&self) -> HttpResponse {
        text(self.status(), format!("{self}\n"))
    }
}

/// Reads them. `dev` is whether `?user=` is believed.
pub(super) fn read<B>(request: &Request<B>, dev: bool) -> Result<Credentials, CredentialsError> {
    let query = request.uri().query().unwrap_or_default();
    if all(query, "token").chain(all(query, "access_token")).next().is_some() {
        return Err(CredentialsError::TokenInQuery);
    }
    let mut tickets = all(query, "ticket");
    let (ticket, another) = (tickets.next(), tickets.next().is_some());
    match (token(request.headers())?, ticket) {
        (Some(_), Some(_)) => Err(CredentialsError::Twice),
        (None, Some(_)) if another => Err(CredentialsError::Twice),
        (None, Some(ticket)) => Ok(Credentials::Ticket(ticket.to_owned())),
        (Some(token), None) => Ok(Credentials::Token(token.to_owned())),
        (None, None) if dev => user(query),
        (None, None) => Ok(Credentials::Nothing),
    }
}

/// The values of a parameter, as they are written.
fn all<'a>(query: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}

fn token(headers: &HeaderMap) -> Result<Option<&str>, CredentialsError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let alone = lines.next().is_none();
    let token = line.to_str().ok().and_then(bearer).filter(|_| alone);
    token.map(Some).ok_or(CredentialsError::Form)
}

fn user(query: &str) -> Result<Credentials, CredentialsError> {
    let Some(user) = all(query, "user").next().and_then(query_decoded) else {
        return Ok(Credentials::Nothing);
    };
    let user = UserId::parse(&user).map_err(|error| CredentialsError::User(error.to_string()))?;
    Ok(Credentials::User(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_says_who_is_asking_once_and_no_token_in_the_address() {
        let ann = || Ok(Credentials::User(UserId::parse("ann-lee").unwrap()));
        let ticket = |text: &str| Ok(Credentials::Ticket(text.to_owned()));
        let token = |text: &str| Ok(Credentials::Token(text.to_owned()));
        let table = [
            ("/ws", None, Ok(Credentials::Nothing)),
            ("/ws?user=ann%2Dlee", None, ann()),
            ("/ws?ticket=rct_1", None, ticket("rct_1")),
            ("/ws?user=ann-lee&ticket=rct_1", None, ticket("rct_1")),
            ("/ws?ticket=a&ticket=b", None, Err(CredentialsError::Twice)),
            ("/ws?ticket=a", Some("Bearer x"), Err(CredentialsError::Twice)),
            ("/ws", Some("Bearer x"), token("x")),
            ("/ws", Some("bEARER x"), token("x")),
            ("/ws", Some("Basic x"), Err(CredentialsError::Form)),
            ("/ws?token=x", None, Err(CredentialsError::TokenInQuery)),
            ("/ws?token", None, Err(CredentialsError::TokenInQuery)),
            ("/ws?user=ann-lee&access_token=x", None, Err(CredentialsError::TokenInQuery)),
            ("/ws?token=x", Some("Bearer x"), Err(CredentialsError::TokenInQuery)),
        ];
        for (path, authorization, expected) in table {
            let mut request = Request::builder().uri(path);
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
            assert_eq!(read(&request.body(()).unwrap(), true), expected, "{path}");
        }
        let request = Request::builder().uri("/ws?user=ann").body(()).unwrap();
        assert_eq!(read(&request, false), Ok(Credentials::Nothing));
    }
}
