//! The only unsafe: kernel calls as safe Rust
