//! The builder's messages go to the client.

use seacow_build::{Disconnected, Sink};
use seacow_spec::docker::build::JsonMessage;

use crate::pipe::ProgressSender;

/// A client's progress stream as the builder sees it.
pub(super) struct ToClient(pub(super) ProgressSender);

impl Sink for ToClient {
    fn send(&mut self, message: JsonMessage) -> Result<(), Disconnected> {
        self.0.send(message).map_err(|_| Disconnected)
    }
}
