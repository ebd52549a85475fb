//! What a request wants mounted: `-v`, `--mount`, and the image's volumes, as one list.
//!
//! The list is made without touching volumes; [`super::volumes`] makes them and fills in sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::host_config::{HostConfig, Mount};
use seacow_spec::docker::inspect::MountPoint;

use super::error::ContainerError;
use super::invalid::Invalid;
use super::record::MountRecord;

/// The driver of volumes that no plug-in has.
pub(crate) const LOCAL: &str = "local";
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const DEFAULT_PROPAGATION: &str = "rprivate";

/// Everything the request mounts besides `HostConfig.Tmpfs`, parents before children.
///
/// # Errors
/// A specification is malformed, names one destination twice, or wants what is not there.
pub(super) fn collect(
    config: &ContainerConfig,
    host: &HostConfig,
    taken_over: Vec<MountRecord>,
) -> Result<Vec<MountRecord>, ContainerError> {
    let mut mounts = Vec::new();
    for spec in host.binds.iter().flatten() {
        let mut mount = bind(spec)?;
        set_driver(&mut mount, &host.volume_driver);
        mounts.push(mount);
    }
    for mount in host.mounts.iter().flatten() {
        mounts.push(explicit(mount)?);
    }
    let tmpfs = host.tmpfs.iter().flatten().map(|(path, _)| clean(path));
    let mut taken: BTreeSet<String> = tmpfs.collect();
    for mount in &mounts {
        if !taken.insert(mount.point.destination.clone()) {
            return Err(Invalid::DuplicateMount(mount.point.destination.clone()).into());
        }
    }
    // Own mounts hide those of others, and both those of the image.
    for mount in taken_over {
        if taken.insert(mount.point.destination.clone()) {
            mounts.push(mount);
        }
    }
    for path in config.volumes.iter().flatten().map(|(path, _)| path) {
        let target = destination(path, path)?;
        if taken.insert(target.clone()) {
            let mut mount = volume(String::new(), target, "", true);
            set_driver(&mut mount, &host.volume_driver);
            mounts.push(mount);
        }
    }
    mounts.sort_by_key(|mount| Path::new(&mount.point.destination).components().count());
    Ok(mounts)
}

/// The mounts of another container as `--volumes-from` takes them over. They stay the other's:
/// nothing is made or filled for them, and they are not removed with the new container.
///
/// # Errors
/// The mode is neither `ro` nor `rw`.
pub(super) fn take_over(mounts: Vec<MountRecord>, mode: &str) -> Result<Vec<MountRecord>, Invalid> {
    let mode = parse_mode(mode)?;
    if mode.propagation.is_some() || mode.no_copy {
        return Err(Invalid::BindMode(mode.text.to_owned()));
    }
    let taken = mounts.into_iter().filter(|mount| mount.point.kind != "tmpfs").map(|mut mount| {
        mount.point.rw &= mode.writable;
        if !mode.text.is_empty() {
            mode.text.clone_into(&mut mount.point.mode);
        }
        MountRecord { anonymous: false, copy: false, create_source: false, ..mount }
    });
    Ok(taken.collect())
}

/// `source:destination[:mode]`, or a destination alone.
fn bind(spec: &str) -> Result<MountRecord, Invalid> {
    let wrong = |why| Invalid::Bind { spec: spec.to_owned(), why };
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(wrong("too many colons")),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(wrong("the source is empty"));
    }
    let target = destination(target, spec)?;
    let mode = parse_mode(mode)?;
    if source.is_empty() {
        return Ok(volume(String::new(), target, mode.text, mode.writable));
    }
    if !source.starts_with('/') {
        if !seacow_spec::names::is_valid(source) {
            return Err(Invalid::VolumeName(source.to_owned()));
        }
        if mode.propagation.is_some() {
            return Err(Invalid::BindMode(mode.text.to_owned()));
        }
        let mut record = volume(source.to_owned(), target, mode.text, mode.writable);
        record.copy = !mode.no_copy;
        record.scratch = mode.scratch;
        return Ok(record);
    }
    if mode.no_copy {
        return Err(Invalid::BindMode(mode.text.to_owned()));
    }
    let propagation = mode.propagation.unwrap_or(DEFAULT_PROPAGATION);
    let mut record = host_path(&clean(source), target, propagation, mode.writable);
    record.scratch = mode.scratch;
    mode.text.clone_into(&mut record.point.mode);
    record.create_source = true;
    Ok(record)
}

struct ModeWords<'a> {
    text: &'a str,
    writable: bool,
    propagation: Option<&'a str>,
    no_copy: bool,
    /// Writes go elsewhere.
    scratch: bool,
}

fn parse_mode(text: &str) -> Result<ModeWords<'_>, Invalid> {
    let mut mode = ModeWords { text, writable: true, propagation: None, no_copy: false, scratch: false };
    let mut access = None;
    for word in text.split(',').filter(|_| !text.is_empty()) {
        match word {
            "ro" | "rw" if access.is_none() => {
                access = Some(word);
                mode.writable = word == "rw";
            }
            "nocopy" if !mode.no_copy => mode.no_copy = true,
            // Podman's.
            "O" if access != Some("ro") => mode.scratch = true,
            // Labels of SELinux and hints for macOS: without effect on this host, in Docker as well.
            "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
            word if PROPAGATIONS.contains(&word) && mode.propagation.is_none() => {
                mode.propagation = Some(word)
            }
            _ => return Err(Invalid::BindMode(text.to_owned())),
        }
    }
    Ok(mode)
}

/// One `--mount`.
fn explicit(mount: &Mount) -> Result<MountRecord, ContainerError> {
    let wrong = |why: String| Invalid::Mount { kind: mount.kind.clone(), why };
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty".into()).into());
    }
    let target = destination(&mount.target, &mount.target)?;
    match mount.kind.as_str() {
        "bind" => explicit_bind(mount, target),
        "volume" => explicit_volume(mount, target),
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(wrong("field Source must not be specified".into()).into());
            }
            Ok(explicit_tmpfs(mount, target)?)
        }
        "image" => explicit_image(mount, target),
        "cluster" | "npipe" => Err(ContainerError::Unsupported(format!("--mount type={}", mount.kind))),
        other => Err(Invalid::MountType(other.to_owned()).into()),
    }
}

fn explicit_bind(mount: &Mount, target: String) -> Result<MountRecord, ContainerError> {
    let wrong = |why: String| Invalid::Mount { kind: mount.kind.clone(), why };
    if !mount.source.starts_with('/') {
        return Err(
            wrong(format!("invalid mount path: '{}' mount path must be absolute", mount.source)).into()
        );
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let propagation = match options.propagation.as_str() {
        "" => DEFAULT_PROPAGATION,
        word if PROPAGATIONS.contains(&word) => word,
        word => return Err(wrong(format!("invalid propagation mode: {word}")).into()),
    };
    let source = clean(&mount.source);
    if !options.create_mountpoint && !Path::new(&source).exists() {
        return Err(wrong(format!("bind source path does not exist: {source}")).into());
    }
    let mut record = host_path(&source, target, propagation, !mount.read_only);
    record.create_source = options.create_mountpoint;
    record.non_recursive = options.non_recursive;
    if options.read_only_force_recursive {
        record.options.push("rro".into());
    }
    Ok(record)
}

fn explicit_volume(mount: &Mount, target: String) -> Result<MountRecord, ContainerError> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if !mount.source.is_empty() && !seacow_spec::names::is_valid(&mount.source) {
        return Err(Invalid::VolumeName(mount.source.clone()).into());
    }
    check_subpath(mount, &options.subpath)?;
    let driver = options.driver_config.unwrap_or_default();
    let mut record = volume(mount.source.clone(), target, "z", !mount.read_only);
    set_driver(&mut record, &driver.name);
    // What the image has at the target belongs into the volume's top.
    record.copy = !options.no_copy && options.subpath.is_empty();
    record.subpath = options.subpath;
    record.labels = options.labels.unwrap_or_default();
    record.driver_options = driver.options.unwrap_or_default();
    Ok(record)
}

/// The files of an image, read-only.
fn explicit_image(mount: &Mount, target: String) -> Result<MountRecord, ContainerError> {
    let wrong = |why: &str| Invalid::Mount { kind: mount.kind.clone(), why: why.into() };
    if mount.source.is_empty() {
        return Err(wrong("field Source must not be empty").into());
    }
    let options = mount.image_options.clone().unwrap_or_default();
    check_subpath(mount, &options.subpath)?;
    let mut point = point("image", target, false);
    point.source.clone_from(&mount.source);
    Ok(MountRecord { subpath: options.subpath, ..record(point) })
}

fn check_subpath(mount: &Mount, path: &str) -> Result<(), Invalid> {
    let leaves = Path::new(path).components().any(|part| part == std::path::Component::ParentDir);
    if path.starts_with('/') || leaves {
        let why = "subpath must be a relative path within the volume".into();
        return Err(Invalid::Mount { kind: mount.kind.clone(), why });
    }
    Ok(())
}

fn explicit_tmpfs(mount: &Mount, target: String) -> Result<MountRecord, Invalid> {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for pair in options.options.iter().flatten() {
        merge_tmpfs_option(&mut words, &pair.join("="))?;
    }
    if options.size_bytes > 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    let mut point = point("tmpfs", target, !mount.read_only);
    point.mode = String::new();
    Ok(MountRecord { options: words, ..record(point) })
}

/// Kernel options of one `--tmpfs path:options`: Docker's defaults, then what was asked for.
///
/// # Errors
/// An option is none of tmpfs's.
pub(super) fn tmpfs_options(text: &str) -> Result<Vec<String>, Invalid> {
    let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        merge_tmpfs_option(&mut words, option)?;
    }
    Ok(words)
}

/// Adds an option and takes away the one it contradicts.
fn merge_tmpfs_option(words: &mut Vec<String>, option: &str) -> Result<(), Invalid> {
    const OPPOSITES: [(&str, &str); 7] = [
        ("ro", "rw"),
        ("exec", "noexec"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("atime", "noatime"),
        ("diratime", "nodiratime"),
        ("relatime", "norelatime"),
    ];
    const VALUED: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    const SINGLE: [&str; 6] = ["async", "sync", "dirsync", "mand", "strictatime", "lazytime"];
    let key = option.split_once('=').map(|(key, _)| key);
    let opposite = OPPOSITES.iter().find_map(|(on, off)| match option {
        word if word == *on => Some(*off),
        word if word == *off => Some(*on),
        _ => None,
    });
    match (key, opposite) {
        (Some(key), _) if VALUED.contains(&key) => {
            words.retain(|word| word.split_once('=').is_none_or(|(have, _)| have != key));
        }
        (None, Some(opposite)) => words.retain(|word| word != opposite && word != option),
        (None, None) if SINGLE.contains(&option) || PROPAGATIONS.contains(&option) => {}
        _ => return Err(Invalid::TmpfsOption(option.to_owned())),
    }
    words.push(option.to_owned());
    Ok(())
}

fn volume(name: String, target: String, mode: &str, writable: bool) -> MountRecord {
    let anonymous = name.is_empty();
    let mut point = point("volume", target, writable);
    point.name = name;
    LOCAL.clone_into(&mut point.driver);
    let default = if anonymous { "" } else { "z" };
    if mode.is_empty() { default } else { mode }.clone_into(&mut point.mode);
    MountRecord { anonymous, copy: true, ..record(point) }
}

/// Whose a volume is that the request makes.
fn set_driver(mount: &mut MountRecord, driver: &str) {
    if mount.point.kind == "volume" && !driver.is_empty() {
        driver.clone_into(&mut mount.point.driver);
    }
}

fn host_path(source: &str, target: String, propagation: &str, writable: bool) -> MountRecord {
    let mut point = point("bind", target, writable);
    source.clone_into(&mut point.source);
    propagation.clone_into(&mut point.propagation);
    MountRecord { source: PathBuf::from(source), options: vec![propagation.to_owned()], ..record(point) }
}

fn point(kind: &str, destination: String, rw: bool) -> MountPoint {
    MountPoint { kind: kind.to_owned(), destination, rw, ..MountPoint::default() }
}

fn record(point: MountPoint) -> MountRecord {
    MountRecord { point, ..MountRecord::default() }
}

/// Where what is written over a source goes that stays as it is: the mount's place in the list tells
/// them apart.
pub(super) fn scratch_dir(container: &Path, index: usize) -> PathBuf {
    container.join("scratch").join(index.to_string())
}

fn destination(path: &str, spec: &str) -> Result<String, Invalid> {
    let wrong = |why| Invalid::Bind { spec: spec.to_owned(), why };
    if !path.starts_with('/') {
        return Err(wrong("the destination must be an absolute path"));
    }
    match clean(path).as_str() {
        "/" => Err(wrong("destination can't be '/'")),
        cleaned => Ok(cleaned.to_owned()),
    }
}

/// Lexically shortest form of an absolute path, as Go's `path.Clean` makes it.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(specs: &[&str]) -> Result<Vec<MountRecord>, ContainerError> {
        let host = HostConfig {
            binds: Some(specs.iter().map(|s| (*s).to_owned()).collect()),
            ..HostConfig::default()
        };
        collect(&ContainerConfig::default(), &host, Vec::new())
    }

    #[test]
    fn the_forms_of_v() {
        let mounts = binds(&["/tmp/../etc:/a/b/c:ro,rshared", "vol1:/a", "/anon"]).unwrap();
        assert_eq!(
            mounts.iter().map(|m| m.point.destination.as_str()).collect::<Vec<_>>(),
            ["/a", "/anon", "/a/b/c"]
        );
        let bind = &mounts[2];
        assert_eq!(
            (bind.point.source.as_str(), bind.point.rw, bind.point.propagation.as_str()),
            ("/etc", false, "rshared")
        );
        assert!(bind.create_source);
        assert_eq!(
            (mounts[0].point.name.as_str(), mounts[0].point.mode.as_str(), mounts[0].copy),
            ("vol1", "z", true)
        );
        assert!(mounts[1].anonymous);
    }

    #[test]
    fn malformed_ones() {
        for bad in [
            "a:b",
            "/x:/",
            "/x:/y:nonsense",
            "/x:/y:ro,rw",
            ":/y",
            "b/c:/y",
            "/x:/y:nocopy",
            "a:b:c:d",
            "v1:/y:shared",
        ] {
            assert!(binds(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(binds(&["/x:/y", "v1:/y/"]).unwrap_err().to_string(), "Duplicate mount point: /y");
    }

    #[test]
    fn image_volumes_give_way() {
        let config = ContainerConfig {
            volumes: Some(
                [("/data".to_owned(), Default::default()), ("/more".to_owned(), Default::default())].into(),
            ),
            ..Default::default()
        };
        let host = HostConfig { binds: Some(vec!["/tmp:/data".into()]), ..HostConfig::default() };
        let mounts = collect(&config, &host, Vec::new()).unwrap();
        assert_eq!(
            mounts.iter().filter(|m| m.anonymous).map(|m| m.point.destination.as_str()).collect::<Vec<_>>(),
            ["/more"]
        );
    }

    #[test]
    fn mount_wants_an_existing_source() {
        let mount = |kind: &str, source: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            target: "/t".into(),
            ..Mount::default()
        };
        let of = |mount: Mount| {
            collect(
                &ContainerConfig::default(),
                &HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() },
                Vec::new(),
            )
        };
        assert_eq!(
            of(mount("bind", "/no/such")).unwrap_err().to_string(),
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such"
        );
        assert!(of(mount("bind", "/tmp")).is_ok() && of(mount("volume", "")).unwrap()[0].anonymous);
        assert!(of(mount("image", "")).is_err() && of(mount("odd", "")).is_err());
        assert!(!of(mount("image", "bb")).unwrap()[0].point.rw);
    }

    #[test]
    fn tmpfs_options_replace_defaults() {
        assert_eq!(tmpfs_options("exec,size=1m,size=2m").unwrap(), ["nosuid", "nodev", "exec", "size=2m"]);
        assert!(tmpfs_options("upperdir=/etc").is_err());
    }
}
