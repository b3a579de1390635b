//! What the command line asks for.

use super::default_folder;
use crate::{ClusterOptions, GatewayOptions, Place, PostgresOptions};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the program shall do.
#[derive(Debug)]
pub(super) enum Request {
    Up(Box<Up>),
    /// Words for the fleet that runs in a folder.
    Tell {
        folder: PathBuf,
        words: String,
    },
}

/// The fleet to start.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) folder: PathBuf,
    pub(super) is_embedded: bool,
    /// Of an embedded fleet only the place and the gateway count.
    pub(super) cluster: ClusterOptions,
}

pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    match matches.subcommand() {
        Some(("up", matches)) => Ok(Request::Up(Box::new(up(matches)))),
        Some((verb, matches)) => {
            let folder = matches.get_one("folder").cloned().unwrap_or_else(default_folder);
            let mut words = verb.to_owned();
            if let Ok(Some(part)) = matches.try_get_many::<String>("part") {
                let part: Vec<&str> = part.map(String::as_str).collect();
                words = format!("{verb} {}", part.join("-"));
            }
            Ok(Request::Tell { folder, words })
        }
        None => Err(command().error(clap::error::ErrorKind::MissingSubcommand, "what to do?")),
    }
}

fn command() -> Command {
    let tell = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(folder()).arg(
            Arg::new("part")
                .required(true)
                .num_args(1..=2)
                .help("`gateway 2`, `worker 1`, `redis`, `postgres` or `pgbouncer`."),
        )
    };
    Command::new("fleet")
        .about("A local fleet of Roomcast processes on free ports of 127.0.0.1.")
        .subcommand_required(true)
        .subcommand(up_command())
        .subcommand(
            Command::new("status")
                .about("Shows what runs, where, and whether it is ready.")
                .arg(folder()),
        )
        .subcommand(tell("kill", "Kills a part with SIGKILL."))
        .subcommand(tell("stop", "Lets a part stand still, with its sockets open (SIGSTOP)."))
        .subcommand(tell("cont", "Lets a stopped part go on (SIGCONT)."))
        .subcommand(tell("start", "Starts a part that has ended, on the same ports and files."))
}

fn up_command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("N").default_value(default).help(help);
        arg.value_parser(value_parser!(u8))
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let program = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("FILE").help(help);
        arg.value_parser(value_parser!(PathBuf))
    };
    let variable = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("KEY=VALUE").help(help);
        arg.action(ArgAction::Append).value_parser(key_and_value)
    };
    Command::new("up")
        .about("Starts a fleet, follows its health, and ends it on Ctrl-C.")
        .arg(number("gateways", "2", "How many gateways."))
        .arg(number("workers", "1", "How many sync-workers."))
        .arg(flag("embedded", "One gateway that is its own database, and nothing else."))
        .arg(flag("pgbouncer", "Put a PgBouncer in transaction mode in front of Postgres."))
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(value_parser!(u16).range(1..))
                .help("The port of the balancer; a free one by default."),
        )
        .arg(
            Arg::new("jwt-secret")
                .long("jwt-secret")
                .value_name("SECRET")
                .help("Ask for tokens signed with this instead of trusting everybody."),
        )
        .arg(variable("gateway-env", "A variable for the gateways; may be repeated."))
        .arg(variable("worker-env", "A variable for the workers; may be repeated."))
        .arg(program("gateway-program", "Run this instead of building the gateway."))
        .arg(program("worker-program", "Run this instead of building the sync-worker."))
        .arg(folder())
}

fn folder() -> Arg {
    Arg::new("folder").long("folder").value_name("DIR").value_parser(value_parser!(PathBuf)).help(
        "Where logs and data are kept. By default a fixed folder for temporary files, which the \
         next `up` empties.",
    )
}

fn up(matches: &ArgMatches) -> Up {
    let folder: Option<PathBuf> = matches.get_one("folder").cloned();
    let empty_first = folder.is_none();
    let folder = folder.unwrap_or_else(default_folder);
    let count = |name| usize::from(matches.get_one::<u8>(name).copied().unwrap_or_default());
    let mut cluster = ClusterOptions {
        gateways: count("gateways"),
        workers: count("workers"),
        pg_bouncer: matches.get_flag("pgbouncer").then_some(20),
        // A folder of somebody who wants to keep it.
        postgres: PostgresOptions { fsync: !empty_first, ..PostgresOptions::default() },
        place: Place {
            folder: Some(folder.clone()),
            empty_first,
            own_groups: true,
            balancer_port: matches.get_one("port").copied(),
            gateway_program: matches.get_one("gateway-program").cloned(),
            worker_program: matches.get_one("worker-program").cloned(),
        },
        // People see the limits that they would have anywhere else.
        gateway: GatewayOptions::plain(),
        ..ClusterOptions::default()
    };
    if let Some(secret) = matches.get_one::<String>("jwt-secret") {
        cluster.gateway = cluster.gateway.with_jwt_secret(secret);
    }
    cluster.gateway.env = variables(matches, "gateway-env");
    cluster.worker.env = variables(matches, "worker-env");
    Up { folder, is_embedded: matches.get_flag("embedded"), cluster }
}

fn variables(matches: &ArgMatches, name: &str) -> BTreeMap<String, String> {
    matches.get_many(name).map(|pairs| pairs.cloned().collect()).unwrap_or_default()
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_part_may_be_written_as_two_words() {
        for line in ["fleet kill gateway 2 --folder /f", "fleet kill gateway-2 --folder /f"] {
            let Request::Tell { folder, words } = parsed(line).unwrap() else { panic!("{line}") };
            assert_eq!(words, "kill gateway-2");
            assert_eq!(folder, PathBuf::from("/f"));
        }
        let Request::Tell { folder, words } = parsed("fleet status").unwrap() else { panic!() };
        assert_eq!((folder, words.as_str()), (default_folder(), "status"));
        for line in ["fleet", "fleet kill", "fleet up --gateways many", "fleet up --gateway-env X"]
        {
            parsed(line).unwrap_err();
        }
    }

    #[test]
    fn only_a_folder_that_was_not_named_is_emptied() {
        let up = |line| match parsed(line).unwrap() {
            Request::Up(up) => up,
            Request::Tell { words, .. } => panic!("{words}"),
        };
        assert!(up("fleet up").cluster.place.empty_first);
        let named = up("fleet up --folder here --gateways 3 --gateway-env A=b=c --jwt-secret s");
        assert!(!named.cluster.place.empty_first);
        assert!(named.cluster.postgres.fsync);
        assert_eq!(named.cluster.gateways, 3);
        assert_eq!(named.cluster.gateway.env["A"], "b=c");
        assert!(!named.cluster.gateway.dev);
    }
}
