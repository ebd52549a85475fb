//! A file of ten gigabytes, where extents are shared: its first change must cost what a small one's does.
//!
//! A container writes it, and becomes the image: nothing is copied. Engines that would copy it for every
//! container are left out.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::subject::Subject;
use super::{record, write_block};
use crate::bench::api::Api;
use crate::bench::image::NAME;
use crate::bench::report::Report;
use crate::bench::stats::Measured;
use crate::shell;

const GIB: u64 = 10;
const FILE: &str = "huge";
const IMAGE: &str = "huge";

/// One table; bars.
pub(super) fn run(subjects: &[Subject], rounds: usize, report: &mut Report) {
    let mut rows = Vec::new();
    for subject in subjects.iter().rev().filter(|subject| subject.shares_extents) {
        let mut row = Measured::new(&subject.name);
        let made = subject.engine.as_ref().map_err(Clone::clone).and_then(|engine| {
            Api::open(engine.socket())
                .and_then(|mut api| make(&mut api))
                .map_err(|error| format!("{error:#}"))
        });
        match made {
            Ok(()) => (0..rounds).for_each(|_| record(&mut row, subject, change)),
            Err(reason) => row.samples = Err(reason),
        }
        record(&mut Measured::new("removal"), subject, |api| {
            Ok(api.call("DELETE", &format!("/images/{IMAGE}?force=1"), "")?.1)
        });
        report.at_most(&format!("first write into {GIB} GiB, {}", subject.name), row.median(), 0.1, "ms");
        rows.push(row);
    }
    report.table(&format!("first 4096 bytes written into a file of {GIB} GiB"), &rows, None);
}

fn make(api: &mut Api) -> Result<()> {
    let (id, _) = api.create(NAME, "none")?;
    api.start(&id)?;
    let path = format!("/proc/{}/root/{FILE}", api.pid(&id)?);
    let mut file = File::create(&path).with_context(|| format!("create {path}"))?;
    let mut block = vec![0x5a; 8 << 20];
    for number in 0..(GIB << 30) / block.len() as u64 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    drop(file);
    shell::run(&mut Command::new("sync"))?;
    api.call("POST", &format!("/containers/{id}/kill"), "")?;
    api.call("POST", &format!("/containers/{id}/wait"), "")?;
    api.call("POST", &format!("/commit?container={id}&repo={IMAGE}"), "{}")?;
    api.remove(&id).map(drop)
}

fn change(api: &mut Api) -> Result<Duration> {
    let (id, _) = api.create(IMAGE, "none")?;
    let changed = api.start(&id).and_then(|_| {
        let root = File::open(format!("/proc/{}/root", api.pid(&id)?))?;
        use std::os::fd::AsRawFd;
        let file = format!("/proc/self/fd/{}/{FILE}", root.as_raw_fd());
        // Known to the kernel, as after an `ls`.
        std::fs::metadata(&file)?;
        write_block(Path::new(&file), 5 << 30)
    });
    api.remove(&id)?;
    shell::run(&mut Command::new("sync"))?;
    changed
}
