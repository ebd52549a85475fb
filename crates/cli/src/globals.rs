//! Options before the command's name, and what every command is handed.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::client::Client;
use crate::config::ConfigDir;
use crate::connect::{self, ConnectError};
use crate::flags::{Flag, Kind, Matches, NO};

/// The options of `seacow` itself.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::new(NO, "config", Kind::Str, "Location of client config files (default \"~/.seacow\")"),
    Flag::new(
        'c',
        "context",
        Kind::Str,
        "Name of the context to use to connect to the daemon (overrides SEACOW_HOST env var and default context set with \"seacow context use\")",
    ),
    Flag::new('D', "debug", Kind::Bool, "Enable debug mode"),
    Flag::new('H', "host", Kind::List, "Daemon socket to connect to"),
    Flag::new(
        'l',
        "log-level",
        Kind::Str,
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\") (default \"info\")",
    ),
    Flag::new(NO, "tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    Flag::new(NO, "tlscacert", Kind::Str, "Trust certs signed only by this CA"),
    Flag::new(NO, "tlscert", Kind::Str, "Path to TLS certificate file"),
    Flag::new(NO, "tlskey", Kind::Str, "Path to TLS key file"),
    Flag::new(NO, "tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    Flag::new('v', "version", Kind::Bool, "Print version information and quit"),
];

/// The global options of this invocation.
#[derive(Debug)]
pub(crate) struct Globals {
    pub(crate) host: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) config: ConfigDir,
    pub(crate) tls: bool,
    client: OnceCell<Arc<Client>>,
}

impl Globals {
    pub(crate) fn new(matches: &Matches) -> Self {
        let given = |name| matches.given(name).map(str::to_owned);
        let tls = ["tls", "tlsverify", "tlscacert", "tlscert", "tlskey"];
        Self {
            host: given("host"),
            context: given("context"),
            config: ConfigDir::choose(matches.given("config")),
            tls: tls.iter().any(|name| matches.changed(name)),
            client: OnceCell::new(),
        }
    }

    /// The engine; chosen on first use, because some commands need none.
    pub(crate) fn client(&self) -> Result<&Arc<Client>, ConnectError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Arc::new(Client::new(connect::resolve(self)?));
        Ok(self.client.get_or_init(|| client))
    }
}
