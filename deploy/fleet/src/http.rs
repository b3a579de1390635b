//! One GET request on a connection of its own: enough for health, metrics and figures.

use crate::FleetError;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub body: String,
}

/// Asks a server on 127.0.0.1, and gives up after `within`.
pub async fn get(port: u16, path: &str, within: Duration) -> Result<Answer, FleetError> {
    let url = format!("http://127.0.0.1:{port}{path}");
    match tokio::time::timeout(within, exchange(port, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(FleetError::NoAnswer { url, source }),
        Err(_elapsed) => Err(FleetError::NoAnswer { url, source: io::ErrorKind::TimedOut.into() }),
    }
}

async fn exchange(port: u16, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let request = Request::get(path)
        .header("host", format!("127.0.0.1:{port}"))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(other)?;
    let answer = async {
        let response = requests.send_request(request).await.map_err(other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(other)?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // The connection is driven here, in the same task: nothing outlives the answer.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => {
            ended.map_err(other)?;
            answer.await
        }
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
