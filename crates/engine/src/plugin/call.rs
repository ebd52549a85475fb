//! One call to a plug-in: a POST of JSON on a connection of its own.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use super::discover::Address;
use super::error::{CallError, PluginError};

/// Docker's media type of requests and answers.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// What is read of an answer: ten thousand volumes with a status each.
const MAX_ANSWER: usize = 8 << 20;
/// What is shown of an answer that is no JSON.
const MAX_TEXT: usize = 400;

/// Calls one plug-in.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) name: String,
    address: Address,
}

/// Every answer may have it.
#[derive(serde::Deserialize)]
struct Refusal {
    #[serde(default, rename = "Err")]
    err: Option<String>,
}

impl Client {
    pub(super) fn new(name: &str, address: Address) -> Self {
        Self { name: name.to_owned(), address }
    }

    /// Posts a request and reads the answer, without limit of time.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &(impl Serialize + Sync),
    ) -> Result<T, PluginError> {
        let name = || self.name.clone();
        let malformed = |source| PluginError::Malformed { name: name(), method, source };
        let body = Bytes::from(serde_json::to_vec(request).map_err(malformed)?);
        let answer = self.exchange(method, body).await;
        let answer = answer.map_err(|source| PluginError::Unreachable { name: name(), method, source })?;
        let status = answer.status();
        let body = match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(PluginError::TooLarge { name: name(), method, limit: MAX_ANSWER });
            }
            Err(error) => {
                let message = format!("the answer broke off: {error}");
                return Err(PluginError::Refused { name: name(), method, message });
            }
        };
        // Some say no with a status of success, some with another one.
        let refusal = serde_json::from_slice::<Refusal>(&body).ok().and_then(|answer| answer.err);
        if let Some(message) = refusal.filter(|message| !message.is_empty()) {
            return Err(PluginError::Refused { name: name(), method, message });
        }
        if status != StatusCode::OK {
            let text: String = String::from_utf8_lossy(&body).trim().chars().take(MAX_TEXT).collect();
            let message = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
            return Err(PluginError::Refused { name: name(), method, message });
        }
        serde_json::from_slice(&body).map_err(malformed)
    }

    async fn exchange(
        &self,
        method: &str,
        body: Bytes,
    ) -> Result<Response<hyper::body::Incoming>, CallError> {
        let request = Request::post(format!("/{method}"))
            .header(header::HOST, "plugin.localhost")
            .header(header::ACCEPT, MEDIA_TYPE)
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .header(header::CONNECTION, "close")
            .body(Full::new(body))?;
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(CallError::Connect)?;
                send(TokioIo::new(stream), request).await
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host.as_str()).await.map_err(CallError::Connect)?;
                send(TokioIo::new(stream), request).await
            }
        }
    }
}

async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<hyper::body::Incoming>, CallError>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends with the answer, or with whoever wanted it.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
