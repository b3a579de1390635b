//! The folder of the gateways' journals: it can be written, and holds all that a journal may.

use serde_json::Value;

use super::render::{
    Given, Manifest, Overlay, file, list, manifests_in, overlays, quantity, texts,
};

/// What a container writes beside its volumes, above all its log until the node takes it away.
const BESIDE_BYTES: u64 = 128 << 20;

/// Where an overlay's gateways have their data.
fn data_dir(overlay: &Overlay) -> String {
    let given = overlay.environment(overlay.workload("gateway"));
    let Some(Given::Value(folder)) = given.get("ROOMCAST_DATA_DIR") else {
        panic!("{}: gateways are not told where their data lie", overlay.name);
    };
    folder.clone()
}

/// The only mount of the gateways.
fn mount(overlay: &Overlay) -> &Value {
    let mounts = list(&overlay.workload("gateway").container()["volumeMounts"]);
    assert_eq!(mounts.len(), 1, "{}: they write one folder", overlay.name);
    &mounts[0]
}

/// The item of a list that has a name.
fn named<'a>(items: &'a Value, pointer: &str, name: &Value) -> Option<&'a Value> {
    list(items).iter().find(|item| item.pointer(pointer) == Some(name))
}

fn claim<'a>(overlay: &'a Overlay, name: &Value) -> Option<&'a Value> {
    let templates = overlay.workload("gateway").at("/spec/volumeClaimTemplates");
    named(templates, "/metadata/name", name)
}

fn bytes(value: &Value) -> u64 {
    quantity(value.as_str().unwrap_or_else(|| panic!("no quantity: {value}")))
}

#[test]
fn a_gateway_can_write_its_data_folder() {
    for overlay in overlays() {
        let (mount, gateway) = (mount(overlay), overlay.workload("gateway"));
        assert_eq!(mount["mountPath"].as_str(), Some(data_dir(overlay).as_str()));
        assert!(mount["readOnly"].is_null() && mount["subPath"].is_null(), "{}", overlay.name);
        // A new volume is root's: with this group it is the gateway's, too.
        let security = &gateway.pod()["securityContext"];
        assert_eq!(security["fsGroup"], security["runAsGroup"], "{}", overlay.name);
        let volume = named(&gateway.pod()["volumes"], "/name", &mount["name"]);
        let is_claimed = claim(overlay, &mount["name"]).is_some();
        assert_ne!(volume.is_some(), is_claimed, "{}: one volume of that name", overlay.name);
        if let Some(volume) = volume {
            let place = &volume["emptyDir"];
            // In memory it would be part of the container's limit.
            assert!(place.is_object() && place["medium"].is_null(), "{}: {volume}", overlay.name);
        }
    }
}

#[test]
fn a_volume_holds_more_than_a_journal_may() {
    for overlay in overlays() {
        let (mount, gateway) = (mount(overlay), overlay.workload("gateway"));
        let most = overlay.setting("gateway", "ROOMCAST_JOURNAL_BYTES_MAX");
        let resources = &gateway.container()["resources"];
        let [requested, limit] =
            ["requests", "limits"].map(|kind| bytes(&resources[kind]["ephemeral-storage"]));
        let is_for_trying = overlay.name == "overlays/dev";
        let (size, beside) = match claim(overlay, &mount["name"]) {
            Some(claim) => (bytes(&claim["spec"]["resources"]["requests"]["storage"]), 0),
            None => {
                let volume = named(&gateway.pod()["volumes"], "/name", &mount["name"]);
                let size = bytes(&volume.expect("it is there")["emptyDir"]["sizeLimit"]);
                (size, size)
            }
        };
        // Indexes, the database's own log, and what is taken over from the file of another process.
        assert!(size >= 2 * most, "{}: {size} bytes for {most}", overlay.name);
        // A pod that has more than its limit is evicted, and its journal with it; so is one of a
        // node whose pods together have more than there is, unless they have asked for it.
        assert!(limit >= beside + BESIDE_BYTES, "{}: {limit} bytes", overlay.name);
        assert!(requested == limit || is_for_trying, "{}: {requested} of {limit}", overlay.name);
    }
}

/// The gateways with volumes of their own.
fn kept() -> impl Iterator<Item = (&'static Overlay, &'static Manifest)> {
    let gateways = overlays().iter().map(|overlay| (overlay, overlay.workload("gateway")));
    gateways.filter(|(_, gateway)| gateway.kind() == "StatefulSet")
}

#[test]
fn a_journal_with_a_volume_outlives_its_pod() {
    for (overlay, gateway) in kept() {
        for event in ["whenDeleted", "whenScaled"] {
            let policy = gateway.at("/spec/persistentVolumeClaimRetentionPolicy");
            assert_eq!(policy[event], "Retain", "{}: {event}", overlay.name);
        }
        // A pod that cannot start would keep those of higher numbers, and what they hold, away.
        assert_eq!(gateway.text("/spec/podManagementPolicy"), "Parallel", "{}", overlay.name);
        let service = overlay.find("Service", gateway.text("/spec/serviceName"));
        let service = service.expect("a StatefulSet has a Service");
        assert_eq!(service.text("/spec/clusterIP"), "None", "{}", overlay.name);
        assert!(gateway.has_pods_of(service.at("/spec/selector")), "{}", overlay.name);
        let modes = &claim(overlay, &mount(overlay)["name"]).expect("it claims one")["spec"];
        assert_eq!(modes["accessModes"], serde_json::json!(["ReadWriteOnce"]));
    }
    assert!(kept().count() > 0 || overlays().is_empty(), "an example has volumes");
}

#[test]
fn a_claim_that_was_left_behind_can_be_replayed() {
    let manifests = manifests_in(&file("k8s/examples/replay-journal.yaml"));
    let of_kind = |kind| manifests.iter().find(|one| one.kind() == kind).expect("it is there");
    let (job, policy) = (of_kind("Job"), of_kind("NetworkPolicy"));
    assert!(job.has_pods_of(policy.at("/spec/podSelector/matchLabels")));
    let claim = job.text("/spec/template/spec/volumes/0/persistentVolumeClaim/claimName");
    for (overlay, gateway) in kept() {
        let mount = mount(overlay);
        // Kubernetes calls the claim of a pod so.
        let prefix = format!("{}-gateway-", mount["name"].as_str().unwrap_or("?"));
        let number = claim.strip_prefix(&prefix).and_then(|rest| rest.parse::<u32>().ok());
        assert!(number.is_some(), "{claim} is not one of {prefix}0 and so on");
        let own = job.container();
        assert_eq!(own["volumeMounts"][0]["mountPath"], mount["mountPath"]);
        let folder = format!("{}/journal", data_dir(overlay));
        let command = serde_json::json!(["gateway", "journal", "replay", folder]);
        assert_eq!(own["command"], command);
        for name in ["runAsUser", "runAsGroup", "fsGroup", "runAsNonRoot", "seccompProfile"] {
            let pods = [job.pod(), gateway.pod()].map(|pod| &pod["securityContext"][name]);
            assert_eq!(pods[0], pods[1], "{name}");
        }
        assert_eq!(own["securityContext"], gateway.container()["securityContext"]);
        // It takes no clients.
        let service = overlay.find("Service", "gateway").expect("clients have one");
        assert!(!job.has_pods_of(service.at("/spec/selector")), "{:?}", job.pod_labels());
        let variables = list(&own["env"]).iter().filter_map(|variable| variable["name"].as_str());
        let variables: Vec<&str> = variables.collect();
        let given = overlay.environment(gateway);
        assert!(variables.contains(&"REDIS_URL") && variables.contains(&"DATABASE_URL"));
        assert!(variables.iter().all(|name| given.contains_key(*name)), "{variables:?}");
    }
    assert_eq!(texts(job.at("/metadata/labels"))["app.kubernetes.io/part-of"], "roomcast");
}
