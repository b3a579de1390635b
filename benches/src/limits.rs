//! The limits: what a server costs that does nothing but carry messages to rooms.
//!
//! One thread on bare epoll, no proof of who is asking, no JSON beyond finding the room and the
//! `ref`, no order between nodes and no database. What it says is as long as what Roomcast says.
//! Either every recipient of every message gets a send of its own as soon as the message has come,
//! or what gathered for a connection in one turn of the loop goes in one.

mod peer;
mod answer;

use crate::error::LoadError;
use crate::frame::{self, Opcode};
use answer::Command;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use peer::Peer;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

/// The buffer that all connections are read into.
const BUFFER_BYTES: usize = 256 * 1024;
/// The token of the listener; those of connections count from 0.
const LISTENER: Token = Token(usize::MAX);
/// Buffers that are kept for reuse.
const SPARE_BUFFERS: usize = 4096;

/// When a send is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At once, for each recipient of each message.
    Direct,
    /// At the end of a turn of the loop, for each connection.
    Coalesce,
}

struct Limit {
    mode: Mode,
    poll: Poll,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    rooms: HashMap<Vec<u8>, usize>,
    /// The members of each room, and how many messages it had.
    members: Vec<(Vec<usize>, u64)>,
    /// Connections with something to be sent at the end of the turn.
    waiting: Vec<usize>,
    spare: Vec<Vec<u8>>,
    #[cfg(test)]
    harm: Option<tests::Harm>,
}

/// Serves until the process is ended, or its standard input is.
pub fn serve(port: u16, mode: Mode) -> Result<(), LoadError> {
    let failed = |source| LoadError::io(format!("serving on port {port}"), source);
    let mut limit = Limit::new(port, mode).map_err(failed)?;
    let address = limit.listener.local_addr().map_err(failed)?;
    let mut output = io::stdout();
    writeln!(output, "{address}").and_then(|()| output.flush()).map_err(failed)?;
    limit.run().map_err(failed)
}

impl Limit {
    fn new(port: u16, mode: Mode) -> io::Result<Limit> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        crate::server::raise_file_limit();
        Ok(Limit {
            mode,
            poll,
            listener,
            peers: Vec::new(),
            free: Vec::new(),
            rooms: HashMap::new(),
            members: Vec::new(),
            waiting: Vec::new(),
            spare: Vec::new(),
            #[cfg(test)]
            harm: None,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                    continue;
                }
                let id = event.token().0;
                if event.is_writable()
                    && let Some(peer) = &mut self.peers[id]
                    && !peer.out.is_empty()
                {
                    self.flush(id);
                }
                let is_ending = event.is_read_closed() || event.is_error();
                if event.is_readable() || is_ending {
                    self.read(id, is_ending, &mut buffer);
                }
            }
            self.flush_all();
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let id = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(id), interest).is_ok() {
                self.peers[id] = Some(Peer::new(stream));
            }
        }
    }

    fn read(&mut self, id: usize, to_the_end: bool, buffer: &mut [u8]) {
        loop {
            let Some(peer) = &mut self.peers[id] else { return };
            let start = peer.partial.len();
            buffer[..start].copy_from_slice(&peer.partial);
            let count = match peer.stream.read(&mut buffer[start..]) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => return self.drop_peer(id),
            };
            let end = start + count;
            peer.partial = Vec::new();
            let taken = self.take(id, &mut buffer[..end]);
            match (taken, &mut self.peers[id]) {
                (Some(taken), Some(peer)) if end - taken < BUFFER_BYTES / 2 => {
                    if taken < end {
                        peer.partial = buffer[taken..end].to_vec();
                    }
                }
                (_, _) => return self.drop_peer(id),
            }
            if end < buffer.len() && !to_the_end {
                return;
            }
        }
    }

    /// How many bytes were taken; none if the peer says what is not understood.
    fn take(&mut self, id: usize, bytes: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        if !self.peers[id].as_ref()?.is_open {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Some(0) };
            let switching = answer::switching(&bytes[..end])?;
            at = end + 4;
            let peer = self.peers[id].as_mut()?;
            peer.is_open = true;
            peer.out.extend_from_slice(&switching);
            frame::write_plain(&mut peer.out, Opcode::Text, answer::WELCOME);
            self.flush(id);
        }
        loop {
            let Ok(parsed) = frame::parse(&bytes[at..]) else { return None };
            let Some(frame) = parsed else { return Some(at) };
            let (opcode, mask, length) = (frame.opcode, frame.mask?, frame.length);
            let start = at + length - frame.payload.len();
            at += length;
            frame::apply_mask(&mut bytes[start..at], mask);
            match opcode {
                Opcode::Text => self.command(id, &bytes[start..at]),
                Opcode::Close => return None,
                Opcode::Ping | Opcode::Pong => {}
            }
        }
    }

    fn command(&mut self, id: usize, text: &[u8]) {
        match answer::command(text) {
            Some(Command::Join { room, reference }) => {
                let room = self.room(room);
                self.members[room].0.push(id);
                if let Some(peer) = &mut self.peers[id] {
                    peer.rooms.push(room);
                }
                self.say(id, &answer::joined(reference));
            }
            Some(Command::Send { room, reference, content, message_id }) => {
                let room = self.room(room);
                self.members[room].1 += 1;
                let seq = self.members[room].1;
                self.say(id, &answer::acked(reference, message_id, seq));
                let text = answer::message(room, message_id, content, seq);
                let mut frame = Vec::with_capacity(text.len() + 4);
                frame::write_plain(&mut frame, Opcode::Text, &text);
                #[cfg(test)]
                if self.do_harm(room, &frame) {
                    return;
                }
                let members = std::mem::take(&mut self.members[room].0);
                for member in &members {
                    self.say_frame(*member, &frame);
                }
                self.members[room].0 = members;
            }
            None => {}
        }
    }

    fn room(&mut self, name: &[u8]) -> usize {
        if let Some(room) = self.rooms.get(name) {
            return *room;
        }
        self.members.push((Vec::new(), 0));
        self.rooms.insert(name.to_vec(), self.members.len() - 1);
        self.members.len() - 1
    }

    fn say(&mut self, id: usize, text: &[u8]) {
        let mut frame = Vec::with_capacity(text.len() + 4);
        frame::write_plain(&mut frame, Opcode::Text, text);
        self.say_frame(id, &frame);
    }

    #[inline]
    fn say_frame(&mut self, id: usize, frame: &[u8]) {
        let Some(peer) = &mut self.peers[id] else { return };
        match self.mode {
            Mode::Direct => peer.send(frame),
            Mode::Coalesce => {
                if peer.out.is_empty() {
                    if let Some(spare) = self.spare.pop() {
                        peer.out = spare;
                    }
                    self.waiting.push(id);
                }
                peer.out.extend_from_slice(frame);
            }
        }
    }

    fn flush_all(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.drain(..).for_each(|id| self.flush(id));
        self.waiting = waiting;
    }

    fn flush(&mut self, id: usize) {
        let Some(peer) = &mut self.peers[id] else { return };
        peer.flush();
        if peer.out.is_empty() {
            let buffer = std::mem::take(&mut peer.out);
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(buffer);
            }
        }
    }

    fn drop_peer(&mut self, id: usize) {
        let Some(peer) = self.peers[id].take() else { return };
        for room in &peer.rooms {
            self.members[*room].0.retain(|member| *member != id);
        }
        self.free.push(id);
    }
}

#[cfg(test)]
pub(crate) mod tests;
