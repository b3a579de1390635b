//! One query to Postgres on a connection of its own, in the simple protocol: what tests and
//! readiness need, not a client.

use std::io::{self, Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;
/// The longest message the server may send.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;
const AUTHENTICATED: &[u8] = &[0, 0, 0, 0];

/// One row: each value as text, none for NULL.
pub type Row = Vec<Option<String>>;

/// Runs SQL and collects the rows of all statements; an error of the server is the inner one.
pub(super) async fn query(
    port: u16,
    user: &str,
    database: &str,
    sql: &str,
) -> io::Result<Result<Vec<Row>, String>> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let mut hello = PROTOCOL.to_be_bytes().to_vec();
    for word in ["user", user, "database", database, ""] {
        hello.extend_from_slice(word.as_bytes());
        hello.push(0);
    }
    stream.get_mut().write_all(&with_length(&hello)?).await?;
    if let Err(refusal) = until_ready(&mut stream).await? {
        return Ok(Err(refusal));
    }
    let mut message = b"Q".to_vec();
    message.extend(with_length(&[sql.as_bytes(), &[0]].concat())?);
    stream.get_mut().write_all(&message).await?;
    let answer = until_ready(&mut stream).await?;
    stream.get_mut().write_all(&[b'X', 0, 0, 0, 4]).await?;
    Ok(answer)
}

/// Reads until the server waits for the next query, or says that there will be none.
async fn until_ready<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<Vec<Row>, String>> {
    let mut rows = Vec::new();
    let mut refusal = None;
    loop {
        let kind = match stream.read_u8().await {
            Ok(kind) => kind,
            // After a fatal error the server hangs up.
            Err(error) => return refusal.map(Err).ok_or(error),
        };
        let length = stream.read_u32().await?.checked_sub(4).filter(|n| *n <= MESSAGE_BYTES_MAX);
        let mut body = Vec::new();
        let length = u64::from(length.ok_or(ErrorKind::InvalidData)?);
        if stream.take(length).read_to_end(&mut body).await? as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match kind {
            b'R' if body != AUTHENTICATED => {
                return Err(Error::new(ErrorKind::Unsupported, "the server asks for a password"));
            }
            b'D' => rows.push(row(&body).ok_or(ErrorKind::InvalidData)?),
            b'E' => refusal = Some(complaint(&body)),
            b'Z' => return Ok(refusal.map_or(Ok(rows), Err)),
            // Parameters, keys, notices, column names, counts.
            _ => {}
        }
    }
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        row.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            // NULL has the length -1.
            Err(_negative) => None,
        });
    }
    Some(row)
}

/// `42P01 relation "x" does not exist`: the code and the text among the fields of an error.
fn complaint(body: &[u8]) -> String {
    let fields: Vec<_> = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first).collect();
    let field = |wanted| {
        let found = fields.iter().find(|(kind, _)| **kind == wanted);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    format!("{} {}", field(b'C'), field(b'M'))
}

fn with_length(body: &[u8]) -> io::Result<Vec<u8>> {
    let length = i32::try_from(body.len() + 4).map_err(|_too_long| ErrorKind::InvalidInput)?;
    Ok([&length.to_be_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_nulls_and_errors_are_read() {
        let rows = b"D\0\0\0\x10\0\x02\0\0\0\x02ab\xff\xff\xff\xffZ\0\0\0\x05I".as_slice();
        let answer = until_ready(&mut &*rows).await.unwrap().unwrap();
        assert_eq!(answer, [[Some("ab".to_owned()), None]]);
        let error = b"E\0\0\0\x0fC42P01\0Mno\0Z\0\0\0\x05I".as_slice();
        assert_eq!(until_ready(&mut &*error).await.unwrap().unwrap_err(), "42P01 no");
    }

    #[tokio::test]
    async fn what_is_cut_short_is_an_error() {
        for bytes in [b"".as_slice(), b"D\0\0", b"D\0\0\0\x10\0\x02", b"D\0\0\0\0", b"T\xff\0\0\0"]
        {
            until_ready(&mut &*bytes).await.unwrap_err();
        }
    }
}
