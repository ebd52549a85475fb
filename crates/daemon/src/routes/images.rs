//! Images, their files and their names; also what makes images of containers.

use futures_util::StreamExt as _;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use seacow_engine::image::{
    Credentials, Described, ImportOptions, ListImages, Packing, PullOptions, PushOptions, RemoveImage,
};
use seacow_engine::{Caller, Filters};
use seacow_spec::ErrorClass;
use serde_json::json;

use super::{PROGRESS_SEPARATOR, shape};
use crate::http::body::Broken;
use crate::http::{ApiError, Call, Reply, Route};

pub(crate) const ROUTES: &[Route] = routes![
    get "/images/json" => list,
    get "/images/search" => search,
    get "/distribution/{name}/json" => distribution,
    post "/auth" => login,
    get "/images/get" => save_many,
    post "/images/load" => load,
    post "/images/create" => create,
    post "/images/prune" => prune,
    get "/images/{name}/get" => save_one,
    get "/images/{name}/history" => history,
    get "/images/{name}/json" => inspect,
    post "/images/{name}/tag" => tag,
    post "/images/{name}/push" => push,
    delete "/images/{name}" => remove,
];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let mut filters = Filters::parse(call.query.text("filters"))?;
    // Until 1.40 there was a parameter for this one.
    if let (false, Some(pattern)) = (call.version.since(41), call.query.non_empty("filter")) {
        filters = filters.with("reference", &pattern);
    }
    let options =
        ListImages { all: call.query.bool("all"), shared_size: call.query.bool("shared-size"), filters };
    let mut images = call.engine.image_list(options).await?;
    shape::image_list(call.version, &mut images);
    Ok(Reply::ok_json(&images))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let mut image = call.engine.image_inspect(&call.name).await?;
    shape::image_inspect(call.version, &mut image);
    Ok(Reply::ok_json(&image))
}

async fn history(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok_json(&call.engine.image_history(&call.name).await?))
}

async fn tag(call: Call) -> Result<Reply, ApiError> {
    call.engine.image_tag(&call.name, call.query.text("repo"), call.query.text("tag")).await?;
    Ok(Reply::status(StatusCode::CREATED))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let options = RemoveImage { force: call.query.bool("force"), no_prune: call.query.bool("noprune") };
    Ok(Reply::ok_json(&call.engine.image_remove(&call.name, options).await?))
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    Ok(Reply::ok_json(&call.engine.image_prune(filters).await?))
}

async fn search(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::parse(call.query.text("filters"))?;
    let limit = match call.query.non_empty("limit") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| ApiError::invalid(format!("invalid limit {text:?}")))?),
    };
    let (term, credentials) = (call.query.text("term").to_owned(), credentials(&call)?);
    let found = call.engine.image_search(&term, limit, &filters, &credentials).await?;
    let rows: Vec<_> = found
        .iter()
        .map(|image| {
            json!({
                "name": image.name, "description": image.description, "star_count": image.star_count,
                "is_official": image.is_official, "is_automated": image.is_automated,
            })
        })
        .collect();
    Ok(Reply::ok_json(&rows))
}

/// What `docker login` asks before it keeps what was typed.
async fn login(mut call: Call) -> Result<Reply, ApiError> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Login {
        serveraddress: String,
        #[serde(flatten)]
        credentials: Credentials,
    }
    let login: Login = call.json().await?;
    let identity = call.engine.login(&login.serveraddress, &login.credentials).await?;
    let identity = identity.unwrap_or_default();
    Ok(Reply::ok_json(&json!({"IdentityToken": identity, "Status": "Login Succeeded"})))
}

async fn distribution(call: Call) -> Result<Reply, ApiError> {
    let credentials = credentials(&call)?;
    let Described { descriptor, platforms } = call.engine.distribution(&call.name, &credentials).await?;
    Ok(Reply::ok_json(&json!({"Descriptor": descriptor, "Platforms": platforms})))
}

async fn push(call: Call) -> Result<Reply, ApiError> {
    let options = PushOptions {
        image: call.name.clone(),
        tag: call.query.text("tag").to_owned(),
        platform: platform(call.query.text("platform"))?,
        packing: packing(call.query.text("compression"))?,
        credentials: credentials(&call)?,
    };
    Ok(Reply::json_stream(call.engine.image_push(options).await?, PROGRESS_SEPARATOR))
}

/// A platform as clients since 1.46 send it: a JSON object.
fn platform(text: &str) -> Result<Option<String>, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    struct Platform {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    if !text.starts_with('{') {
        return Ok(Some(text.to_owned()).filter(|text| !text.is_empty()));
    }
    let wanted: Platform = serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("failed to parse platform: {error}")))?;
    let variant = if wanted.variant.is_empty() { String::new() } else { format!("/{}", wanted.variant) };
    Ok(Some(format!("{}/{}{variant}", wanted.os, wanted.architecture)))
}

/// `gzip`, `zstd`, each with a level behind a colon: ours; Docker's clients say nothing.
fn packing(text: &str) -> Result<Option<Packing>, ApiError> {
    let (kind, level) = text.split_once(':').unwrap_or((text, ""));
    let level: Option<u8> = match level {
        "" => None,
        level => Some(level.parse().unwrap_or(u8::MAX)),
    };
    match (kind, level) {
        ("", None) => Ok(None),
        ("gzip", None) => Ok(Some(Packing::DOCKER)),
        ("gzip", Some(level @ 1..=9)) => Ok(Some(Packing::Gzip(level.into()))),
        ("zstd", None) => Ok(Some(Packing::ZSTD)),
        ("zstd", Some(level @ 1..=19)) => Ok(Some(Packing::Zstd(level.into()))),
        _ => Err(ApiError::invalid(format!(
            "invalid compression {text:?}: expected gzip, gzip:1 to gzip:9, zstd, or zstd:1 to zstd:19"
        ))),
    }
}

/// `docker pull` and `docker import` are one path with different parameters.
async fn create(call: Call) -> Result<Reply, ApiError> {
    if let Some(image) = call.query.non_empty("fromImage") {
        let options = PullOptions {
            image,
            tag: call.query.text("tag").to_owned(),
            platform: call.query.non_empty("platform"),
            credentials: credentials(&call)?,
        };
        let progress = call.engine.image_pull(options, Caller::Peer(call.peer.uid())).await?;
        return Ok(Reply::json_stream(progress, PROGRESS_SEPARATOR));
    }
    let source = call.query.text("fromSrc").to_owned();
    if source.is_empty() {
        return Err(ApiError::invalid("Either fromImage or fromSrc must be set"));
    }
    let options = ImportOptions {
        source,
        repository: call.query.text("repo").to_owned(),
        tag: call.query.text("tag").to_owned(),
        message: call.query.text("message").to_owned(),
        changes: call.query.all("changes"),
        platform: call.query.non_empty("platform"),
    };
    let engine = call.engine.clone();
    let progress = engine.image_import(options, super::upload(call)).await?;
    Ok(Reply::json_stream(progress, PROGRESS_SEPARATOR))
}

/// What the client sends along for the registry.
fn credentials(call: &Call) -> Result<Credentials, ApiError> {
    let header = call.headers.get("x-registry-auth").map(HeaderValue::to_str);
    let malformed = |error: &dyn std::fmt::Display| ApiError::invalid(error.to_string());
    match header {
        None => Ok(Credentials::default()),
        Some(Err(error)) => Err(malformed(&error)),
        Some(Ok(text)) => Credentials::from_header(text).map_err(|error| malformed(&error)),
    }
}

async fn load(call: Call) -> Result<Reply, ApiError> {
    if call.query.get("platform").is_some_and(|platform| !platform.is_empty()) {
        return Err(ApiError::not_implemented("loading one platform of several is not built yet"));
    }
    let engine = call.engine.clone();
    let progress = engine.image_load(super::upload(call)).await?;
    Ok(Reply::json_stream(progress, PROGRESS_SEPARATOR))
}

async fn save_one(call: Call) -> Result<Reply, ApiError> {
    let names = vec![call.name.clone()];
    save(call, names).await
}

async fn save_many(call: Call) -> Result<Reply, ApiError> {
    let names: Vec<String> =
        call.query.all("names").iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::new(ErrorClass::InvalidArgument, "no images named"));
    }
    save(call, names).await
}

async fn save(call: Call, names: Vec<String>) -> Result<Reply, ApiError> {
    let pieces = call.engine.image_save(names).await?;
    let pieces = pieces.map(|piece| piece.map_err(|error| Broken(error.to_string())));
    Ok(Reply::stream("application/x-tar", pieces))
}
