//! What a gateway says about its settings, and about why it does not start.

use crate::fixtures::one_gateway::{SOON, gateway, gateway_with, log_of};
use fleet::{Fleet, FleetError, GatewayOptions};
use shared::process::settings::{Sources, Stop};
use std::net::{IpAddr, TcpStream, UdpSocket};

/// A secret that must show nowhere.
const CANARY: &str = "canary-2f1b77-secret-of-32-bytes-and-more";

/// No flags and no address: what the fleet sets is taken back where it can be.
fn plain() -> GatewayOptions {
    GatewayOptions { dev: false, ..GatewayOptions::plain() }.with_env("ROOMCAST_BIND", "")
}

fn with_flag(mut options: GatewayOptions, flag: &str) -> GatewayOptions {
    options.flags.push(flag.to_owned());
    options
}

/// The exit code and the output of a gateway that does not start.
async fn refused(options: GatewayOptions) -> (Option<i32>, String) {
    match Fleet::embedded(options).await {
        Err(FleetError::Ended { status, log, .. }) => (status.code(), log),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn check_config_says_that_all_is_well_and_starts_nothing() {
    let options = with_flag(plain().with_env("ROOMCAST_JWT_SECRET", CANARY), "--check-config");
    let (code, output) = refused(options).await;
    assert_eq!((code, output.as_str()), (Some(0), "the configuration is valid\n"));
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_is_refused_by_name_and_not_shown() {
    for secret in ["x", "thirty-one-bytes-are-too-few-ok", "canary"] {
        for flag in [None, Some("--check-config"), Some("--dev")] {
            let options = plain().with_env("ROOMCAST_JWT_SECRET", secret);
            let options = flag.map_or(options.clone(), |flag| with_flag(options, flag));
            let (code, output) = refused(options).await;
            assert_eq!(code, Some(64), "{secret} {flag:?}: {output}");
            assert!(output.starts_with("ROOMCAST_JWT_SECRET: ") && output.contains("32 bytes"));
            assert_eq!(output.lines().count(), 1, "{output}");
            assert!(!output.contains("thirty-one") && !output.contains("canary"), "{output}");
        }
    }
    let enough = plain().with_env("ROOMCAST_JWT_SECRET", "thirty-two-bytes-are-enough-here");
    assert_eq!(refused(with_flag(enough, "--check-config")).await.0, Some(0));
}

#[tokio::test]
async fn check_config_names_all_problems_at_once() {
    let options = plain()
        .with_env("PORT", "70000")
        .with_env("ROOMCAST_JWT_SECRET", CANARY)
        .with_env("ROOMCAST_ROOMS_PER_USER", "0")
        .with_env("ROOMCAST_HEARTBEAT_INTERVAL_MS", "soon")
        .with_env("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "-5")
        .with_env("ROOMCAST_ROOM_PER_USER", "5")
        .with_env("ROOMCAST_LOG_FORMAT", "xml");
    let options = with_flag(with_flag(options, "--check-config"), "--no-such-flag");
    let (code, output) = refused(options).await;
    assert_eq!(code, Some(64), "{output}");
    for name in [
        "PORT: ",
        "ROOMCAST_ROOMS_PER_USER: ",
        "ROOMCAST_HEARTBEAT_INTERVAL_MS: ",
        "WEBSOCKET_RATE_LIMIT_ROOM_JOIN: ",
        "ROOMCAST_ROOM_PER_USER: no setting has this variable",
        "ROOMCAST_LOG_FORMAT: ",
        "--no-such-flag",
    ] {
        let named = output.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(named, 1, "{name} in:\n{output}");
    }
    assert_eq!(output.lines().count(), 7, "{output}");
    assert!(!output.contains(CANARY), "{output}");
}

#[tokio::test]
async fn problems_between_settings_are_named_without_check_config_too() {
    let options = plain()
        .with_env("ROOMCAST_HEARTBEAT_INTERVAL_MS", "5000")
        .with_env("ROOMCAST_CONNECTION_TIMEOUT_MS", "5000")
        .with_env("NEXT_PUBLIC_APP_URL", "app.example.com")
        .with_env("ROOMCAST_BIND", "0.0.0.0");
    let (code, output) = refused(options).await;
    assert_eq!(code, Some(64), "{output}");
    for name in ["ROOMCAST_CONNECTION_TIMEOUT_MS", "NEXT_PUBLIC_APP_URL", "ROOMCAST_BIND"] {
        assert!(output.lines().any(|line| line.starts_with(name)), "{name} in:\n{output}");
    }
}

/// What a program with these variables and the flag says of them.
fn checked(
    start: impl FnOnce(&Sources) -> Result<(), Stop>,
    variables: &[(&str, &str)],
    flags: &[&str],
) -> Stop {
    let flags = [&["--check-config"], flags].concat();
    start(&Sources::from_map(variables).with_arguments(&flags))
        .expect_err("a start that is refused")
}

fn of_gateway(sources: &Sources) -> Result<(), Stop> {
    gateway::server::cli::start(sources).map(drop)
}

fn of_worker(sources: &Sources) -> Result<(), Stop> {
    sync_worker::cli::start(sources).map(drop)
}

/// Exactly these names, each on a line of its own, and no word of the canary.
fn assert_named(stop: &Stop, names: &[&str]) {
    assert_eq!(stop.code, 64, "{stop:?}");
    let named = |name: &&str| {
        let begin = format!("{name}: ");
        stop.text.lines().filter(|line| line.starts_with(&begin)).count() == 1
    };
    assert!(names.iter().all(named), "{names:?} in:\n{}", stop.text);
    assert_eq!(stop.text.lines().count(), names.len(), "{}", stop.text);
    assert!(!stop.text.contains(CANARY), "{}", stop.text);
}

#[test]
fn what_is_wrong_alone_and_what_is_wrong_together_is_said_at_once() {
    let both = [
        ("REDIS_URL", "http://127.0.0.1:6379"),
        ("DATABASE_URL", "mysql://root@127.0.0.1/chat"),
        ("ROOMCAST_OPERATOR_PORT", "70000"),
    ];
    let gateway = [
        ("PORT", "3001 or so"),
        ("ROOMCAST_HEARTBEAT_INTERVAL_MS", "60000"),
        ("NEXT_PUBLIC_APP_URL", "app.example.com"),
        ("ROOMCAST_BIND", "0.0.0.0"),
        ("WEBSOCKET_RATE_LIMIT_MESSAGES_SEND", "100"),
    ];
    let stop = checked(of_gateway, &[&both[..], &gateway].concat(), &["--dev"]);
    let names = [
        "REDIS_URL",
        "DATABASE_URL",
        "ROOMCAST_OPERATOR_PORT",
        "PORT",
        "ROOMCAST_CONNECTION_TIMEOUT_MS",
        "NEXT_PUBLIC_APP_URL",
        "ROOMCAST_BIND",
        "WEBSOCKET_RATE_LIMIT_MESSAGES_SEND",
    ];
    assert_named(&stop, &names);
    assert_named(&checked(of_worker, &both, &[]), &names[..3]);
    // A value that cannot be read is no absent one.
    let stop = checked(of_worker, &[("ROOMCAST_LEASE_MS", "soon")], &[]);
    assert_named(&stop, &["ROOMCAST_LEASE_MS", "REDIS_URL", "DATABASE_URL"]);
}

#[test]
fn addresses_with_which_nothing_can_start_are_named_by_both_programs() {
    let redis = [
        "http://HOST",
        "https://HOST",
        "HOST:6379",
        "tcp://HOST:6379",
        "redis://HOST:70000",
        "redis://HOST/seven",
        "postgres://u@HOST/d",
    ];
    let database = [
        "mysql://u@HOST/d",
        "HOST",
        "postgres:/u@HOST/d",
        "postgres://HOST/d",
        "postgres://u@HOST/d?sslmode=maybe",
        "postgres://u@HOST/d?sslmode=require&sslrootcert=/nowhere.pem",
        "postgres://u@HOST/d?colour=red",
        "redis://HOST",
    ];
    let (good_redis, good_database) = ("redis://HOST:6379/1", "postgres://u:p@HOST/d");
    let redis = redis.map(|url| ("REDIS_URL", url, good_database));
    let database = database.map(|url| ("DATABASE_URL", good_redis, url));
    for (name, redis, database) in redis.into_iter().chain(database) {
        let (redis, database) = (redis.replace("HOST", CANARY), database.replace("HOST", CANARY));
        let urls = [("REDIS_URL", redis.as_str()), ("DATABASE_URL", database.as_str())];
        assert_named(&checked(of_worker, &urls, &[]), &[name]);
        assert_named(&checked(of_gateway, &urls, &["--dev"]), &[name]);
    }
    let urls = [("REDIS_URL", good_redis), ("DATABASE_URL", good_database)];
    assert_eq!(checked(of_worker, &urls, &[]).code, 0);
    assert_eq!(checked(of_gateway, &urls, &["--dev"]).code, 0);
}

#[test]
fn limits_that_contradict_one_another_are_named() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (variables, name) in [
        (vec![("ROOMCAST_SYNC_INTERVAL_MS", "10000")], "ROOMCAST_SYNC_INTERVAL_MS"),
        (vec![("ROOMCAST_DRAIN_NOTICE_MS", "25000")], "ROOMCAST_DRAIN_NOTICE_MS"),
        (vec![("PORT", "4000"), ("ROOMCAST_OPERATOR_PORT", "4000")], "ROOMCAST_OPERATOR_PORT"),
        (vec![("ROOMCAST_DATA_DIR", file)], "ROOMCAST_DATA_DIR"),
        (vec![("WEBSOCKET_RATE_LIMIT_ROOM_JOINS", "5")], "WEBSOCKET_RATE_LIMIT_ROOM_JOINS"),
    ] {
        assert_named(&checked(of_gateway, &variables, &[]), &[name]);
    }
    // The worker's interval holds up nobody's answer, and neither is every name ours.
    let cluster = [
        ("REDIS_URL", "redis://h"),
        ("DATABASE_URL", "postgres://u@h/d"),
        ("ROOMCAST_SYNC_INTERVAL_MS", "10000"),
        ("WEBSOCKET_SERVICE_HOST", "10.0.0.7"),
        ("REDIS_PORT", "tcp://10.0.0.7:6379"),
    ];
    assert_eq!(checked(of_gateway, &cluster, &["--dev"]).code, 0);
    assert_eq!(checked(of_worker, &cluster, &[]).code, 0);
    assert_eq!(checked(of_gateway, &[("ROOMCAST_MESSAGE_BYTES_MAX", "2097152")], &[]).code, 0);
}

#[tokio::test]
async fn by_default_a_gateway_with_keys_listens_for_both_families_of_addresses() {
    let fleet = gateway_with(plain().with_env("ROOMCAST_JWT_SECRET", CANARY)).await;
    let port = fleet.gateway().port();
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        if address.is_ipv6() && UdpSocket::bind((address, 0)).is_err() {
            continue; // This machine has no IPv6.
        }
        TcpStream::connect((address, port)).unwrap();
    }
    let output = log_of(&fleet);
    assert!(output.contains(&format!("page      http://127.0.0.1:{port}/\n")), "{output}");
}

#[tokio::test]
async fn print_config_shows_every_setting_with_its_source_and_no_secret() {
    let options = plain().with_env("ROOMCAST_JWT_SECRET", CANARY);
    let (code, output) = refused(with_flag(options, "--print-config")).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains(CANARY), "{output}");
    for line in [
        "jwt_secret = \"[redacted]\"  # ROOMCAST_JWT_SECRET (environment)",
        "rooms_per_user = 10  # ROOMCAST_ROOMS_PER_USER (default)",
        "connections_max = 20000  # ROOMCAST_CONNECTIONS_MAX (default)",
    ] {
        assert!(output.lines().any(|shown| shown == line), "{line} in:\n{output}");
    }
}

#[tokio::test]
async fn the_development_mode_is_for_the_loopback_only() {
    for address in ["0.0.0.0", "::", "192.0.2.1"] {
        let options = with_flag(plain().with_env("ROOMCAST_BIND", address), "--dev");
        let (code, output) = refused(options).await;
        assert_eq!(code, Some(64), "{address}: {output}");
        assert!(output.starts_with("ROOMCAST_BIND: "), "{output}");
    }
    // With a secret beside it, the flag still lets anybody be anyone.
    let options = plain().with_env("ROOMCAST_BIND", "0.0.0.0");
    let options = with_flag(options.with_env("ROOMCAST_JWT_SECRET", CANARY), "--dev");
    assert_eq!(refused(options).await.0, Some(64));
}

#[tokio::test]
async fn one_half_of_the_cluster_mode_names_the_missing_one() {
    let cases = [
        ("REDIS_URL", "redis://127.0.0.1:1", "DATABASE_URL"),
        ("DATABASE_URL", "postgres://127.0.0.1:1/chat", "REDIS_URL"),
    ];
    for (set, url, missing) in cases {
        let (code, output) = refused(plain().with_env(set, url)).await;
        assert_eq!(code, Some(64), "{output}");
        assert!(output.starts_with(&format!("{missing}: missing")), "{output}");
        assert!(!output.contains(url), "{output}");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let fleet = gateway().await;
    let folder = fleet.gateway().data_dir().to_str().unwrap().to_owned();
    let options = GatewayOptions::default().with_env("ROOMCAST_DATA_DIR", &folder);
    let (code, output) = refused(options).await;
    assert_eq!(code, Some(1), "{output}");
    let said = output.lines().find(|line| line.starts_with("gateway: ")).unwrap();
    assert!(said.contains(&folder) && said.contains("process"), "{said}");
    assert!(!output.contains("panicked"), "{output}");
    assert_eq!(fleet.gateway().operator_get("/readyz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let fleet = gateway().await;
    for (variable, flag, port) in [
        ("PORT", "--port", fleet.gateway().port()),
        ("ROOMCAST_OPERATOR_PORT", "--operator-port", fleet.gateway().operator_port()),
    ] {
        let options = GatewayOptions::default().with_env(variable, port.to_string());
        let (code, output) = refused(options).await;
        assert_eq!(code, Some(1), "{output}");
        let said = output.lines().find(|line| line.starts_with("gateway: ")).unwrap();
        for part in [port.to_string().as_str(), variable, flag, "in use"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let options = GatewayOptions::default().with_env("ROOMCAST_DATA_DIR", "/dev/null/data");
    let (code, output) = refused(options).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("/dev/null/data"), "{output}");
}

#[tokio::test]
async fn the_first_output_says_where_the_page_is_which_mode_and_where_the_data_lie() {
    let fleet = gateway().await;
    let output = log_of(&fleet);
    let first: Vec<&str> = output.lines().take(6).collect();
    assert!(first[0].starts_with("Roomcast "), "{output}");
    let page = format!("http://127.0.0.1:{}/", fleet.gateway().port());
    let data = fleet.gateway().data_dir().to_str().unwrap();
    for expected in [page.as_str(), "DEVELOPMENT", data] {
        assert!(first.iter().any(|line| line.contains(expected)), "{expected} in:\n{output}");
    }
    let page = fleet.gateway().get("/").await.unwrap();
    assert!(page.status == 200 && page.body.contains("<html"), "{page:?}");

    let asking = gateway_with(GatewayOptions::default().with_jwt_secret(CANARY)).await;
    let output = log_of(&asking);
    assert!(output.contains("tokens signed with ROOMCAST_JWT_SECRET"), "{output}");
    assert!(!output.contains("DEVELOPMENT") && !output.contains(CANARY), "{output}");
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_ends_with_zero() {
    let mut fleet = gateway().await;
    let status = fleet.gateway_mut().terminate(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
