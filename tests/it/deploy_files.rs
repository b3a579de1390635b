//! The files for people with docker give the processes settings that they know, and leave nothing
//! out of the build.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gateway::config::GatewaySettings;
use shared::process::settings::specs;
use sync_worker::config::{GATEWAY_VARIABLES, WorkerSettings};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The variables that a program knows as its own.
fn known_to(program: &str) -> Vec<String> {
    match program {
        "gateway" => specs::<GatewaySettings>().into_iter().map(|spec| spec.env).collect(),
        "sync-worker" => specs::<WorkerSettings>().into_iter().map(|spec| spec.env).collect(),
        other => panic!("nothing is known of {other}"),
    }
}

/// The name of a mapping's key, where the line begins one.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (!key.is_empty() && key.bytes().all(plain)).then_some(key)
}

fn is_variable(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The blocks of a compose file that describe one service, or what several services share.
fn services(compose: &str) -> Vec<Vec<&str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut in_services = false;
    for line in compose.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        let is_head = key(line).is_some() && (indent == 0 || (indent == 2 && in_services));
        if is_head {
            blocks.push(Vec::new());
            in_services = line == "services:" || (in_services && indent == 2);
        }
        if let Some(block) = blocks.last_mut() {
            block.push(line);
        }
    }
    blocks
}

/// Each program that the compose file starts, with the variables it is given.
fn started(compose: &str) -> Vec<(String, Vec<&str>)> {
    let program = |block: &[&str]| {
        let command = block.iter().find_map(|line| line.trim().strip_prefix("command: [\""))?;
        let (program, _) = command.split_once('"')?;
        ["gateway", "sync-worker"].contains(&program).then(|| program.to_owned())
    };
    services(compose)
        .into_iter()
        .filter_map(|block| {
            let keys = block.iter().filter_map(|line| key(line));
            Some((program(&block)?, keys.filter(|key| is_variable(key)).collect()))
        })
        .collect()
}

/// The values of a Dockerfile's instruction, continued lines joined.
fn instructions(dockerfile: &str, name: &str) -> Vec<String> {
    let joined = dockerfile.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_compose_file_gives_each_program_only_what_it_knows() {
    let compose = file("deploy/compose.yaml");
    let started = started(&compose);
    let programs: Vec<&str> = started.iter().map(|(program, _)| program.as_str()).collect();
    assert_eq!(programs, ["gateway", "sync-worker"], "both are found");
    for (program, variables) in &started {
        let known = known_to(program);
        for needed in ["REDIS_URL", "DATABASE_URL"] {
            assert!(variables.contains(&needed), "{program} has no {needed}");
        }
        for variable in variables {
            assert!(known.iter().any(|own| own == variable), "{program} does not know {variable}");
        }
    }
    assert!(started[0].1.contains(&"ROOMCAST_JWT_SECRET"), "the gateway asks for tokens");
    assert!(
        compose.contains("${ROOMCAST_JWT_SECRET:?"),
        "a secret that is missing is said, not made up"
    );
}

#[test]
fn each_gateway_of_a_compose_file_has_a_journal_of_its_own() {
    let environment = instructions(&file("deploy/Dockerfile"), "ENV").join(" ");
    let folder = environment.split_whitespace().find_map(|w| w.strip_prefix("ROOMCAST_DATA_DIR="));
    let folder = folder.expect("the image says where its data lie");
    assert_eq!(instructions(&file("deploy/Dockerfile"), "VOLUME"), [folder]);
    let compose = file("deploy/compose.yaml");
    let blocks = services(&compose);
    let declared = blocks.iter().find(|block| block[0] == "volumes:").expect("there are volumes");
    let gateways: Vec<_> =
        blocks.iter().filter(|block| block.contains(&"    <<: *gateway")).collect();
    assert_eq!(gateways.len(), 2);
    let mut names = BTreeSet::new();
    for gateway in gateways {
        let mounts = gateway.iter().find_map(|line| line.trim().strip_prefix("volumes: [\""));
        let mount = mounts.and_then(|rest| rest.strip_suffix("\"]")).expect("one volume");
        let (name, path) = mount.split_once(':').expect("a volume and where it is");
        assert_eq!(path, folder, "{}", gateway[0]);
        assert!(declared.contains(&format!("  {name}:").as_str()), "{name} outlives no `down`");
        assert!(names.insert(name), "two processes write {name}");
    }
}

#[test]
fn an_image_gives_both_programs_only_what_both_accept() {
    let environment = instructions(&file("deploy/Dockerfile"), "ENV");
    let words = environment.iter().flat_map(|line| line.split_whitespace());
    let variables: Vec<&str> =
        words.filter_map(|word| Some(word.split_once('=')?.0)).filter(|n| is_variable(n)).collect();
    assert!(variables.contains(&"ROOMCAST_OPERATOR_BIND"), "{variables:?}");
    for variable in variables.iter().filter(|name| name.starts_with("ROOMCAST_")) {
        let gateway = known_to("gateway").iter().any(|known| known == variable);
        let worker = known_to("sync-worker").iter().any(|known| known == variable);
        let accepted = worker || GATEWAY_VARIABLES.lines().any(|known| known == *variable);
        assert!((gateway || worker) && accepted, "{variable} stops one of the two");
    }
}

#[test]
fn an_image_is_built_from_every_folder_of_the_workspace_and_runs_as_nobody_special() {
    let dockerfile = file("deploy/Dockerfile");
    let manifest = file("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 4, "{members:?}");
    let copied = instructions(&dockerfile, "COPY").join(" ");
    let copied: Vec<&str> = copied.split_whitespace().collect();
    for member in members {
        let manifest = format!("{member}/Cargo.toml");
        assert!(copied.contains(&manifest.as_str()), "{manifest} is not copied");
    }
    // The programs are made of these three; of the others cargo only wants the manifests.
    for sources in ["shared", "gateway", "sync-worker"] {
        assert!(copied.contains(&sources), "{sources} is not copied");
    }
    let users = instructions(&dockerfile, "USER");
    assert!(!users.is_empty(), "it would run as root");
    for user in users {
        let uid: u32 =
            user.split(':').next().unwrap().parse().expect("a number, for orchestrators");
        assert_ne!(uid, 0);
    }
}

#[test]
fn a_worker_tolerates_exactly_what_only_the_gateway_knows() {
    let worker = known_to("sync-worker");
    let is_claimed = |name: &String| {
        ["ROOMCAST_", "WEBSOCKET_"].iter().any(|prefix| name.starts_with(prefix))
            && !worker.contains(name)
    };
    let only_gateways = known_to("gateway").into_iter().filter(is_claimed);
    let wanted: String = only_gateways.map(|name| format!("{name}\n")).collect();
    if std::env::var_os("UPDATE_SETTINGS").is_some() {
        std::fs::write(root().join("sync-worker/src/gateway_variables.txt"), wanted).unwrap();
    } else {
        assert_eq!(GATEWAY_VARIABLES, wanted);
    }
}
