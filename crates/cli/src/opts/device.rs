//! `--device` and `--gpus`.

use seacow_spec::docker::host_config::DeviceMapping;
use serde_json::{Value, json};

use super::mount::csv_fields;

/// A device by its CDI name (`vendor.com/class=name`), which an engine resolves.
fn is_cdi(value: &str) -> bool {
    match value.split_once('=') {
        Some((kind, name)) => {
            !value.starts_with('/') && kind.contains('/') && kind.contains('.') && !name.is_empty()
        }
        None => false,
    }
}

/// `--device` values: device nodes, and CDI names for the device requests.
pub(crate) fn devices(values: &[String]) -> Result<(Vec<DeviceMapping>, Vec<Value>), String> {
    let (cdi, plain): (Vec<&String>, Vec<&String>) = values.iter().partition(|v| is_cdi(v));
    let devices = plain.into_iter().map(|v| device(v)).collect::<Result<Vec<_>, _>>()?;
    let requests = if cdi.is_empty() {
        Vec::new()
    } else {
        vec![json!({"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": null, "Options": null})]
    };
    Ok((devices, requests))
}

/// `source[:target][:permissions]`.
fn device(value: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = value.split(':').collect();
    let is_mode = |m: &str| !m.is_empty() && m.len() <= 3 && m.bytes().all(|b| b"rwm".contains(&b));
    let (source, target, modes) = match parts.as_slice() {
        [source] if !source.is_empty() => (*source, *source, "rwm"),
        [source, modes] if is_mode(modes) => (*source, *source, *modes),
        [source, target] => (*source, *target, "rwm"),
        [source, target, modes] if is_mode(modes) => (*source, *target, *modes),
        [_, _, modes] => return Err(format!("bad mode specified: {modes}")),
        _ => return Err(format!("bad format for path: {value}")),
    };
    for path in [source, target] {
        if !path.starts_with('/') {
            return Err(format!("{path} is not an absolute path"));
        }
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: modes.to_owned(),
    })
}

/// `--gpus all`, `--gpus 2`, `--gpus device=1`.
pub(crate) fn gpu_request(value: &str) -> Result<Value, String> {
    let mut driver = "";
    let mut count: Option<i64> = None;
    let mut ids: Option<Vec<&str>> = None;
    let mut capabilities: Vec<String> = Vec::new();
    let mut options = serde_json::Map::new();
    let fields = csv_fields(value)?;
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or(("count", field));
        match key {
            "driver" => driver = value,
            "count" => {
                let parsed = if value == "all" { Ok(-1) } else { value.parse() };
                count = Some(parsed.map_err(|_| {
                    format!("invalid count ({value}): value must be either \"all\" or an integer")
                })?);
            }
            "device" => ids = Some(value.split(',').collect()),
            "capabilities" => capabilities = value.split(',').map(str::to_owned).collect(),
            "options" => {
                for option in value.split(',') {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    options.insert(key.to_owned(), value.into());
                }
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !capabilities.iter().any(|c| c == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    let count = count.unwrap_or(if ids.is_some() { 0 } else { 1 });
    Ok(
        json!({"Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": [capabilities], "Options": options}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_paths() {
        let d = device("/dev/a:/dev/b:rw").unwrap();
        assert_eq!((d.path_in_container.as_str(), d.cgroup_permissions.as_str()), ("/dev/b", "rw"));
        assert_eq!(device("/dev/a:r").unwrap().path_in_container, "/dev/a");
        assert_eq!(device("/a:/b:zz").unwrap_err(), "bad mode specified: zz");
        assert_eq!(device("").unwrap_err(), "bad format for path: ");
        assert_eq!(device("rel").unwrap_err(), "rel is not an absolute path");
        assert!(is_cdi("vendor.com/class=name"));
    }

    #[test]
    fn gpus() {
        assert_eq!(gpu_request("all").unwrap()["Count"], -1);
        assert_eq!(gpu_request("x=y").unwrap_err(), "unexpected key 'x' in 'x=y'");
    }
}
