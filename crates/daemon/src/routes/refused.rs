//! What Docker has and seacow has not (yet): every path answers, and says why.

use hyper::StatusCode;
use seacow_spec::ErrorClass;

use crate::http::{ApiError, Call, Reply, Route};

const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
                             to connect this node to swarm and try again.";

pub(crate) const ROUTES: &[Route] = routes![
    get "/swarm" => not_a_manager,
    post "/swarm/init" => swarm,
    post "/swarm/join" => swarm,
    post "/swarm/leave" => not_a_manager,
    post "/swarm/update" => not_a_manager,
    post "/swarm/unlock" => not_a_manager,
    get "/swarm/unlockkey" => not_a_manager,
    get "/services" => not_a_manager,
    post "/services/create" => not_a_manager,
    get "/services/{name}" => not_a_manager,
    post "/services/{name}" => not_a_manager,
    delete "/services/{name}" => not_a_manager,
    get "/nodes" => not_a_manager,
    get "/nodes/{name}" => not_a_manager,
    post "/nodes/{name}" => not_a_manager,
    delete "/nodes/{name}" => not_a_manager,
    get "/tasks" => not_a_manager,
    get "/tasks/{name}" => not_a_manager,
    get "/secrets" => not_a_manager,
    post "/secrets/create" => not_a_manager,
    get "/secrets/{name}" => not_a_manager,
    post "/secrets/{name}" => not_a_manager,
    delete "/secrets/{name}" => not_a_manager,
    get "/configs" => not_a_manager,
    post "/configs/create" => not_a_manager,
    get "/configs/{name}" => not_a_manager,
    post "/configs/{name}" => not_a_manager,
    delete "/configs/{name}" => not_a_manager,
    get "/plugins" => no_plugins,
    get "/plugins/privileges" => plugins,
    get "/plugins/{name}/json" => no_such_plugin,
    post "/plugins/{name}" => plugins,
    delete "/plugins/{name}" => no_such_plugin,
    get "/containers/{name}/checkpoints" => checkpoints,
    post "/containers/{name}/checkpoints" => checkpoints,
];

async fn not_a_manager(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::new(ErrorClass::Unavailable, NOT_A_MANAGER))
}

async fn swarm(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("swarm mode is not built: seacow runs containers of one machine"))
}

async fn no_plugins(_: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(StatusCode::OK, &[(); 0]))
}

async fn no_such_plugin(call: Call) -> Result<Reply, ApiError> {
    Err(ApiError::new(ErrorClass::NotFound, format!("plugin {:?} not found", call.name)))
}

async fn plugins(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented(
        "managed plug-ins (docker plugin install) are not built: seacow uses volume plug-ins that run by themselves \
         and listen in /run/docker/plugins, or are named in /etc/docker/plugins or /usr/lib/docker/plugins",
    ))
}

async fn checkpoints(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("checkpoints are not built yet"))
}
