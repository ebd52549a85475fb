//! The registry of one's own: ours, beside Docker's paths.

use std::time::Duration;

use hyper::StatusCode;
use seacow_engine::registry::{Collect, RegistryOptions};

use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/registry" => status,
    post "/registry/start" => start,
    post "/registry/stop" => stop,
    post "/registry/gc" => collect,
];

async fn status(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.registry_status().await?))
}

async fn start(mut call: Call) -> Result<Reply, ApiError> {
    let options: RegistryOptions = call.optional_json().await?.unwrap_or_default();
    Ok(Reply::json(StatusCode::CREATED, &call.engine.registry_start(options).await?))
}

async fn stop(call: Call) -> Result<Reply, ApiError> {
    call.engine.registry_stop().await?;
    Ok(Reply::no_content())
}

async fn collect(call: Call) -> Result<Reply, ApiError> {
    let mut how = Collect { untagged: call.query.bool("untagged"), ..Collect::default() };
    if let Some(grace) = call.query.non_empty("grace") {
        let seconds =
            grace.parse().map_err(|_| ApiError::invalid(format!("invalid grace {grace:?}: seconds")))?;
        how.grace = Duration::from_secs(seconds);
    }
    Ok(Reply::ok_json(&call.engine.registry_collect(how).await?))
}
