//! `RUN --mount=type=ssh`: a socket in the container that leads to the client's agent.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use seacow_spec::{ErrorClass, ErrorReport};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::executor::BuildExecutor;
use super::session::Session;
use crate::ClientSocket;

/// How long the client may take to connect.
const CONNECT: Duration = Duration::from_secs(30);
/// Connections of one step at a time.
const MOST: usize = 64;

/// A socket that is listened at as long as this lives.
pub(super) struct Agent {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Agent {
    /// Listens at a new socket.
    pub(super) fn listen(
        build: &BuildExecutor,
        id: &str,
        path: &Path,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Self, ErrorReport> {
        let failed = |error: std::io::Error| {
            ErrorReport::new(ErrorClass::Internal, format!("make a socket for the ssh agent: {error}"))
        };
        let Some(session) = build.session.clone() else {
            return Err(ErrorReport::new(ErrorClass::Internal, "the client has no ssh agent"));
        };
        let listener = {
            let _inside = build.runtime.enter();
            UnixListener::bind(path).map_err(failed)?
        };
        chown(path, Some(uid), Some(gid)).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        let task = build.runtime.spawn(accept(listener, session, id.to_owned()));
        Ok(Self { path: path.to_owned(), task })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // With it go its connections.
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, session: Arc<Session>, id: String) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.len() >= MOST {
            connections.join_next().await;
        }
        let client = session.ask(&id);
        connections.spawn(async move {
            match tokio::time::timeout(CONNECT, client).await {
                Ok(Ok(client)) => pass(stream, client).await,
                _ => tracing::debug!("the client did not connect its ssh agent"),
            }
        });
    }
}

async fn pass(mut step: UnixStream, client: ClientSocket) {
    let stream = StdStream::from(client.fd);
    let ready = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    let mut client_stream = match ready {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!("the client's connection for its agent: {error}"),
    };
    if step.write_all(&client.initial).await.is_err() {
        return;
    }
    if let Err(error) = tokio::io::copy_bidirectional(&mut step, &mut client_stream).await {
        tracing::debug!("the ssh agent's connection: {error}");
    }
}
