//! The control socket of a running fleet: one line there, the answer back.

use crate::FleetError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const REQUEST_BYTES_MAX: u64 = 1024;
/// How long a client may take to say what it wants: the fleet does nothing else meanwhile.
const REQUEST_WITHIN: Duration = Duration::from_secs(1);
const DONE: &str = "done\n";
const REFUSED: &str = "refused\n";

fn socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Asks the fleet in the folder; what it refuses is the inner error.
pub(super) async fn ask(
    folder: &Path,
    request: &str,
) -> Result<Result<String, String>, FleetError> {
    let path = socket(folder);
    let exchange = async {
        let mut stream = UnixStream::connect(&path).await?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer = exchange.await.map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            FleetError::NoFleet { path: folder.to_owned() }
        }
        _ => FleetError::Folder { path: path.clone(), source },
    })?;
    match (answer.strip_prefix(DONE), answer.strip_prefix(REFUSED)) {
        (Some(text), _) => Ok(Ok(text.to_owned())),
        (None, Some(text)) => Ok(Err(text.to_owned())),
        (None, None) => Ok(Err("the fleet ended before it answered".to_owned())),
    }
}

/// The end of the fleet.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody who has come to ask.
#[derive(Debug)]
pub(super) struct Client(BufReader<UnixStream>);

impl Control {
    /// Opens the socket. The folder is ours, so one that lies there is a dead fleet's.
    pub(super) fn open(folder: &Path) -> Result<Control, FleetError> {
        let path = socket(folder);
        let _missing = std::fs::remove_file(&path);
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Control { listener, path }),
            Err(source) => Err(FleetError::Folder { path, source }),
        }
    }

    /// The next client. Nobody is lost where this is dropped.
    pub(super) async fn accept(&self) -> io::Result<Client> {
        let (stream, _address) = self.listener.accept().await?;
        Ok(Client(BufReader::new(stream)))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _missing = std::fs::remove_file(&self.path);
    }
}

impl Client {
    /// What it wants; none where it says nothing, or nothing sensible.
    pub(super) async fn request(&mut self) -> Option<String> {
        let mut request = String::new();
        let mut limited = (&mut self.0).take(REQUEST_BYTES_MAX);
        let reading = limited.read_line(&mut request);
        tokio::time::timeout(REQUEST_WITHIN, reading).await.ok()?.ok()?;
        Some(request.strip_suffix('\n')?.to_owned())
    }

    pub(super) async fn answer(mut self, answer: Result<String, String>) {
        let text = match answer {
            Ok(text) => format!("{DONE}{text}"),
            Err(text) => format!("{REFUSED}{text}"),
        };
        // A client that left wants no answer; one that does not read gets none.
        let writing = self.0.get_mut().write_all(text.as_bytes());
        let _gone = tokio::time::timeout(REQUEST_WITHIN, writing).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_and_a_dead_fleet_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(ask(path, "status").await, Err(FleetError::NoFleet { .. })));
        let control = Control::open(path).unwrap();
        for answer in [Ok("fine".to_owned()), Err("no".to_owned())] {
            let serve = async {
                let mut client = control.accept().await.unwrap();
                assert_eq!(client.request().await.unwrap(), "kill gateway-2");
                client.answer(answer.clone()).await;
            };
            let (asked, ()) = tokio::join!(ask(path, "kill gateway-2"), serve);
            assert_eq!(asked.unwrap(), answer);
        }
        drop(control);
        assert!(matches!(ask(path, "status").await, Err(FleetError::NoFleet { .. })));
    }
}
