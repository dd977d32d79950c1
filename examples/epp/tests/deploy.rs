//! What the picker is deployed with is a configuration as the picker reads it.

use kvroute_epp::config::Document;

/// The text of `epp.yaml` in the manifest's ConfigMap: the lines of a block scalar.
fn deployed() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/picker.yaml");
    let manifest = std::fs::read_to_string(path).expect(path);
    let (_, rest) = manifest.split_once("\n  epp.yaml: |\n").expect("its configuration");
    rest.lines().map_while(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_manifests_configuration_is_right_and_listens_where_its_service_sends() {
    let document = Document::parse(&deployed()).expect("it is right");
    let ports = [document.epp.listen, document.epp.health, document.epp.watch].map(|address| address.port());
    assert_eq!(ports, [9002, 9003, 9090]);
    let kubernetes = document.base.fleet.kubernetes.expect("where its pods come from");
    assert_eq!(kubernetes.pool.as_deref(), Some("vllm"));
}
