//! One boot, from the kernel to the last line of the work's output.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::Guest;
use super::tools::{self, Tools};

/// What the guest boots to, and with that the cgroup driver that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// A script; cgroup version 2 without systemd.
    Plain,
    /// systemd with cgroup version 2.
    Systemd,
    /// systemd with controllers in version 1 and an empty version 2 tree.
    Hybrid,
    /// As [`Init::Plain`], with SELinux instead of AppArmor, enforcing.
    Selinux,
}

impl Init {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Systemd, Self::Hybrid, Self::Selinux].into_iter().find(|init| init.name() == name)
    }

    /// As the command line has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "cgroupfs",
            Self::Systemd => "systemd",
            Self::Hybrid => "hybrid",
            Self::Selinux => "selinux",
        }
    }

    pub(super) fn described(self) -> &'static str {
        match self {
            Self::Plain => "cgroup version 2, no systemd, driver cgroupfs",
            Self::Systemd => "cgroup version 2, systemd, driver systemd",
            Self::Hybrid => "cgroup versions 1 and 2, systemd, driver systemd",
            Self::Selinux => "SELinux enforcing, cgroup version 2, no systemd, driver cgroupfs",
        }
    }

    /// The driver that the tests ask for.
    pub(super) fn driver(self) -> &'static str {
        match self {
            Self::Plain | Self::Selinux => "cgroupfs",
            Self::Systemd | Self::Hybrid => "systemd",
        }
    }

    /// What process 1 begins as.
    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Plain | Self::Selinux => include_str!("init-plain.sh"),
            Self::Systemd | Self::Hybrid => include_str!("init-systemd.sh"),
        }
    }

    fn kernel_arguments(self) -> &'static str {
        match self {
            Self::Plain | Self::Systemd => "",
            Self::Selinux => " security=selinux selinux=1",
            // systemd 257 has to be told twice, the second time by an environment variable.
            Self::Hybrid => {
                " systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
            }
        }
    }
}

/// Boot, all tests and half as much again, on two busy processors.
const LONGEST: Duration = Duration::from_secs(3 * 3600);
/// Longer than any test takes, emulated: a machine that says nothing for that time hangs.
const LONGEST_SILENCE: Duration = Duration::from_secs(20 * 60);
/// The guest's last line.
const EXIT: &str = "seacow-vm-exit ";

/// What came back.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Per test: its name and what became of it.
    tests: Vec<(String, String)>,
    /// Per test that passed because it left something out: its name and why.
    skipped: Vec<(String, String)>,
    /// Whose output comes now.
    speaks: String,
    /// Test binaries that were begun, in their order.
    begun: Vec<String>,
    /// How many tests had ended before the last of them.
    tests_before: usize,
    exit: Option<i32>,
    took: Duration,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.exit == Some(0)
    }

    /// Where another boot would have to go on, if the machine went down by itself: with the test binary
    /// that it was at, whose results are forgotten.
    pub(super) fn interrupted_at(&self) -> Option<&str> {
        if self.exit.is_none() { self.begun.last().map(String::as_str) } else { None }
    }

    /// Takes over what an earlier boot had found out before it went down.
    pub(super) fn after(mut self, mut earlier: Self) -> Self {
        earlier.tests.truncate(earlier.tests_before);
        earlier.tests.append(&mut self.tests);
        earlier.skipped.append(&mut self.skipped);
        earlier.begun.append(&mut self.begun);
        Self {
            exit: self.exit.map(|code| code.max(earlier.failures())),
            took: self.took + earlier.took,
            ..earlier
        }
    }

    fn failures(&self) -> i32 {
        i32::from(self.tests.iter().any(|(_, result)| result == "FAILED"))
    }

    /// A table of what failed and was left out, and the sums.
    pub(super) fn print(&self, init: Init) {
        let count = |wanted: &str| self.tests.iter().filter(|(_, result)| result == wanted).count();
        println!("\nvirtual machine, {}, {} s:", init.described(), self.took.as_secs());
        for (name, result) in self.tests.iter().filter(|(_, result)| result != "ok") {
            println!("  {result:<10} {name}");
        }
        for (name, why) in &self.skipped {
            println!("  {:<10} {name}: {why}", "skipped");
        }
        println!("  {} ok, {} failed, {} ignored", count("ok"), count("FAILED"), count("ignored"));
        match self.exit {
            Some(0) => {}
            Some(code) => println!("  exit status {code}"),
            None => println!("  it ended without a result; see {}", console().display()),
        }
    }
}

pub(super) fn console() -> std::path::PathBuf {
    tools::dir().join("console.log")
}

/// Boots, copies the output here as it comes, and waits for the end.
pub(super) fn run(tools: &Tools, guest: &Guest, init: Init, payload: &Path) -> Result<Outcome> {
    let start = Instant::now();
    let mut qemu = Qemu(spawn(tools, guest, init, payload)?);
    let output = qemu.0.stdout.take().context("QEMU has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut outcome = Outcome::default();
    loop {
        let left = LONGEST.saturating_sub(start.elapsed());
        match receiver.recv_timeout(left.min(LONGEST_SILENCE)) {
            Ok(line) => outcome.hear(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if start.elapsed() >= LONGEST => {
                bail!("the virtual machine ran for {LONGEST:?}")
            }
            Err(RecvTimeoutError::Timeout) => {
                println!(
                    "xtask: the virtual machine said nothing for {LONGEST_SILENCE:?}; it is switched off"
                );
                break;
            }
        }
    }
    outcome.took = start.elapsed();
    drop(qemu);
    drop(reader.join());
    Ok(outcome)
}

impl Outcome {
    fn hear(&mut self, line: &str) {
        if let Some(code) = line.strip_prefix(EXIT) {
            self.exit = code.parse().ok();
            return;
        }
        println!("vm: {line}");
        if let Some(name) = line.strip_prefix("== ") {
            self.begun.push(name.to_owned());
            self.tests_before = self.tests.len();
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            name.clone_into(&mut self.speaks);
        } else if let Some(why) = line.strip_prefix("SKIPPED: ") {
            self.skipped.push((self.speaks.clone(), why.to_owned()));
        }
        let result = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "));
        if let Some((name, result)) = result {
            self.tests.push((name.to_owned(), result.split(',').next().unwrap_or(result).to_owned()));
        }
    }
}

/// Ends with us.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn spawn(tools: &Tools, guest: &Guest, init: Init, payload: &Path) -> Result<Child> {
    let kernel_arguments = format!(
        "console=ttyS0 root=/dev/vda quiet reboot=t panic=-1 mitigations=off audit=0 nokaslr cryptomgr.notests no_timer_check{}",
        init.kernel_arguments()
    );
    let drive =
        |file: &Path, more: &str| format!("file={},format=raw,if=virtio,cache=unsafe{more}", file.display());
    let mut qemu = tools.qemu();
    // Two processors in turns, on one thread. With a thread each, one is emulated while the other patches
    // code under it, which ended in a panic of the kernel once in half an hour or so.
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=single"]);
    qemu.args(["-cpu", "Nehalem,+rdrand", "-smp", "2", "-m", "3G"]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    qemu.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initramfs);
    qemu.arg("-append").arg(kernel_arguments);
    qemu.arg("-serial").arg(format!("file:{}", console().display()));
    qemu.arg("-drive").arg(drive(&guest.image, ",snapshot=on"));
    qemu.arg("-drive").arg(drive(payload, ",snapshot=on"));
    qemu.args(["-device", "virtio-serial-pci", "-chardev", "file,id=results,path=/dev/stdout"]);
    qemu.args(["-device", "virtserialport,chardev=results,name=results"]);
    // QEMU keeps what the guest writes in a file without a name there.
    qemu.env("TMPDIR", tools::dir());
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    qemu.spawn().with_context(|| format!("cannot run {}", qemu.get_program().to_string_lossy()))
}
