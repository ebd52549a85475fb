//! Building images, and the doors of BuildKit, which lead nowhere yet.

use std::pin::Pin;

use futures_util::StreamExt as _;
use hyper::StatusCode;
use seacow_engine::build::BuildRequest;
use seacow_engine::container::commit::CommitOptions;
use seacow_engine::{Caller, ClientSocket, Filters};
use seacow_spec::ErrorClass;
use seacow_spec::docker::IdBody;
use seacow_spec::docker::build::{BUILD_SESSION, BuildStart, ContextList};
use seacow_spec::docker::container::ContainerConfig;

use super::grpc::{ignore, refuse_every_call};
use super::hijack::leave_http;
use super::{PROGRESS_SEPARATOR, upload};
use crate::http::body::Broken;
use crate::http::reply::{Client, Hijack};
use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    post "/build" => build,
    post "/build/prune" => prune,
    post "/build/context" => context_wanted,
    put "/build/context" => context_receive,
    post "/build/agent" => agent,
    get "/images/{name}/files" => image_files,
    post "/build/cancel" => cancel,
    post "/commit" => commit,
    post "/grpc" => grpc,
    post "/session" => session,
];

/// Clients with buildx ask for BuildKit whatever `_ping` says.
const NO_BUILDKIT: &str =
    "seacow does not speak BuildKit yet: set DOCKER_BUILDKIT=0 and run docker build again";

async fn build(mut call: Call) -> Result<Reply, ApiError> {
    let request = BuildRequest {
        query: call.query.pairs().to_vec(),
        // Ids of stages are told since 1.30.
        aux: call.version.since(30),
    };
    let (engine, caller) = (call.engine.clone(), Caller::Peer(call.peer.uid()));
    let session = call.query.text(BUILD_SESSION).to_owned();
    if !session.is_empty() {
        let start: BuildStart = call.json().await?;
        let progress = engine.build_from_context(request, session, start, caller).await?;
        return Ok(Reply::json_stream(progress, PROGRESS_SEPARATOR));
    }
    let progress = engine.build_image(request, caller, upload(call)).await?;
    Ok(Reply::json_stream(progress, PROGRESS_SEPARATOR))
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    let all = call.query.bool("all");
    Ok(Reply::ok_json(&call.engine.build_prune(filters, all).await?))
}

/// Not Docker's: which of its files our client has to send.
async fn context_wanted(mut call: Call) -> Result<Reply, ApiError> {
    let list: ContextList = call.json().await?;
    Ok(Reply::ok_json(&call.engine.context_wanted(list).await?))
}

/// Not Docker's: the list again, and those files.
async fn context_receive(call: Call) -> Result<Reply, ApiError> {
    let engine = call.engine.clone();
    Ok(Reply::ok_json(&engine.context_receive(upload(call)).await?))
}

/// Not Docker's: our client's connection for an ssh agent that a step of its build talks to.
async fn agent(call: Call) -> Result<Reply, ApiError> {
    let session = call.query.text("session").to_owned();
    let connection = call.query.text("connection").parse().map_err(|_| ApiError::invalid("connection"))?;
    if !call.engine.has_build_session(&session) {
        return Err(ApiError::new(ErrorClass::NotFound, "no such build session"));
    }
    let engine = call.engine.clone();
    let finish = Box::new(move |client: Client| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move {
            let socket = ClientSocket { fd: client.fd, initial: client.initial };
            if let Err(error) = engine.build_agent(&session, connection, socket) {
                tracing::debug!(%error, "an ssh agent's connection");
            }
        })
    });
    Ok(leave_http(&call, "application/octet-stream", "", finish))
}

/// Not Docker's: all files of an image as one tar.
async fn image_files(call: Call) -> Result<Reply, ApiError> {
    let caller = Caller::Peer(call.peer.uid());
    let pieces = call.engine.image_files(&call.name, caller).await?;
    let pieces = pieces.map(|piece| piece.map_err(|error| Broken(error.to_string())));
    Ok(Reply::stream("application/x-tar", pieces))
}

async fn cancel(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("a build is cancelled by closing its connection; build ids are BuildKit's"))
}

async fn commit(mut call: Call) -> Result<Reply, ApiError> {
    let config: Option<ContainerConfig> = call.optional_json().await?;
    let options = CommitOptions {
        container: call.query.text("container").to_owned(),
        repository: call.query.text("repo").to_owned(),
        tag: call.query.text("tag").to_owned(),
        author: call.query.text("author").to_owned(),
        comment: call.query.text("comment").to_owned(),
        // Absent means yes since 1.13, which is older than what is served.
        pause: call.query.bool_or("pause", true),
        changes: call.query.all("changes"),
        config,
    };
    let id = call.engine.commit(options).await?;
    Ok(Reply::json(StatusCode::CREATED, &IdBody { id: id.to_string() }))
}

/// Says `101` and refuses every call in gRPC's own terms: a client that is refused the upgrade
/// prints only the status, one that is refused a call prints the reason.
async fn grpc(call: Call) -> Result<Reply, ApiError> {
    upgraded_to_h2c(&call, |client| Box::pin(refuse_every_call(client, NO_BUILDKIT)))
}

/// The connection that the BuildKit in clients before 23 offers its files on. It is taken and left
/// alone, for the same reason; the build that such a client asks for next is refused in words.
async fn session(call: Call) -> Result<Reply, ApiError> {
    upgraded_to_h2c(&call, |client| Box::pin(ignore(client)))
}

fn upgraded_to_h2c(
    call: &Call,
    finish: impl FnOnce(Client) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
) -> Result<Reply, ApiError> {
    match call.headers.get("upgrade").and_then(|value| value.to_str().ok()) {
        _ if !call.wants_upgrade() => Err(ApiError::new(ErrorClass::Internal, "no upgrade proto in request")),
        Some("h2c") => Ok(Reply::Hijack(Hijack {
            head: b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec(),
            finish: Box::new(finish),
        })),
        other => {
            let other = other.unwrap_or_default();
            Err(ApiError::new(ErrorClass::Internal, format!("protocol {other} not supported")))
        }
    }
}
