//! What manifests call by name is known to the programs: settings, and metrics.

use std::collections::BTreeSet;
use std::path::Path;

use gateway::config::GatewaySettings;
use shared::process::settings::specs;
use sync_worker::config::WorkerSettings;

use super::render::{Given, file, overlays, root};

/// The variables that a program knows as its own.
fn known_to(program: &str) -> Vec<String> {
    match program {
        "gateway" => specs::<GatewaySettings>().into_iter().map(|spec| spec.env).collect(),
        "sync-worker" => specs::<WorkerSettings>().into_iter().map(|spec| spec.env).collect(),
        other => panic!("nothing is known of {other}"),
    }
}

#[test]
fn programs_are_given_what_they_need_and_know() {
    for overlay in overlays() {
        for program in ["gateway", "sync-worker"] {
            let known = known_to(program);
            let given = overlay.environment(overlay.workload(program));
            for variable in given.keys() {
                let is_known = known.contains(variable);
                assert!(is_known, "{}: {program} does not know {variable}", overlay.name);
            }
            for needed in ["REDIS_URL", "DATABASE_URL"] {
                let secret = Given::Secret { is_optional: false };
                assert_eq!(given.get(needed), Some(&secret), "{}: {program}", overlay.name);
            }
        }
        let given = overlay.environment(overlay.workload("gateway"));
        let proofs = ["ROOMCAST_JWT_SECRET", "ROOMCAST_JWT_PUBLIC_KEY", "ROOMCAST_JWKS"];
        let has_one = proofs.iter().any(|name| given.contains_key(*name));
        assert!(has_one, "{}: a gateway of a cluster asks for tokens", overlay.name);
    }
}

/// The names that begin with `roomcast_` in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c) && c != ':');
    // With a colon it is a rule's own.
    words.filter(|word| word.starts_with("roomcast_") && !word.contains(':')).collect()
}

/// Every YAML file below a folder.
fn manifests(folder: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(root().join(folder)).expect("the folder can be read");
    for entry in entries.flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            manifests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn metrics_that_are_asked_for_exist() {
    let page = file("docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let known: BTreeSet<&str> = rows.filter_map(|row| Some(row.split_once('`')?.0)).collect();
    assert!(known.len() > 20, "docs/METRICS.md has only {} metrics", known.len());
    let mut files = vec!["k8s/README.md".to_owned()];
    manifests(Path::new("k8s"), &mut files);
    let mut asked_for = 0;
    for name in files {
        for metric in metrics_in(&file(&name)) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| metric.strip_suffix(suffix))
                .filter(|family| known.contains(family));
            let is_known = known.contains(family.unwrap_or(metric));
            assert!(is_known, "{name}: {metric} is not in docs/METRICS.md");
            asked_for += 1;
        }
    }
    assert!(asked_for >= 4, "scaling asks for connections and for the log's lag");
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let text = "sum(rate(roomcast_ack_seconds_bucket[5m])) / roomcast_rooms{a=\"roomcast-x\"}";
    assert_eq!(
        metrics_in(text).into_iter().collect::<Vec<_>>(),
        ["roomcast_ack_seconds_bucket", "roomcast_rooms"]
    );
    assert!(metrics_in("instance:roomcast_gateway_ready roomcast:join:p99").is_empty());
}
