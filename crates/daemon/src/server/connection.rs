//! HTTP on one connection, and the way out of HTTP.
//!
//! Three things may end it:
//! - hyper is done with it;
//! - a route answers with a [`Hijack`]: the connection is taken out of hyper with whatever was read
//!   ahead, and handed on;
//! - the client is gone in both directions. hyper cannot see that, because clients of Docker close
//!   their sending half early and mean nothing by it (`half_close`); a `wait` that nobody waits for
//!   any more (every `docker run -d` leaves one behind) would stay until its container ends.
//!
//! Each request is answered in a task of its own, so that a client who goes away does not stop a
//! `start` half way; streams end when their body is dropped.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::os::fd::OwnedFd;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::sync::{mpsc, watch};

use super::accept::Busy;
use super::dispatch::broke_down;
use super::transport::Transport;
use crate::http::Reply;
use crate::http::reply::Hijack;

/// Most bytes of a request's head: long filters and build arguments travel in it.
const MAX_HEAD: usize = 1 << 20;
/// Most header lines of a request.
const MAX_HEADERS: usize = 256;

/// Serves one connection until it ends or leaves HTTP.
pub(crate) async fn serve<T, A, F>(io: T, answer: A, mut stop: watch::Receiver<bool>, busy: Busy)
where
    T: Transport,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let hangup = match io.hangup_watch() {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!("cannot watch a connection: {error}");
            return;
        }
    };
    let (hijacks, mut hijacked) = mpsc::channel::<Hijack>(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let hijacks = hijacks.clone();
        let guard = busy.enter();
        let answer = answer(request);
        let answered = tokio::spawn(async move {
            let reply = answer.await;
            drop(guard);
            reply
        });
        async move {
            match answered.await {
                Ok(Reply::Http(response)) => Ok::<_, Infallible>(response),
                Ok(Reply::Hijack(hijack)) => {
                    drop(hijacks.send(hijack).await);
                    pending().await
                }
                Err(panic) => {
                    tracing::error!("a request's handler broke down: {panic}");
                    Ok(broke_down())
                }
            }
        }
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(io), service);
    let mut stopping = false;
    let hijack = {
        // Ends with this block: its descriptor would keep a hijacked socket open.
        let mut gone = std::pin::pin!(gone(hangup));
        loop {
            tokio::select! {
                // A request that has arrived is served even when its sender is gone already.
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!("connection ended: {error}");
                    }
                    return;
                }
                Some(hijack) = hijacked.recv() => break hijack,
                () = &mut gone => return,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    let parts = connection.into_parts();
    hand_over(parts.io.into_inner(), parts.read_buf.to_vec(), hijack).await;
}

async fn hand_over<T: Transport>(mut io: T, initial: Vec<u8>, hijack: Hijack) {
    let written = async {
        io.write_all(&hijack.head).await?;
        io.flush().await?;
        io.into_client(initial)
    };
    match written.await {
        Ok(client) => (hijack.finish)(client).await,
        // Dropping `finish` takes the registration back.
        Err(error) => tracing::debug!("a client went away before its stream began: {error}"),
    }
}

/// Returns when both directions of the socket are closed: the kernel then reports a hang-up, which
/// needs no interest of ours; `PRIORITY` is the interest that brings nothing else.
async fn gone(hangup: Option<OwnedFd>) {
    let Some(hangup) = hangup else { return pending().await };
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor changes; ours does not"
    )]
    let watched = AsyncFd::with_interest(hangup, Interest::PRIORITY);
    match watched {
        Ok(watched) => drop(watched.ready(Interest::PRIORITY).await),
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::stream;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::sync::Notify;

    use super::*;
    use crate::http::reply::Client;

    const REQUEST: &[u8] = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

    fn start<A, F>(answer: A) -> (UnixStream, tokio::task::JoinHandle<()>)
    where
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let (client, server) = UnixStream::pair().unwrap();
        let (sender, stop) = watch::channel(false);
        let task = tokio::spawn(async move {
            let _sender = sender;
            serve(server, answer, stop, Busy::new()).await;
        });
        (client, task)
    }

    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), what).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_that_closes_its_half_still_gets_its_answer() {
        let (mut client, _task) = start(|_| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Reply::text(hyper::StatusCode::OK, "late")
        });
        client.write_all(REQUEST).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        within(client.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("late"), "{answer}");
    }

    #[tokio::test]
    async fn headers_leave_before_the_body_and_a_gone_client_ends_the_stream() {
        let dropped = Arc::new(Notify::new());
        struct Tell(Arc<Notify>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let told = Arc::clone(&dropped);
        let (mut client, task) = start(move |_| {
            let tell = Tell(Arc::clone(&told));
            async move {
                let never = stream::once(async move {
                    let _tell = tell;
                    pending::<u8>().await
                });
                Reply::json_stream(never, "\n")
            }
        });
        client.write_all(REQUEST).await.unwrap();
        let mut head = [0; 15];
        within(client.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        drop(client);
        within(dropped.notified()).await;
        within(task).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_goes_on_when_its_client_is_gone() {
        let done = Arc::new(Notify::new());
        let tell = Arc::clone(&done);
        let (mut client, task) = start(move |_| {
            let tell = Arc::clone(&tell);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                tell.notify_one();
                Reply::ok()
            }
        });
        client.write_all(REQUEST).await.unwrap();
        drop(client);
        within(task).await.unwrap();
        within(done.notified()).await;
    }

    #[tokio::test]
    async fn a_hijacked_socket_keeps_what_was_sent_ahead_and_is_the_only_one() {
        let (mut client, task) = start(|_| async {
            Reply::Hijack(Hijack {
                head: b"HTTP/1.1 101 UPGRADED\r\n\r\n".to_vec(),
                finish: Box::new(|client: Client| {
                    Box::pin(async move {
                        let mut socket = UnixStream::from_std(client.fd.into()).unwrap();
                        socket.write_all(&client.initial).await.unwrap();
                    })
                }),
            })
        });
        client.write_all(&[REQUEST, b"stdin"].concat()).await.unwrap();
        let mut all = String::new();
        // Ends only when every descriptor of the server's end is closed.
        within(client.read_to_string(&mut all)).await.unwrap();
        assert_eq!(all, "HTTP/1.1 101 UPGRADED\r\n\r\nstdin");
        within(task).await.unwrap();
    }
}
