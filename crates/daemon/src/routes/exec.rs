//! Further processes in a container.

use hyper::StatusCode;
use seacow_engine::ClientSocket;
use seacow_spec::docker::IdBody;
use seacow_spec::docker::exec::{ExecConfig, ExecStart};

use super::containers::terminal_size;
use super::hijack::leave_http;
use super::shape;
use crate::http::reply::Client;
use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    post "/containers/{name}/exec" => create,
    post "/exec/{name}/start" => start,
    post "/exec/{name}/resize" => resize,
    get "/exec/{name}/json" => inspect,
];

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let config: ExecConfig = call.json().await?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let id = call.engine.exec_create(&call.name, config)?.to_string();
    Ok(Reply::json(StatusCode::CREATED, &IdBody { id }))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.exec_inspect(&call.name).await?))
}

async fn resize(call: Call) -> Result<Reply, ApiError> {
    let (rows, columns) = terminal_size(&call)?;
    call.engine.exec_resize(&call.name, rows, columns).await?;
    Ok(Reply::ok())
}

async fn start(mut call: Call) -> Result<Reply, ApiError> {
    let request: ExecStart = call.optional_json().await?.unwrap_or_default();
    let pending = call.engine.exec_start(&call.name, request)?;
    if pending.is_detached() {
        pending.detached().await?;
        return Ok(Reply::ok());
    }
    let content_type =
        if call.wants_upgrade() { shape::stream_type(call.version, pending.tty()) } else { shape::RAW };
    let finish = Box::new(move |client: Client| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = pending.finish(ClientSocket { fd: client.fd, initial: client.initial }).await
            {
                tracing::debug!("exec: {error}");
            }
        })
    });
    let product_headers = call.wants_upgrade();
    Ok(leave_http(&call, content_type, product_headers, finish))
}
