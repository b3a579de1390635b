//! For tests: this very executable in the place of a gateway or a worker.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a stand-in program does: it answers on the operator port, and on the main port where it
/// was given one.
#[test]
#[ignore = "not a test: it serves until it is killed"]
fn serve() {
    // Who answers that it is ready listens on both ports already.
    if std::env::var_os("PORT").is_some() {
        let listener = listen("PORT");
        std::thread::spawn(|| answer(listener));
    }
    answer(listen("ROOMCAST_OPERATOR_PORT"));
}

fn listen(port: &str) -> TcpListener {
    let port: u16 = std::env::var(port).unwrap().parse().unwrap();
    TcpListener::bind(("127.0.0.1", port)).unwrap()
}

fn answer(listener: TcpListener) {
    let port = listener.local_addr().unwrap().port();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        let environment = || {
            let of = |key| std::env::var(key).unwrap_or_default();
            format!("{} {}", of("REDIS_URL"), of("DATABASE_URL"))
        };
        let (status, body) = match request.split(' ').nth(1) {
            Some("/readyz") => ("200 OK", "ok".to_owned()),
            Some("/stats") => ("200 OK", r#"{"connections":{"activeConnections":2}}"#.to_owned()),
            Some("/metrics") => {
                ("200 OK", "# TYPE x_total counter\nx_total{reason=\"a\"} 3\n".to_owned())
            }
            Some("/port") => ("200 OK", port.to_string()),
            Some("/environment") => ("200 OK", environment()),
            _ => ("404 Not Found", "no".to_owned()),
        };
        let length = body.len();
        // A client that went away meanwhile is its own affair.
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    }
}

/// A program in `folder` that runs [`serve`].
pub(crate) fn script() -> String {
    let own = std::env::current_exe().unwrap();
    let own = own.display();
    format!(
        "#!/bin/sh\necho \"flags $* bind $ROOMCAST_BIND\"\n\
         exec {own} --ignored --exact fake_server::serve\n"
    )
}

pub(crate) fn program(folder: &Path, script: &str) -> PathBuf {
    let program = folder.join("stand-in");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}
