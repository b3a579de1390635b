use std::net::IpAddr;
use std::path::PathBuf;

use super::*;

/// One setting of each kind.
#[derive(Debug, Args, Serialize)]
struct Example {
    /// The port that clients connect to;
    /// 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "3001")]
    port: u16,
    /// How many rooms a connection may be in.
    #[arg(long, env = "ROOMCAST_ROOMS_MAX", default_value = "50", range = 1..=200)]
    rooms_max: u32,
    /// How long a client may be silent.
    #[arg(long, env = "ROOMCAST_SILENCE_MS", default_value = "60000", range = 1_000..=3_600_000)]
    silence_ms: Millis,
    /// A limit that is not there by default.
    #[arg(long, env = "ROOMCAST_BYTES_MAX", range = 10..=20)]
    bytes_max: Option<usize>,
    /// Whether anyone may come in.
    #[arg(long, env = "ROOMCAST_DEV")]
    dev: bool,
    /// The address to listen on.
    #[arg(long, env = "ROOMCAST_BIND", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// The folder of the journal | the spool.
    #[arg(long, env = "ROOMCAST_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Who may embed the chat.
    #[arg(long, env = "NEXT_PUBLIC_APP_URL")]
    origins: Vec<String>,
    /// What this node is called.
    #[arg(long, env = "ROOMCAST_NODE_NAME")]
    node_name: Option<String>,
    /// The port of the operator.
    #[arg(long, env = "ROOMCAST_OPERATOR_PORT", default_value = "9464")]
    operator_port: u16,
    /// The key that tokens are signed with.
    #[arg(long, env = "JWT_SECRET")]
    jwt_secret: Option<Secret>,
    /// The password of Redis.
    #[arg(long, env = "REDIS_TOKEN", default_value = "")]
    redis_token: Secret,
}

/// What the example does in place of its work.
#[derive(Debug, PartialEq, Eq, Subcommand)]
enum Word {
    /// Makes a token.
    Token {
        /// Whose token it is.
        #[arg(long)]
        user: String,
    },
}

fn program() -> Command {
    Command::new("example").about("An example.").version("1.2.3")
}

fn loaded(variables: &[(&str, &str)], arguments: &[&str]) -> Example {
    load(&Sources::from_map(variables).with_arguments(arguments)).unwrap()
}

fn problems(variables: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
    let sources = Sources::from_map(variables).with_arguments(arguments);
    load::<Example>(&sources).unwrap_err().text.lines().map(str::to_owned).collect()
}

fn printed(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let arguments = [arguments, &["--print-config"]].concat();
    let stop = load::<Example>(&Sources::from_map(variables).with_arguments(&arguments));
    stop.unwrap_err().text
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
    let printed = printed(&variables, &["--dev", "--node-name", "a\"b"]);
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
    let again = self::printed(&[], &["--config", &path]);
    assert!(again.starts_with(&format!("port = 3001  # PORT ({path})\n")));
}

#[test]
fn secrets_are_never_shown() {
    let variables = [("JWT_SECRET", "hush"), ("REDIS_TOKEN", "hush")];
    let sources = Sources::from_map(&variables).with_arguments(&["--jwt-secret", "hush"]);
    let settings: Example = load(&sources).unwrap();
    let printed = printed(&variables, &["--jwt-secret", "hush"]);
    assert!(printed.contains("jwt_secret = \"[redacted]\"  # JWT_SECRET (flag)\n"), "{printed}");
    assert!(!format!("{settings:?}{sources:?}{printed}").contains("hush"));

    // What was printed is no file to start from, as far as the secrets go.
    let (_folder, path) = file(&printed);
    let reported = problems(&[], &["--config", &path]);
    assert_eq!(reported.len(), 2);
    assert!(
        reported[0].ends_with("expected the secret itself, not [redacted]; the value is not shown")
    );
}

#[test]
fn specs_and_table_tell_what_the_declaration_tells() {
    let spec = &specs::<Example>()[0];
    let told = (spec.name.as_str(), spec.env.as_str(), spec.default.as_str(), spec.secret);
    assert_eq!(told, ("port", "PORT", "3001", false));
    assert_eq!(spec.doc, "The port that clients connect to; 0 takes a free one.");
    let secret = specs::<Example>().into_iter().filter(|spec| spec.secret);
    let secret: Vec<String> = secret.map(|spec| spec.name).collect();
    assert_eq!(secret, ["jwt_secret", "redis_token"]);

    let table = markdown_table::<Example>();
    for row in [
        "| `ROOMCAST_ROOMS_MAX` | `rooms_max` | `50` | \
         How many rooms a connection may be in. From 1 to 200. |",
        "| `JWT_SECRET` | `jwt_secret` | none | The key that tokens are signed with. |",
        "| `ROOMCAST_DATA_DIR` | `data_dir` | `data` | The folder of the journal \\| the spool. |",
    ] {
        assert!(table.lines().any(|each| each == row), "{row}\nnot in\n{table}");
    }
    assert_eq!(table.lines().count(), 2 + specs::<Example>().len());
}

fn started(arguments: &[&str]) -> Result<(Example, Option<Word>), Stop> {
    let sources = Sources::from_map(&[("JWT_SECRET", "hush")]).with_arguments(arguments);
    start(&sources, program(), |settings: &Example, word: Option<&Word>| {
        let wrong = settings.port == settings.operator_port && word.is_none();
        let problem = Problem::new("PORT", "must differ from ROOMCAST_OPERATOR_PORT");
        if wrong { vec![problem] } else { Vec::new() }
    })
}

#[test]
fn a_subcommand_has_flags_of_its_own_and_decides_what_is_checked() {
    let (settings, word) = started(&["--port", "1"]).unwrap();
    assert_eq!((settings.port, word), (1, None));
    let (settings, word) =
        started(&["--port", "9464", "--dev", "token", "--user", "alice"]).unwrap();
    assert_eq!((settings.port, word), (9464, Some(Word::Token { user: "alice".to_owned() })));

    let said = |arguments: &[&str]| {
        let stop = started(arguments).unwrap_err();
        assert_eq!(stop.code, 64, "{stop:?}");
        stop.text
    };
    assert_eq!(said(&["token"]), "--user: missing\n");
    assert_eq!(said(&["token", "ann"]), "ann: not expected here\n--user: missing\n");
    let twice = said(&["token", "--port", "2", "--user", "ann", "--prot=3"]);
    assert_eq!(twice, "--port: no such flag\n--prot: no such flag\n");
    // Nobody knows what it would need; what is wrong anyway is said.
    let stray = said(&["--port", "9464", "--rooms-max", "0", "tokn", "--user", "ann"]);
    let rooms = "--rooms-max: expected a whole number from 1 to 200, not \"0\"\n";
    assert_eq!(stray, format!("tokn: no such command\n{rooms}"));
}

#[test]
fn the_later_of_two_flags_holds() {
    assert_eq!(loaded(&[], &["--port", "x", "--port=1"]).port, 1);
    assert_eq!(loaded(&[], &["--origins=a,b", "--origins= c ,"]).origins, ["c"]);
}

#[test]
fn an_empty_flag_takes_an_optional_value_away() {
    let variables = [("ROOMCAST_NODE_NAME", "a"), ("ROOMCAST_BYTES_MAX", "12")];
    let settings = loaded(&variables, &["--node-name=", "--bytes-max", ""]);
    assert_eq!((settings.node_name, settings.bytes_max), (None, None));
    assert_eq!(loaded(&[], &["--data-dir="]).data_dir, PathBuf::new());
    let said = problems(&[], &["--check-config=yes"]);
    assert_eq!(said, ["--check-config: takes no value"]);
    let said = problems(&variables, &["--port="]);
    assert_eq!(said, ["--port: expected a whole number from 0 to 65535, not \"\""]);
}

#[test]
fn the_configuration_can_be_checked_and_printed() {
    let checked = started(&["--check-config"]).unwrap_err();
    assert_eq!(checked, Stop { text: "the configuration is valid\n".to_owned(), code: 0 });
    let printed = started(&["--print-config", "--port", "8"]).unwrap_err();
    assert_eq!(printed.code, 0);
    assert!(printed.text.starts_with("port = 8  # PORT (flag)\n"), "{}", printed.text);
    assert!(!printed.text.contains("hush"));

    let wrong = started(&["--check-config", "--port", "9464"]).unwrap_err();
    let text = "PORT: must differ from ROOMCAST_OPERATOR_PORT\n".to_owned();
    assert_eq!(wrong, Stop { text, code: 64 });
    let wrong = started(&["--print-config", "--port", "x", "--bind", "y"]).unwrap_err();
    assert_eq!((wrong.code, wrong.text.lines().count()), (64, 2));
}

#[test]
fn help_names_every_flag_with_its_variable_and_default() {
    let help = started(&["--help"]).unwrap_err();
    assert_eq!(help.code, 0);
    for spec in specs::<Example>() {
        assert!(help.text.contains(&spec.flag), "{}", help.text);
        assert!(help.text.contains(spec.doc.trim_end_matches('.')), "{}", help.text);
        assert!(help.text.contains(&format!("[env: {}]", spec.env)), "{}", help.text);
    }
    for part in ["--rooms-max <1..200>", "[default: 50]", "--check-config", "  token"] {
        assert!(help.text.contains(part), "{part} in\n{}", help.text);
    }
    assert!(!help.text.contains("hush"), "{}", help.text);
    assert_eq!(started(&["--version"]).unwrap_err().text, "example 1.2.3\n");
}

#[test]
fn completions_name_the_flags_and_the_subcommands() {
    let script = started(&["completions", "bash"]).unwrap_err();
    assert_eq!(script.code, 0);
    assert!(script.text.contains("--rooms-max") && script.text.contains("token"));
    assert_eq!(started(&["completions", "basic"]).unwrap_err().code, 64);
}
