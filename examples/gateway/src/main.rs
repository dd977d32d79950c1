//! `kvroute-gateway`.

fn main() {}
