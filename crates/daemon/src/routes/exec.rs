//! Further processes in a container.

use hyper::StatusCode;
use seacow_engine::{ClientSocket, PendingExec};
use seacow_spec::docker::IdBody;
use seacow_spec::docker::exec::{EXEC_ID_FIELD, ExecConfig, ExecStart};

use super::containers::terminal_size;
use super::hijack::leave_http;
use super::shape;
use crate::http::reply::Client;
use crate::http::{ApiError, Call, Reply, Route};
use crate::server::dispatch::product_header_lines;

pub(crate) const ROUTES: &[Route] = routes![
    post "/containers/{name}/exec" => create,
    post "/exec/{name}/start" => start,
    post "/exec/{name}/resize" => resize,
    get "/exec/{name}/json" => inspect,
    post "/exec/{name}/wait" => wait,
];

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let config: ExecConfig = call.json().await?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    // Not Docker's: created and started in one round trip, for who would upgrade the next one anyway.
    let start = (call.query.bool("start") && call.wants_upgrade()).then_some(ExecStart {
        detach: false,
        tty: config.tty,
        console_size: config.console_size,
    });
    let id = call.engine.exec_create(&call.name, config)?.to_string();
    if let Some(start) = start {
        let pending = call.engine.exec_start(&id, start)?;
        let fields = format!("{EXEC_ID_FIELD}: {id}\r\n{}", product_header_lines());
        return Ok(attach(&call, pending, &fields));
    }
    Ok(Reply::json(StatusCode::CREATED, &IdBody { id }))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.exec_inspect(&call.name).await?))
}

/// Not Docker's: one round trip less for whoever wants the exit status, who can ask while it runs.
async fn wait(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.exec_wait(&call.name)?.await))
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
    let fields = if call.wants_upgrade() { product_header_lines() } else { String::new() };
    Ok(attach(&call, pending, &fields))
}

/// Makes the client's connection the streams of an exec.
fn attach(call: &Call, pending: PendingExec, fields: &str) -> Reply {
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
    leave_http(call, content_type, fields, finish)
}
