//! `--mount key=value,…`.

use std::collections::BTreeMap;

use seacow_spec::docker::host_config::{BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions};

use super::volume::absolute;
use crate::flags::parse_bytes;

/// Reads one `--mount` value.
pub(crate) fn parse(value: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let mut recursive = None;
    for field in csv_fields(value)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.to_lowercase();
        // Three keys may stand alone.
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => mount.read_only = true,
                "volume-nocopy" => volume(&mut mount).no_copy = true,
                "bind-nonrecursive" => bind(&mut mount).non_recursive = true,
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            }
            continue;
        };
        set(&mut mount, &mut recursive, &key, value, &field)?;
    }
    if let Some(recursive) = recursive {
        apply_recursive(&mut mount, &recursive)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn set(
    mount: &mut Mount,
    recursive: &mut Option<String>,
    key: &str,
    value: &str,
    field: &str,
) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {value}");
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            mount.source = if value == "." || value.starts_with("./") || value.starts_with("..") {
                absolute(value)
            } else {
                value.to_owned()
            };
        }
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = go_bool(value).ok_or_else(invalid)?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = go_bool(value).ok_or_else(invalid)?,
        "bind-recursive" => *recursive = Some(value.to_owned()),
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = go_bool(value).ok_or_else(invalid)?,
        "volume-label" => insert(volume(mount).labels.get_or_insert_default(), value),
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => insert(driver(mount).options.get_or_insert_default(), value),
        "image-subpath" => mount.image_options.get_or_insert_default().subpath = value.to_owned(),
        "tmpfs-size" => tmpfs(mount).size_bytes = parse_bytes(value).map_err(|_| invalid())?,
        "tmpfs-mode" => {
            tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn apply_recursive(mount: &mut Mount, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind(mount).non_recursive = true,
        "writable" => {
            needs_read_only(mount, value)?;
            bind(mount).read_only_non_recursive = true;
        }
        "readonly" => {
            needs_read_only(mount, value)?;
            if bind(mount).propagation != "rprivate" {
                return Err(
                    "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                        .to_owned(),
                );
            }
            bind(mount).read_only_force_recursive = true;
        }
        other => {
            return Err(format!(
                "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn needs_read_only(mount: &Mount, value: &str) -> Result<(), String> {
    if mount.read_only {
        return Ok(());
    }
    Err(format!("option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"))
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let mixed =
        |options: &str| Err(format!("cannot mix '{options}' options with mount type '{}'", mount.kind));
    if mount.volume_options.is_some() && mount.kind != "volume" {
        return mixed("volume-*");
    }
    if mount.image_options.is_some() && mount.kind != "image" {
        return mixed("image-*");
    }
    if mount.bind_options.is_some() && mount.kind != "bind" {
        return mixed("bind-*");
    }
    if mount.tmpfs_options.is_some() && mount.kind != "tmpfs" {
        return mixed("tmpfs-*");
    }
    Ok(())
}

fn insert(map: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// One line of Go's `encoding/csv`: fields may be quoted, `""` is a quote inside.
pub(crate) fn csv_fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted, text)?;
            fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        }
        let (field, next) = match rest.split_once(',') {
            Some((field, next)) => (field, Some(next)),
            None => (rest, None),
        };
        if let Some(i) = field.find('"') {
            let column = text.len() - rest.len() + i + 1;
            return Err(format!("parse error on line 1, column {column}: bare \" in non-quoted-field"));
        }
        fields.push(field.to_owned());
        match next {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn quoted_field<'a>(mut rest: &'a str, whole: &str) -> Result<(String, &'a str), String> {
    let mut field = String::new();
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            let column = whole.len() + 1;
            return Err(format!(
                "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
            ));
        };
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => {
                let column = whole.len() - after.len();
                return Err(format!(
                    "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(value: &str) -> String {
        parse(value).unwrap_err()
    }

    #[test]
    fn refusals_read_like_docker() {
        assert_eq!(refusal("type=bind"), "target is required");
        assert_eq!(refusal("foo"), "invalid field 'foo' must be a key=value pair");
        assert_eq!(refusal(""), "EOF");
        assert_eq!(refusal("dst=/b,foo=1"), "unexpected key 'foo' in 'foo=1'");
        assert_eq!(refusal("dst=/b,ro=maybe"), "invalid value for ro: maybe");
        assert_eq!(
            refusal("type=bind,dst=/b,tmpfs-size=1"),
            "cannot mix 'tmpfs-*' options with mount type 'bind'"
        );
        assert_eq!(
            refusal("type=bind,source=\"/a\",target=/b"),
            "parse error on line 1, column 18: bare \" in non-quoted-field"
        );
    }

    #[test]
    fn values() {
        let mount = parse("type=bind,\"source=/a,b\",dst=/b,ro,bind-recursive=writable").unwrap();
        assert_eq!((mount.source.as_str(), mount.read_only), ("/a,b", true));
        assert!(mount.bind_options.unwrap().read_only_non_recursive);
        let mount = parse("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let options = mount.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (1 << 20, 0o700));
        let mount = parse("dst=/b,volume-nocopy,volume-opt=x=y,volume-label=a").unwrap();
        assert_eq!(mount.volume_options.unwrap().driver_config.unwrap().options.unwrap()["x"], "y");
    }
}
