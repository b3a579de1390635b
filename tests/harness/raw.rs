//! Bytes that no WebSocket library would send: hand-written upgrades and frames.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every masked frame uses this key; no case here depends on which.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// More than any answer or frame a test asks for; past it the server is at fault.
const BUFFERED_MAX: usize = 64 * 1024 * 1024;

/// Frame types of RFC 6455.
pub mod opcode {
    /// Continues a fragmented message.
    pub const CONTINUATION: u8 = 0x0;
    /// Starts a text message.
    pub const TEXT: u8 = 0x1;
    /// Starts a binary message.
    pub const BINARY: u8 = 0x2;
    /// Ends the connection.
    pub const CLOSE: u8 = 0x8;
    /// Asks for a pong.
    pub const PING: u8 = 0x9;
    /// Answers a ping.
    pub const PONG: u8 = 0xa;
}

/// A frame with the bits as they are given, right or wrong. `rsv` are the three reserved bits.
pub fn frame(fin: bool, rsv: u8, opcode: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_head(fin, rsv, opcode, mask, payload.len() as u64);
    if mask {
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// The head of a frame, mask key included, that declares `length` bytes; the caller decides how
/// many of them follow.
pub fn frame_head(fin: bool, rsv: u8, opcode: u8, mask: bool, length: u64) -> Vec<u8> {
    let mask_bit = if mask { 0x80 } else { 0 };
    let mut bytes = vec![(u8::from(fin) << 7) | ((rsv & 0x7) << 4) | (opcode & 0xf)];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => bytes.push(mask_bit | short),
        (_, Ok(medium)) => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    if mask {
        bytes.extend_from_slice(&MASK);
    }
    bytes
}

/// A whole, masked text frame, as a well-behaved client sends it.
pub fn text(payload: &str) -> Vec<u8> {
    frame(true, 0, opcode::TEXT, true, payload.as_bytes())
}

/// A masked close frame.
pub fn close(code: u16) -> Vec<u8> {
    frame(true, 0, opcode::CLOSE, true, &code.to_be_bytes())
}

/// The upgrade request of a well-behaved client. Tests replace or remove lines of it.
pub fn upgrade_request(port: u16, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: roomcast.v1\r\n\r\n"
    )
}

/// What a server said to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The status line and the headers, as they came.
    pub head: String,
}

impl HttpAnswer {
    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFrame {
    /// Whether it ends a message.
    pub fin: bool,
    /// The three reserved bits.
    pub rsv: u8,
    /// Its type.
    pub opcode: u8,
    /// Whether it was masked, which a server must not do.
    pub masked: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl ServerFrame {
    /// The code of a close frame that carries one.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>().filter(|_| self.opcode == opcode::CLOSE)?;
        Some(u16::from_be_bytes(*code))
    }

    /// The payload as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// How a server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a close frame; none where it held no code.
    Close(Option<u16>),
    /// With the end of the stream, and no close frame.
    Eof,
    /// With a reset, and no close frame.
    Reset,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The stream ended in an orderly way.
    #[error("the stream ended")]
    Eof,
    /// The stream was reset.
    #[error("the stream was reset")]
    Reset,
    /// Nothing whole came in time.
    #[error("nothing within {0:?}")]
    TooSlow(Duration),
    /// What came is no HTTP answer.
    #[error("no HTTP answer: {0}")]
    NotHttp(String),
    /// The server sends without end.
    #[error("more than {BUFFERED_MAX} bytes, and no end")]
    TooMuch,
    /// The socket failed otherwise.
    #[error("the socket failed")]
    Socket(#[source] io::Error),
}

/// A TCP connection on which the test writes every byte itself.
#[derive(Debug)]
pub struct RawSocket {
    stream: TcpStream,
    /// What was read and not taken yet.
    buffer: Vec<u8>,
}

impl RawSocket {
    /// Connects to a port of 127.0.0.1, and sends nothing.
    pub async fn open(port: u16) -> io::Result<RawSocket> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(RawSocket { stream, buffer: Vec::new() })
    }

    /// Connects and upgrades as a well-behaved client; 101 or an error.
    pub async fn upgraded(port: u16, path: &str, within: Duration) -> Result<RawSocket, RawError> {
        let mut socket = RawSocket::open(port).await.map_err(RawError::Socket)?;
        let request = upgrade_request(port, path);
        socket.send(request.as_bytes()).await.map_err(RawError::Socket)?;
        let answer = socket.answer(within).await?;
        if answer.status == 101 { Ok(socket) } else { Err(RawError::NotHttp(answer.head)) }
    }

    /// Sends bytes as they are. A server that has closed already may make this fail.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends the sending half; the other can still be read.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The stream itself, for options and halves.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads an HTTP answer up to the end of its head; a body stays unread.
    pub async fn answer(&mut self, within: Duration) -> Result<HttpAnswer, RawError> {
        let head = self.take_until(within, |buffer| {
            let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
            Some((buffer[..end].to_vec(), end + 4))
        });
        let head = String::from_utf8_lossy(&head.await?).into_owned();
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        match status {
            Some(status) => Ok(HttpAnswer { status, head }),
            None => Err(RawError::NotHttp(head)),
        }
    }

    /// Reads the next frame of the server, whatever it is.
    pub async fn next_frame(&mut self, within: Duration) -> Result<ServerFrame, RawError> {
        self.take_until(within, parse_frame).await
    }

    /// Reads up to the end of the connection; frames before the close frame are passed over.
    pub async fn ending(&mut self, within: Duration) -> Result<Ending, RawError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match self.next_frame(left).await {
                Ok(frame) if frame.opcode == opcode::CLOSE => {
                    return Ok(Ending::Close(frame.close_code()));
                }
                Ok(_other) => {}
                Err(RawError::Eof) => return Ok(Ending::Eof),
                Err(RawError::Reset) => return Ok(Ending::Reset),
                Err(RawError::TooSlow(_left)) => return Err(RawError::TooSlow(within)),
                Err(other) => return Err(other),
            }
        }
    }

    /// The code of the server's close frame; none where it ended in another way.
    pub async fn close_code(&mut self, within: Duration) -> Result<Option<u16>, RawError> {
        Ok(match self.ending(within).await? {
            Ending::Close(code) => code,
            Ending::Eof | Ending::Reset => None,
        })
    }

    async fn take_until<T>(
        &mut self,
        within: Duration,
        parse: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> Result<T, RawError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some((taken, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return Ok(taken);
            }
            if self.buffer.len() > BUFFERED_MAX {
                return Err(RawError::TooMuch);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout_at(deadline, read).await {
                Err(_elapsed) => return Err(RawError::TooSlow(within)),
                Ok(Ok(0)) => return Err(RawError::Eof),
                Ok(Ok(_some)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(RawError::Reset);
                }
                Ok(Err(error)) => return Err(RawError::Socket(error)),
            }
        }
    }
}

/// The first frame of `bytes` and its length, once it is whole.
fn parse_frame(bytes: &[u8]) -> Option<(ServerFrame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, mut head) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
        short => (u64::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    if masked {
        head += 4;
    }
    let end = head + usize::try_from(length).ok()?;
    let mut payload = bytes.get(head..end)?.to_vec();
    if masked {
        let key = &bytes[head - 4..head];
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    let (fin, rsv, opcode) = (first & 0x80 != 0, (first >> 4) & 0x7, first & 0xf);
    Some((ServerFrame { fin, rsv, opcode, masked, payload }, end))
}

#[cfg(test)]
mod tests;
