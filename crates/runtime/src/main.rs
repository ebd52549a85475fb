//! seacow-runtime
fn main() {}
