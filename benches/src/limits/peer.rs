//! One connection of a limit.

use mio::net::TcpStream;
use std::io::{self, Write};

/// One connection; it owns bytes only while something is incomplete.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) is_open: bool,
    pub(super) partial: Vec<u8>,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    pub(super) rooms: Vec<usize>,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Peer {
        Peer { stream, is_open: false, partial: Vec::new(), out: Vec::new(), rooms: Vec::new() }
    }

    /// Sends at once, unless something waits already.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        if self.out.is_empty() {
            sent = self.write(bytes);
        }
        if sent < bytes.len() {
            self.out.extend_from_slice(&bytes[sent..]);
        }
    }

    /// Sends what the socket takes of what waits.
    pub(super) fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        let sent = self.write(&out);
        self.out = out;
        self.out.drain(..sent);
    }

    /// How many bytes the socket took; a broken one is found by the read that follows.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) if count > 0 => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        sent
    }
}
