//! An issuer's server: publishes a key set over HTTP, and counts who asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server on this machine; it ends with its value.
pub(super) struct Issuer {
    address: SocketAddr,
    published: Arc<Published>,
    server: JoinHandle<()>,
}

struct Published {
    answer: Mutex<(u16, String)>,
    requests: AtomicUsize,
}

impl Issuer {
    /// One that answers with this key set.
    pub(super) async fn start(key_set: String) -> Issuer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Mutex::new((200, key_set));
        let published = Arc::new(Published { answer, requests: AtomicUsize::new(0) });
        let server = tokio::spawn(serve(listener, Arc::clone(&published)));
        Issuer { address, published, server }
    }

    /// Where the set is.
    pub(super) fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// From now on it answers so.
    pub(super) fn answer(&self, status: u16, body: String) {
        *self.published.answer.lock().unwrap() = (status, body);
    }

    /// How often it was asked.
    pub(super) fn requests(&self) -> usize {
        self.published.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, published: Arc<Published>) {
    while let Ok((socket, _)) = listener.accept().await {
        let published = Arc::clone(&published);
        tokio::spawn(async move { answer(socket, &published).await });
    }
}

/// One request, one answer, and the end.
async fn answer(mut socket: TcpStream, published: &Published) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(socket.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    published.requests.fetch_add(1, Ordering::SeqCst);
    let (status, body) = published.answer.lock().unwrap().clone();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Whoever has gone needs no answer.
    let _sent = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
}
