//! The `gateway` binary: settings, server, signal, drain.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use gateway::config::GatewaySettings;
use gateway::server::Server;
use gateway::server::cli;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::settings::{self, Sources};
use shared::process::signals;
use shared::process::telemetry;
use sync_worker::config::WorkerSettings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both processes are often given one environment.
    let worker = settings::specs::<WorkerSettings>().into_iter().map(|spec| spec.env);
    let sources = Sources::from_process().tolerating(worker);
    let (settings, subcommand) = match cli::start(&sources) {
        Ok(started) => started,
        Err(stop) => return stop.exit(),
    };
    if let Err(error) = telemetry::start(settings.log_format, &settings.log) {
        return fail(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    if let Some(subcommand) = subcommand {
        let stop = runtime.block_on(cli::run(settings, &subcommand));
        drop(runtime);
        telemetry::finish();
        return stop.exit();
    }
    let code = match runtime.block_on(run(settings)) {
        Ok(code) => code,
        Err(error) => fail(&*error),
    };
    drop(runtime);
    telemetry::finish();
    code
}

async fn run(settings: GatewaySettings) -> Result<ExitCode, Box<dyn std::error::Error>> {
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
    fn of(settings: &GatewaySettings) -> Greeting {
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
    fn keys(settings: &GatewaySettings) -> String {
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
            version = env!("CARGO_PKG_VERSION"),
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
