//! Files of containers: `docker cp`, `diff`, `export`.

use futures_util::StreamExt as _;
use seacow_engine::container::archive::{CopyFiles, PutArchive};
use seacow_spec::docker::container::PathStat;

use super::upload;
use crate::http::body::Broken;
use crate::http::{ApiError, Call, Reply, Route, go_json};

pub(crate) const ROUTES: &[Route] = routes![
    head "/containers/{name}/archive" => stat,
    get "/containers/{name}/archive" => get,
    put "/containers/{name}/archive" => put,
    // Seacow's own.
    post "/containers/{name}/archive/copy" => copy,
    get "/containers/{name}/changes" => changes,
    get "/containers/{name}/export" => export,
];

/// Base64 of what `stat(2)` says.
const STAT: &str = "x-docker-container-path-stat";

async fn stat(call: Call) -> Result<Reply, ApiError> {
    let stat = call.engine.archive_stat(&call.name, path(&call)?).await?;
    Ok(Reply::ok().with_header(STAT, &encoded(&stat)?))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let (stat, pieces) = call.engine.archive_get(&call.name, path(&call)?).await?;
    let pieces = pieces.map(|piece| piece.map_err(|error| Broken(error.to_string())));
    Ok(Reply::stream("application/x-tar", pieces).with_header(STAT, &encoded(&stat)?))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let path = path(&call)?.to_owned();
    let options = put_options(&call);
    let (engine, name) = (call.engine.clone(), call.name.clone());
    engine.archive_put(&name, &path, options, upload(call)).await?;
    Ok(Reply::ok())
}

/// `path`, `from`, `fromPath`, `name`: see [`CopyFiles`].
async fn copy(call: Call) -> Result<Reply, ApiError> {
    let options = put_options(&call);
    let text = |key: &str| match call.query.text(key) {
        "" => Err(ApiError::invalid(format!("bad parameter: {key} cannot be empty"))),
        text => Ok(text.to_owned()),
    };
    let copy = CopyFiles {
        from: text("from")?,
        from_path: text("fromPath")?,
        into: call.name.clone(),
        into_path: path(&call)?.to_owned(),
        name: text("name").ok(),
    };
    let bytes = call.engine.archive_copy(copy, options).await?;
    Ok(Reply::ok_json(&serde_json::json!({ "Bytes": bytes })))
}

fn put_options(call: &Call) -> PutArchive {
    PutArchive {
        no_overwrite_dir_non_dir: call.query.bool("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.bool("copyUIDGID"),
    }
}

async fn changes(call: Call) -> Result<Reply, ApiError> {
    let changes = call.engine.changes(&call.name).await?;
    // Go's empty slice is null.
    Ok(Reply::ok_json(&(!changes.is_empty()).then_some(changes)))
}

async fn export(call: Call) -> Result<Reply, ApiError> {
    let pieces = call.engine.export(&call.name).await?;
    let pieces = pieces.map(|piece| piece.map_err(|error| Broken(error.to_string())));
    Ok(Reply::stream("application/octet-stream", pieces))
}

fn path(call: &Call) -> Result<&str, ApiError> {
    if call.name.is_empty() {
        return Err(ApiError::invalid("bad parameter: namecannot be empty"));
    }
    match call.query.text("path") {
        // Docker's own spelling.
        "" => Err(ApiError::invalid("bad parameter: pathcannot be empty")),
        path => Ok(path),
    }
}

fn encoded(stat: &PathStat) -> Result<String, ApiError> {
    let json = go_json::encode(stat)
        .map_err(|error| ApiError::new(seacow_spec::ErrorClass::Internal, error.to_string()))?;
    Ok(base64(&json))
}

/// Standard alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let index = bits >> (18 - 6 * digit) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_dockerd_s() {
        let stat = PathStat {
            name: "ln".into(),
            size: 5,
            mode: 134_218_239 | 0x4800_0000,
            mtime: "2026-11-21T01:33:07Z".into(),
            link_target: "/tmp/dir/sub/f".into(),
        };
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert!(encoded(&stat).unwrap().starts_with("eyJuYW1lIjoibG4iLCJzaXplIjo1LCJtb2RlIjox"));
    }
}
