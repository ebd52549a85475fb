//! The disk under measurement: the machine's own, or one like those of most hosts.
//!
//! What a start costs depends on two file systems: the one of the data roots, where an overlay's
//! directories are made, and the one of `/run`. Hosts with systemd have an ext4 (or xfs, btrfs) with
//! a journal and a tmpfs; a machine that was made otherwise tells little about them. ext4 without a
//! journal, for one, looks for a new inode past all that were deleted within the last minutes.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Set for the benchmark that runs on a fresh disk.
const INSIDE: &str = "SEACOW_BENCH_FRESH_DISK";
/// Of the file that the disk is; blocks that nobody writes take no room.
const SIZE: &str = "16G";

/// Whether this process is the one on the fresh disk.
pub(super) fn is_fresh() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this very command again in a mount namespace of its own, where `/var/lib` is a new ext4 and
/// `/run` a tmpfs. Both are gone when it ends.
pub(super) fn run_on_fresh(bench: &str, words: &[String]) -> Result<()> {
    let image = PathBuf::from(format!("/var/tmp/seacow-bench-{}.ext4", std::process::id()));
    let done = on_image(&image, bench, words);
    std::fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))?;
    done
}

fn on_image(image: &Path, bench: &str, words: &[String]) -> Result<()> {
    shell::run(Command::new("truncate").arg("--size").arg(SIZE).arg(image))?;
    shell::run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(image))?;
    let script = "set -e
        device=$(losetup --find --show --direct-io=on \"$1\")
        mounted=; mount \"$device\" /mnt && mounted=1
        # From here on it goes with its last mount.
        losetup --detach \"$device\"
        [ -n \"$mounted\" ]
        # The peers' packages are fetched by the machine's apt.
        for kept in apt dpkg; do mkdir /mnt/$kept; mount --bind /var/lib/$kept /mnt/$kept; done
        mount --move /mnt /var/lib
        mount -t tmpfs -o mode=755 tmpfs /run
        shift
        exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(image)
        .arg(std::env::current_exe().context("find this program")?)
        .args(["bench", bench])
        .args(words)
        .env(INSIDE, "1")
        .status()
        .context("start the benchmark in a mount namespace")?;
    match (status.success(), status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => bail!("the benchmark was ended by signal {signal}"),
        (false, None) => bail!("the benchmark failed"),
    }
}

/// One line about both file systems.
pub(super) fn describe() -> Result<String> {
    let (data, run) = (mounted_at("/var/lib")?, mounted_at("/run")?);
    let journal = if data.kind == "ext4" && !has_journal(&data.source) { " without a journal" } else { "" };
    Ok(format!("data roots on {}{journal}, exec roots on {}", data.kind, run.kind))
}

struct Mounted {
    kind: String,
    source: PathBuf,
}

fn mounted_at(path: &str) -> Result<Mounted> {
    let words = ["--noheadings", "--output", "FSTYPE,SOURCE", "--target", path];
    let line = shell::output(Command::new("findmnt").args(words))?;
    let mut words = line.split_whitespace();
    let (Some(kind), Some(source)) = (words.next(), words.next()) else {
        bail!("findmnt says {line:?} about {path}");
    };
    Ok(Mounted { kind: kind.to_owned(), source: source.into() })
}

/// Where that cannot be found out there is one, as nearly everywhere.
fn has_journal(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let task = Path::new("/sys/fs/ext4").join(name).join("journal_task");
    std::fs::read_to_string(task).map_or(true, |task| task.trim() != "<none>")
}
