//! Shared state by a Secret: the same configuration, with a section more, mounted in the same place.

use serde_json::Value;

use kvroute_gateway::config::Document;

use super::file;

fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut all = documents.iter();
    let found = all.find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn read(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_secrets_configuration_is_the_gateways_with_a_server_to_share_by() {
    let (gateway, redis) = (read("gateway.yaml"), read("redis.yaml"));
    let sections =
        |text: &Value| -> Value { serde_saphyr::from_str(text.as_str().expect("text")).expect("it is YAML") };
    let of_map = sections(&find(&gateway, "ConfigMap", "kvroute-gateway")["data"]["gateway.yaml"]);
    let mut of_secret = sections(&find(&redis, "Secret", "kvroute-gateway")["stringData"]["gateway.yaml"]);

    let known = &Document::json_schema()["properties"];
    if known.get("shared").is_some() {
        Document::parse(&of_secret.to_string()).expect("the program reads it");
    }
    let shared = of_secret.as_object_mut().expect("sections").remove("shared").expect("what is shared");
    let service = find(&redis, "Service", "kvroute-redis");
    let password = find(&redis, "Secret", "kvroute-redis")["stringData"]["password"].as_str().expect("text");
    let (name, port) = (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]);
    let url = format!("redis://:{password}@{}:{port}", name.as_str().expect("text"));
    assert_eq!(shared["urls"], serde_json::json!([url]));

    // Snapshots are shared, so none is written beside them; all else is the same.
    let mut of_map = of_map;
    of_map["gateway"].as_object_mut().expect("a section").remove("snapshot").expect("one of its own");
    assert_eq!(of_secret, of_map);
}

#[test]
fn the_patch_mounts_the_secret_where_the_map_was() {
    let patch: Value = serde_json::from_str(&file("redis-patch.json")).expect("it is JSON");
    let mut deployment = find(&read("gateway.yaml"), "Deployment", "kvroute-gateway").clone();
    for step in patch.as_array().expect("steps") {
        let place = deployment.pointer_mut(step["path"].as_str().expect("a path")).expect("it is there");
        match step["op"].as_str() {
            Some("test") => assert_eq!(*place, step["value"]),
            Some("replace") => *place = step["value"].clone(),
            other => panic!("{other:?}"),
        }
    }
    let volume = &deployment["spec"]["template"]["spec"]["volumes"][0];
    let secret = &read("redis.yaml")[0];
    assert_eq!(volume["secret"]["secretName"], secret["metadata"]["name"]);
    let mounts =
        deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].as_array().expect("mounts");
    assert!(
        mounts.iter().any(|mount| mount["name"] == volume["name"] && mount["mountPath"] == "/etc/kvroute")
    );
}

#[test]
fn the_server_lets_in_the_routers_and_has_room_for_what_it_may_hold() {
    let redis = read("redis.yaml");
    let deployment = find(&redis, "Deployment", "kvroute-redis");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(find(&redis, "Service", "kvroute-redis")["spec"]["selector"], *labels);
    let policy = &find(&redis, "NetworkPolicy", "kvroute-redis")["spec"];
    assert_eq!(policy["podSelector"]["matchLabels"], *labels);
    let allowed = &policy["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"];
    for (manifest, program) in [("gateway.yaml", "kvroute-gateway"), ("picker.yaml", "kvroute-epp")] {
        let manifest = read(manifest);
        let label = &find(&manifest, "Deployment", program)["spec"]["template"]["metadata"]["labels"];
        let name = &label["app.kubernetes.io/name"];
        assert!(allowed.as_array().expect("names").contains(name), "{name}");
    }
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let command = container["command"].as_array().expect("words");
    let at = command.iter().position(|word| word == "--maxmemory").expect("a bound");
    assert_eq!(command[at + 1], "1gb");
    assert_eq!(
        container["resources"]["limits"]["memory"], "1536Mi",
        "half as much again, for copies and connections"
    );
}
