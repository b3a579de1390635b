//! One command to Redis on a connection of its own.

use redis::{AsyncConnectionConfig, Client, Value};
use std::io;

/// What Redis answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// A status or a text; bytes that are no UTF-8 are replaced.
    Text(String),
    /// A number.
    Integer(i64),
    /// Nothing there.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
    /// An error.
    Error(String),
}

impl Reply {
    /// The text of a status or a text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) => Some(text),
            Reply::Integer(_) | Reply::Nil | Reply::Array(_) | Reply::Error(_) => None,
        }
    }

    /// The number, also where it stands in a text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            Reply::Text(text) => text.parse().ok(),
            Reply::Nil | Reply::Array(_) | Reply::Error(_) => None,
        }
    }

    /// The elements of an array; none of anything else.
    pub fn array(&self) -> &[Reply] {
        match self {
            Reply::Array(elements) => elements,
            Reply::Text(_) | Reply::Integer(_) | Reply::Nil | Reply::Error(_) => &[],
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        match value {
            Value::Nil => Reply::Nil,
            Value::Int(number) => Reply::Integer(number),
            Value::Okay => Reply::Text("OK".to_owned()),
            Value::SimpleString(text) => Reply::Text(text),
            Value::BulkString(bytes) => Reply::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::Array(elements) => Reply::Array(elements.into_iter().map(Reply::from).collect()),
            Value::ServerError(error) => Reply::Error(format!("{error:?}")),
            // What only the third version of the protocol has, which is not asked for.
            other => Reply::Error(format!("{other:?}")),
        }
    }
}

/// Sends the command, after the password that the address has; an error of Redis is a reply.
pub(super) async fn ask(url: &str, command: &[&str]) -> io::Result<Reply> {
    // Whoever asks says how long.
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let asked = async {
        let client = Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let (name, words) = command.split_first().unwrap_or((&"", &[]));
        redis::cmd(name).arg(words).query_async::<Value>(&mut connection).await
    };
    match asked.await {
        Ok(value) => Ok(Reply::from(value)),
        Err(error) => match error.code() {
            Some(code) => {
                Ok(Reply::Error(format!("{code} {}", error.detail().unwrap_or_default())))
            }
            None => Err(io::Error::other(error)),
        },
    }
}
