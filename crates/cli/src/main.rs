//! The client: flags to request to terminal
fn main() {}
