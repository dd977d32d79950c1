//! Prints the JSON Schema of the decision log; `cargo xtask schema` writes it to `log.schema.json`.

fn main() {
    println!("{:#}", kvroute_core::record::LogLine::json_schema());
}
