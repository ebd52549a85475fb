//! `cp`: files between a container and this machine, or between two containers.

use std::io::Write;
use std::path::Path;

use seacow_spec::docker::container::PathStat;

use super::auth::unbase64;
use crate::archive::extract::extract;
use crate::archive::path::{self, End};
use crate::archive::{Archive, Counted, Owner, Walk};
use crate::client::{Client, escape};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, go_io_text};
use crate::flags::{Flag, Kind};
use crate::format::units::human_size;
use crate::http::Head;
use crate::stream::StdFd;
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('a', "archive", Kind::Bool, "Archive mode (copy all uid/gid information)"),
    Flag::new('L', "follow-link", Kind::Bool, "Always follow symbol link in SRC_PATH"),
    Flag::new(
        'q',
        "quiet",
        Kind::Bool,
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    ),
];

/// `cp`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n	docker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH\n	seacow cp [OPTIONS] CONTAINER:SRC_PATH CONTAINER:DEST_PATH (seacow only)",
    about: "Copy files/folders between a container and the local filesystem",
    long: "Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.\n\nBetween two containers, or within one, nothing passes through the client,\nand no data are copied where the store shares extents (seacow only).",
    aliases: &["container cp", "cp"],
    flags: &[FLAGS],
    args: Args::Exactly(2),
    run,
    ..Command::EMPTY
};

/// The engine answers when it has everything; the uploading thread ends a moment later.
const UPLOAD_END: std::time::Duration = std::time::Duration::from_secs(1);

/// Bits of Go's `os.FileMode` that differ from Unix's.
mod go_mode {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
}

fn run(invocation: &Invocation<'_>) -> Outcome {
    let (source, destination) = (invocation.arg(0), invocation.arg(1));
    if source.is_empty() || destination.is_empty() {
        let what = if source.is_empty() { "source" } else { "destination" };
        return Err(Failure::Refused(format!("{what} can not be empty")));
    }
    let (from, from_path) = split_argument(source);
    let (to, to_path) = split_argument(destination);
    let client = invocation.client()?;
    match (from, to) {
        (Some(container), None) => copy_from(invocation, client, container, from_path, to_path),
        (None, Some(container)) => copy_to(invocation, client, container, from_path, to_path),
        (Some(source), Some(target)) => {
            copy_between(invocation, client, (source, from_path), (target, to_path))
        }
        (None, None) => Err(Failure::refused("must specify at least one container source")),
    }
}

/// `container:path`, or a path here. A colon in a path that begins with `/` or `.` means nothing.
fn split_argument(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with('/') {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.is_empty() && !container.starts_with('.') => {
            (Some(container), path)
        }
        _ => (None, argument),
    }
}

/// What is at a path of the container.
fn stat(client: &Client, container: &str, path: &str) -> Result<PathStat, Failure> {
    let call = client.call("HEAD", format!("/containers/{}/archive", escape(container)));
    let response = call.query("path", path).send()?;
    let stat = stat_of(&response.head)?;
    client.discard(response);
    Ok(stat)
}

fn stat_of(head: &Head) -> Result<PathStat, Failure> {
    let text = head.field("X-Docker-Container-Path-Stat").and_then(unbase64).ok_or_else(|| {
        Failure::refused("unable to get resource stat from response: the header is missing")
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::Refused(format!("unable to decode container path stat header: {e}")))
}

/// The target of a link in the container, as an absolute path.
fn link_target(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let (parent, _) = path::split(path);
    crate::opts::volume::clean(&format!("{parent}/{target}"))
}

fn copy_from(
    invocation: &Invocation<'_>,
    client: &Client,
    container: &str,
    source: &str,
    destination: &str,
) -> Outcome {
    let local = if destination == "-" { String::new() } else { path::absolute(destination) };
    if destination != "-" {
        check_output(&local)?;
    }
    let (source, rebase) = followed(invocation, client, container, source);
    let call = client.get(format!("/containers/{}/archive", escape(container)));
    let mut response = call.query("path", &source).send()?;
    if destination == "-" {
        return Ok(std::io::copy(&mut response.body, &mut StdFd::stdout()).map(drop)?);
    }
    let found = stat_of(&response.head)?;
    let from = End {
        path: source.clone(),
        exists: true,
        is_dir: found.mode & go_mode::DIR != 0,
        rebase: rebase.clone(),
    };
    let to = local_destination(&local)?;
    let prepared = path::prepare(&from, &to).map_err(|e| Failure::Refused(e.to_string()))?;
    // Behind a link the archive is named like the link's target.
    let rename = match (prepared.rename, &rebase) {
        (Some((_, new)), _) => Some((path::split(&source).1, new)),
        (None, Some(name)) => Some((path::split(&source).1, name.clone())),
        (None, None) => None,
    };
    let bytes = extract(&mut response.body, Path::new(&prepared.directory), rename.as_ref())
        .map_err(|e| Failure::Refused(e.to_string()))?;
    copied(invocation, bytes, destination)
}

/// The source, behind a link with `-L`, and the name that it keeps then.
fn followed(
    invocation: &Invocation<'_>,
    client: &Client,
    container: &str,
    source: &str,
) -> (String, Option<String>) {
    let as_it_is = (source.to_owned(), None);
    if !invocation.matches.bool("follow-link") {
        return as_it_is;
    }
    match stat(client, container, source) {
        Ok(found) if found.mode & go_mode::SYMLINK != 0 => {
            path::rebase(source, link_target(source, &found.link_target))
        }
        _ => as_it_is,
    }
}

/// The engine copies by itself: a verb of its own, which no other engine has.
fn copy_between(
    invocation: &Invocation<'_>,
    client: &Client,
    (source, from_path): (&str, &str),
    (target, to_path): (&str, &str),
) -> Outcome {
    let (from_path, rebase) = followed(invocation, client, source, from_path);
    let found = match stat(client, source, &from_path) {
        Ok(found) => found,
        // An answer to HEAD has no words for what is wrong.
        Err(_) => {
            let call = client.get(format!("/containers/{}/archive", escape(source)));
            stat_of(&call.query("path", &from_path).send()?.head)?
        }
    };
    let is_dir = found.mode & go_mode::DIR != 0;
    let from = End { path: from_path.clone(), exists: true, is_dir, rebase: rebase.clone() };
    let to = container_destination(client, target, to_path)?;
    let prepared = path::prepare(&from, &to).map_err(|e| Failure::Refused(e.to_string()))?;
    let mut call = client
        .call("POST", format!("/containers/{}/archive/copy", escape(target)))
        .query("from", source)
        .query("fromPath", &from_path)
        .query("path", &prepared.directory)
        .query("noOverwriteDirNonDir", "true");
    if let Some(name) = prepared.rename.map(|(_, new)| new).or(rebase) {
        call = call.query("name", &name);
    }
    if invocation.matches.bool("archive") {
        call = call.query("copyUIDGID", "true");
    }
    let answer: serde_json::Value = call.json()?;
    let bytes = answer.get("Bytes").and_then(serde_json::Value::as_u64).unwrap_or(0);
    copied(invocation, bytes, &format!("{target}:{to_path}"))
}

/// docker's check before anything is asked from the engine.
fn check_output(local: &str) -> Outcome {
    let cleaned = crate::opts::volume::clean(local);
    let parent = Path::new(&cleaned).parent().unwrap_or(Path::new("/"));
    if !parent.exists() {
        return Err(Failure::Refused(format!(
            "invalid output path: directory {:?} does not exist",
            parent.display().to_string()
        )));
    }
    if let Ok(found) = std::fs::metadata(&cleaned)
        && !found.is_dir()
        && !found.is_file()
    {
        return Err(Failure::Refused(format!(
            "invalid output path: {local:?} must be a directory or a regular file"
        )));
    }
    Ok(())
}

/// Links at the destination are followed: what they point to is written.
const MAX_LINKS: usize = 10;

fn local_destination(local: &str) -> Result<End, Failure> {
    let mut path = local.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(found) = Path::new(&path).symlink_metadata() else {
            let (parent, _) = path::split(&path);
            if !Path::new(&parent).is_dir() {
                return Err(Failure::refused("not a directory"));
            }
            return Ok(End { path, exists: false, is_dir: false, rebase: None });
        };
        if !found.is_symlink() {
            return Ok(End { path, exists: true, is_dir: found.is_dir(), rebase: None });
        }
        let target = std::fs::read_link(&path)?.to_string_lossy().into_owned();
        path = path::keep_end(link_target(&path, &target), local);
    }
    Err(Failure::refused("too many symlinks"))
}

fn copy_to(
    invocation: &Invocation<'_>,
    client: &Client,
    container: &str,
    source: &str,
    destination: &str,
) -> Outcome {
    let source = if source == "-" { source.to_owned() } else { path::absolute(source) };
    let to = container_destination(client, container, destination)?;
    let archive = invocation.matches.bool("archive");
    let put = |directory: &str| {
        let mut call = client.call("PUT", format!("/containers/{}/archive", escape(container)));
        if archive {
            call = call.query("copyUIDGID", "true");
        }
        call.query("noOverwriteDirNonDir", "true").query("path", directory)
    };
    if source == "-" {
        if !to.is_dir {
            return Err(Failure::Refused(format!(
                "destination \"{container}:{destination}\" must be a directory"
            )));
        }
        let response = put(&to.path).stream("application/x-tar", Box::new(std::io::stdin())).send()?;
        client.discard(response);
        return Ok(());
    }
    let from = local_source(&source, invocation.matches.bool("follow-link"))?;
    let prepared = path::prepare(&from, &to).map_err(|e| Failure::Refused(e.to_string()))?;
    let (directory, base) = path::split(&from.path);
    let name = match (prepared.rename, &from.rebase) {
        (Some((_, new)), _) => new,
        (None, Some(name)) => name.clone(),
        (None, None) => base.clone(),
    };
    let walk = Walk::new(Path::new(&directory), &base, &name, Owner::Kept);
    let (reader, count) = Counted::new(Archive::new(walk));
    let response = put(&prepared.directory).stream("application/x-tar", Box::new(reader)).send()?;
    client.discard(response);
    copied(invocation, count.total(UPLOAD_END), &format!("{container}:{destination}"))
}

fn container_destination(client: &Client, container: &str, destination: &str) -> Result<End, Failure> {
    let mut path = destination.to_owned();
    let mut found = stat(client, container, &path);
    if let Ok(link) = &found
        && link.mode & go_mode::SYMLINK != 0
    {
        path = link_target(&path, &link.link_target);
        found = stat(client, container, &path);
    }
    let Ok(found) = found else {
        // Its parent may be there; if not, the engine will say so.
        return Ok(End { path, exists: false, is_dir: false, rebase: None });
    };
    if found.mode & (go_mode::DEVICE | go_mode::PIPE | go_mode::SOCKET) != 0 {
        return Err(Failure::Refused(format!(
            "destination \"{container}:{destination}\" must be a directory or a regular file: got {}",
            if found.mode & go_mode::DEVICE != 0 { "a device" } else { "an irregular file" }
        )));
    }
    Ok(End { path, exists: true, is_dir: found.mode & go_mode::DIR != 0, rebase: None })
}

/// Resolves the source: the directories above it always, itself only with `-L`.
fn local_source(source: &str, follow: bool) -> Result<End, Failure> {
    let missing =
        |path: &str, e: &std::io::Error| Failure::Refused(format!("lstat {path}: {}", go_io_text(e)));
    let canonical = |path: &str| -> Result<String, Failure> {
        let real = std::fs::canonicalize(path).map_err(|e| missing(path, &e))?;
        Ok(real.to_string_lossy().into_owned())
    };
    let (resolved, rebase) = if follow {
        path::rebase(source, canonical(source)?)
    } else {
        let (directory, base) = source.rsplit_once('/').map_or((".", source), |(d, b)| (d, b));
        let directory = if directory.is_empty() { "/" } else { directory };
        let real = canonical(directory)?;
        let resolved = match base {
            "" => format!("{real}/"),
            base => format!("{}/{base}", real.trim_end_matches('/')),
        };
        let rebase = (path::ends_in_slash(source) && path::base(source) != path::base(&resolved))
            .then(|| path::base(source));
        (resolved, rebase)
    };
    let found = Path::new(&resolved).symlink_metadata().map_err(|e| missing(&resolved, &e))?;
    let is_dir = found.is_dir();
    if !is_dir && path::asserts_directory(&resolved) {
        return Err(Failure::Refused(format!("lstat {resolved}: not a directory")));
    }
    Ok(End { path: resolved, exists: true, is_dir, rebase })
}

/// One line for people; scripts get silence.
fn copied(invocation: &Invocation<'_>, bytes: u64, destination: &str) -> Outcome {
    if !invocation.matches.bool("quiet") && term::is_terminal(rustix::stdio::stderr()) {
        let size = human_size(bytes as f64);
        writeln!(std::io::stderr(), "Successfully copied {size} to {destination}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(split_argument("web:/a:b"), (Some("web"), "/a:b"));
        assert_eq!(split_argument("/a:b"), (None, "/a:b"));
        assert_eq!(split_argument("./a:b"), (None, "./a:b"));
        assert_eq!(split_argument("-"), (None, "-"));
        assert_eq!(split_argument("web:"), (Some("web"), ""));
    }

    #[test]
    fn links_in_containers() {
        assert_eq!(link_target("/a/b", "c"), "/a/c");
        assert_eq!(link_target("/a/b/", "../c"), "/c");
        assert_eq!(link_target("/a/b", "/x"), "/x");
    }

    #[test]
    fn sources_here() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |p: &str| format!("{}/{p}", root.display());
        std::fs::create_dir(root.join("d")).unwrap();
        std::os::unix::fs::symlink("d", root.join("l")).unwrap();
        std::fs::write(root.join("f"), "").unwrap();
        let end = local_source(&at("l"), false).unwrap();
        assert!(!end.is_dir && end.rebase.is_none());
        let end = local_source(&at("l"), true).unwrap();
        assert_eq!((end.path, end.is_dir, end.rebase), (at("d"), true, Some("l".into())));
        let end = local_source(&at("d/."), false).unwrap();
        assert_eq!((end.path, end.is_dir), (at("d/."), true));
        let end = local_source(&at("l/"), false).unwrap();
        assert_eq!((end.path, end.is_dir, end.rebase), (at("d/"), true, Some("l".into())));
        assert!(local_source(&at("f/"), false).is_err() && local_source(&at("none"), false).is_err());
    }
}
