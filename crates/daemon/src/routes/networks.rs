//! Networks.

use seacow_engine::{Filters, NetworkVerb};

use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/networks" => list,
    get "/networks/" => list,
    post "/networks/create" => create,
    post "/networks/prune" => prune,
    post "/networks/{name}/connect" => connect,
    post "/networks/{name}/disconnect" => disconnect,
    get "/networks/{name}" => inspect,
    delete "/networks/{name}" => remove,
];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    Ok(Reply::ok_json(&call.engine.network_list(&filters)?))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.network_inspect(&call.name)?))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    Err(call.engine.network_unsupported(NetworkVerb::Create).into())
}

async fn connect(call: Call) -> Result<Reply, ApiError> {
    Err(call.engine.network_unsupported(NetworkVerb::Connect).into())
}

async fn disconnect(call: Call) -> Result<Reply, ApiError> {
    Err(call.engine.network_unsupported(NetworkVerb::Disconnect).into())
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    call.engine.network_remove(&call.name)?;
    Ok(Reply::no_content())
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&["label", "label!", "until"])?;
    filters.until()?;
    // The predefined networks are never pruned, and there are no others.
    Ok(Reply::ok_json(&NetworksPruned { networks_deleted: None }))
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworksPruned {
    networks_deleted: Option<Vec<String>>,
}
