//! What a run takes into the guest: programs, test binaries, the script that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Init;
use super::tools;
use crate::shell;

/// What is to be done in there.
pub(crate) enum Work<'a> {
    /// Tests; when names are given only those binaries.
    Tests(&'a [&'a str]),
    /// Starts timed against dockerd's, that many rounds.
    Bench(usize),
}

/// One program may hang, the others shall still be heard; seconds.
const ONE_BINARY: u32 = 2_400;
/// How much longer than outside tests wait before they give up: emulation is ten times slower, and
/// their deadlines are ten times what is needed on an idle machine.
const PATIENCE: u32 = 10;
/// Lives in the test that kills the daemon at random; hundreds of them are for machines that are not
/// emulated.
const LIVES: u32 = 24;
/// Binaries that no guest runs, and why.
const LEFT_OUT: [(&str, &str); 1] =
    [("podman", "needs Debian's podman unpacked by `cargo xtask runtimes`, which runs it")];
/// The guest has Debian's containerd installed.
const CONTAINERD: &str = "/";
/// Packages whose test binaries need nothing but the programs and a machine.
const JUDGES: [&str; 2] = ["seacow-tests", "seacow-runtime"];

/// Makes the disk that the guest sees as `/payload`. `from` names the first test binary to be run.
pub(super) fn make(
    init: Init,
    dist: &Path,
    docker: &Path,
    work: &Work<'_>,
    filter: &[String],
    from: Option<&str>,
) -> Result<PathBuf> {
    let tree = tools::dir().join("payload");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    fs::create_dir_all(tree.join("tests"))?;
    fs::create_dir_all(tree.join("dist"))?;
    for program in fs::read_dir(dist)? {
        let program = program?;
        fs::copy(program.path(), tree.join("dist").join(program.file_name()))?;
    }
    fs::copy(docker, tree.join("docker")).context("copy the docker client")?;
    for unit in ["seacow.service", "seacow.socket"] {
        fs::copy(shell::root().join("contrib/systemd").join(unit), tree.join(unit))?;
    }
    let script = match work {
        Work::Tests(names) => {
            let binaries = test_binaries(names)?;
            for (name, path) in &binaries {
                fs::copy(path, tree.join("tests").join(name))?;
            }
            for (name, why) in LEFT_OUT.iter().filter(|(name, _)| binaries.iter().any(|(b, _)| b == name)) {
                println!("skipped in the virtual machine: {name}: {why}");
            }
            test_script(init, &binaries, filter, from.unwrap_or_default())
        }
        Work::Bench(rounds) => bench_script(*rounds),
    };
    write_script(&tree.join("run.sh"), &script)?;
    write_script(&tree.join("report.sh"), include_str!("report.sh"))?;
    write_script(&tree.join("init.sh"), init.script())?;
    let image = tools::dir().join("payload.img");
    drop(fs::remove_file(&image));
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-d"]).arg(&tree).arg(&image).arg("2G");
    shell::run(&mut mkfs)?;
    fs::remove_dir_all(&tree)?;
    Ok(image)
}

/// Builds the tests and names their binaries.
fn test_binaries(names: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--locked", "--no-run", "--message-format=json"]);
    for package in JUDGES {
        cargo.args(["-p", package]);
    }
    cargo.args(["--tests", "--bins"]);
    let messages = shell::output(&mut cargo)?;
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let Some(path) = message["executable"].as_str() else { continue };
        let is_test =
            message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "test"));
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if is_test && (names.is_empty() || names.contains(&name)) {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    found.sort();
    // They are told apart by their names alone.
    let names = found.iter().map(|(name, _)| name);
    if let Some((name, _)) = names.clone().zip(names.skip(1)).find(|(one, next)| one == next) {
        bail!("two test binaries are called {name}: one of them has to be renamed");
    }
    Ok(found)
}

fn test_script(init: Init, binaries: &[(String, PathBuf)], filter: &[String], from: &str) -> String {
    let target = shell::target();
    // systemd's /tmp has flags that tests of mounts do not expect.
    let mut script = format!(
        "#!/bin/sh\nexport SEACOW_DIST=/payload/dist SEACOW_DOCKER=/payload/docker SEACOW_TEST_CGROUP_DRIVER={} SEACOW_TEST_THROWAWAY=1\n\
         export TMPDIR=/var/tmp SEACOW_TEST_PATIENCE={PATIENCE} SEACOW_STRESS={LIVES} SEACOW_TEST_RUNTIMES=/usr/sbin/runc SEACOW_CONTAINERD={CONTAINERD}\n",
        init.driver()
    );
    // Where the test binaries were told at compile time that our programs are.
    script.push_str(&format!("mkdir -p '{0}/debug' '{0}/tmp'\n", target.display()));
    script.push_str(&format!("ln -sf /payload/dist/* '{}/debug/'\n", target.display()));
    script.push_str("cd /payload\nrc=0\n");
    let wanted = |name: &str| name >= from && LEFT_OUT.iter().all(|(out, _)| *out != name);
    for (name, _) in binaries.iter().filter(|(name, _)| wanted(name)) {
        let Some(filter) = filter_for(name, binaries, filter) else { continue };
        // One binary at a time: the processors are emulated, and tests have deadlines.
        script.push_str(&format!(
            "echo '== {name}'; timeout {ONE_BINARY} /payload/tests/{name} --test-threads=2 --show-output {filter} 2>&1 || rc=1\n",
        ));
    }
    script.push_str(include_str!("leftovers.sh"));
    script.push_str("exit $rc\n");
    script
}

/// A word is the name of a binary, of one of its tests as `binary::test`, or a part of tests' names.
/// `None` leaves this binary out.
fn filter_for(name: &str, binaries: &[(String, PathBuf)], words: &[String]) -> Option<String> {
    let mut tests = Vec::new();
    for word in words {
        let (binary, test) = word.split_once("::").unwrap_or((word, ""));
        match binaries.iter().any(|(known, _)| known == binary) {
            true if binary == name && test.is_empty() => return Some(String::new()),
            true if binary == name => tests.push(test),
            true => {}
            false => tests.push(word.as_str()),
        }
    }
    if tests.is_empty() && !words.is_empty() {
        return None;
    }
    Some(tests.iter().map(|test| format!("'{}'", test.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" "))
}

fn bench_script(rounds: usize) -> String {
    format!("#!/bin/bash\nexport SEACOW_ROUNDS={rounds}\n{}", include_str!("bench.sh"))
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}
