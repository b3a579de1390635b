//! Manifests as `kubectl kustomize` renders them, and how to look into them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde_json::Value;

/// The folders of `k8s/` that can be applied.
const OVERLAYS: [&str; 7] = [
    "base",
    "overlays/dev",
    "overlays/prod",
    "overlays/keda",
    "overlays/ingress",
    "examples/cloudnative-pg",
    "examples/journal-volume",
];

/// One folder that can be applied, rendered.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) name: &'static str,
    pub(crate) manifests: Vec<Manifest>,
}

/// One object of Kubernetes.
#[derive(Debug, Clone)]
pub(crate) struct Manifest(pub(crate) Value);

/// Where a container has a variable from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    Value(String),
    /// A key of a Secret, which may be missing where it is optional.
    Secret {
        is_optional: bool,
    },
}

/// How many pods a workload has, whoever scales it.
#[derive(Debug)]
pub(crate) struct Scaling<'a> {
    /// Of the target: a Deployment where nothing is said.
    pub(crate) kind: &'a str,
    pub(crate) target: &'a str,
    pub(crate) min: u64,
    pub(crate) behavior: &'a Value,
    /// Connections per pod that it aims at, where it knows connections.
    pub(crate) connections: Option<u64>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository.
pub(crate) fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every overlay; none, which is said, where there is no kubectl to render them.
pub(crate) fn overlays() -> &'static [Overlay] {
    static RENDERED: OnceLock<Vec<Overlay>> = OnceLock::new();
    RENDERED.get_or_init(|| OVERLAYS.into_iter().map_while(overlay).collect())
}

/// One overlay; none, which is said, where there is no kubectl to render it.
pub(crate) fn overlay(name: &'static str) -> Option<Overlay> {
    let folder = root().join("k8s").join(name);
    let output = match Command::new("kubectl").arg("kustomize").arg(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            #[expect(clippy::print_stderr, reason = "who reads the test's output is told")]
            {
                eprintln!("skipped: kubectl, which renders the files of k8s/, is not installed");
            }
            return None;
        }
        output => output.expect("kubectl runs"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "k8s/{name} cannot be rendered: {said}");
    let text = String::from_utf8(output.stdout).expect("YAML is text");
    Some(Overlay { name, manifests: manifests_in(&text) })
}

/// The documents of a text.
pub(crate) fn manifests_in(text: &str) -> Vec<Manifest> {
    let documents = serde_norway::Deserializer::from_str(text);
    documents.map(|one| Manifest(Value::deserialize(one).expect("it is YAML"))).collect()
}

/// A number with a unit of Kubernetes: `10Gi`, `512Mi`, `5`.
pub(crate) fn quantity(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().unwrap_or_else(|_| panic!("no quantity: {text}"));
    let unit = match &text[digits..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        other => panic!("an unknown unit: {other}"),
    };
    number * unit
}

/// The items of a list, or none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a mapping, such as labels.
pub(crate) fn texts(value: &Value) -> BTreeMap<&str, &str> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

impl Overlay {
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter().filter(move |manifest| manifest.kind() == kind)
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Manifest> {
        self.of_kind(kind).find(|manifest| manifest.name() == name)
    }

    /// What makes the pods of a program.
    pub(crate) fn workload(&self, name: &str) -> &Manifest {
        let found = self.workloads().find(|workload| workload.name() == name);
        found.unwrap_or_else(|| panic!("{}: nothing makes pods of {name}", self.name))
    }

    /// Everything that makes pods.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Manifest> {
        self.of_kind("Deployment").chain(self.of_kind("StatefulSet"))
    }

    /// The variables that the first container of a workload is given.
    pub(crate) fn environment(&self, workload: &Manifest) -> BTreeMap<String, Given> {
        let container = workload.container();
        let mut variables = BTreeMap::new();
        for from in list(&container["envFrom"]) {
            let (kind, is_secret) = match from["configMapRef"].is_null() {
                true => ("Secret", true),
                false => ("ConfigMap", false),
            };
            let reference = if is_secret { &from["secretRef"] } else { &from["configMapRef"] };
            let name = reference["name"].as_str().expect("a reference has a name");
            let source = self.find(kind, name);
            let source = source.unwrap_or_else(|| panic!("{}: no {kind} {name}", self.name));
            for (key, value) in texts(source.at("/data")) {
                let given = match is_secret {
                    true => Given::Secret { is_optional: false },
                    false => Given::Value(value.to_owned()),
                };
                variables.insert(key.to_owned(), given);
            }
        }
        for variable in list(&container["env"]) {
            let name = variable["name"].as_str().expect("a variable has a name");
            let secret = &variable["valueFrom"]["secretKeyRef"];
            let given = match variable["value"].as_str() {
                Some(value) => Given::Value(value.to_owned()),
                None => Given::Secret { is_optional: secret["optional"] == true },
            };
            variables.insert(name.to_owned(), given);
        }
        variables
    }

    /// A setting of the gateway's that is a number.
    pub(crate) fn setting(&self, program: &str, name: &str) -> u64 {
        let environment = self.environment(self.workload(program));
        let Some(Given::Value(value)) = environment.get(name) else {
            panic!("{}: {program} is not given {name}", self.name);
        };
        value.parse().unwrap_or_else(|_| panic!("{}: {name}={value} is no number", self.name))
    }

    /// Who scales what: the autoscalers of Kubernetes, and those that KEDA makes.
    pub(crate) fn scalings(&self) -> Vec<Scaling<'_>> {
        let plain = self.of_kind("HorizontalPodAutoscaler").map(|one| Scaling {
            kind: one.text("/spec/scaleTargetRef/kind"),
            target: one.text("/spec/scaleTargetRef/name"),
            min: one.number("/spec/minReplicas"),
            behavior: one.at("/spec/behavior"),
            connections: list(one.at("/spec/metrics"))
                .iter()
                .map(|metric| &metric["pods"])
                .find(|pods| pods["metric"]["name"] == "roomcast_connections")
                .map(|pods| quantity(pods["target"]["averageValue"].as_str().unwrap_or("?"))),
        });
        let made = self.of_kind("ScaledObject").map(|one| Scaling {
            kind: one.at("/spec/scaleTargetRef/kind").as_str().unwrap_or("Deployment"),
            target: one.text("/spec/scaleTargetRef/name"),
            min: one.number("/spec/minReplicaCount"),
            behavior: one.at("/spec/advanced/horizontalPodAutoscalerConfig/behavior"),
            connections: list(one.at("/spec/triggers"))
                .iter()
                .map(|trigger| texts(&trigger["metadata"]))
                .find(|metadata| {
                    metadata.get("query").is_some_and(|q| q.contains("roomcast_connections{"))
                })
                .map(|metadata| quantity(metadata["threshold"])),
        });
        plain.chain(made).collect()
    }

    /// How the gateways are scaled.
    pub(crate) fn gateways(&self) -> Scaling<'_> {
        let found = self.scalings().into_iter().find(|scaling| scaling.target == "gateway");
        found.unwrap_or_else(|| panic!("{}: nothing scales the gateways", self.name))
    }
}

impl Manifest {
    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The value at a JSON pointer, or null.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        let text = self.at(pointer).as_str();
        text.unwrap_or_else(|| panic!("no text at {pointer} of {:?}", self.0["metadata"]))
    }

    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let number = self.at(pointer).as_u64();
        number.unwrap_or_else(|| panic!("no number at {pointer} of {:?}", self.0["metadata"]))
    }

    /// What a workload makes its pods of.
    pub(crate) fn pod(&self) -> &Value {
        self.at("/spec/template/spec")
    }

    pub(crate) fn pod_labels(&self) -> BTreeMap<&str, &str> {
        texts(self.at("/spec/template/metadata/labels"))
    }

    /// The only container of a workload's pods.
    pub(crate) fn container(&self) -> &Value {
        let containers = list(&self.pod()["containers"]);
        assert_eq!(containers.len(), 1, "{} {}", self.kind(), self.name());
        &containers[0]
    }

    /// Whether a label selector, of which `matchLabels` is all, takes a workload's pods.
    pub(crate) fn has_pods_of(&self, selector: &Value) -> bool {
        let labels = self.pod_labels();
        texts(selector).iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[test]
fn quantities_are_those_of_kubernetes() {
    let quantities = ["6000", "5Ki", "640Mi", "1Gi"].map(quantity);
    assert_eq!(quantities, [6000, 5120, 671_088_640, 1_073_741_824]);
}
