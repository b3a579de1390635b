//! The gateway's WebSocket, as a server that says back what it is told, for public test suites:
//!
//! ```sh
//! cargo run -p tests --bin echo -- 9001
//! ```

use std::io::{self, Write};

use tokio::net::TcpListener;

/// As large as the cases of the Autobahn suite get.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: echo PORT (0 takes a free one)");
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).ok_or_else(usage)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(io::stdout(), "echoing on ws://{}/", listener.local_addr()?)?;
    gateway::connection::echo::serve(listener, MESSAGE_BYTES_MAX).await;
    Ok(())
}
