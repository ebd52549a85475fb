//! Blobs: counted and hashed while they come, taken up again where they broke off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::RANGE;
use hyper::{Method, StatusCode};
use seacow_spec::Digest;
use seacow_spec::oci::image::Descriptor;
use sha2::{Digest as _, Sha256};

use crate::error::RegistryError;
use crate::session::{Ask, Failed, Scope, Session};
use crate::transport::SILENCE;

/// How often in a row it may break off without a byte in between.
const ATTEMPTS: u32 = 5;
/// The first pause before another attempt; each is twice the last.
const PAUSE: Duration = Duration::from_millis(250);

/// A blob on its way.
pub struct Blob {
    session: Arc<Session>,
    scope: Scope,
    path: String,
    digest: Digest,
    size: u64,
    hash: Sha256,
    got: u64,
    /// Bytes at the front of the next answer that are here already: it began at the beginning.
    skip: u64,
    body: Option<Incoming>,
    failures: u32,
}

impl Blob {
    pub(crate) fn new(
        session: Arc<Session>,
        scope: Scope,
        repository: &str,
        descriptor: &Descriptor,
    ) -> Self {
        Self {
            session,
            scope,
            path: format!("{repository}/blobs/{}", descriptor.digest),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            hash: Sha256::new(),
            got: 0,
            skip: 0,
            body: None,
            failures: 0,
        }
    }

    /// Its next bytes are here already: they are not fetched, but count for its digest.
    pub fn already(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.got += bytes.len() as u64;
    }

    /// The whole of a small one.
    pub(crate) async fn whole(self) -> Result<Vec<u8>, RegistryError> {
        let mut pieces = std::pin::pin!(self.pieces());
        let mut out = Vec::new();
        while let Some(piece) = pieces.next().await {
            out.extend_from_slice(&piece?);
        }
        Ok(out)
    }

    /// Its bytes in order. Without an error at the end they are what the digest says.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, RegistryError>> + Send + use<> {
        stream::unfold(Some(self), |state| async {
            let mut this = state?;
            match this.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(this))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.got == self.size {
                return self.finish().map(|()| None);
            }
            match self.piece().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    self.failures = 0;
                    self.got += piece.len() as u64;
                    if self.got > self.size {
                        let what = self.what();
                        return Err(RegistryError::WrongSize { what, expected: self.size, got: self.got });
                    }
                    self.hash.update(&piece);
                    return Ok(Some(piece));
                }
                Err(Broken::ForGood(error)) => return Err(error),
                Err(Broken::Maybe(error)) => {
                    self.body = None;
                    self.failures += 1;
                    if self.failures >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(path = self.path, got = self.got, %error, "blob broke off");
                    tokio::time::sleep(PAUSE * 2_u32.pow(self.failures - 1)).await;
                }
            }
        }
    }

    /// The next bytes; none where there were none yet.
    async fn piece(&mut self) -> Result<Bytes, Broken> {
        if self.body.is_none() {
            self.begin().await?;
        }
        let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
        let broke = |got: u64, size: u64, reason: String| {
            Broken::Maybe(RegistryError::Refused(format!(
                "download broke off after {got} of {size} bytes: {reason}"
            )))
        };
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(broke(self.got, self.size, error.to_string())),
            Ok(None) => return Err(broke(self.got, self.size, "it ended".into())),
            Err(_) => {
                let reason = format!("nothing came for {} seconds", SILENCE.as_secs());
                return Err(broke(self.got, self.size, reason));
            }
        };
        let mut data = frame.into_data().unwrap_or_default();
        let skipped = self.skip.min(data.len() as u64);
        self.skip -= skipped;
        Ok(data.split_off(usize::try_from(skipped).unwrap_or(usize::MAX)))
    }

    async fn begin(&mut self) -> Result<(), Broken> {
        let mut ask = Ask::new(Method::GET, self.path.clone(), &self.scope);
        if self.got > 0 {
            ask = ask.header(RANGE, format!("bytes={}-", self.got));
        }
        let response = self.session.ask(&ask).await.map_err(|failed| match failed {
            Failed::Status { status, .. }
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS =>
            {
                Broken::Maybe(failed.plain())
            }
            Failed::Otherwise(error @ RegistryError::Exchange { .. }) => Broken::Maybe(error),
            other => Broken::ForGood(other.plain()),
        })?;
        self.skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { self.got };
        self.body = Some(response.into_body());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        let actual = Digest::from_sha256(&std::mem::take(&mut self.hash).finalize().into());
        if actual == self.digest {
            return Ok(());
        }
        Err(RegistryError::WrongDigest { what: self.what(), expected: self.digest.clone(), actual })
    }

    fn what(&self) -> String {
        format!("blob {}", self.digest)
    }
}

/// Whether another attempt may help.
enum Broken {
    Maybe(RegistryError),
    ForGood(RegistryError),
}
