//! `POST /containers/{id}/fork`: seacow's own, beside Docker's paths.
//!
//! | query | |
//! |---|---|
//! | `count` | how many; 1 if absent |
//! | `name` | the name of the one, what the names of several begin with; repeated, all names in their order |
//! | `dryrun` | tells what stands in the way and touches nothing: 200 with `ForkReasons` |
//!
//! 201 with `ForkAnswer`; 404 no such container, 409 it does not run or a name is taken, 501 it has what
//! cannot be forked, every reason in the message.

use hyper::StatusCode;
use seacow_engine::{Caller, ForkOptions};
use seacow_spec::ErrorClass;

use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    post "/containers/{name}/fork" => fork,
];

async fn fork(call: Call) -> Result<Reply, ApiError> {
    if call.query.bool("dryrun") {
        return Ok(Reply::ok_json(&call.engine.fork_reasons(&call.name).await?));
    }
    let count = call.query.atoi("count", ErrorClass::InvalidArgument)?.unwrap_or(1);
    let mut names = call.query.all("name");
    names.retain(|name| !name.is_empty());
    let name = if names.len() == 1 { names.pop() } else { None };
    // What is out of range is refused by the engine.
    let options = ForkOptions { count: usize::try_from(count).unwrap_or(0), name, names };
    let caller = Caller::Peer(call.peer.uid());
    let made = call.engine.fork_container(&call.name, options, caller).await?;
    Ok(Reply::json(StatusCode::CREATED, &made))
}
