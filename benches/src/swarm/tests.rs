use super::*;
use std::net::TcpListener;

/// A swarm of one that keeps what it hears, and answers nothing.
struct Heard {
    swarm: Swarm,
    texts: Vec<String>,
}

impl Listener for Heard {
    fn swarm(&mut self) -> &mut Swarm {
        &mut self.swarm
    }

    fn heard(&mut self, _connection: usize, happening: Happening<'_>) {
        self.texts.push(match happening {
            Happening::Open => "open".to_owned(),
            Happening::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Happening::Gone(why) => format!("gone: {why}"),
        });
    }
}

/// A swarm of one, and the server's end of its connection.
fn pair() -> (Heard, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut swarm = Swarm::new().unwrap();
    let request = "GET /ws HTTP/1.1\r\n\r\n".to_owned();
    swarm.connect(0, listener.local_addr().unwrap(), request).unwrap();
    (Heard { swarm, texts: Vec::new() }, listener.accept().unwrap().0)
}

fn turns(heard: &mut Heard, enough: usize) {
    let deadline = clock::now() + 10 * clock::SECOND;
    while heard.texts.len() < enough {
        assert!(clock::now() < deadline, "only heard {:?}", heard.texts);
        turn(heard, clock::now() + 10 * clock::MILLISECOND).unwrap();
    }
}

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

#[test]
fn a_frame_that_comes_byte_by_byte_is_heard_once_and_whole() {
    let (mut heard, mut server) = pair();
    let mut bytes = SWITCHING.to_vec();
    frame::write_plain(&mut bytes, Opcode::Text, "é".repeat(100).as_bytes());
    frame::write_plain(&mut bytes, Opcode::Text, b"two");
    for byte in &bytes {
        server.write_all(&[*byte]).unwrap();
        turn(&mut heard, clock::now() + clock::MILLISECOND / 4).unwrap();
    }
    turns(&mut heard, 3);
    assert_eq!(heard.texts, ["open".to_owned(), "é".repeat(100), "two".to_owned()]);
}

#[test]
fn a_frame_larger_than_the_buffer_is_heard_whole_and_pings_are_answered() {
    let (mut heard, mut server) = pair();
    let text = "x".repeat(BUFFER_BYTES * 3);
    let mut bytes = SWITCHING.to_vec();
    frame::write_plain(&mut bytes, Opcode::Ping, b"there?");
    frame::write_plain(&mut bytes, Opcode::Text, text.as_bytes());
    let writer = std::thread::spawn(move || {
        server.write_all(&bytes).unwrap();
        server
    });
    turns(&mut heard, 2);
    assert!(heard.texts[1] == text);
    let mut server = writer.join().unwrap();
    let mut answer = [0; 200];
    let mut count = 0;
    while !answer[..count].ends_with(b"\r\n\r\n") {
        count += server.read(&mut answer[count..=count]).unwrap();
    }
    let mut pong = [0; 12];
    server.read_exact(&mut pong).unwrap();
    let frame = frame::parse(&pong).unwrap().unwrap();
    assert_eq!((frame.opcode, frame.payload.len()), (Opcode::Pong, 6));
}

#[test]
fn every_way_to_lose_a_connection_is_told_with_its_reason() {
    let mut close = SWITCHING.to_vec();
    frame::write_plain(&mut close, Opcode::Close, &[0x0f, 0xa8, b'l', b'o', b's', b't']);
    let cases: [(&[u8], &str); 4] = [
        (&close, "gone: closed by the server with 4008 lost"),
        (SWITCHING, "gone: closed by the server without a close frame"),
        (b"HTTP/1.1 503 Full\r\n\r\n", "gone: the handshake was answered with HTTP/1.1 503 Full"),
        (b"", "gone: closed by the server without a close frame"),
    ];
    for (bytes, expected) in cases {
        let (mut heard, mut server) = pair();
        // The request is read first: a server that closes with bytes unread resets.
        let reader = std::thread::spawn(move || {
            let mut request = [0; 20];
            server.read_exact(&mut request).unwrap();
            server
        });
        while !reader.is_finished() {
            turn(&mut heard, clock::now() + clock::MILLISECOND).unwrap();
        }
        let mut server = reader.join().unwrap();
        server.write_all(bytes).unwrap();
        drop(server);
        let enough = if bytes.starts_with(SWITCHING) { 2 } else { 1 };
        turns(&mut heard, enough);
        assert_eq!(heard.texts.last().map(String::as_str), Some(expected));
    }
}

#[test]
fn a_port_where_nobody_listens_is_told_as_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut swarm = Swarm::new().unwrap();
    swarm.connect(0, address, "GET /ws HTTP/1.1\r\n\r\n".to_owned()).unwrap();
    let mut heard = Heard { swarm, texts: Vec::new() };
    turns(&mut heard, 1);
    assert!(heard.texts[0].contains("refused"), "{:?}", heard.texts);
}

#[test]
fn connections_beyond_what_one_address_has_ports_for_come_from_another() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut swarm = Swarm::new().unwrap();
    for (id, expected) in [(0, "127.0.0.1"), (CONNECTIONS_PER_ADDRESS, "127.0.0.2")] {
        swarm.connect(id, listener.local_addr().unwrap(), String::new()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), expected);
    }
}
