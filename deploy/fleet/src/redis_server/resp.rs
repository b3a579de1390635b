//! One command to Redis on a connection of its own: what tests and readiness need, not a client.

use std::io::{self, Error, ErrorKind};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest text and the most elements of one reply.
const REPLY_LENGTH_MAX: i64 = 64 * 1024 * 1024;
/// How deep arrays may lie in arrays.
const DEPTH_MAX: u32 = 8;

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

/// Sends the command, after the password where there is one.
pub(super) async fn ask(port: u16, password: Option<&str>, command: &[&str]) -> io::Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    if let Some(password) = password {
        let answer = exchange(&mut stream, &["AUTH", password]).await?;
        if matches!(answer, Reply::Error(_)) {
            return Ok(answer);
        }
    }
    exchange(&mut stream, command).await
}

async fn exchange(stream: &mut BufReader<TcpStream>, command: &[&str]) -> io::Result<Reply> {
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    stream.get_mut().write_all(&request).await?;
    read(stream, 0).await
}

async fn read<S: AsyncBufRead + Unpin + Send>(stream: &mut S, depth: u32) -> io::Result<Reply> {
    let mut line = String::new();
    stream.take(64 * 1024).read_line(&mut line).await?;
    let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Integer(number(rest)?)),
        "$" | "*" if rest == "-1" => Ok(Reply::Nil),
        "$" => bulk(stream, length(rest)?).await,
        "*" if depth < DEPTH_MAX => {
            let mut elements = Vec::new();
            for _ in 0..length(rest)? {
                elements.push(Box::pin(read(stream, depth + 1)).await?);
            }
            Ok(Reply::Array(elements))
        }
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

async fn bulk<S: AsyncBufRead + Unpin + Send>(stream: &mut S, length: u64) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).await?;
    let mut end = [0; 2];
    stream.read_exact(&mut end).await?;
    Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

fn length(text: &str) -> io::Result<u64> {
    let length = number(text)?.min(REPLY_LENGTH_MAX);
    u64::try_from(length).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(mut bytes: &[u8]) -> io::Result<Reply> {
        read(&mut bytes, 0).await
    }

    #[tokio::test]
    async fn every_kind_of_reply_is_read() {
        let reply = parse(b"*5\r\n+OK\r\n$3\r\na\r\n\r\n:-7\r\n$-1\r\n*1\r\n-ERR no\r\n").await;
        let reply = reply.unwrap();
        let elements = reply.array();
        assert_eq!(elements[0].text(), Some("OK"));
        assert_eq!(elements[1].text(), Some("a\r\n"));
        assert_eq!(elements[2].integer(), Some(-7));
        assert_eq!(elements[3], Reply::Nil);
        assert_eq!(elements[4].array(), [Reply::Error("ERR no".to_owned())]);
    }

    #[tokio::test]
    async fn what_is_no_reply_is_an_error() {
        let deep = b"*1\r\n".repeat(9);
        for bytes in [b"".as_slice(), b"+OK", b"?\r\n", b"$x\r\n", b"$3\r\nab", &deep] {
            parse(bytes).await.unwrap_err();
        }
    }
}
