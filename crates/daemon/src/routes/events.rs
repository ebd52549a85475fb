//! What happens.

use futures_util::StreamExt as _;
use seacow_engine::{EventFilter, Filters};

use super::LINE_SEPARATOR;
use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![get "/events" => events];

async fn events(call: Call) -> Result<Reply, ApiError> {
    let filter = EventFilter {
        since: call.query.text("since").to_owned(),
        until: call.query.text("until").to_owned(),
        filters: Filters::parse(call.query.text("filters"))?,
    };
    let events = call.engine.events(filter)?.map(|event| event.as_ref().clone());
    Ok(Reply::json_stream(events, LINE_SEPARATOR))
}
