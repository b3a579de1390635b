//! One server-to-client WebSocket frame, encoded once and shared by everyone who receives it.
//!
//! A server does not mask its frames (RFC 6455, section 5.1), so the same bytes suit every socket:
//! a room encodes an event once, and each member's queue holds a clone of the handle.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fastwebsockets::OpCode;

/// The most bytes of payload a control frame may carry (RFC 6455, section 5.5).
pub(crate) const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// The most bytes of a close reason: a control payload without its two bytes of close code.
pub(crate) const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// The first byte of a frame that is the last of its message: we never send fragments.
const FIN: u8 = 0x80;
/// A seven-bit length with this value says that sixteen bits of length follow.
const LENGTH_16: u8 = 126;
/// A seven-bit length with this value says that sixty-four bits of length follow.
const LENGTH_64: u8 = 127;

/// One complete, unmasked WebSocket frame, ready for any number of sockets.
///
/// Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// A text message. The payload must be UTF-8; it is copied behind the header in one allocation.
    #[cfg(test)]
    pub(crate) fn text(payload: &[u8]) -> Self {
        Self::text_parts(&[payload])
    }

    /// A text message whose payload is the parts, one after another.
    ///
    /// Saves the buffer in which a caller would put an envelope around an encoded body.
    pub(crate) fn text_parts(parts: &[&[u8]]) -> Self {
        Self::encode(OpCode::Text, parts)
    }

    /// A ping.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`CONTROL_PAYLOAD_BYTES_MAX`]: the server chooses it.
    pub(crate) fn ping(payload: &[u8]) -> Self {
        Self::control(OpCode::Ping, &[payload])
    }

    /// The answer to a ping, with the ping's payload.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`CONTROL_PAYLOAD_BYTES_MAX`]: the decoder lets no such
    /// ping through.
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::control(OpCode::Pong, &[payload])
    }

    /// A close with its code and a reason for people, which is cut at a character boundary to
    /// [`CLOSE_REASON_BYTES_MAX`].
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
        Self::control(OpCode::Close, &[&code.to_be_bytes(), reason.as_bytes()])
    }

    /// The size on the wire in bytes, header included: what a send queue counts.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes for the wire, header included.
    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// What follows the header.
    pub(crate) fn payload(&self) -> &[u8] {
        let header_len = match self.0[1] {
            LENGTH_64 => 10,
            LENGTH_16 => 4,
            _ => 2,
        };
        &self.0[header_len..]
    }

    fn control(opcode: OpCode, parts: &[&[u8]]) -> Self {
        let frame = Self::encode(opcode, parts);
        assert!(
            frame.len() <= 2 + CONTROL_PAYLOAD_BYTES_MAX,
            "a control frame has at most {CONTROL_PAYLOAD_BYTES_MAX} bytes of payload"
        );
        frame
    }

    fn encode(opcode: OpCode, parts: &[&[u8]]) -> Self {
        let payload_len: usize = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; 10];
        header[0] = FIN | opcode as u8;
        let header_len = if let Ok(short) = u8::try_from(payload_len)
            && short < LENGTH_16
        {
            header[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(payload_len) {
            header[1] = LENGTH_16;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            header[1] = LENGTH_64;
            header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        let mut bytes = Vec::with_capacity(header_len + payload_len);
        bytes.extend_from_slice(&header[..header_len]);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(Bytes::from_owner(CountedBytes::new(bytes)))
    }
}

/// Bytes of all frames of this process, whoever holds them: a frame is shared by every queue that
/// it waits in, so that what the queues hold says nothing of the memory that it takes.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// What a frame takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 128;

/// Bytes that all frames take now.
pub(crate) fn alive_bytes() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// The bytes of a frame, counted for as long as somebody holds it.
struct CountedBytes(Vec<u8>);

impl CountedBytes {
    fn new(bytes: Vec<u8>) -> CountedBytes {
        ALIVE.fetch_add(bytes.len() + OVERHEAD_BYTES, Ordering::Relaxed);
        CountedBytes(bytes)
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        ALIVE.fetch_sub(self.0.len() + OVERHEAD_BYTES, Ordering::Relaxed);
    }
}

impl From<Frame> for Bytes {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

/// Tells the kind and the size, never the content: frames carry what people wrote.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("first_byte", &format_args!("{:#04x}", self.0[0]))
            .field("size_bytes", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_frame_has_the_shortest_header_for_its_length() {
        let table: [(usize, &[u8]); 8] = [
            (0, &[0x81, 0]),
            (1, &[0x81, 1]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (255, &[0x81, 126, 0, 255]),
            (256, &[0x81, 126, 1, 0]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (payload_len, header) in table {
            let payload = vec![b'x'; payload_len];
            let frame = Frame::text(&payload);
            assert_eq!(frame.len(), header.len() + payload_len);
            assert_eq!(&frame.as_bytes()[..header.len()], header, "{payload_len} bytes");
            assert_eq!(frame.payload(), payload, "{payload_len} bytes");
        }
    }

    #[test]
    fn parts_make_the_same_frame_as_their_concatenation() {
        let body = "é".repeat(40_000);
        let parts: [&[u8]; 4] = [b"{\"data\":\"", body.as_bytes(), b"", b"\"}"];
        assert_eq!(Frame::text_parts(&parts), Frame::text(&parts.concat()));
        assert_eq!(Frame::text_parts(&[]), Frame::text(b""));
    }

    #[test]
    fn clones_share_one_allocation() {
        let frame = Frame::text(b"hello");
        let clone = frame.clone();
        assert_eq!(frame.as_bytes().as_ptr(), clone.as_bytes().as_ptr());
        assert_eq!(Bytes::from(clone).as_ptr(), frame.as_bytes().as_ptr());
    }

    #[test]
    fn pings_and_pongs_carry_up_to_125_bytes() {
        assert_eq!(&Frame::ping(b"").as_bytes()[..], [0x89, 0]);
        assert_eq!(&Frame::ping(b"hi").as_bytes()[..], [0x89, 2, b'h', b'i']);
        assert_eq!(&Frame::pong(b"hi").as_bytes()[..], [0x8a, 2, b'h', b'i']);
        let full = Frame::pong(&[7; 125]);
        assert_eq!(full.as_bytes()[..2], [0x8a, 125]);
        assert_eq!(full.payload(), [7; 125]);
    }

    #[test]
    #[should_panic(expected = "at most 125 bytes")]
    fn a_ping_of_126_bytes_is_a_bug() {
        Frame::ping(&[0; 126]);
    }

    #[test]
    fn a_close_has_the_code_and_then_the_reason() {
        let frame = Frame::close(4401, "token expired");
        assert_eq!(frame.as_bytes()[..4], [0x88, 15, 0x11, 0x31]);
        assert_eq!(&frame.payload()[2..], b"token expired");
        assert_eq!(&Frame::close(1000, "").as_bytes()[..], [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn a_long_close_reason_is_cut_between_characters() {
        let table = [
            ("x".repeat(123), 123),
            ("x".repeat(124), 123),
            ("é".repeat(62), 122),
            (format!("x{}", "é".repeat(62)), 123),
            ("🦀".repeat(31), 120),
        ];
        for (reason, kept) in table {
            let frame = Frame::close(1000, &reason);
            assert_eq!(&frame.payload()[2..], &reason.as_bytes()[..kept]);
        }
    }

    #[test]
    fn debug_output_has_no_content() {
        assert_eq!(
            format!("{:?}", Frame::text(b"secret")),
            "Frame { first_byte: 0x81, size_bytes: 8 }"
        );
    }
}
