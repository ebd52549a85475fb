//! Containers.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::StatusCode;
use seacow_engine::{
    AttachOptions, Caller, ClientSocket, Filters, ListOptions, LogOptions, RemoveOptions, WaitCondition,
};
use seacow_spec::ErrorClass;
use seacow_spec::docker::container::{CreateRequest, UpdateRequest};
use serde::de::IgnoredAny;

use super::LINE_SEPARATOR;
use super::hijack::leave_http;
use super::shape;
use crate::http::call::decode;
use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/containers/json" => list,
    post "/containers/create" => create,
    post "/containers/prune" => prune,
    get "/containers/{name}/json" => inspect,
    get "/containers/{name}/top" => top,
    get "/containers/{name}/logs" => logs,
    get "/containers/{name}/stats" => stats,
    get "/containers/{name}/attach/ws" => attach_ws,
    post "/containers/{name}/start" => start,
    post "/containers/{name}/stop" => stop,
    post "/containers/{name}/restart" => restart,
    post "/containers/{name}/kill" => kill,
    post "/containers/{name}/pause" => pause,
    post "/containers/{name}/unpause" => unpause,
    post "/containers/{name}/rename" => rename,
    post "/containers/{name}/resize" => resize,
    post "/containers/{name}/update" => update,
    post "/containers/{name}/wait" => wait,
    post "/containers/{name}/attach" => attach,
    delete "/containers/{name}" => remove,
];

/// Members of a create request that do not describe the container itself.
const NOT_CONFIG: [&str; 3] = ["HostConfig", "NetworkingConfig", "Platform"];
/// The last minor version with a limit of the kernel's memory; later ones overlook it.
const LAST_KERNEL_MEMORY: u32 = 41;
/// Longest body of a start that is not one: Docker lets `null` and `{}` pass.
const EMPTY_BODY: u64 = 7;

async fn list(call: Call) -> Result<Reply, ApiError> {
    let options = ListOptions {
        all: call.query.bool("all"),
        limit: call.query.atoi("limit", ErrorClass::Internal)?.unwrap_or(0),
        size: call.query.bool("size"),
        filters: Filters::parse(call.query.text("filters"))?,
    };
    Ok(Reply::ok_json(&call.engine.list(options).await?))
}

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let text = call.json_text().await?;
    let members: Option<BTreeMap<String, IgnoredAny>> = decode(&text)?;
    if members.unwrap_or_default().keys().all(|key| NOT_CONFIG.contains(&key.as_str())) {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    let mut request: CreateRequest = decode(&text)?;
    if call.version.since(LAST_KERNEL_MEMORY + 1) {
        request.host_config.resources.kernel_memory = 0;
    }
    let name = call.query.non_empty("name");
    let platform = call.query.non_empty("platform");
    let created = call.engine.create(name, platform, request, Caller::Peer(call.peer.uid())).await?;
    Ok(Reply::json(StatusCode::CREATED, &created))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.inspect(&call.name, call.query.bool("size")).await?))
}

async fn start(call: Call) -> Result<Reply, ApiError> {
    use hyper::body::Body as _;
    if call.body.size_hint().lower() > EMPTY_BODY {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    call.engine.start(&call.name).await?;
    Ok(Reply::no_content())
}

async fn stop(call: Call) -> Result<Reply, ApiError> {
    let timeout = call.query.atoi("t", ErrorClass::Internal)?;
    call.engine.stop(&call.name, timeout, call.query.non_empty("signal")).await?;
    Ok(Reply::no_content())
}

async fn restart(call: Call) -> Result<Reply, ApiError> {
    let timeout = call.query.atoi("t", ErrorClass::Internal)?;
    call.engine.restart(&call.name, timeout, call.query.non_empty("signal")).await?;
    Ok(Reply::no_content())
}

async fn kill(call: Call) -> Result<Reply, ApiError> {
    call.engine.kill(&call.name, call.query.non_empty("signal")).await?;
    Ok(Reply::no_content())
}

async fn pause(call: Call) -> Result<Reply, ApiError> {
    call.engine.pause(&call.name).await?;
    Ok(Reply::no_content())
}

async fn unpause(call: Call) -> Result<Reply, ApiError> {
    call.engine.unpause(&call.name).await?;
    Ok(Reply::no_content())
}

async fn rename(call: Call) -> Result<Reply, ApiError> {
    call.engine.rename(&call.name, call.query.text("name")).await?;
    Ok(Reply::no_content())
}

async fn resize(call: Call) -> Result<Reply, ApiError> {
    let (rows, columns) = terminal_size(&call)?;
    call.engine.resize(&call.name, rows, columns).await?;
    Ok(Reply::ok())
}

/// `h` and `w` of a resize.
pub(super) fn terminal_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let side = |key: &str| {
        let value = call.query.required_atoi(key)?;
        u16::try_from(value)
            .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing \"{value}\": value out of range")))
    };
    Ok((side("h")?, side("w")?))
}

async fn update(mut call: Call) -> Result<Reply, ApiError> {
    let request: UpdateRequest = call.json().await?;
    Ok(Reply::ok_json(&call.engine.update(&call.name, request).await?))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let options = RemoveOptions {
        force: call.query.bool("force"),
        volumes: call.query.bool("v"),
        link: call.query.bool("link"),
    };
    call.engine.remove(&call.name, options).await?;
    Ok(Reply::no_content())
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    Ok(Reply::ok_json(&call.engine.prune_containers(&filters).await?))
}

async fn top(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.top(&call.name, call.query.text("ps_args")).await?))
}

async fn stats(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("container statistics are not built yet"))
}

async fn attach_ws(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented(
        "attaching by WebSocket is not built yet; use POST /containers/{id}/attach",
    ))
}

/// The header of the answer leaves at once, the body when the container ends. Before 1.30 there was
/// no condition and the whole answer came at the end.
async fn wait(call: Call) -> Result<Reply, ApiError> {
    let condition = match call.query.text("condition") {
        _ if !call.version.since(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let ended = call.engine.wait(&call.name, condition)?;
    if !call.version.since(30) {
        return Ok(Reply::ok_json(&ended.await));
    }
    Ok(Reply::json_stream(stream::once(ended), LINE_SEPARATOR))
}

async fn logs(call: Call) -> Result<Reply, ApiError> {
    let options = LogOptions {
        stdout: call.query.bool("stdout"),
        stderr: call.query.bool("stderr"),
        follow: call.query.bool("follow"),
        since: call.query.text("since").to_owned(),
        until: call.query.text("until").to_owned(),
        timestamps: call.query.bool("timestamps"),
        tail: call.query.text("tail").to_owned(),
        details: call.query.bool("details"),
    };
    let log = call.engine.logs(&call.name, options)?;
    Ok(Reply::stream(shape::stream_type(call.version, log.tty), log.body.map(Ok::<_, Infallible>)))
}

/// Registered before the answer leaves, so that a start that follows finds it.
async fn attach(call: Call) -> Result<Reply, ApiError> {
    let options = AttachOptions {
        stdin: call.query.bool("stdin"),
        stdout: call.query.bool("stdout"),
        stderr: call.query.bool("stderr"),
        stream: call.query.bool("stream"),
        logs: call.query.bool("logs"),
        detach_keys: call.query.text("detachKeys").to_owned(),
    };
    let pending = match call.engine.attach_begin(&call.name, options) {
        Ok(pending) => pending,
        Err(error) => return Ok(refused_attach(&ApiError::from(error))),
    };
    let content_type =
        if call.wants_upgrade() { shape::stream_type(call.version, pending.tty()) } else { shape::RAW };
    let finish =
        Box::new(move |client: crate::http::reply::Client| -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(async move {
                if let Err(error) = pending.finish(ClientSocket { fd: client.fd, initial: client.initial }) {
                    tracing::debug!("attach: {error}");
                }
            })
        });
    Ok(leave_http(&call, content_type, "", finish))
}

/// dockerd refuses an attach in the stream's own type, with a carriage return, and hangs up.
fn refused_attach(refusal: &ApiError) -> Reply {
    let text = Bytes::from(format!("{}\r\n", refusal.message()));
    Reply::raw(refusal.status(), shape::RAW, text).with_header("connection", "close")
}
