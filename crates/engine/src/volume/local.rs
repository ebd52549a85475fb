//! Options of the driver `local`: where a volume's data are, if not in the store.
//!
//! As in Docker they are those of mount(8): `type`, `o`, `device`. Nothing is mounted on the host: each
//! container gets the mount in its own namespace. Of a file system of a device or of the network that
//! is one and the same; a tmpfs is taken over from a container that has it.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::VolumeError;

/// Where the data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// In the store.
    Store,
    /// In a directory of the host.
    Directory {
        path: PathBuf,
        read_only: bool,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// In a file system that is mounted for every container.
    FileSystem(FileSystem),
}

/// What is to be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Its type.
    pub kind: String,
    /// What it is on.
    pub device: String,
    /// Options, as mount(8) takes them.
    pub options: Vec<String>,
}

impl FileSystem {
    /// Whether two mounts of it would be two file systems.
    pub(crate) fn is_ram(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }
}

/// Reads the options.
///
/// # Errors
/// One is unknown, missing, or asks for a quota.
pub(crate) fn backing(options: &BTreeMap<String, String>) -> Result<Backing, VolumeError> {
    if options.keys().all(|key| key == "size") {
        size(options)?;
        return Ok(Backing::Store);
    }
    if let Some(unknown) =
        options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size"))
    {
        return Err(VolumeError::Option(unknown.clone()));
    }
    if options.contains_key("size") {
        return Err(VolumeError::Quota);
    }
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (get("type"), get("device"));
    let words: Vec<&str> = get("o").split(',').filter(|word| !word.is_empty()).collect();
    let is_bind =
        matches!(kind, "none" | "bind") || words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    if device.is_empty() {
        return Err(VolumeError::MissingOption("device"));
    }
    if is_bind {
        return directory(device, &words);
    }
    if kind.is_empty() {
        return Err(VolumeError::MissingOption("type"));
    }
    let options = words.into_iter().map(str::to_owned).collect();
    Ok(Backing::FileSystem(FileSystem { kind: kind.to_owned(), device: device.to_owned(), options }))
}

/// What a volume may take, if that is limited.
///
/// # Errors
/// It is not a number of bytes.
pub(crate) fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>, VolumeError> {
    let Some(text) = options.get("size") else { return Ok(None) };
    let bytes = seacow_spec::size::parse(text).filter(|bytes| *bytes > 0);
    bytes.map(Some).ok_or_else(|| VolumeError::Size(text.clone()))
}

fn directory(device: &str, words: &[&str]) -> Result<Backing, VolumeError> {
    if !device.starts_with('/') {
        return Err(VolumeError::Device(device.to_owned()));
    }
    let known = |word: &&&str| !matches!(**word, "bind" | "rbind" | "ro" | "rw" | "defaults");
    if let Some(word) = words.iter().find(known) {
        return Err(VolumeError::BindOption((*word).to_owned()));
    }
    Ok(Backing::Directory {
        path: PathBuf::from(device),
        read_only: words.contains(&"ro"),
        recursive: words.contains(&"rbind"),
    })
}

/// Replaces the host's name in `addr=`, which the kernel cannot look up. To be called on a thread that
/// may block.
///
/// # Errors
/// There is no address of that name.
pub(crate) fn resolve(mut fs: FileSystem) -> Result<FileSystem, VolumeError> {
    for option in &mut fs.options {
        let Some(host) = option.strip_prefix("addr=") else { continue };
        if host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        let failed = |source| VolumeError::Address { host: host.to_owned(), source };
        let mut found = (host, 0).to_socket_addrs().map_err(failed)?;
        let none = || failed(std::io::ErrorKind::NotFound.into());
        *option = format!("addr={}", found.next().ok_or_else(none)?.ip());
    }
    Ok(fs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Backing, String> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        backing(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn forms() {
        assert_eq!(of(&[]), Ok(Backing::Store));
        let bind = Backing::Directory { path: "/srv".into(), read_only: true, recursive: false };
        assert_eq!(of(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")]), Ok(bind));
        let Ok(Backing::FileSystem(fs)) =
            of(&[("type", "nfs"), ("o", "addr=10.0.0.1,rw,nfsvers=4"), ("device", ":/export")])
        else {
            panic!("no file system");
        };
        assert_eq!((fs.kind.as_str(), fs.device.as_str(), fs.options.len()), ("nfs", ":/export", 3));
        assert!(!fs.is_ram() && resolve(fs.clone()).unwrap() == fs);
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(of(&[("typo", "x")]).unwrap_err(), "invalid option: \"typo\"");
        assert_eq!(of(&[("type", "tmpfs")]).unwrap_err(), "missing required option: \"device\"");
        assert_eq!(of(&[("device", "/dev/x")]).unwrap_err(), "missing required option: \"type\"");
        assert_eq!(of(&[("size", "1g")]), Ok(Backing::Store));
        assert!(of(&[("size", "much")]).unwrap_err().contains("much"));
        let elsewhere = [("size", "1g"), ("type", "none"), ("o", "bind"), ("device", "/x")];
        assert!(of(&elsewhere).unwrap_err().contains("quota"));
        assert!(of(&[("o", "bind,noexec"), ("device", "/x")]).unwrap_err().contains("noexec"));
        assert!(of(&[("o", "bind"), ("device", "x")]).unwrap_err().contains("absolute"));
    }
}
