//! Requests to the API, with methods, headers and bodies; each on a connection of its own.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// One node's API, as a program with or without a key sees it.
#[derive(Debug, Clone)]
pub struct Api {
    port: u16,
    headers: Vec<(String, String)>,
}

/// What a node answered.
#[derive(Debug, Clone)]
pub struct ApiAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl ApiAnswer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body of an answer that has to have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        self.json()
    }
}

impl Api {
    /// The API at a port of this machine.
    pub fn new(port: u16) -> Api {
        Api { port, headers: Vec::new() }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Api {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// The same with one more header in every request.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Api {
        let mut api = self.clone();
        api.headers.push((name.to_owned(), value.to_owned()));
        api
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> ApiAnswer {
        self.ask("GET", path, None).await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> ApiAnswer {
        self.ask("POST", path, Some(body)).await
    }

    /// Any method, with a JSON body or none. Panics where no answer comes at all.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> ApiAnswer {
        let api = match body {
            Some(_) => self.with_header("content-type", "application/json"),
            None => self.clone(),
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        api.raw(method, path, body.into_bytes()).await.expect("an answer")
    }

    /// Any method and any bytes as the body.
    pub async fn raw(&self, method: &str, path: &str, body: Vec<u8>) -> io::Result<ApiAnswer> {
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body));
        answered.await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn exchange(&self, method: &str, path: &str, body: Vec<u8>) -> io::Result<ApiAnswer> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut requests, connection) = handshake.await.map_err(io::Error::other)?;
        let mut request = Request::builder().method(method).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", format!("127.0.0.1:{}", self.port));
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(io::Error::other)?;
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        // The connection ends with the task's last handle, `requests`.
        let driven = tokio::spawn(connection);
        let response = requests.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
        let headers = headers.collect();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        driven.abort();
        Ok(ApiAnswer { status, headers, body })
    }
}
