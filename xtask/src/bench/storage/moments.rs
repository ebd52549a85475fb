//! What a moment of a container's files costs: commit, snapshot, clone; and of a volume's.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::record;
use super::subject::{self, Subject};
use crate::bench::api::Api;
use crate::bench::image::NAME;
use crate::bench::report::Report;
use crate::bench::stats::Measured;
use crate::shell;

/// Files of a container that goes on, and MiB in them together.
const FILES: u64 = 10;
const GOING_ON: u64 = 512;

/// One table.
struct Moment {
    title: String,
    /// Of ours, in milliseconds.
    bar: f64,
    act: fn(&mut Api, u64) -> Result<Duration>,
    /// Dockerd has it.
    peers: bool,
}

/// All tables; `changed` MiB are in one file of the containers that do not run.
pub(super) fn run(subjects: &[Subject], rounds: usize, changed: u64, report: &mut Report) {
    let moments = [
        Moment {
            title: format!("commit of a stopped container with {changed} MiB changed"),
            bar: 50.0,
            act: commit_stopped,
            peers: true,
        },
        Moment {
            title: format!("commit of a running one, {GOING_ON} MiB in {FILES} files, all on the disk"),
            bar: 50.0,
            act: commit_clean,
            peers: true,
        },
        Moment {
            title: format!("the same, nothing of it on the disk (files of {} MiB)", GOING_ON / FILES),
            bar: 250.0,
            act: commit_dirty,
            peers: true,
        },
        Moment {
            title: format!("clone of a stopped container with {changed} MiB changed"),
            bar: 10.0,
            act: clone_stopped,
            peers: false,
        },
        Moment {
            title: format!("snapshot of a volume of {changed} MiB"),
            bar: 20.0,
            act: snapshot_volume,
            peers: false,
        },
        Moment {
            title: format!("clone of a volume of {changed} MiB"),
            bar: 20.0,
            act: clone_volume,
            peers: false,
        },
    ];
    for moment in moments {
        let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(&subject.name)).collect();
        for _ in 0..rounds {
            for (row, subject) in rows.iter_mut().zip(subjects) {
                if subject.copies || (!subject.is_ours && !moment.peers) {
                    row.samples = Err("not measured".into());
                    continue;
                }
                record(row, subject, |api| {
                    let time = (moment.act)(api, changed);
                    api.remove_all()?;
                    shell::run(&mut Command::new("sync"))?;
                    time
                });
            }
        }
        report.table(&moment.title, &rows, subject::peer(subjects).filter(|_| moment.peers));
        for (row, subject) in rows.iter().zip(subjects).filter(|(_, subject)| subject.shares_extents) {
            report.at_most(&format!("{}, {}", moment.title, subject.name), row.median(), moment.bar, "ms");
        }
    }
}

/// A container that ended, with one file of so many MiB that is on the disk.
fn stopped(api: &mut Api, changed: u64) -> Result<String> {
    let id = running(api, &[changed])?;
    shell::run(&mut Command::new("sync"))?;
    api.call("POST", &format!("/containers/{id}/kill"), "")?;
    api.call("POST", &format!("/containers/{id}/wait"), "")?;
    Ok(id)
}

/// A container that runs, with files of so many MiB.
fn running(api: &mut Api, sizes: &[u64]) -> Result<String> {
    let (id, _) = api.create(NAME, "none")?;
    api.start(&id)?;
    let root = format!("/proc/{}/root", api.pid(&id)?);
    for (number, size) in sizes.iter().enumerate() {
        fill(&Path::new(&root).join(format!("changed{number}")), *size)?;
    }
    Ok(id)
}

fn fill(path: &Path, mib: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut block = vec![0x5a; 1 << 20];
    for number in 0..mib {
        // No two blocks are the same.
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    Ok(())
}

fn commit(api: &mut Api, id: &str) -> Result<Duration> {
    let (body, time) = api.call("POST", &format!("/commit?container={id}"), "{}")?;
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    let image = answer.get("Id").and_then(serde_json::Value::as_str).context("no Id")?.to_owned();
    api.remove(id)?;
    api.call("DELETE", &format!("/images/{image}"), "")?;
    Ok(time)
}

fn commit_stopped(api: &mut Api, changed: u64) -> Result<Duration> {
    let id = stopped(api, changed)?;
    commit(api, &id)
}

fn commit_clean(api: &mut Api, _: u64) -> Result<Duration> {
    let id = running(api, &[GOING_ON / FILES; FILES as usize])?;
    shell::run(&mut Command::new("sync"))?;
    commit(api, &id)
}

fn commit_dirty(api: &mut Api, _: u64) -> Result<Duration> {
    let id = running(api, &[GOING_ON / FILES; FILES as usize])?;
    commit(api, &id)
}

fn clone_stopped(api: &mut Api, changed: u64) -> Result<Duration> {
    let id = stopped(api, changed)?;
    Ok(api.call("POST", &format!("/containers/{id}/clone"), "")?.1)
}

fn snapshot_volume(api: &mut Api, changed: u64) -> Result<Duration> {
    filled_volume(api, changed)?;
    let time = api.call("POST", "/volumes/moments/snapshots", "{}")?.1;
    api.call("DELETE", "/volumes/moments", "")?;
    Ok(time)
}

fn clone_volume(api: &mut Api, changed: u64) -> Result<Duration> {
    filled_volume(api, changed)?;
    let time = api.call("POST", "/volumes/moments/clone?name=moments2", "")?.1;
    for name in ["moments", "moments2"] {
        api.call("DELETE", &format!("/volumes/{name}"), "")?;
    }
    Ok(time)
}

/// A volume that holds one file of so many MiB, on the disk.
fn filled_volume(api: &mut Api, changed: u64) -> Result<()> {
    let (body, _) = api.call("POST", "/volumes/create", r#"{"Name":"moments"}"#)?;
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    let at = answer.get("Mountpoint").and_then(serde_json::Value::as_str).context("no Mountpoint")?;
    fill(&Path::new(at).join("f"), changed)?;
    shell::run(&mut Command::new("sync"))
}
