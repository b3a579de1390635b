//! Figures and names that stand in several files agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::render::{Manifest, Overlay, file, list, overlays, quantity, root, texts};

/// What is left of the grace period when the process should have ended by itself.
const MARGIN_MS: u64 = 10_000;

#[test]
fn a_pod_has_the_time_to_leave() {
    for overlay in overlays() {
        let grace_ms = |program| {
            let seconds = &overlay.workload(program).pod()["terminationGracePeriodSeconds"];
            1000 * seconds.as_u64().expect("every pod has a grace period")
        };
        let gateway = overlay.workload("gateway").container();
        let sleep_ms =
            1000 * gateway["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a sleep");
        let [timeout, spread, notice] =
            ["ROOMCAST_DRAIN_TIMEOUT_MS", "ROOMCAST_DRAIN_SPREAD_MS", "ROOMCAST_DRAIN_NOTICE_MS"]
                .map(|name| overlay.setting("gateway", name));
        assert!(grace_ms("gateway") >= sleep_ms + timeout + MARGIN_MS, "{}", overlay.name);
        assert!(timeout >= notice + spread + MARGIN_MS, "{}", overlay.name);
        let timeout = overlay.setting("sync-worker", "ROOMCAST_DRAIN_TIMEOUT_MS");
        assert!(grace_ms("sync-worker") >= timeout + MARGIN_MS, "{}", overlay.name);
    }
}

#[test]
fn pods_leave_one_after_another() {
    for overlay in overlays() {
        for scaling in overlay.scalings() {
            let workload = overlay.workload(scaling.target);
            let grace = workload.pod()["terminationGracePeriodSeconds"].as_u64();
            let down = &scaling.behavior["scaleDown"];
            let window = down["stabilizationWindowSeconds"].as_u64();
            let periods = list(&down["policies"]).iter().map(|one| one["periodSeconds"].as_u64());
            let periods: Vec<Option<u64>> = periods.collect();
            assert!(!periods.is_empty() && grace.is_some(), "{}: {}", overlay.name, scaling.target);
            for period in periods {
                assert!(period >= grace, "{}: a drain meets the next", overlay.name);
                // What was added within a period may be taken away beyond the policy.
                assert!(window >= period, "{}: the window is shorter", overlay.name);
            }
        }
        let gateway = overlay.workload("gateway");
        let grace = gateway.number("/spec/template/spec/terminationGracePeriodSeconds");
        let is_for_trying = overlay.name == "overlays/dev";
        assert!(
            gateway.number("/spec/minReadySeconds") >= grace || is_for_trying,
            "{}: a rollout has two pods leave at once",
            overlay.name
        );
        if gateway.kind() == "StatefulSet" {
            assert_eq!(gateway.at("/spec/updateStrategy"), &json!({ "type": "RollingUpdate" }));
        } else {
            let rolling = gateway.at("/spec/strategy/rollingUpdate");
            assert_eq!((&rolling["maxUnavailable"], &rolling["maxSurge"]), (&0.into(), &1.into()));
        }
    }
}

#[test]
fn how_many_pods_there_are_is_said_once() {
    for overlay in overlays() {
        let mut scaled = BTreeSet::new();
        for scaling in overlay.scalings() {
            let workload = overlay.workload(scaling.target);
            assert_eq!(workload.kind(), scaling.kind, "{}: {}", overlay.name, scaling.target);
            assert!(
                workload.at("/spec/replicas").is_null(),
                "{}: an apply would scale {}",
                overlay.name,
                scaling.target
            );
            assert!(scaled.insert(scaling.target), "{}: two scale one", overlay.name);
        }
        for workload in overlay.workloads() {
            let is_said = !workload.at("/spec/replicas").is_null();
            assert_ne!(is_said, scaled.contains(workload.name()), "{}", workload.name());
        }
        let budget = overlay.find("PodDisruptionBudget", "gateway").expect("gateways have one");
        let may_be_away = budget.number("/spec/maxUnavailable");
        assert!(overlay.gateways().min >= may_be_away + 2, "{}", overlay.name);
    }
}

#[test]
fn the_same_behaviour_scales_gateways_everywhere() {
    let overlays = overlays();
    let Some(first) = overlays.first() else { return };
    for overlay in overlays {
        assert_eq!(overlay.gateways().behavior, first.gateways().behavior, "{}", overlay.name);
    }
}

#[test]
fn a_pod_takes_more_than_the_autoscaler_aims_at() {
    let mut found = 0;
    for overlay in overlays() {
        let gateways = overlay.gateways();
        let Some(target) = gateways.connections else { continue };
        found += 1;
        let most = overlay.setting("gateway", "ROOMCAST_CONNECTIONS_MAX");
        assert!(10 * target <= 8 * most, "{}: {target} of {most}", overlay.name);
        // A tenth above the target is tolerated; then one pod of the fewest is lost.
        let clients = gateways.min * target * 11 / 10;
        assert!(clients <= (gateways.min - 1) * most, "{}: {clients} clients", overlay.name);
    }
    assert!(found >= 3 || overlays().is_empty(), "prod, keda and the example scale by connections");
}

/// A figure of the table in k8s/README.md.
fn figure(name: &str) -> u64 {
    let readme = file("k8s/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| "));
    let row = rows.filter_map(|row| row.split_once(" | ")).find(|(first, _)| *first == name);
    let (_, rest) = row.unwrap_or_else(|| panic!("k8s/README.md does not say: {name}"));
    let value = rest.split(" |").next().unwrap_or_default();
    value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number"))
}

#[test]
fn memory_holds_every_connection_that_is_taken() {
    for overlay in overlays() {
        let connections = overlay.setting("gateway", "ROOMCAST_CONNECTIONS_MAX");
        let needed = connections * figure("bytes per connection")
            + figure("bytes of an idle gateway")
            + figure("bytes for entries that are retained");
        let resources = &overlay.workload("gateway").container()["resources"];
        let limit = quantity(resources["limits"]["memory"].as_str().expect("a limit"));
        assert!(limit >= needed, "{}: {limit} of {needed} bytes", overlay.name);
    }
}

/// Seconds of `30s`, `2m`, `1h`, `500ms` or `75`.
fn seconds(text: &str) -> f64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().unwrap_or_else(|_| panic!("no duration: {text}"));
    let unit = match &text[digits..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => panic!("an unknown unit: {other}"),
    };
    number * unit
}

/// How long proxies of `deploy/` keep a WebSocket that says nothing, by what says so.
fn idle_timeouts() -> BTreeMap<String, f64> {
    let mut timeouts = BTreeMap::new();
    let entries = std::fs::read_dir(root().join("deploy")).expect("there is a folder deploy");
    for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        if ![".cfg", ".conf"].iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        for line in file(&format!("deploy/{name}")).lines().map(str::trim) {
            let mut words = line.trim_end_matches(';').split_whitespace();
            let value = match (words.next(), words.next()) {
                (Some("timeout"), Some("tunnel")) => words.next(),
                (Some("proxy_read_timeout" | "proxy_send_timeout"), value) => value,
                _ => None,
            };
            if let Some(value) = value {
                timeouts.insert(format!("deploy/{name}: {line}"), seconds(value));
            }
        }
    }
    timeouts
}

/// The default of a setting, as docs/SETTINGS.md says it.
fn default_of(setting: &str) -> f64 {
    let settings = file("docs/SETTINGS.md");
    let row = settings.lines().find(|line| line.starts_with(&format!("| `{setting}` |")));
    let default =
        row.and_then(|row| row.split('|').nth(3)).map(|cell| cell.trim().trim_matches('`'));
    default.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{setting} has no default"))
}

#[test]
fn a_ping_comes_before_every_idle_timeout() {
    let ping = default_of("ROOMCAST_HEARTBEAT_INTERVAL_MS") / 1000.0;
    let timeouts = idle_timeouts();
    assert!(!timeouts.is_empty(), "deploy/haproxy.cfg has one");
    for (place, timeout) in timeouts {
        assert!(ping < timeout, "{place}: gateways ping every {ping} s");
    }
    let mut found = 0;
    for overlay in overlays() {
        let ping_ms = overlay.setting("gateway", "ROOMCAST_HEARTBEAT_INTERVAL_MS");
        // That of load balancers is often 60 s, and cannot be read here.
        assert!(ping_ms <= 30_000, "{}", overlay.name);
        for ingress in overlay.of_kind("Ingress") {
            let annotations = texts(ingress.at("/metadata/annotations"));
            for side in ["read", "send"] {
                let name = format!("nginx.ingress.kubernetes.io/proxy-{side}-timeout");
                let timeout_ms = 1000 * quantity(annotations[name.as_str()]);
                assert!(ping_ms < timeout_ms, "{}: {name}", overlay.name);
                found += 1;
            }
        }
    }
    assert!(found > 0 || overlays().is_empty(), "an overlay has an Ingress");
}

/// The label selectors of a manifest that have to find pods of the same overlay.
fn selectors(manifest: &Manifest) -> Vec<&Value> {
    match manifest.kind() {
        "Service" => vec![manifest.at("/spec/selector")],
        "PodDisruptionBudget" | "PodMonitor" => vec![manifest.at("/spec/selector/matchLabels")],
        "NetworkPolicy" => vec![manifest.at("/spec/podSelector/matchLabels")],
        _ => Vec::new(),
    }
}

#[test]
fn selectors_find_their_pods() {
    for overlay in overlays() {
        for workload in overlay.workloads() {
            let own = workload.at("/spec/selector/matchLabels");
            assert!(!texts(own).is_empty() && workload.has_pods_of(own), "{}", workload.name());
            let others = overlay.workloads().filter(|other| other.has_pods_of(own)).count();
            assert_eq!(others, 1, "{}: {} takes pods of another", overlay.name, workload.name());
            for spread in list(&workload.pod()["topologySpreadConstraints"]) {
                let selector = &spread["labelSelector"]["matchLabels"];
                assert!(workload.has_pods_of(selector), "{}: {spread}", workload.name());
                // What Kubernetes gives pods of one revision.
                let revision = match workload.kind() {
                    "StatefulSet" => "controller-revision-hash",
                    _ => "pod-template-hash",
                };
                assert_eq!(spread["matchLabelKeys"], json!([revision]), "{}", overlay.name);
            }
        }
        for manifest in &overlay.manifests {
            for selector in selectors(manifest) {
                let is_foreign = texts(selector).contains_key("cnpg.io/cluster");
                let is_met = overlay.workloads().any(|workload| workload.has_pods_of(selector));
                let place = format!("{}: {} {}", overlay.name, manifest.kind(), manifest.name());
                assert!(is_met || is_foreign, "{place} selects nothing");
            }
        }
    }
}

/// The named ports that a manifest asks for of the pods that it selects.
fn ports_asked_for(manifest: &Manifest) -> Vec<&Value> {
    match manifest.kind() {
        "Service" => {
            list(manifest.at("/spec/ports")).iter().map(|port| &port["targetPort"]).collect()
        }
        "PodMonitor" => {
            let endpoints = list(manifest.at("/spec/podMetricsEndpoints")).iter();
            endpoints.map(|endpoint| &endpoint["port"]).collect()
        }
        "NetworkPolicy" => {
            let rules = list(manifest.at("/spec/ingress")).iter();
            rules.flat_map(|rule| list(&rule["ports"])).map(|port| &port["port"]).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn ports_that_are_asked_for_exist() {
    for overlay in overlays() {
        for manifest in &overlay.manifests {
            let named = ports_asked_for(manifest).into_iter().filter_map(Value::as_str);
            for (port, selector) in named.flat_map(|port| {
                selectors(manifest).into_iter().map(move |selector| (port, selector))
            }) {
                for workload in overlay.workloads().filter(|one| one.has_pods_of(selector)) {
                    let has_it = list(&workload.container()["ports"])
                        .iter()
                        .any(|known| known["name"] == port);
                    assert!(has_it, "{}: {} has no port {port}", overlay.name, workload.name());
                }
            }
        }
        for (service, port) in backends(overlay) {
            let found = overlay.find("Service", service).expect("a backend is a Service");
            let is_there = |known: &Value| known["port"] == *port || known["name"] == *port;
            let ports = list(found.at("/spec/ports"));
            assert!(ports.iter().any(is_there), "{}: {service} has no {port}", overlay.name);
        }
    }
}

/// Services and ports that routes lead to.
fn backends(overlay: &Overlay) -> Vec<(&str, &Value)> {
    let mut found = Vec::new();
    for route in overlay.of_kind("HTTPRoute") {
        for rule in list(route.at("/spec/rules")) {
            assert!(rule["timeouts"].is_null(), "a timeout of requests ends WebSockets");
            for backend in list(&rule["backendRefs"]) {
                found.push((backend["name"].as_str().unwrap_or("?"), &backend["port"]));
            }
        }
    }
    for ingress in overlay.of_kind("Ingress") {
        for path in list(ingress.at("/spec/rules/0/http/paths")) {
            let service = &path["backend"]["service"];
            let port = &service["port"];
            let port = if port["name"].is_null() { &port["number"] } else { &port["name"] };
            found.push((service["name"].as_str().unwrap_or("?"), port));
        }
    }
    found
}

#[test]
fn rules_are_those_of_prometheus() {
    let name = "deploy/prometheus/rules.yml";
    if !root().join(name).exists() {
        eprintln!("skipped: {name} is not there");
        return;
    }
    let rules: Value = serde_norway::from_str(&file(name)).expect("rules are YAML");
    let mut found = 0;
    for overlay in overlays() {
        for rule in overlay.of_kind("PrometheusRule") {
            found += 1;
            let advice = "./k8s/overlays/prod/write-rules writes them anew";
            assert!(rule.at("/spec/groups") == &rules["groups"], "{}: {advice}", overlay.name);
        }
    }
    assert!(found > 0 || overlays().is_empty(), "an overlay brings rules");
}

#[test]
fn keda_has_more_pods_than_usual_while_prometheus_is_away() {
    for overlay in overlays().iter().filter(|overlay| overlay.name == "overlays/keda") {
        assert_eq!(overlay.of_kind("HorizontalPodAutoscaler").count(), 0, "KEDA makes its own");
        assert_eq!(overlay.of_kind("ScaledObject").count(), 2);
        for scaled in overlay.of_kind("ScaledObject") {
            let fallback = scaled.number("/spec/fallback/replicas");
            assert!(fallback >= scaled.number("/spec/minReplicaCount"), "{}", scaled.name());
            let behavior = scaled.text("/spec/fallback/behavior");
            assert_eq!(behavior, "currentReplicasIfHigher", "{}", scaled.name());
        }
    }
}

#[test]
fn durations_of_proxies_are_read() {
    assert_eq!(["75", "120s", "2m", "1h", "500ms"].map(seconds), [75.0, 120.0, 120.0, 3600.0, 0.5]);
}
