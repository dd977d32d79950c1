//! The manifests: their parts agree with each other and with the programs. That Kubernetes knows what they say is the step
//! `manifests`.

use std::collections::BTreeSet;

use kvroute_gateway::config::Document;
use serde_json::Value;

use super::{file, number, sizes};
use crate::client::get;
use crate::watch::fleet;

/// Time that a program has after its drain to write a snapshot and end, in milliseconds.
const END_MS: u64 = 5_000;

/// A program in a cluster: a file with its deployment and all around it.
struct Deployed {
    documents: Vec<Value>,
    name: &'static str,
}

/// What is the same of both.
fn both() -> [Deployed; 2] {
    [Deployed::read("gateway.yaml", "kvroute-gateway"), Deployed::read("picker.yaml", "kvroute-epp")]
}

impl Deployed {
    fn read(name: &str, program: &'static str) -> Self {
        let documents = serde_saphyr::from_multiple(&file(name));
        Self { documents: documents.unwrap_or_else(|error| panic!("{name}: {error}")), name: program }
    }

    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.documents.iter().filter(|document| document["kind"] == kind).collect()
    }

    /// The one document of a kind that has the program's name.
    fn own(&self, kind: &str) -> &Value {
        let all = self.of_kind(kind);
        let own = all.iter().find(|document| document["metadata"]["name"] == self.name);
        own.unwrap_or_else(|| panic!("no {kind} {}", self.name))
    }

    /// The pod template's specification.
    fn pod(&self) -> &Value {
        &self.own("Deployment")["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        let containers = self.pod()["containers"].as_array().expect("containers");
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// Its configuration, with the name of its file.
    fn text(&self) -> (&str, &str) {
        let data = self.own("ConfigMap")["data"].as_object().expect("data");
        assert_eq!(data.len(), 1);
        let (file, text) = data.iter().next().expect("one");
        (file, text.as_str().expect("text"))
    }

    fn sections(&self) -> Value {
        serde_saphyr::from_str(self.text().1).expect("YAML")
    }

    /// What it has in common with the gateway, read by the gateway's own code. The picker's section is for its own tests:
    /// they read the same ConfigMap.
    fn configuration(&self) -> Document {
        let mut sections = self.sections();
        sections.as_object_mut().expect("sections").remove("epp");
        let schema = Document::json_schema().to_string();
        if !schema.contains("\"kubernetes\"") {
            sections["fleet"].as_object_mut().expect("a section").remove("kubernetes");
        }
        Document::parse(&sections.to_string()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Number of a container's port, by name or number.
    fn port(&self, port: &Value) -> u64 {
        let ports = self.container()["ports"].as_array().expect("ports");
        let found = ports.iter().find(|known| known["name"] == *port || known["containerPort"] == *port);
        let found = found.unwrap_or_else(|| panic!("{}: the container has no port {port}", self.name));
        found["containerPort"].as_u64().expect("a number")
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect()
}

/// Bytes of a quantity such as 2Gi.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().expect("a quantity");
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "Gi" => 1 << 30,
        "Mi" => 1 << 20,
        unit => panic!("{unit}"),
    };
    digits.parse::<u64>().expect(text) * unit
}

#[test]
fn programs_are_started_with_the_configuration_that_is_mounted() {
    let gateway = Deployed::read("gateway.yaml", "kvroute-gateway");
    Document::parse(gateway.text().1).expect("as it is written, to the letter");
    for deployed in both() {
        deployed.configuration();
        let container = deployed.container();
        let command = strings(&container["command"]);
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mount = mounts.iter().find(|mount| mount["name"] == "config").expect("the configuration's");
        let path = format!("{}/{}", mount["mountPath"].as_str().expect("a path"), deployed.text().0);
        assert_eq!(command, [deployed.name, "--config", &path]);
        assert!(mount.get("subPath").is_none(), "a file that is mounted so never changes");
        let volumes = deployed.pod()["volumes"].as_array().expect("volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == "config").expect("the configuration's");
        assert_eq!(volume["configMap"]["name"], deployed.name);
        let image = container["image"].as_str().expect("an image");
        assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image}");
    }
}

#[test]
fn a_container_has_memory_for_all_that_its_configuration_bounds() {
    for deployed in both() {
        let configuration = deployed.configuration();
        let resources = &deployed.container()["resources"];
        let limit = bytes(&resources["limits"]["memory"]);
        assert!(bytes(&resources["requests"]["memory"]) <= limit);
        // Beside blocks and holders are the views, in the proportion that was measured; and the guide's largest fleet.
        let guide = file("README.md");
        let rows = sizes(&guide);
        let unshared =
            rows.iter().find(|row| row[0].starts_with("translated") && row[0].ends_with("nothing shared"));
        let [_, blocks, _, all] = unshared.expect("a row")[..] else { panic!("{unshared:?}") };
        let bound = configuration.router.index.max_bytes as f64 * number(all) / number(blocks);
        let fleets = rows.iter().filter(|row| row[0].ends_with(" blocks"));
        let largest = fleets.map(|row| number(row[2]) * 1e6).fold(0.0, f64::max);
        assert!(largest > 0.0 && largest <= bound, "{}: {largest} of {bound}", deployed.name);
        let bounded = bound
            + configuration.gateway.limits.max_buffered_bytes as f64
            // 256 MiB each, the library's default.
            + configuration.tokenizers.len() as f64 * f64::from(256 << 20);
        // A quarter is left for connections and the program itself.
        assert!(bounded <= limit as f64 * 0.75, "{}: {bounded} of {limit}", deployed.name);
        let cores = rows.iter().filter(|row| row[0].ends_with(" blocks")).map(|row| number(row[3]));
        assert!(cores.fold(0.0, f64::max) < 1.0, "{}: a request of one core", deployed.name);
        assert_eq!(resources["requests"]["cpu"], "1");
    }
}

#[test]
fn a_pod_that_ends_has_time_to_leave_and_to_drain() {
    for deployed in both() {
        let pause =
            deployed.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a pause");
        let drain = deployed.configuration().gateway.timeouts.drain_ms;
        let grace = deployed.pod()["terminationGracePeriodSeconds"].as_u64().expect("a time");
        assert!(pause >= 5, "others hear late that it is gone");
        let needed = pause * 1000 + drain + END_MS;
        assert!(grace * 1000 >= needed, "{}: {grace} s for {needed} ms", deployed.name);
        let strategy = &deployed.own("Deployment")["spec"]["strategy"]["rollingUpdate"];
        assert_eq!((&strategy["maxUnavailable"], &strategy["maxSurge"]), (&0.into(), &1.into()));
    }
}

#[test]
fn ports_selectors_and_labels_agree() {
    for deployed in both() {
        let labels = &deployed.own("Deployment")["spec"]["template"]["metadata"]["labels"];
        assert_eq!(deployed.own("Deployment")["spec"]["selector"]["matchLabels"], *labels);
        assert_eq!(deployed.own("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], *labels);
        let spread = deployed.pod()["topologySpreadConstraints"].as_array().expect("constraints");
        assert!(spread.iter().all(|constraint| constraint["labelSelector"]["matchLabels"] == *labels));
        let service = &deployed.own("Service")["spec"];
        assert_eq!(service["selector"], *labels);
        for port in service["ports"].as_array().expect("ports") {
            deployed.port(&port["targetPort"]);
        }
        let container = deployed.container();
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            let probe = &container[probe];
            let port = ["httpGet", "grpc", "tcpSocket"].iter().find_map(|how| probe[how].get("port"));
            deployed.port(port.unwrap_or_else(|| panic!("{}: {probe}", deployed.name)));
        }
        let annotations = &deployed.own("Deployment")["spec"]["template"]["metadata"]["annotations"];
        let scraped: u64 =
            annotations["prometheus.io/port"].as_str().expect("text").parse().expect("a number");
        deployed.port(&scraped.into());
        let replicas = deployed.own("Deployment")["spec"]["replicas"].as_u64().expect("a number");
        assert!(
            replicas > deployed.own("PodDisruptionBudget")["spec"]["maxUnavailable"].as_u64().expect("one")
        );
    }
    let [gateway, picker] = both();
    let listen = gateway.configuration().gateway.listen.port();
    assert_eq!(gateway.port(&"http".into()), u64::from(listen));
    let sections = picker.sections();
    for (key, port) in [("listen", "grpc"), ("health", "health"), ("watch", "http")] {
        let address = sections["epp"][key].as_str().unwrap_or_else(|| panic!("epp.{key}"));
        assert!(address.ends_with(&format!(":{}", picker.port(&port.into()))), "{key}: {address}");
    }
}

#[tokio::test]
async fn what_probes_and_prometheus_ask_for_is_answered() {
    let (_pods, running) = fleet(1, "").await;
    for deployed in both() {
        let annotations = &deployed.own("Deployment")["spec"]["template"]["metadata"]["annotations"];
        let mut paths = vec![annotations["prometheus.io/path"].as_str().expect("a path")];
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            paths.extend(deployed.container()[probe]["httpGet"]["path"].as_str());
        }
        assert_eq!(paths.len(), 4);
        for path in paths {
            assert_eq!(get(running.address, path).await.status, 200, "{path}");
        }
    }
}

#[test]
fn the_pool_names_the_picker_and_the_engines_that_it_finds() {
    let [gateway, picker] = both();
    let one = |kind: &str| {
        let all = picker.of_kind(kind);
        assert_eq!(all.len(), 1, "{kind}");
        all[0].clone()
    };
    let (pool, route) = (one("InferencePool"), one("HTTPRoute"));
    let reference = &pool["spec"]["endpointPickerRef"];
    let service = picker.own("Service");
    assert_eq!(reference["name"], service["metadata"]["name"]);
    let ports = service["spec"]["ports"].as_array().expect("ports");
    let asked = ports.iter().find(|port| port["port"] == reference["port"]["number"]).expect("the port");
    assert_eq!(picker.port(&asked["targetPort"]), picker.port(&"grpc".into()));
    let backend = &route["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!((&backend["kind"], &backend["name"]), (&pool["kind"], &pool["metadata"]["name"]));

    assert_eq!(picker.sections()["fleet"]["kubernetes"]["pool"], pool["metadata"]["name"]);

    // What the pool selects is what the gateway's headless service selects, at the port that its configuration names.
    let headless = gateway.of_kind("Service");
    let headless = headless.iter().find(|service| service["spec"]["clusterIP"] == "None").expect("one");
    assert_eq!(headless["spec"]["selector"], pool["spec"]["selector"]["matchLabels"]);
    let port = &headless["spec"]["ports"][0]["port"];
    assert_eq!(*port, pool["spec"]["targetPorts"][0]["number"]);
    let pods = gateway.configuration().fleet.pods;
    let [pod] = &*pods else { panic!("one name: {pods:?}") };
    let name = headless["metadata"]["name"].as_str().expect("text");
    assert_eq!(pod.url.to_string().trim_end_matches('/'), format!("http://{name}:{port}"));
    assert!(pod.resolve, "each address is a pod");
}

#[test]
fn nobody_has_rights_that_are_not_needed() {
    for deployed in both() {
        let account = deployed.own("ServiceAccount");
        assert_eq!(deployed.pod()["serviceAccountName"], account["metadata"]["name"]);
        assert!(
            deployed.of_kind("ClusterRole").is_empty() && deployed.of_kind("ClusterRoleBinding").is_empty()
        );
        let roles = deployed.of_kind("Role");
        for role in &roles {
            for rule in role["rules"].as_array().expect("rules") {
                let verbs: BTreeSet<_> = strings(&rule["verbs"]).into_iter().collect();
                assert_eq!(verbs, ["list", "watch"].into());
                match *strings(&rule["resources"]) {
                    ["pods"] => {}
                    ["inferencepools"] => {
                        assert_eq!(
                            rule["resourceNames"][0],
                            deployed.sections()["fleet"]["kubernetes"]["pool"]
                        );
                    }
                    ref other => panic!("{other:?}"),
                }
            }
            let bound = deployed.own("RoleBinding");
            assert_eq!(bound["roleRef"]["name"], role["metadata"]["name"]);
            assert_eq!(bound["subjects"][0]["name"], account["metadata"]["name"]);
        }
        // Who asks the API needs a token and rights, and nobody else does.
        assert_eq!(roles.is_empty(), deployed.sections()["fleet"]["kubernetes"].is_null());
        if roles.is_empty() {
            assert_eq!(deployed.pod()["automountServiceAccountToken"], false, "a token that nobody needs");
        }
    }
}

#[test]
fn containers_run_as_nobody_and_write_only_where_something_is_mounted() {
    let container_file = file("Containerfile");
    for deployed in both() {
        let (pod, container) = (&deployed.pod()["securityContext"], &deployed.container()["securityContext"]);
        assert_eq!(pod["runAsNonRoot"], true);
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        let user = &pod["runAsUser"];
        assert!(container_file.contains(&format!("\nUSER {user}:{user}\n")), "{user}");
        assert!(
            container_file.contains(&format!("--bin {}", deployed.name)),
            "{} is not built",
            deployed.name
        );

        let gateway = deployed.configuration().gateway;
        let written = [gateway.snapshot.map(|it| it.path), gateway.decision_log.map(|it| it.path)];
        let mounts = deployed.container()["volumeMounts"].as_array().expect("mounts");
        let writable = |path: &std::path::Path| {
            let mut mounts = mounts.iter().filter(|mount| mount["readOnly"] != true);
            mounts.any(|mount| path.starts_with(mount["mountPath"].as_str().expect("a path")))
        };
        for path in written.into_iter().flatten() {
            assert!(writable(&path), "{}: nothing to write to at {}", deployed.name, path.display());
        }
    }
}
