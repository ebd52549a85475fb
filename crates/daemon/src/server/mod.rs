//! Sockets and connections.
//!
//! | module | what |
//! |---|---|
//! | [`listen`] | the sockets that `--host` names, stale ones replaced, busy ones refused |
//! | [`activation`] | sockets handed over by systemd, and telling it that we are ready |
//! | [`accept`] | taking connections, and letting go of them when the daemon stops |
//! | [`connection`] | HTTP on one connection, and the way out of HTTP |
//! | [`dispatch`] | one request: route, version, headers, errors |
//! | [`transport`] | what differs between Unix sockets and TCP |

pub(crate) mod accept;
pub(crate) mod activation;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod listen;
pub(crate) mod transport;
