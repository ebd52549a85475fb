//! One file per resource of the API.

/// A table of routes: `method "pattern" => handler`.
macro_rules! routes {
    ($($method:ident $pattern:literal => $handler:path),* $(,)?) => {
        &[$(Route::$method($pattern, |call| Box::pin($handler(call)))),*]
    };
}

mod archive;
mod build;
mod containers;
mod events;
mod exec;
mod fork;
mod grpc;
mod hijack;
mod images;
mod networks;
mod refused;
mod registry;
mod shape;
mod snapshots;
mod system;
mod volumes;

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use crate::http::{Call, Route};

/// All routes; the first that matches wins.
pub(crate) static TABLES: [&[Route]; 13] = [
    system::ROUTES,
    snapshots::ROUTES,
    fork::ROUTES,
    containers::ROUTES,
    archive::ROUTES,
    exec::ROUTES,
    images::ROUTES,
    build::ROUTES,
    volumes::ROUTES,
    networks::ROUTES,
    registry::ROUTES,
    events::ROUTES,
    refused::ROUTES,
];

/// What separates the objects of build, pull, push, load and import.
const PROGRESS_SEPARATOR: &str = "\r\n";
/// What separates events and samples of statistics.
const LINE_SEPARATOR: &str = "\n";

/// A request's body for the engine to read.
fn upload(call: Call) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    call.into_pieces().map(|piece| piece.map_err(io::Error::other))
}
