//! runc's integration tests.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Runtime;
use super::fetch::Place;
use super::tap::{self, Outcome, Results, Test};
use crate::shell;

/// A test that hangs must not hang the suite. The slowest file takes a minute on two cores. (A limit
/// for each test, which bats has, is a child of the test's shell, and tests wait for all of them.)
const FILE_TIME: &str = "300";

/// Runs the files named by `parts`, such as `exec`, or all.
pub(super) fn run(place: &Place, runtime: Runtime, program: &Path, parts: &[String]) -> Result<Results> {
    let dir = place.runc_tree().join("tests/integration");
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .with_context(|| format!("list {}", dir.display()))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".bats").map(str::to_owned))
        .filter(|name| parts.is_empty() || parts.contains(name))
        .collect();
    files.sort();
    let out = place.results("runc-bats", runtime)?;
    let mut results = Results::default();
    for file in files {
        println!("runc-bats: {file}");
        let text = one(place, runtime, program, &dir, &file)?;
        std::fs::write(out.join(format!("{file}.tap")), &text)?;
        let mut tests = tap::read(&text);
        let planned = tap::planned(&text).unwrap_or(1);
        if tests.len() < planned {
            let name = format!("{} of {planned} tests were not run", planned - tests.len());
            tests.push(Test { name, outcome: Outcome::Failed });
        }
        results.parts.insert(file, tests);
    }
    Ok(results)
}

/// Several tests want a terminal, which script(1) gives them.
fn one(place: &Place, runtime: Runtime, program: &Path, dir: &Path, file: &str) -> Result<String> {
    let bats = format!("bats --tap {file}.bats");
    let mut command = match runtime {
        Runtime::Seacow | Runtime::Runc => Command::new("timeout"),
        Runtime::Crun => without_hybrid("timeout"),
    };
    command.args([FILE_TIME, "script", "-qec", &bats, "/dev/null"]).current_dir(dir);
    place.go_env(&mut command);
    let tmp = place.dir.join("tmp");
    std::fs::create_dir_all(&tmp)?;
    command.env("RUNC", program).env("TMPDIR", &tmp).env("TERM", "dumb");
    // Held to the end: at the end of its input script(1) types an end of file into the terminal.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context("run script")?;
    let stdin = child.stdin.take();
    // bats fails when a test does; what failed is in its output.
    let output = child.wait_with_output().context("wait for script")?;
    drop(stdin);
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

/// crun refuses to run where the version 2 tree is mounted beside version 1: it gets a mount
/// namespace in which it is not.
pub(super) fn without_hybrid(program: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", script, program]);
    command
}

/// Root file systems for the tests, where they look for them: a busybox, and a Debian of the few
/// packages that the one test of it uses.
pub(super) fn images(place: &Place) -> Result<()> {
    let data = place.runc_tree().join("tests/integration/testdata");
    let arch = place.go_arch();
    let busybox = data.join(format!("busybox-{arch}.tar.xz"));
    if !busybox.exists() {
        let root = place.dir.join("images/busybox");
        make_busybox(&root)?;
        pack(&root, &busybox)?;
    }
    let debian = data.join(format!("debian-{arch}.tar.xz"));
    if !debian.exists() {
        let root = crate::packages::unpack(
            "conformance-debian",
            &[
                "libc6",
                "libc-bin",
                "dash",
                "grep",
                "libpcre2-8-0",
                "coreutils",
                "libacl1",
                "libattr1",
                "libselinux1",
            ],
        )?;
        for dir in ["dev", "proc", "root", "run", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        pack(&root, &debian)?;
    }
    Ok(())
}

fn make_busybox(root: &Path) -> Result<()> {
    for dir in ["bin", "dev", "etc", "home", "home", "root", "tmp", "usr/bin", "usr/sbin", "var/spool/mail"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy /bin/busybox")?;
    let applets = shell::output(Command::new("/bin/busybox").arg("--list"))?;
    for applet in applets.lines().filter(|a| *a != "busybox") {
        let link = root.join("bin").join(applet);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("busybox", link)?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n\
                  nobody:x:65534:65534:nobody:/home:/bin/false\n";
    std::fs::write(root.join("etc/passwd"), passwd)?;
    std::fs::write(
        root.join("etc/group"),
        "root:x:0:\ntty:x:5:\nmail:x:8:\nusers:x:100:\nnobody:x:65534:\n",
    )?;
    Ok(())
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let temporary = archive.with_extension("new");
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(root)
        .args(["--owner=0", "--group=0", "--exclude=./debs", "-cJf"])
        .arg(&temporary)
        .arg(".");
    shell::run(&mut tar)?;
    std::fs::rename(&temporary, archive).with_context(|| format!("rename to {}", archive.display()))
}
