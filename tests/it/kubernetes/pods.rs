//! What every pod keeps: the restricted profile, probes that differ, an image that does not move.

use serde_json::{Value, json};

use super::render::{list, overlays, texts};

#[test]
fn pods_keep_the_restricted_profile() {
    for overlay in overlays() {
        for workload in overlay.workloads() {
            let place = format!("{}: {}", overlay.name, workload.name());
            let (pod, container) = (workload.pod(), workload.container());
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{place}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{place}");
            let own = &container["securityContext"];
            assert_eq!(own["allowPrivilegeEscalation"], false, "{place}");
            assert_eq!(own["readOnlyRootFilesystem"], true, "{place}");
            assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }), "{place}");
            for name in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[name].is_null(), "{place}: {name}");
            }
            assert!(own["privileged"].is_null(), "{place}");
            if container["image"].as_str().is_some_and(|image| image.contains("roomcast")) {
                // That of deploy/Dockerfile.
                assert_eq!(security["runAsUser"], 10001, "{place}");
            }
        }
        let namespace = overlay.find("Namespace", "roomcast").expect("it brings its namespace");
        let labels = texts(namespace.at("/metadata/labels"));
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    }
}

#[test]
fn pods_know_nothing_of_the_cluster() {
    for overlay in overlays() {
        for workload in overlay.workloads() {
            let place = format!("{}: {}", overlay.name, workload.name());
            let pod = workload.pod();
            assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
            assert_eq!(pod["enableServiceLinks"], false, "{place}");
            let account = pod["serviceAccountName"].as_str().expect("an account of its own");
            let account = overlay.find("ServiceAccount", account).expect("the account is there");
            assert_eq!(account.at("/automountServiceAccountToken"), &json!(false), "{place}");
        }
    }
}

/// The path and the port of a probe over HTTP.
fn asked<'a>(container: &'a Value, probe: &str) -> (&'a str, &'a str) {
    let get = &container[probe]["httpGet"];
    let text = |key: &str| get[key].as_str().unwrap_or_else(|| panic!("{probe} has no {key}"));
    (text("path"), text("port"))
}

#[test]
fn probes_ask_for_life_and_for_readiness() {
    for overlay in overlays() {
        for program in ["gateway", "sync-worker"] {
            let container = overlay.workload(program).container();
            let place = format!("{}: {program}", overlay.name);
            assert_eq!(asked(container, "startupProbe"), ("/livez", "operator"), "{place}");
            assert_eq!(asked(container, "livenessProbe"), ("/livez", "operator"), "{place}");
            assert_eq!(asked(container, "readinessProbe"), ("/readyz", "operator"), "{place}");
            let seconds = |probe: &str| {
                let figure = |key: &str| container[probe][key].as_u64().expect("a figure");
                figure("periodSeconds") * figure("failureThreshold")
            };
            // A pod leaves traffic long before it is restarted, and has longer than that to start.
            assert!(seconds("readinessProbe") < seconds("livenessProbe"), "{place}");
            assert!(seconds("livenessProbe") < seconds("startupProbe"), "{place}");
        }
    }
}

#[test]
fn images_do_not_move() {
    for overlay in overlays() {
        for workload in overlay.workloads() {
            let image = workload.container()["image"].as_str().expect("an image");
            let tag = image.rsplit('/').next().and_then(|name| name.split_once(':'));
            assert!(tag.is_some_and(|(_, tag)| tag != "latest"), "{}: {image}", overlay.name);
        }
    }
}

#[test]
fn manifests_say_what_they_are() {
    for overlay in overlays() {
        for manifest in &overlay.manifests {
            let labels = texts(manifest.at("/metadata/labels"));
            let place = format!("{}: {} {}", overlay.name, manifest.kind(), manifest.name());
            assert_eq!(labels.get("app.kubernetes.io/part-of"), Some(&"roomcast"), "{place}");
            // Generated Secrets have only what all have.
            if manifest.kind() != "Secret" {
                for name in ["name", "component"] {
                    let label = format!("app.kubernetes.io/{name}");
                    assert!(labels.contains_key(label.as_str()), "{place} has no {label}");
                }
            }
        }
        for workload in overlay.workloads() {
            assert_eq!(workload.pod_labels().get("app.kubernetes.io/part-of"), Some(&"roomcast"));
        }
    }
}

#[test]
fn health_and_metrics_are_reached_from_the_monitoring_only() {
    for overlay in overlays() {
        for program in ["gateway", "sync-worker"] {
            let policy = overlay.find("NetworkPolicy", program).expect("each program has one");
            for rule in list(policy.at("/spec/ingress")) {
                let opens = |name: &str| list(&rule["ports"]).iter().any(|one| one["port"] == name);
                let from = rule.pointer("/from/0/namespaceSelector/matchLabels");
                let is_monitoring =
                    from == Some(&json!({ "kubernetes.io/metadata.name": "monitoring" }));
                assert!(opens("operator") || opens("http"), "{}: {rule}", overlay.name);
                assert!(is_monitoring || !opens("operator"), "{}: {rule}", overlay.name);
            }
            // Nothing else is published of the operator's port.
            for service in overlay.of_kind("Service") {
                let is_headless = service.at("/spec/clusterIP") == "None";
                let has_it = list(service.at("/spec/ports"))
                    .iter()
                    .any(|port| port["targetPort"] == "operator");
                assert!(is_headless || !has_it, "{}: {}", overlay.name, service.name());
            }
        }
    }
}
