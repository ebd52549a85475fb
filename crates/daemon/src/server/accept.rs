//! Taking connections, and letting go of them when the daemon stops.

use std::sync::Arc;
use std::time::Duration;

use seacow_engine::Engine;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::connection::serve;
use super::dispatch::Dispatcher;
use super::listen::Listener;
use super::transport::Transport;
use crate::http::call::Peer;

/// Connections served at once. Each costs two descriptors and some ten kilobytes; a foreground
/// `docker run` holds one, and so does everybody who follows logs or events.
const MAX_CONNECTIONS: usize = 8192;
/// Pause after a failed accept: the usual reason is that descriptors ran out, and some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are being worked on may take after the daemon was asked to stop. Streams
/// have no end of their own and are cut at once.
const GRACE: Duration = Duration::from_secs(10);
/// How long finished answers may take to leave.
const FLUSH: Duration = Duration::from_millis(200);

/// Counts requests that are being worked on.
#[derive(Clone)]
pub(crate) struct Busy(Arc<watch::Sender<usize>>);

/// One such request, until dropped.
pub(crate) struct BusyGuard(Arc<watch::Sender<usize>>);

impl Busy {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// One more, until the guard is dropped.
    pub(crate) fn enter(&self) -> BusyGuard {
        self.0.send_modify(|count| *count += 1);
        BusyGuard(Arc::clone(&self.0))
    }

    async fn idle(&self) {
        // Fails only when all senders are gone, and one is ours.
        drop(self.0.subscribe().wait_for(|count| *count == 0).await);
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Serves all listeners until `stop` becomes true, then lets requests finish.
pub(crate) async fn serve_all(listeners: Vec<Listener>, engine: Engine, stop: watch::Receiver<bool>) {
    let busy = Busy::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let server = Server { engine, stop: stop.clone(), busy: busy.clone(), room: Arc::clone(&room) };
    let tasks: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(server.clone().accept(listener))).collect();
    let mut stop = stop;
    drop(stop.wait_for(|stop| *stop).await);
    for task in tasks {
        task.abort();
    }
    if tokio::time::timeout(GRACE, busy.idle()).await.is_err() {
        tracing::warn!("requests were still being worked on after {GRACE:?}; leaving them");
    }
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    drop(tokio::time::timeout(FLUSH, room.acquire_many(all)).await);
}

#[derive(Clone)]
struct Server {
    engine: Engine,
    stop: watch::Receiver<bool>,
    busy: Busy,
    room: Arc<Semaphore>,
}

impl Server {
    async fn accept(self, listener: Listener) {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
            let accepted = match &listener {
                Listener::Unix(socket) => match socket.accept().await {
                    Ok((io, _)) => {
                        let peer = io.peer_cred().map(|credentials| Peer::Local { uid: credentials.uid() });
                        peer.map(|peer| self.start(io, peer, permit))
                    }
                    Err(error) => Err(error),
                },
                Listener::Tcp(socket) => match socket.accept().await {
                    Ok((io, address)) => {
                        io.set_nodelay(true).map(|()| self.start(io, Peer::Remote(address), permit))
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = accepted {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start<T: Transport>(&self, io: T, peer: Peer, permit: OwnedSemaphorePermit) {
        let dispatcher = Dispatcher::new(self.engine.clone(), peer);
        let answer = move |request| dispatcher.clone().answer(request);
        let serving = serve(io, answer, self.stop.clone(), self.busy.clone());
        tokio::spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}
