//! Prints the JSON Schema of the configuration; `cargo xtask schema` writes it to `config.schema.json`.

fn main() {
    println!("{:#}", kvroute_core::Config::json_schema());
}
