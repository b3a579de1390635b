//! A JSON Web Key Set (RFC 7517), read from one place and refreshed as its issuer changes it.
//!
//! The place is a setting and nothing that a token says: no `jku`, no address made of `iss`. So all
//! keys are of one issuer, and a `kid` names one of its keys. A token that no key has signed makes
//! the set be read once more, whether its `kid` is unknown or names another key by now; at most
//! every 10 s and by one reader, whoever waits for it, for anybody may come with such a token. What
//! fails leaves the keys that were there.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use prometheus::IntCounter;
use rustls::RootCertStore;
use shared::contract::limits::{JWKS_BYTES_MAX, JWKS_INTERVAL_MS, JWKS_PAUSE_MS, JWKS_TIMEOUT_MS};
use shared::process::error_chain::error_chain;
use shared::process::tls;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::keys::{KeyError, KeySet};

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Why a key set could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwksError {
    /// The address is no http or https URL.
    #[error("it is no URL of the form https://HOST/PATH")]
    Url,
    /// What a URL holds shows in logs of others.
    #[error("the URL must not contain a user or a password")]
    Password,
    /// Nobody can be trusted.
    #[error("the system has no root certificates for https")]
    Roots,
    /// TLS cannot be had.
    #[error("https cannot be set up")]
    Tls(#[source] rustls::Error),
    /// No file.
    #[error("the file cannot be read")]
    File(#[source] io::Error),
    /// No answer.
    #[error("the server does not answer")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another status than 200; where it redirects to is not followed.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// It took too long.
    #[error("the answer took more than {JWKS_TIMEOUT_MS} ms")]
    TooSlow,
    /// Too large.
    #[error("it has more than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The set, and where it comes from.
#[derive(Debug)]
pub(crate) struct Jwks {
    place: JwksSource,
    state: Mutex<JwksState>,
    /// Somebody needs it read now.
    wanted: Notify,
    /// How often it was read, well or not.
    rounds: watch::Sender<u64>,
}

#[derive(Debug)]
struct JwksState {
    keys: Arc<KeySet>,
    reading: bool,
    began: Option<Instant>,
}

#[derive(Debug)]
enum JwksSource {
    File(PathBuf),
    Url(Uri, Box<HttpClient>),
}

impl Jwks {
    /// Names the place: a file is read at once, a URL as soon as [`Jwks::run`] runs.
    pub(super) fn new(location: &str) -> Result<Jwks, JwksError> {
        let (place, keys, reading) = if location.contains("://") {
            let url = check_url(location)?;
            // Those who come before the first answer wait for it.
            let client = client(url.scheme_str() == Some("https"))?;
            (JwksSource::Url(url, Box::new(client)), KeySet::default(), true)
        } else {
            let path = PathBuf::from(location);
            let json = std::fs::read(&path).map_err(JwksError::File)?;
            if json.len() > JWKS_BYTES_MAX {
                return Err(JwksError::TooLarge);
            }
            (JwksSource::File(path), KeySet::parse(&json)?, false)
        };
        let state = JwksState { keys: Arc::new(keys), reading, began: None };
        let (rounds, _) = watch::channel(0);
        Ok(Jwks { place, state: Mutex::new(state), wanted: Notify::new(), rounds })
    }

    /// The keys as they were read last.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.lock().keys)
    }

    /// Has the set read once more, or waits for the reading that is under way. `false` where it
    /// was read a moment ago and asking again would be in vain.
    pub(super) async fn read_again(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        {
            let mut state = self.state.lock();
            if !state.reading {
                // Read between the caller's look and now.
                if rounds.has_changed().unwrap_or(false) {
                    return true;
                }
                let pause = Duration::from_millis(JWKS_PAUSE_MS);
                if state.began.is_some_and(|began| began.elapsed() < pause) {
                    return false;
                }
                state.reading = true;
                self.wanted.notify_one();
            }
        }
        rounds.changed().await.is_ok()
    }

    /// Reads the set now, every 5 minutes, and when somebody needs it.
    pub(super) async fn run(&self, failures: &IntCounter) {
        if matches!(self.place, JwksSource::File(_)) {
            self.until_wanted(Duration::from_millis(JWKS_INTERVAL_MS)).await;
        }
        loop {
            self.state.lock().began = Some(Instant::now());
            let fetched = self.fetch().await;
            let pause = if fetched.is_ok() { JWKS_INTERVAL_MS } else { JWKS_PAUSE_MS };
            self.take(fetched, failures);
            self.until_wanted(Duration::from_millis(pause)).await;
        }
    }

    fn take(&self, fetched: Result<KeySet, JwksError>, failures: &IntCounter) {
        let mut state = self.state.lock();
        state.reading = false;
        match fetched {
            Ok(keys) => {
                if keys.len() != state.keys.len() {
                    info!(keys = keys.len(), "key set read");
                }
                state.keys = Arc::new(keys);
            }
            Err(error) => {
                failures.inc();
                let error = error_chain(&error);
                warn!(error, keys = state.keys.len(), "key set cannot be read; the old keys hold");
            }
        }
        drop(state);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    /// Until somebody has asked for a reading, or it is time for one.
    async fn until_wanted(&self, pause: Duration) {
        let due = Instant::now() + pause;
        loop {
            tokio::select! {
                () = self.wanted.notified() => {
                    // A call that met a reading under way was answered by it.
                    if self.state.lock().reading {
                        return;
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    self.state.lock().reading = true;
                    return;
                }
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, JwksError> {
        let patience = Duration::from_millis(JWKS_TIMEOUT_MS);
        let json = tokio::time::timeout(patience, self.bytes());
        Ok(KeySet::parse(&json.await.map_err(|_| JwksError::TooSlow)??)?)
    }

    async fn bytes(&self) -> Result<Bytes, JwksError> {
        match &self.place {
            JwksSource::File(path) => {
                let file = tokio::fs::File::open(path).await.map_err(JwksError::File)?;
                let mut json = Vec::new();
                // One byte more tells the difference.
                let mut bounded = file.take(JWKS_BYTES_MAX as u64 + 1);
                bounded.read_to_end(&mut json).await.map_err(JwksError::File)?;
                if json.len() > JWKS_BYTES_MAX { Err(JwksError::TooLarge) } else { Ok(json.into()) }
            }
            JwksSource::Url(url, client) => get(url, client).await,
        }
    }
}

/// What a URL of a key set has to be.
pub(super) fn check_url(text: &str) -> Result<Uri, JwksError> {
    let url: Uri = text.parse().map_err(|_| JwksError::Url)?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().filter(|_| is_http).ok_or(JwksError::Url)?;
    if authority.as_str().contains('@') { Err(JwksError::Password) } else { Ok(url) }
}

/// A client that trusts what the system trusts, where that is needed.
fn client(https: bool) -> Result<HttpClient, JwksError> {
    let roots = if https { tls::system_roots() } else { RootCertStore::empty() };
    if https && roots.is_empty() {
        return Err(JwksError::Roots);
    }
    let config = tls::client(roots).map_err(JwksError::Tls)?;
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn get(url: &Uri, client: &HttpClient) -> Result<Bytes, JwksError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| JwksError::Answer(error.into()))?;
    if answer.status() != StatusCode::OK {
        return Err(JwksError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), JWKS_BYTES_MAX).collect().await;
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(JwksError::TooLarge),
        Err(error) => Err(JwksError::Answer(error)),
    }
}
