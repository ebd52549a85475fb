//! Snapshots, rollback and clones of containers and volumes: seacow's own, beside Docker's paths.

use hyper::StatusCode;
use seacow_engine::{Caller, CloneOptions, Filters};
use seacow_spec::ErrorClass;
use seacow_spec::docker::snapshot::{Cloned, SnapshotCreate};

use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/system/snapshots" => list_all,
    post "/snapshots/prune" => prune,
    get "/containers/{name}/snapshots" => list,
    post "/containers/{name}/snapshots" => create,
    delete "/containers/{name}/snapshots" => remove,
    post "/containers/{name}/rollback" => rollback,
    post "/containers/{name}/clone" => clone,
    get "/volumes/{name}/snapshots" => volume_list,
    post "/volumes/{name}/snapshots" => volume_create,
    delete "/volumes/{name}/snapshots" => volume_remove,
    post "/volumes/{name}/rollback" => volume_rollback,
    post "/volumes/{name}/clone" => volume_clone,
];

async fn list_all(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.snapshots(None).await?))
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    Ok(Reply::ok_json(&call.engine.prune_snapshots(filters, call.query.bool("volumes")).await?))
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.snapshots(Some(&call.name)).await?))
}

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let request: SnapshotCreate = call.json().await?;
    let name = Some(request.name).filter(|name| !name.is_empty());
    Ok(Reply::json(StatusCode::CREATED, &call.engine.snapshot(&call.name, name).await?))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    call.engine.snapshot_remove(&call.name, &wanted(&call)?).await?;
    Ok(Reply::no_content())
}

async fn rollback(call: Call) -> Result<Reply, ApiError> {
    call.engine.rollback(&call.name, &wanted(&call)?, call.query.bool("force")).await?;
    Ok(Reply::no_content())
}

async fn clone(call: Call) -> Result<Reply, ApiError> {
    let count = call.query.atoi("count", ErrorClass::InvalidArgument)?.unwrap_or(1);
    let options = CloneOptions {
        // What is out of range is refused by the engine.
        count: usize::try_from(count).unwrap_or(0),
        name: call.query.non_empty("name"),
        snapshot: call.query.non_empty("snapshot"),
    };
    let caller = Caller::Peer(call.peer.uid());
    let ids = call.engine.clone_container(&call.name, options, caller).await?;
    Ok(Reply::json(StatusCode::CREATED, &Cloned { ids }))
}

async fn volume_list(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.volume_snapshots(&call.name)?))
}

async fn volume_create(mut call: Call) -> Result<Reply, ApiError> {
    let request: SnapshotCreate = call.json().await?;
    let name = Some(request.name).filter(|name| !name.is_empty());
    Ok(Reply::json(StatusCode::CREATED, &call.engine.volume_snapshot(&call.name, name).await?))
}

async fn volume_remove(call: Call) -> Result<Reply, ApiError> {
    call.engine.volume_snapshot_remove(&call.name, &wanted(&call)?).await?;
    Ok(Reply::no_content())
}

async fn volume_rollback(call: Call) -> Result<Reply, ApiError> {
    call.engine.volume_rollback(&call.name, &wanted(&call)?).await?;
    Ok(Reply::no_content())
}

async fn volume_clone(call: Call) -> Result<Reply, ApiError> {
    let name = call.query.non_empty("name");
    let name = name.ok_or_else(|| ApiError::invalid("name: the new volume's is required"))?;
    let made = call.engine.volume_clone(&call.name, &name, call.query.non_empty("snapshot")).await?;
    Ok(Reply::json(StatusCode::CREATED, &made))
}

/// Which snapshot is meant.
fn wanted(call: &Call) -> Result<String, ApiError> {
    call.query.non_empty("snapshot").ok_or_else(|| ApiError::invalid("snapshot: a name or id is required"))
}
