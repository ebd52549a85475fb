//! The body of a request, which is read to its end even when nobody wants it.
//!
//! A socket that is closed with unread bytes in it resets the connection, and the client loses the
//! answer that says why its upload was refused. So what is left of a body is read and thrown away
//! while the answer leaves, for a bounded time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;

/// How long an unwanted upload is listened to. A client that needs longer learns less.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    /// The client waits for `100 Continue` before it sends anything, and reading would send that.
    silent: bool,
}

impl RequestBody {
    /// The body that came with these headers.
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        Self { incoming: Some(incoming), silent: headers.contains_key(EXPECT) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.silent = false;
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|incoming| !incoming.is_end_stream() && !self.silent);
        // Without a runtime the process is ending, and everybody's connection with it.
        if let (Some(mut rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let discard = async { while let Some(Ok(_)) = rest.frame().await {} };
                // One that is not done by then is cut off.
                let _ = tokio::time::timeout(PATIENCE, discard).await;
            });
        }
    }
}
