//! Parent of a container: I/O, signals, exit status, logs
fn main() {}
