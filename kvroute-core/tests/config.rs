use kvroute_core::Config;
#[test] fn probe() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/probe.txt")).unwrap();
    for doc in text.split("\n=====\n") {
        let doc = doc.replace("\\n", "\n");
        match Config::parse(&doc) { Ok(_) => println!("OK   {doc:?}"), Err(e) => println!("{doc:?}\n      {:?} {e}", e.kind()) }
    }
}
