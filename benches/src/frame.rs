//! WebSocket frames: those of clients are masked, those of servers are read where they lie.

/// What kind of frame it is; others are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A whole text message.
    Text,
    /// The end of the connection.
    Close,
    /// A sign of life is asked for.
    Ping,
    /// A sign of life.
    Pong,
}

impl Opcode {
    fn number(self) -> u8 {
        match self {
            Opcode::Text => 1,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }
}

/// A frame in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its kind.
    pub opcode: Opcode,
    /// What it carries; as it came, so masked if it was masked.
    pub payload: &'a [u8],
    /// The mask, of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// How many bytes of the buffer it takes.
    pub length: usize,
}

/// A frame that this end does not take: fragments, binary, compressed or reserved ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame begins with {0:#04x}, which is none of a whole text message or a control frame")]
pub struct FrameError(pub u8);

/// The frame at the beginning of `bytes`; none while a part of it is missing.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    let opcode = match first {
        0x81 => Opcode::Text,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        other => return Err(FrameError(other)),
    };
    let (size, mut start) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (usize::from(u16::from_be_bytes([a, b])), 4),
            Some(_) | None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|eight| <[u8; 8]>::try_from(eight).ok()) {
            Some(eight) => (usize::try_from(u64::from_be_bytes(eight)).unwrap_or(usize::MAX), 10),
            None => return Ok(None),
        },
        small => (usize::from(small), 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        let four = bytes.get(start..start + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        let Some(four) = four else { return Ok(None) };
        mask = Some(four);
        start += 4;
    }
    let length = start.saturating_add(size);
    let Some(payload) = bytes.get(start..length) else { return Ok(None) };
    Ok(Some(Frame { opcode, payload, mask, length }))
}

/// Writes a client's frame, masked.
pub fn write_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    write_head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Writes a server's frame.
pub fn write_plain(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn write_head(out: &mut Vec<u8>, opcode: Opcode, size: usize, masked: u8) {
    out.push(0x80 | opcode.number());
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(small @ 0..=125), _) => out.push(masked | small),
        (_, Ok(medium)) => {
            out.push(masked | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(masked | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
}

/// Masks, or takes the mask off.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    for four in bytes.chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(size: usize) {
        let payload: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mask = [1, 2, 250, 4];
        let (mut masked, mut plain) = (Vec::new(), Vec::new());
        write_masked(&mut masked, Opcode::Text, &payload, mask);
        write_plain(&mut plain, Opcode::Text, &payload);

        let frame = parse(&masked).unwrap().unwrap();
        assert_eq!(
            (frame.opcode, frame.mask, frame.length),
            (Opcode::Text, Some(mask), masked.len())
        );
        let mut bare = frame.payload.to_vec();
        assert!(size < 3 || bare != payload, "nothing was masked");
        apply_mask(&mut bare, mask);
        assert_eq!(bare, payload);

        let frame = parse(&plain).unwrap().unwrap();
        assert_eq!((frame.mask, frame.payload), (None, payload.as_slice()));
        for whole in [&masked, &plain] {
            // Every cut is seen as one, wherever it lies.
            for end in (0..whole.len()).take(20).chain([whole.len() - 1]) {
                assert_eq!(parse(&whole[..end]), Ok(None), "{size} bytes, cut at {end}");
            }
        }
    }

    #[test]
    fn frames_of_every_length_come_back_as_they_were() {
        for size in [0, 1, 125, 126, 127, 200, 65_535, 65_536, 70_000] {
            round(size);
        }
    }

    #[test]
    fn frames_that_follow_one_another_are_told_apart() {
        let mut bytes = Vec::new();
        write_plain(&mut bytes, Opcode::Text, b"one");
        write_plain(&mut bytes, Opcode::Ping, b"");
        write_plain(&mut bytes, Opcode::Close, &[3, 232]);
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(frame) = parse(&bytes[at..]).unwrap() {
            found.push((frame.opcode, frame.payload.to_vec()));
            at += frame.length;
        }
        assert_eq!(at, bytes.len());
        let expected = [
            (Opcode::Text, b"one".to_vec()),
            (Opcode::Ping, vec![]),
            (Opcode::Close, vec![3, 232]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn fragments_binary_and_reserved_bits_are_errors() {
        for first in [0x01, 0x80, 0x82, 0xc1, 0x8b] {
            assert_eq!(parse(&[first, 0]), Err(FrameError(first)));
        }
        // A length that no memory has is only ever incomplete.
        assert_eq!(parse(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(None));
    }
}
