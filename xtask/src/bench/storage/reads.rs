//! What reading costs through an engine's layers, beside the same file without them: whole files, and opens.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::subject::{self, Subject};
use super::{image, record};
use crate::bench::api::Api;
use crate::bench::image::NAME;
use crate::bench::report::Report;
use crate::bench::stats::Measured;
use crate::shell;

/// Opens that are timed together.
const OPENS: u32 = 2000;
/// How deep below a data root a layer's file lies.
const DEPTH: usize = 6;

/// What is done to a file and timed.
type Act<'a> = &'a dyn Fn(&Path) -> Result<Duration>;

/// Tables and bars.
pub(super) fn run(subjects: &[Subject], rounds: usize, report: &mut Report) {
    for (title, prepare) in [("in memory", warm as fn(&Path) -> Result<()>), ("not in memory", cold)] {
        let read = |file: &Path| {
            prepare(file)?;
            read_all(file)
        };
        let mut rows: Vec<Measured> = Vec::new();
        for subject in subjects {
            rows.push(Measured::new(&subject.name));
            rows.push(Measured::new(format!("  the same file, bare ({})", subject.name)));
        }
        for _ in 0..rounds {
            for (pair, subject) in rows.chunks_mut(2).zip(subjects) {
                if let [through, bare] = pair {
                    record(through, subject, |api| in_container(api, &read));
                    record(bare, subject, |_| read(&layer_file(subject)?));
                }
            }
        }
        report.table(&format!("the image's large file read, {title}"), &rows, None);
        for (pair, subject) in rows.chunks(2).zip(subjects).filter(|(_, subject)| subject.is_ours) {
            if let [through, bare] = pair {
                let ratio = through.median().zip(bare.median()).map(|(through, bare)| through / bare);
                report.at_most(&format!("read {title}, {}", subject.name), ratio, 1.1, "x of the bare file");
            }
        }
    }
    opens(subjects, rounds, report);
}

fn opens(subjects: &[Subject], rounds: usize, report: &mut Report) {
    let changed = |file: &Path| {
        std::fs::set_permissions(file, Permissions::from_mode(0o711))?;
        open_often(file)
    };
    let acts: [(&str, Act<'_>); 2] =
        [("a file of the image opened", &open_often), ("a file opened whose mode was changed", &changed)];
    for (title, act) in acts {
        let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(&subject.name)).collect();
        for _ in 0..rounds {
            for (row, subject) in rows.iter_mut().zip(subjects) {
                record(row, subject, |api| in_container(api, act));
            }
        }
        let peer = subject::peer(subjects);
        report.table(&format!("{title} {OPENS} times; ratio: to dockerd"), &rows, peer);
        let base = peer.and_then(|peer| rows.get(peer)?.median());
        for (row, _) in rows.iter().zip(subjects).filter(|(_, subject)| subject.is_ours) {
            let ratio = row.median().zip(base).map(|(ours, base)| ours / base);
            // What differs by less is the machine's mood.
            report.at_most(&format!("{title}, {}", row.what), ratio, 1.05, "x of dockerd");
        }
    }
}

fn in_container(api: &mut Api, act: Act<'_>) -> Result<Duration> {
    let (id, _) = api.create(NAME, "none")?;
    let done = api.start(&id).and_then(|_| {
        // The container's root, entered once: the look-up through /proc is not in the figures.
        let root = File::open(format!("/proc/{}/root", api.pid(&id)?))?;
        use std::os::fd::AsRawFd;
        // For other programs, too.
        act(Path::new(&format!("/proc/{}/fd/{}/{}", std::process::id(), root.as_raw_fd(), image::FILE)))
    });
    api.remove(&id)?;
    done
}

fn warm(file: &Path) -> Result<()> {
    read_all(file).map(drop)
}

/// Has the kernel forget the file's content. It was read just now: whoever has the disk may remember it, for
/// all alike.
fn cold(file: &Path) -> Result<()> {
    read_all(file)?;
    shell::output(Command::new("dd").arg(format!("if={}", file.display())).args(["iflag=nocache", "count=0"]))
        .map(drop)
}

fn read_all(file: &Path) -> Result<Duration> {
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut opened = File::open(file).with_context(|| format!("open {}", file.display()))?;
    while opened.read(&mut buffer)? > 0 {}
    Ok(start.elapsed())
}

fn open_often(file: &Path) -> Result<Duration> {
    for _ in 0..OPENS / 10 {
        File::open(file)?;
    }
    let start = Instant::now();
    for _ in 0..OPENS {
        File::open(file)?;
    }
    Ok(start.elapsed())
}

/// Where the image's file lies in the engine's data root.
fn layer_file(subject: &Subject) -> Result<PathBuf> {
    let root = subject.data_root.as_ref().context("its data root is not known")?;
    find(root, DEPTH).with_context(|| format!("no {} below {}", image::FILE, root.display()))
}

fn find(dir: &Path, depth: usize) -> Option<PathBuf> {
    let here = dir.join(image::FILE);
    if here.is_file() {
        return Some(here);
    }
    if depth == 0 {
        return None;
    }
    let dirs =
        std::fs::read_dir(dir).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    dirs.map(|entry| entry.path()).find_map(|path| find(&path, depth - 1))
}
