//! `system dial-stdio`: joins stdin and stdout to the engine's socket, for `ssh://` hosts.

use std::io::{Read, Write};
use std::thread;

use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;
use crate::http::Socket;
use crate::stream::StdFd;

/// `system dial-stdio`
pub(crate) const COMMAND: Command = Command {
    about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let socket = invocation.client()?.endpoint.connect()?;
    let upward = socket.clone();
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut upward = upward;
        // Either side going away is the end of this direction, and no error.
        if copy(&mut std::io::stdin().lock(), &mut upward).is_ok() {
            let _ = upward.shut_write();
        }
    })?;
    let mut downward: Socket = socket;
    Ok(copy(&mut downward, &mut StdFd::stdout())?)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buf = vec![0; 32 << 10];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buf[..n])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
