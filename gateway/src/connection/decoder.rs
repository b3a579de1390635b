//! Decodes the bytes of one client into whole WebSocket messages, without any I/O.
//!
//! fastwebsockets unmasks here but does not read: its reader takes unmasked frames, counts no
//! fragments, limits each frame but not the message, accepts text cut inside a character, and
//! cannot be dropped halfway. This one is a function of the bytes alone:
//!
//! - What a header can tell is judged from the header, before its payload is waited for.
//! - A frame's payload is unmasked where it lies and checked as it arrives, so that each byte is
//!   looked at once, however it is cut, and invalid text is refused at its first bad byte.
//! - A message in one frame is split out of the input; only fragments are copied, as they arrive.
//! - Nothing is reserved because a header says so: memory follows the bytes that came.

use std::fmt;
use std::str;

use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::{OpCode, unmask};

use crate::wire::frame::CONTROL_PAYLOAD_BYTES_MAX;

#[cfg(test)]
mod tests;

/// The most frames one message may come in.
///
/// A limit on bytes alone lets a client make the server work through frames of no bytes for ever.
pub(crate) const FRAGMENTS_MAX: usize = 64;

const MASK_BYTES: usize = 4;

/// One complete thing a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A text message, in one frame or assembled from fragments.
    Text(Utf8Bytes),
    /// A ping: it wants a pong with the same payload.
    Ping(Bytes),
    /// A pong, asked for or not.
    Pong(Bytes),
    /// The client closes; nothing that follows it may be read.
    Close {
        /// The client's code, valid by RFC 6455, section 7.4; it may send none.
        code: Option<u16>,
        /// The client's reason, often empty.
        reason: Utf8Bytes,
    },
}

/// Bytes that are known to be UTF-8.
///
/// May share its memory with the buffer it was read into: copy what is kept for long.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Utf8Bytes(Bytes);

impl Utf8Bytes {
    /// The text. Goes over the bytes again; a parser that checks them itself takes
    /// [`Self::into_bytes`].
    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("only checked bytes get in here")
    }

    /// The bytes, without a copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    fn check(bytes: Bytes) -> Result<Self, Violation> {
        str::from_utf8(&bytes).map_err(|_| Violation::InvalidUtf8)?;
        Ok(Self(bytes))
    }
}

/// Tells the size, never the content: it is what people wrote.
impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utf8Bytes({} bytes)", self.0.len())
    }
}

/// Why a client's bytes cannot be read on; the connection ends with [`Self::close_code`].
///
/// The text is safe to send as the close reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A client must mask, or it can make a proxy on the way believe in a request.
    #[error("client frames must be masked")]
    Unmasked,
    /// No extension was negotiated, so no reserved bit may be set.
    #[error("reserved bits must be zero")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode")]
    ReservedOpcode,
    /// A ping, pong or close without the final bit.
    #[error("control frames must not be fragmented")]
    FragmentedControl,
    /// A ping, pong or close over 125 bytes.
    #[error("control frames carry at most 125 bytes")]
    ControlTooLarge,
    /// A continuation where no message has begun.
    #[error("continuation without a message to continue")]
    UnexpectedContinuation,
    /// A new message before the last fragment of the one under way.
    #[error("new message inside a fragmented one")]
    InterleavedMessage,
    /// A length that would have fitted a shorter form, or one of 2^63 bytes and more.
    #[error("frame length is not in its shortest form")]
    InvalidLength,
    /// A close payload of one byte, or with a code that must not be sent.
    #[error("invalid close code")]
    InvalidClose,
    /// A binary message; the protocol is text.
    #[error("binary messages are not supported")]
    Binary,
    /// Text, or a close reason, that is not UTF-8.
    #[error("text is not valid utf-8")]
    InvalidUtf8,
    /// More than [`FRAGMENTS_MAX`] frames in one message.
    #[error("message has too many fragments")]
    TooManyFragments,
    /// A message over the limit, judged from the lengths its frames declare.
    #[error("message is too large")]
    MessageTooLarge,
}

impl Violation {
    /// The code to close with, by RFC 6455, section 7.4.1.
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLarge
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::InvalidLength
            | Self::InvalidClose => 1002,
            Self::Binary => 1003,
            Self::InvalidUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::MessageTooLarge => 1009,
        }
    }
}

/// The reading side of one connection: what is known of the frame and the message under way.
///
/// Holds heap memory only inside a fragmented message.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Limit for one message's payload in bytes, over all its fragments; this size is allowed.
    message_bytes_max: usize,
    /// The frame whose header is read and whose payload is not.
    frame: Option<IncomingFrame>,
    /// The message of which at least one fragment is read and the last is not.
    message: Option<PartialMessage>,
    /// Set once, for ever: after a violation nobody knows where the next frame begins.
    violation: Option<Violation>,
}

impl Decoder {
    /// A reader at the start of a connection, for messages of at most `message_bytes_max` bytes.
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, frame: None, message: None, violation: None }
    }

    /// Takes messages of at most so many bytes from the next frame on.
    pub(crate) fn allow(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// The next complete message or control frame, or `None` when more bytes are needed.
    ///
    /// Takes from the front of `input` what it has dealt with. What it leaves there may be
    /// unmasked already: the caller only ever appends, and passes the same bytes again. After a
    /// violation every call reports it again; after a close there is nothing left to ask.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let result = self.advance(input);
        if let Err(violation) = result {
            self.message = None;
            self.violation = Some(violation);
        }
        result
    }

    /// Bytes that are kept of a fragmented message.
    pub(crate) fn held_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Whether no message is under way, apart from a header cut in two: that is in the input.
    ///
    /// For the deadline within which a message that has begun must be complete.
    pub(crate) fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none()
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
        loop {
            if self.frame.is_none() {
                self.frame = self.read_header(input)?;
            }
            let Some(frame) = &mut self.frame else { return Ok(None) };
            let progress = match frame.kind {
                FrameKind::Text => frame.read_text(input)?,
                FrameKind::Fragment { last } => {
                    let progress = frame.read_fragment(input, &mut self.message)?;
                    if last && progress == DecodeProgress::FrameDone {
                        DecodeProgress::Complete(finish(self.message.take())?)
                    } else {
                        progress
                    }
                }
                FrameKind::Control(control) => frame.read_control(control, input)?,
            };
            match progress {
                DecodeProgress::NeedsMore => return Ok(None),
                DecodeProgress::FrameDone => self.frame = None,
                DecodeProgress::Complete(incoming) => {
                    self.frame = None;
                    return Ok(Some(incoming));
                }
            }
        }
    }

    /// Takes a header from the input once all of it is there, and judges all it says.
    fn read_header(&self, input: &mut BytesMut) -> Result<Option<IncomingFrame>, Violation> {
        let &[first, second, ref rest @ ..] = &**input else { return Ok(None) };
        let kind = self.frame_kind(first, second)?;
        let Some((payload_len, length_bytes)) = payload_length(second & 0x7f, rest)? else {
            return Ok(None);
        };
        self.check_limits(kind, payload_len)?;
        let Some(&mask) = rest[length_bytes..].first_chunk::<MASK_BYTES>() else { return Ok(None) };
        input.advance(2 + length_bytes + MASK_BYTES);
        let payload_len = usize::try_from(payload_len).map_err(|_| Violation::MessageTooLarge)?;
        Ok(Some(IncomingFrame { kind, mask, payload_len, arrived: 0, checked: 0 }))
    }

    /// What the first two bytes say, and whether it may be said here.
    fn frame_kind(&self, first: u8, second: u8) -> Result<FrameKind, Violation> {
        let last = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| Violation::ReservedOpcode)?;
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let control = match opcode {
            OpCode::Ping => Control::Ping,
            OpCode::Pong => Control::Pong,
            OpCode::Close => Control::Close,
            OpCode::Continuation if self.message.is_none() => {
                return Err(Violation::UnexpectedContinuation);
            }
            OpCode::Continuation => return Ok(FrameKind::Fragment { last }),
            OpCode::Text | OpCode::Binary if self.message.is_some() => {
                return Err(Violation::InterleavedMessage);
            }
            OpCode::Binary => return Err(Violation::Binary),
            OpCode::Text if last => return Ok(FrameKind::Text),
            OpCode::Text => return Ok(FrameKind::Fragment { last }),
        };
        if !last {
            return Err(Violation::FragmentedControl);
        }
        if usize::from(second & 0x7f) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(Violation::ControlTooLarge);
        }
        Ok(FrameKind::Control(control))
    }

    fn check_limits(&self, kind: FrameKind, payload_len: u64) -> Result<(), Violation> {
        let (bytes, fragments) = match (kind, &self.message) {
            (FrameKind::Control(_), _) => return Ok(()),
            (FrameKind::Text, _) | (FrameKind::Fragment { .. }, None) => (0, 0),
            (FrameKind::Fragment { .. }, Some(message)) => (message.bytes.len(), message.fragments),
        };
        // Cannot overflow: a length has 63 bits at most, and what is buffered is within the limit.
        if bytes as u64 + payload_len > self.message_bytes_max as u64 {
            return Err(Violation::MessageTooLarge);
        }
        if fragments >= FRAGMENTS_MAX {
            return Err(Violation::TooManyFragments);
        }
        Ok(())
    }
}

/// The payload's length and how many bytes after the second one hold it; `None` until they came.
fn payload_length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, length_bytes, least) = match short {
        0..=125 => return Ok(Some((u64::from(short), 0))),
        126 => match rest.first_chunk() {
            Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 2, 126),
            None => return Ok(None),
        },
        127.. => match rest.first_chunk() {
            Some(&bytes) => (u64::from_be_bytes(bytes), 8, 1 << 16),
            None => return Ok(None),
        },
    };
    if length < least || length > i64::MAX as u64 {
        return Err(Violation::InvalidLength);
    }
    Ok(Some((length, length_bytes)))
}

/// What a frame is, once its header has been judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// A message in one frame.
    Text,
    /// The first, a middle or the last piece of a message.
    Fragment {
        last: bool,
    },
    Control(Control),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Ping,
    Pong,
    Close,
}

/// How far a frame got with the bytes that are there.
#[derive(Debug, PartialEq, Eq)]
enum DecodeProgress {
    NeedsMore,
    /// The frame is read; the message goes on in the next one.
    FrameDone,
    Complete(Incoming),
}

/// A frame whose payload is arriving.
#[derive(Debug)]
struct IncomingFrame {
    kind: FrameKind,
    mask: [u8; MASK_BYTES],
    payload_len: usize,
    /// Payload bytes that are unmasked.
    arrived: usize,
    /// Payload bytes known to be whole, valid characters; used for [`FrameKind::Text`] only.
    checked: usize,
}

impl IncomingFrame {
    fn read_text(&mut self, input: &mut BytesMut) -> Result<DecodeProgress, Violation> {
        let arrived = self.arrived;
        self.unmask_from(&mut input[arrived..]);
        self.checked = check_utf8(&input[..self.arrived], self.checked)?;
        if self.arrived < self.payload_len {
            return Ok(DecodeProgress::NeedsMore);
        }
        if self.checked < self.payload_len {
            return Err(Violation::InvalidUtf8);
        }
        Ok(DecodeProgress::Complete(Incoming::Text(Utf8Bytes(self.take_payload(input)))))
    }

    fn read_fragment(
        &mut self,
        input: &mut BytesMut,
        message: &mut Option<PartialMessage>,
    ) -> Result<DecodeProgress, Violation> {
        let message = message.get_or_insert_default();
        let count = self.unmask_from(input);
        message.bytes.extend_from_slice(&input[..count]);
        input.advance(count);
        message.checked = check_utf8(&message.bytes, message.checked)?;
        if self.arrived < self.payload_len {
            return Ok(DecodeProgress::NeedsMore);
        }
        message.fragments += 1;
        Ok(DecodeProgress::FrameDone)
    }

    fn read_control(
        &mut self,
        control: Control,
        input: &mut BytesMut,
    ) -> Result<DecodeProgress, Violation> {
        let arrived = self.arrived;
        self.unmask_from(&mut input[arrived..]);
        if self.arrived < self.payload_len {
            return Ok(DecodeProgress::NeedsMore);
        }
        let payload = self.take_payload(input);
        Ok(DecodeProgress::Complete(match control {
            Control::Ping => Incoming::Ping(payload),
            Control::Pong => Incoming::Pong(payload),
            Control::Close => close(payload)?,
        }))
    }

    /// Unmasks the payload bytes at the front of `unread`, and says how many they are.
    fn unmask_from(&mut self, unread: &mut [u8]) -> usize {
        let count = unread.len().min(self.payload_len - self.arrived);
        let mut mask = self.mask;
        mask.rotate_left(self.arrived % MASK_BYTES);
        unmask(&mut unread[..count], mask);
        self.arrived += count;
        count
    }

    /// Splits the whole payload out of the input without a copy.
    fn take_payload(&self, input: &mut BytesMut) -> Bytes {
        if self.payload_len == 0 {
            // An empty slice would keep the whole buffer alive for nothing.
            return Bytes::new();
        }
        input.split_to(self.payload_len).freeze()
    }
}

/// The fragments of one message so far, and what has arrived of the present one.
#[derive(Debug, Default)]
struct PartialMessage {
    bytes: BytesMut,
    /// Bytes known to be whole, valid characters: all but a character cut by the arrival.
    checked: usize,
    /// Complete fragments.
    fragments: usize,
}

fn finish(message: Option<PartialMessage>) -> Result<Incoming, Violation> {
    let message = message.unwrap_or_default();
    if message.checked < message.bytes.len() {
        return Err(Violation::InvalidUtf8);
    }
    Ok(Incoming::Text(Utf8Bytes(message.bytes.freeze())))
}

/// How many leading bytes of `text` are whole, valid characters, of which `checked` are known.
///
/// A character that is merely cut off is left for the next time: at most three bytes are gone over
/// twice.
fn check_utf8(text: &[u8], checked: usize) -> Result<usize, Violation> {
    match str::from_utf8(&text[checked..]) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(checked + error.valid_up_to()),
        Err(_) => Err(Violation::InvalidUtf8),
    }
}

fn close(payload: Bytes) -> Result<Incoming, Violation> {
    if payload.is_empty() {
        return Ok(Incoming::Close { code: None, reason: Utf8Bytes::default() });
    }
    let code = u16::from_be_bytes(*payload.first_chunk().ok_or(Violation::InvalidClose)?);
    if !is_sendable(code) {
        return Err(Violation::InvalidClose);
    }
    let reason = Utf8Bytes::check(payload.slice(2..))?;
    Ok(Incoming::Close { code: Some(code), reason })
}

/// Whether a close code may appear on the wire: 1004 to 1006 and 1015 only stand for the absence
/// of one, and the rest up to 2999 is reserved.
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
