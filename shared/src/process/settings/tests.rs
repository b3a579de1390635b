use std::net::IpAddr;
use std::path::PathBuf;

use super::*;

settings! {
    /// One setting of each kind.
    struct Example {
        /// The port that clients connect to;
        /// 0 takes a free one.
        port: u16 = "3001", env "PORT";
        /// How many rooms a connection may be in.
        rooms_max: u32 = "50" in 1..=200, env "ROOMCAST_ROOMS_MAX";
        /// How long a client may be silent.
        silence_ms: Millis = "60000" in 1_000..=3_600_000, env "ROOMCAST_SILENCE_MS";
        /// A limit that is not there by default.
        bytes_max: Option<usize> = "" in 10..=20, env "ROOMCAST_BYTES_MAX";
        /// Whether anyone may come in.
        dev: bool = "false", env "ROOMCAST_DEV";
        /// The address to listen on.
        bind: IpAddr = "127.0.0.1", env "ROOMCAST_BIND";
        /// The folder of the journal | the spool.
        data_dir: PathBuf = "data", env "ROOMCAST_DATA_DIR";
        /// Who may embed the chat.
        origins: Vec<String> = "", env "NEXT_PUBLIC_APP_URL";
        /// What this node is called.
        node_name: Option<String> = "", env "ROOMCAST_NODE_NAME";
        /// The port of the operator.
        operator_port: u16 = "9464", env "ROOMCAST_OPERATOR_PORT";
        /// The key that tokens are signed with.
        jwt_secret: Option<Secret> = "", env "JWT_SECRET", secret;
        /// The password of Redis.
        redis_token: Secret = "", env "REDIS_TOKEN";
    }
}

const PROGRAM: Program = Program {
    name: "example",
    about: "An example.",
    version: "1.2.3",
    subcommand: Some("[token …]"),
};

fn loaded(variables: &[(&str, &str)], arguments: &[&str]) -> Example {
    Example::load(&Sources::from_map(variables).with_arguments(arguments)).unwrap()
}

fn problems(variables: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
    let sources = Sources::from_map(variables).with_arguments(arguments);
    Example::load(&sources).unwrap_err().iter().map(Problem::to_string).collect()
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roomcast.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn without_sources_the_defaults_hold() {
    let settings = loaded(&[], &[]);
    assert_eq!(settings.port, 3001);
    assert_eq!(settings.silence_ms.duration().as_secs(), 60);
    assert_eq!(settings.bytes_max, None);
    assert_eq!(settings.bind, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(settings.data_dir, PathBuf::from("data"));
    assert!(settings.origins.is_empty());
    assert!(settings.jwt_secret.is_none());
    assert!(!settings.redis_token.is_set());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let (_folder, path) = file("port = 1\nrooms_max = 2\nsilence_ms = \"3000\"\n");
    let variables = [("PORT", "10"), ("ROOMCAST_ROOMS_MAX", "20")];
    let settings = loaded(&variables, &["--config", &path, "--port", "100"]);
    assert_eq!((settings.port, settings.rooms_max), (100, 20));
    assert_eq!((settings.silence_ms, settings.operator_port), (Millis(3000), 9464));
}

#[test]
fn every_kind_of_value_can_stand_in_the_file() {
    let (_folder, path) = file(
        "bytes_max = 15\ndev = true\nbind = \"::1\"\ndata_dir = \"/var/lib\"\n\
         origins = [\"https://a.example\", \"https://b.example\"]\n\
         node_name = \"\"\njwt_secret = \"hush\"\n",
    );
    let settings = loaded(&[], &["--config", &path]);
    assert_eq!((settings.bytes_max, settings.dev), (Some(15), true));
    assert!(settings.bind.is_ipv6());
    assert_eq!(settings.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(settings.node_name, None);
    assert_eq!(settings.jwt_secret.unwrap().expose(), "hush");
}

#[test]
fn an_empty_variable_counts_as_not_set_and_white_space_is_dropped() {
    let settings = loaded(
        &[
            ("PORT", ""),
            ("ROOMCAST_ROOMS_MAX", " 7\n"),
            ("JWT_SECRET", "hush\n"),
            ("ROOMCAST_X", ""),
        ],
        &[],
    );
    assert_eq!((settings.port, settings.rooms_max), (3001, 7));
    assert_eq!(settings.jwt_secret.unwrap().expose(), "hush");
}

#[test]
fn a_switch_needs_no_value_and_can_be_switched_off() {
    assert!(loaded(&[], &["--dev"]).dev);
    assert!(!loaded(&[("ROOMCAST_DEV", "1")], &["--dev=false"]).dev);
}

#[test]
fn all_problems_are_reported_at_once_under_the_names_of_their_sources() {
    let (_folder, path) = file("rooms = 5\nsilence_ms = 1\norigins = [1]\n[port]\n");
    let reported = problems(
        &[("ROOMCAST_ROOMS_MAX", "201"), ("ROOMCAST_ROOM_MAX", "3"), ("ROOMCAST_DEV", "maybe")],
        &["--config", &path, "--port", "70000", "--prot", "1", "--bind=here", "--node-name"],
    );
    for expected in [
        "--port: expected a whole number from 0 to 65535, not \"70000\"",
        "--prot: no such flag",
        "--node-name: expected a value",
        "--bind: expected an IP address such as 127.0.0.1 or ::1, not \"here\"",
        "ROOMCAST_ROOMS_MAX: expected a whole number from 1 to 200, not \"201\"",
        "ROOMCAST_ROOM_MAX: no setting has this variable",
        "ROOMCAST_DEV: expected true or false, not \"maybe\"",
        &format!("rooms in {path}: no setting has this name"),
        &format!(
            "silence_ms in {path}: expected a whole number of milliseconds \
             from 1000 to 3600000, not \"1\""
        ),
        &format!("origins in {path}: expected texts without commas in the array"),
        &format!("port in {path}: expected one value, not a table"),
    ] {
        assert!(reported.iter().any(|each| each == expected), "{expected}\nnot in {reported:#?}");
    }
    assert_eq!(reported.len(), 11, "{reported:#?}");
}

#[test]
fn limits_hold_for_optional_values_and_long_values_are_cut() {
    let long = "9".repeat(1000);
    let reported = problems(&[("ROOMCAST_BYTES_MAX", "21"), ("PORT", &long)], &[]);
    assert_eq!(
        reported[1],
        "ROOMCAST_BYTES_MAX: expected a whole number from 10 to 20, not \"21\""
    );
    assert!(reported[0].len() < 200, "{}", reported[0]);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_problem_without_its_text() {
    let missing = problems(&[], &["--config", "/nowhere/roomcast.toml"]);
    assert!(missing[0].starts_with("/nowhere/roomcast.toml: cannot be read: "), "{missing:?}");

    let (_folder, path) = file("port = 1\njwt_secret = hush-hush\n");
    let broken = problems(&[], &["--config", &path]);
    assert!(broken[0].starts_with(&format!("{path}, line 2: ")), "{broken:?}");
    assert!(!broken[0].contains("hush"), "{broken:?}");
}

#[test]
fn variables_that_kubernetes_makes_of_services_are_not_settings() {
    let settings = loaded(
        &[
            ("ROOMCAST_PORT", "tcp://10.0.0.1:80"),
            ("ROOMCAST_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("ROOMCAST_GATEWAY_SERVICE_PORT", "3001"),
            ("ROOMCAST_GATEWAY_SERVICE_PORT_HTTP", "3001"),
            ("ROOMCAST_GATEWAY_PORT_3001_TCP", "tcp://10.0.0.1:3001"),
            ("ROOMCAST_GATEWAY_PORT_3001_TCP_PROTO", "tcp"),
            ("ROOMCAST_GATEWAY_PORT_3001_TCP_PORT", "3001"),
            ("ROOMCAST_GATEWAY_PORT_3001_TCP_ADDR", "10.0.0.1"),
            // A Service roomcast-operator takes the name of a setting.
            ("ROOMCAST_OPERATOR_PORT", "tcp://10.0.0.2:9464"),
        ],
        &[],
    );
    assert_eq!(settings.operator_port, 9464);
    assert_eq!(loaded(&[("ROOMCAST_OPERATOR_PORT", "0")], &[]).operator_port, 0);
    for name in ["ROOMCAST_PORT", "ROOMCAST_PORT_BASE", "ROOMCAST_SERVICE"] {
        assert_eq!(problems(&[(name, "3001")], &[]).len(), 1, "{name}");
    }
}

#[test]
fn the_printed_settings_can_be_read_again_and_say_where_they_come_from() {
    let variables = [("NEXT_PUBLIC_APP_URL", "https://a.example, https://b.example")];
    let sources = Sources::from_map(&variables).with_arguments(&["--dev", "--node-name", "a\"b"]);
    let printed = Example::load(&sources).unwrap().print(&sources);
    for line in [
        "port = 3001  # PORT (default)",
        "bytes_max = \"\"  # ROOMCAST_BYTES_MAX (default)",
        "dev = true  # ROOMCAST_DEV (flag)",
        "bind = \"127.0.0.1\"  # ROOMCAST_BIND (default)",
        "origins = [\"https://a.example\", \"https://b.example\"]  \
         # NEXT_PUBLIC_APP_URL (environment)",
    ] {
        assert!(printed.lines().any(|each| each == line), "{line}\nnot in\n{printed}");
    }
    let (_folder, path) = file(&printed);
    let again = loaded(&[], &["--config", &path]);
    assert_eq!(again.node_name.as_deref(), Some("a\"b"));
    assert_eq!(again.origins.len(), 2);
    let sources = Sources::default().with_arguments(&["--config", &path]);
    assert!(again.print(&sources).starts_with(&format!("port = 3001  # PORT ({path})\n")));
}

#[test]
fn secrets_are_never_shown() {
    let variables = [("JWT_SECRET", "hush"), ("REDIS_TOKEN", "hush")];
    let sources = Sources::from_map(&variables).with_arguments(&["--jwt-secret", "hush"]);
    let settings = Example::load(&sources).unwrap();
    let printed = settings.print(&sources);
    assert!(printed.contains("jwt_secret = \"[redacted]\"  # JWT_SECRET (flag)\n"), "{printed}");
    assert!(!format!("{settings:?}{sources:?}{printed}").contains("hush"));
    assert!(!format!("{:?}", Reading::new(&sources, Example::KEYS)).contains("hush"));

    // What was printed is no file to start from, as far as the secrets go.
    let (_folder, path) = file(&printed);
    let reported = problems(&[], &["--config", &path]);
    assert_eq!(reported.len(), 2);
    assert!(
        reported[0].ends_with("expected the secret itself, not [redacted]; the value is not shown")
    );
}

#[test]
fn keys_and_table_tell_what_the_declaration_tells() {
    let key = &Example::KEYS[0];
    assert_eq!((key.name, key.env, key.default, key.secret), ("port", "PORT", "3001", false));
    assert_eq!(key.doc, "The port that clients connect to; 0 takes a free one.");
    let secret: Vec<_> =
        Example::KEYS.iter().filter(|key| key.secret).map(|key| key.name).collect();
    assert_eq!(secret, ["jwt_secret", "redis_token"]);

    let table = Example::markdown_table();
    for row in [
        "| `ROOMCAST_ROOMS_MAX` | `rooms_max` | `50` | \
         How many rooms a connection may be in. From 1 to 200. |",
        "| `JWT_SECRET` | `jwt_secret` | none | The key that tokens are signed with. |",
        "| `ROOMCAST_DATA_DIR` | `data_dir` | `data` | The folder of the journal \\| the spool. |",
    ] {
        assert!(table.lines().any(|each| each == row), "{row}\nnot in\n{table}");
    }
    assert_eq!(table.lines().count(), 2 + Example::KEYS.len());
}

fn start(program: &Program, arguments: &[&str]) -> Result<(Example, Vec<String>), Stop> {
    let sources = Sources::from_map(&[("JWT_SECRET", "hush")]).with_arguments(arguments);
    Example::start(&sources, program, |settings| {
        let wrong = settings.port == settings.operator_port;
        let problem = Problem::new("PORT", "must differ from ROOMCAST_OPERATOR_PORT");
        if wrong { vec![problem] } else { Vec::new() }
    })
}

#[test]
fn a_subcommand_and_what_follows_it_are_left_to_the_caller() {
    let (settings, subcommand) = start(&PROGRAM, &["--port", "1"]).unwrap();
    assert_eq!((settings.port, subcommand.len()), (1, 0));
    let (settings, subcommand) =
        start(&PROGRAM, &["--port", "1", "token", "--user", "alice", "--port", "2"]).unwrap();
    assert_eq!(settings.port, 1);
    assert_eq!(subcommand, ["token", "--user", "alice", "--port", "2"]);

    let stop = start(&Program { subcommand: None, ..PROGRAM }, &["tokn"]).unwrap_err();
    assert_eq!(stop, Stop { text: "tokn: no such command\n".to_owned(), code: 64 });
}

#[test]
fn the_configuration_can_be_checked_and_printed() {
    let checked = start(&PROGRAM, &["--check-config"]).unwrap_err();
    assert_eq!(checked, Stop { text: "the configuration is valid\n".to_owned(), code: 0 });
    let printed = start(&PROGRAM, &["--print-config", "--port", "8"]).unwrap_err();
    assert_eq!(printed.code, 0);
    assert!(printed.text.starts_with("port = 8  # PORT (flag)\n"), "{}", printed.text);
    assert!(!printed.text.contains("hush"));

    let wrong = start(&PROGRAM, &["--check-config", "--port", "9464"]).unwrap_err();
    let text = "PORT: must differ from ROOMCAST_OPERATOR_PORT\n".to_owned();
    assert_eq!(wrong, Stop { text, code: 64 });
    let wrong = start(&PROGRAM, &["--print-config", "--port", "x", "--bind", "y"]).unwrap_err();
    assert_eq!((wrong.code, wrong.text.lines().count()), (64, 2));
}

#[test]
fn help_names_every_flag_with_its_variable_and_default() {
    let help = start(&PROGRAM, &["--help"]).unwrap_err();
    assert_eq!(help.code, 0);
    for key in Example::KEYS {
        assert!(help.text.contains(&format!("--{}", key.flag())), "{}", help.text);
        assert!(help.text.contains(key.doc), "{}", help.text);
    }
    assert!(help.text.contains("[ROOMCAST_ROOMS_MAX, default 50, 1 to 200]"), "{}", help.text);
    assert!(help.text.contains("--check-config"), "{}", help.text);
    assert!(help.text.contains("[token …]"), "{}", help.text);
    assert_eq!(start(&PROGRAM, &["--version"]).unwrap_err().text, "example 1.2.3\n");
}
