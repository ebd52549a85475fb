//! The registry, from outside: every MUST of the OCI distribution specification 1.1 that concerns a server, by bare
//! HTTP; then what it refuses, and our own client against it.
//!
//! | module | what |
//! |---|---|
//! | `wire` | a server of the test's own, and requests to it |
//! | `pull`, `push`, `content`, `referrers` | the specification's four workflows |
//! | `guarded` | passwords, TLS, read-only, bounds, hostile requests |
//! | `garbage` | what is collected, and what is not |
//! | `client` | our client: on-the-fly digests, resumption, mounting |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod client;
mod content;
mod garbage;
mod guarded;
mod pull;
mod push;
mod referrers;
mod wire;
