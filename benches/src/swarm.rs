//! Many WebSocket connections on one epoll loop.
//!
//! All of them are read into one buffer. A connection owns bytes only while a frame has come in
//! part, or while its socket does not take what is to be sent. After a short read nothing more is
//! asked of the socket: epoll tells of new bytes by a new edge.

mod alarm;

use crate::clock;
use crate::error::LoadError;
use crate::frame::{self, Opcode};
use alarm::Alarm;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The buffer that all connections are read into.
const BUFFER_BYTES: usize = 256 * 1024;
/// Events taken in one turn.
const EVENTS_PER_TURN: usize = 1024;
/// Connections from one address: below the number of ephemeral ports.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;
/// The token of the alarm; those of connections count from 0.
const ALARM: Token = Token(usize::MAX);
/// The largest head of an answer to a handshake.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The connections of a run.
#[derive(Debug)]
pub struct Swarm {
    poll: Poll,
    events: Option<Events>,
    alarm: Alarm,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    mask: u32,
    /// What went through it.
    pub traffic: Traffic,
    /// When the last bytes were read.
    pub read_at: u64,
}

/// What went through a swarm.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Reads that brought something.
    pub reads: u64,
    /// Frames that they brought.
    pub frames: u64,
    /// Bytes that they brought.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Connection {
    stream: Option<TcpStream>,
    /// The request, until it was sent.
    request: String,
    is_open: bool,
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

/// What happens on a connection.
#[derive(Debug, Clone, Copy)]
pub enum Happening<'a> {
    /// The handshake is done.
    Open,
    /// A text came.
    Text(&'a [u8]),
    /// The connection is gone, not by this end.
    Gone(&'a str),
}

/// Whoever owns a swarm, and hears what happens on its connections.
pub trait Listener {
    /// The swarm, which is free to be used while something is told.
    fn swarm(&mut self) -> &mut Swarm;

    /// Something happened on this connection.
    fn heard(&mut self, connection: usize, happening: Happening<'_>);
}

impl Swarm {
    /// A swarm without connections.
    pub fn new() -> Result<Swarm, LoadError> {
        let poll = Poll::new().map_err(|source| LoadError::io("making an epoll", source))?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(Swarm {
            poll,
            events: Some(Events::with_capacity(EVENTS_PER_TURN)),
            alarm,
            connections: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            scratch: Vec::new(),
            mask: 0x9e37_79b9,
            traffic: Traffic::default(),
            read_at: clock::now(),
        })
    }

    /// Begins to connect; the number of the connection is the caller's, counted from 0.
    pub fn connect(&mut self, id: usize, to: SocketAddr, request: String) -> Result<(), LoadError> {
        let failed = |source| LoadError::io(format!("connecting to {to}"), source);
        while self.connections.len() <= id {
            self.connections.push(Connection::default());
        }
        let mut stream = dial(id, to).map_err(failed)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(id), interest).map_err(failed)?;
        self.connections[id] = Connection { stream: Some(stream), request, ..Default::default() };
        Ok(())
    }

    /// Cuts a connection without a word. Its port is free at once, however many are cut.
    pub fn cut(&mut self, id: usize) {
        let connection = std::mem::take(&mut self.connections[id]);
        if let Some(stream) = &connection.stream {
            // Where that fails the port is free a minute later.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Sends a text. What the socket does not take now goes when it does.
    pub fn send(&mut self, id: usize, text: &[u8]) {
        self.send_frame(id, Opcode::Text, text);
    }

    fn send_frame(&mut self, id: usize, opcode: Opcode, payload: &[u8]) {
        // Masks need not be secret here, only different.
        self.mask = self.mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        frame::write_masked(&mut scratch, opcode, payload, self.mask.to_be_bytes());
        let connection = &mut self.connections[id];
        if connection.unsent.is_empty()
            && let Some(stream) = &mut connection.stream
        {
            // A broken connection is found by the read that follows.
            let sent = write_what_fits(stream, &scratch).unwrap_or(0);
            connection.unsent.extend_from_slice(&scratch[sent..]);
        } else {
            connection.unsent.extend_from_slice(&scratch);
        }
        self.scratch = scratch;
    }

    /// The socket takes bytes: the request first, then what waited.
    fn write(&mut self, id: usize) -> io::Result<()> {
        let Connection { stream: Some(stream), request, unsent, .. } = &mut self.connections[id]
        else {
            return Ok(());
        };
        if !request.is_empty() {
            let request = std::mem::take(request);
            unsent.splice(0..0, request.into_bytes());
        }
        if !unsent.is_empty() {
            let sent = write_what_fits(stream, unsent)?;
            unsent.drain(..sent);
            if unsent.is_empty() {
                *unsent = Vec::new();
            }
        }
        Ok(())
    }
}

/// Waits until something happens, and no longer than `until`, and tells of it.
pub fn turn(listener: &mut impl Listener, until: u64) -> Result<(), LoadError> {
    let swarm = listener.swarm();
    let Some(mut events) = swarm.events.take() else { return Ok(()) };
    let timeout = swarm.alarm.set(until)?;
    match swarm.poll.poll(&mut events, timeout) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
            return Err(LoadError::io("waiting for events", error));
        }
        Ok(()) | Err(_) => {}
    }
    for event in &events {
        if event.token() == ALARM {
            listener.swarm().alarm.rang();
            continue;
        }
        let id = event.token().0;
        if event.is_writable()
            && let Err(error) = listener.swarm().write(id)
        {
            lose(listener, id, &format!("cut off: {error}"));
            continue;
        }
        let is_ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_ending {
            read(listener, id, is_ending);
        }
    }
    listener.swarm().events = Some(events);
    Ok(())
}

fn read(listener: &mut impl Listener, id: usize, to_the_end: bool) {
    let mut buffer = std::mem::take(&mut listener.swarm().buffer);
    loop {
        let swarm = listener.swarm();
        let connection = &mut swarm.connections[id];
        let Some(stream) = &mut connection.stream else { break };
        let start = connection.partial.len();
        if buffer.len() < start * 2 {
            buffer.resize(start * 2, 0);
        }
        buffer[..start].copy_from_slice(&connection.partial);
        let count = match stream.read(&mut buffer[start..]) {
            Ok(0) => {
                lose(listener, id, "closed by the server without a close frame");
                break;
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                lose(listener, id, &format!("cut off: {error}"));
                break;
            }
        };
        let is_full = start + count == buffer.len();
        connection.partial.clear();
        swarm.traffic.reads += 1;
        swarm.traffic.bytes += count as u64;
        swarm.read_at = clock::now();
        take(listener, id, &buffer[..start + count]);
        if !is_full && !to_the_end {
            break;
        }
    }
    listener.swarm().buffer = buffer;
}

/// Takes what was read apart; what is left is kept for the next read.
fn take(listener: &mut impl Listener, id: usize, bytes: &[u8]) {
    let mut at = 0;
    if !listener.swarm().connections[id].is_open {
        match head_length(bytes) {
            Ok(Some(length)) => at = length,
            Ok(None) => return listener.swarm().connections[id].partial.extend_from_slice(bytes),
            Err(why) => return lose(listener, id, &why),
        }
        listener.swarm().connections[id].is_open = true;
        listener.heard(id, Happening::Open);
    }
    loop {
        match frame::parse(&bytes[at..]) {
            Ok(Some(frame)) => {
                at += frame.length;
                listener.swarm().traffic.frames += 1;
                match frame.opcode {
                    Opcode::Text => listener.heard(id, Happening::Text(frame.payload)),
                    Opcode::Ping => listener.swarm().send_frame(id, Opcode::Pong, frame.payload),
                    Opcode::Pong => {}
                    Opcode::Close => lose(listener, id, &close_reason(frame.payload)),
                }
                // Whoever listened may have cut it.
                if listener.swarm().connections[id].stream.is_none() {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => return lose(listener, id, &error.to_string()),
        }
    }
    let connection = &mut listener.swarm().connections[id];
    if at < bytes.len() {
        connection.partial.extend_from_slice(&bytes[at..]);
    } else if connection.partial.capacity() > 0 {
        connection.partial = Vec::new();
    }
}

/// How long the answer to the handshake is, once all of it is there.
fn head_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err("the answer to the handshake has no end".to_owned());
        }
        return Ok(None);
    };
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    if line.split(' ').nth(1) != Some("101") {
        return Err(format!("the handshake was answered with {line}"));
    }
    Ok(Some(end + 4))
}

fn lose(listener: &mut impl Listener, id: usize, why: &str) {
    listener.swarm().cut(id);
    listener.heard(id, Happening::Gone(why));
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        &[high, low, ref reason @ ..] => {
            let reason = String::from_utf8_lossy(reason);
            format!("closed by the server with {} {reason}", u16::from_be_bytes([high, low]))
        }
        _ => "closed by the server without a code".to_owned(),
    }
}

/// How many bytes the socket took.
fn write_what_fits(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => break,
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// A socket that is connecting: from a further address of this machine when one has too many.
fn dial(id: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let block = id / CONNECTIONS_PER_ADDRESS;
    if block > 0 {
        let last = u8::try_from(block + 1).unwrap_or(u8::MAX);
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&from.into())?;
    }
    match socket.connect(&to.into()) {
        // EINPROGRESS, which the standard library has no kind for.
        Err(error) if error.raw_os_error() != Some(115) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

#[cfg(test)]
mod tests;
