//! The `gateway` binary: settings, server, signal, drain.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use gateway::auth::api_keys;
use gateway::config::Settings;
use gateway::server::Server;
use gateway::server::mint;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::settings::{self, Program, Sources};
use shared::process::signals;
use shared::process::telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROGRAM: Program = Program {
    name: "gateway",
    about: "One Roomcast node: a realtime gateway for team chat with a database at the end of it.",
    version: env!("CARGO_PKG_VERSION"),
    subcommand: Some(
        "[api-key|token --user ID [--room PATTERN]... [--role ROLE] [--ttl SECONDS] [--open]]",
    ),
};

fn main() -> ExitCode {
    // Both processes are often given one environment.
    let worker = sync_worker::config::Settings::KEYS.iter().map(|key| key.env);
    let sources = Sources::from_process().tolerating(worker);
    // What is asked for needs none of what a node needs.
    let asked = !settings::subcommand(&sources, Settings::KEYS, &PROGRAM).is_empty();
    let check = if asked { |_: &Settings| Vec::new() } else { Settings::problems };
    let (settings, subcommand) = match Settings::start(&sources, &PROGRAM, check) {
        Ok(started) => started,
        Err(stop) => return stop.exit(),
    };
    if asked {
        return answer(&settings, &subcommand);
    }
    if let Err(error) = telemetry::start(settings.log_format, &settings.log) {
        return fail(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = match runtime.block_on(run(settings)) {
        Ok(code) => code,
        Err(error) => fail(&*error),
    };
    drop(runtime);
    telemetry::finish();
    code
}

/// `EX_USAGE`: there is no such command.
const USAGE: u8 = 64;

/// Does what was asked for in place of running a node.
fn answer(settings: &Settings, subcommand: &[String]) -> ExitCode {
    match subcommand.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["api-key"] => {
            let (key, digest) = api_keys::mint();
            let text = format!(
                "key     {key}\ndigest  {digest}\n\nThe key is for the application and is shown \
                 only now; the digest goes into ROOMCAST_API_KEYS of every node.\n"
            );
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        ["token", arguments @ ..] => {
            match mint::token(settings, Clock::system().now_ms(), arguments) {
                Ok(token) => {
                    let _ = std::io::stdout().write_all(format!("{token}\n").as_bytes());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    let text = format!("{}\n", error_chain(&error));
                    let _ = std::io::stderr().write_all(text.as_bytes());
                    ExitCode::from(USAGE)
                }
            }
        }
        subcommand => {
            let text = format!("{}: no such command\n", subcommand.join(" "));
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(USAGE)
        }
    }
}

async fn run(settings: Settings) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let signal = signals::shutdown()?;
    let greeting = Greeting::of(&settings);
    let announce = |page, operator| greeting.print(page, operator);
    let mut server = Server::start(settings, Clock::system(), announce).await?;
    tokio::select! {
        _ = signal => {}
        error = server.failed() => {
            server.drain().await;
            return Err(error.into());
        }
    }
    let finished = server.drain().await;
    Ok(if finished { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first output: where the page is, which mode, where the data lies.
struct Greeting {
    mode: &'static str,
    dev: bool,
    keys: String,
    data: String,
}

impl Greeting {
    fn of(settings: &Settings) -> Greeting {
        let dev = settings.is_dev();
        let keys = Greeting::keys(settings);
        if settings.is_cluster() {
            let data = "the log in REDIS_URL, the database in DATABASE_URL".to_owned();
            return Greeting { mode: "cluster", dev, keys, data };
        }
        let folder = &settings.data_dir;
        let data = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        Greeting { mode: "embedded", dev, keys, data: data.display().to_string() }
    }

    /// Which settings say what tokens are checked with.
    fn keys(settings: &Settings) -> String {
        let given = [
            ("ROOMCAST_JWT_SECRET", settings.jwt_secret.is_some()),
            ("ROOMCAST_JWT_PUBLIC_KEY", settings.jwt_public_key.is_some()),
            ("ROOMCAST_JWKS", settings.jwks.is_some()),
        ];
        let names: Vec<&str> =
            given.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        format!("tokens signed with {}", names.join(" or "))
    }

    fn print(&self, page: SocketAddr, operator: SocketAddr) {
        let (page, operator) = (openable(page), openable(operator));
        let who = if self.dev {
            "DEVELOPMENT: anybody on this machine may be anyone and enter every room;\n            \
             set ROOMCAST_JWT_SECRET to ask for tokens"
        } else {
            self.keys.as_str()
        };
        let tabs = if self.dev {
            format!("\n            two tabs: http://{page}/?user=alice and http://{page}/?user=bob")
        } else {
            String::new()
        };
        let text = format!(
            "Roomcast {version}\n  page      http://{page}/{tabs}\n  mode      {mode}, {who}\n  \
             data      {data}\n  operator  http://{operator}/metrics\n",
            version = PROGRAM.version,
            mode = self.mode,
            data = self.data,
        );
        telemetry::print(text);
    }
}

/// An address that a browser on this machine can open: that of the loopback, where all are
/// listened on.
fn openable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    telemetry::last_words(&format!("gateway: {}\n", error_chain(error)));
    ExitCode::FAILURE
}
