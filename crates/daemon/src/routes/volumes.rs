//! Volumes.

use hyper::StatusCode;
use seacow_engine::Filters;
use seacow_spec::docker::volume::VolumeCreate;

use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/volumes" => list,
    post "/volumes/create" => create,
    post "/volumes/prune" => prune,
    get "/volumes/{name}" => inspect,
    put "/volumes/{name}" => update,
    delete "/volumes/{name}" => remove,
];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    Ok(Reply::ok_json(&call.engine.volume_list(filters).await?))
}

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let request: VolumeCreate = call.json().await?;
    Ok(Reply::json(StatusCode::CREATED, &call.engine.volume_create(request).await?))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.volume_inspect(&call.name).await?))
}

async fn update(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("cluster volumes are not built: seacow runs containers of one machine"))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    call.engine.volume_remove(&call.name, call.query.bool("force")).await?;
    Ok(Reply::no_content())
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let mut filters = Filters::parse(call.query.text("filters"))?;
    // Until 1.41 all unused volumes were meant, since then only anonymous ones.
    if !call.version.since(42) {
        filters = filters.with("all", "true");
    }
    Ok(Reply::ok_json(&call.engine.volume_prune(filters).await?))
}
