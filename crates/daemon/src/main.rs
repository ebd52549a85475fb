//! The daemon: Docker's REST API over the engine
fn main() {}
