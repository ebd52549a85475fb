//! The engine itself.

use crate::http::{ApiError, Call, Reply, Route};
use crate::server::dispatch::ping;

pub(crate) const ROUTES: &[Route] = routes![
    get "/_ping" => ping_get,
    head "/_ping" => ping_head,
    get "/version" => version,
    get "/info" => info,
    get "/system/df" => df,
    get "/system/cow" => cow,
    get "/system/doctor" => doctor,
];

async fn ping_get(_: Call) -> Result<Reply, ApiError> {
    Ok(ping(true))
}

async fn ping_head(_: Call) -> Result<Reply, ApiError> {
    Ok(ping(false))
}

async fn version(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.version()))
}

async fn info(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.info().await?))
}

async fn df(call: Call) -> Result<Reply, ApiError> {
    let mut usage = call.engine.df(&call.query.all("type")).await?;
    super::shape::image_list(call.version, &mut usage.images);
    Ok(Reply::ok_json(&usage))
}

async fn cow(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.cow().await?))
}

async fn doctor(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.doctor().await?))
}
