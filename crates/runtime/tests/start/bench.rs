//! One case's containers.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use crate::common;
use crate::common::{Fixture, process, spec};
use seacow_runtime::init::{Created, Prepared, Running};
use seacow_runtime::{Error, Streams};
use seacow_spec::oci::runtime::Process;
use seacow_spec::shim::{Create, LogConfig, Lower, OverlayUpper, Prepare, Rootfs, SeccompChoice, Stdio};
use seacow_sys::process::wait;

/// One case's containers.
pub(crate) struct Bench {
    pub(crate) fixture: Fixture,
    number: usize,
    count: usize,
}

/// What is given to a container beside its process.
pub(crate) struct Order {
    pub(crate) prepare: Prepare,
    pub(crate) create: Create,
}

pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) output: String,
}

impl Bench {
    pub(crate) fn new(number: usize) -> Self {
        Self { fixture: Fixture::new(), number, count: 0 }
    }

    /// A container over an overlay of the fixture's root.
    pub(crate) fn order(&mut self, process: Process) -> Order {
        self.count += 1;
        let id = format!("{:016x}{:016x}{:032x}", std::process::id(), self.number, self.count);
        let own = self.fixture.path().join(self.count.to_string());
        for name in ["upper", "work", "stage"] {
            std::fs::create_dir_all(own.join(name)).unwrap();
        }
        let upper = OverlayUpper {
            upper: own.join("upper"),
            work: own.join("work"),
            volatile: false,
            metacopy: false,
        };
        Order {
            prepare: Prepare {
                id: id.parse().unwrap(),
                namespaces: common::namespaces(),
                cgroups_path: format!("/seacow-test-{}/{id}", std::process::id()),
                mounts: common::kernel_mounts(),
                masked_paths: common::masked(),
                readonly_paths: common::readonly(),
                privileged: false,
                settings: Default::default(),
                runtime: None,
            },
            create: Create {
                spec: spec(process),
                user: String::new(),
                maps_root: false,
                extra_groups: Vec::new(),
                rootfs: Rootfs::Overlay {
                    lowers: vec![Lower::Dir(self.fixture.rootfs())],
                    upper: Some(upper),
                },
                stdio: Stdio::default(),
                log: LogConfig::None,
                seccomp: SeccompChoice::Default,
                state: Default::default(),
            },
        }
    }

    pub(crate) fn sh(&mut self, script: &str) -> Order {
        self.order(process(&["/bin/sh", "-c", script]))
    }

    pub(crate) fn begin(&self, order: &Order) -> Result<(Running, std::fs::File, Option<OwnedFd>), Error> {
        let (mut created, read) = self.create(order)?;
        let terminal = created.take_terminal();
        Ok((created.start()?, read, terminal))
    }

    pub(crate) fn create(&self, order: &Order) -> Result<(Created, std::fs::File), Error> {
        let own = self.fixture.path().join(self.count.to_string());
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let streams = if order.create.stdio.terminal {
            drop(write);
            Streams::Terminal
        } else {
            let stderr = write.try_clone().unwrap();
            let stdin = std::fs::File::open("/dev/null").unwrap().into();
            Streams::Files { stdin, stdout: write, stderr }
        };
        let mut prepared = Prepared::new(&order.prepare, &own.join("stage"))?;
        prepared.settle()?;
        Ok((prepared.configure(&order.create, streams)?, read.into()))
    }

    pub(crate) fn try_run(&self, order: &Order) -> Result<Outcome, Error> {
        let begun = self.begin(order);
        let done = begun.map(|(running, mut read, _)| {
            let mut output = String::new();
            read.read_to_string(&mut output).unwrap();
            let code = wait(running.pidfd.as_fd()).unwrap().code();
            Outcome { code, output }
        });
        let cgroups = seacow_runtime::cgroup::Cgroups::new(&order.prepare.cgroups_path).unwrap();
        cgroups.remove().unwrap();
        assert!(!cgroups.exists());
        done
    }

    pub(crate) fn run(&self, order: &Order) -> Outcome {
        self.try_run(order).unwrap_or_else(|e| panic!("{}", e.report()))
    }

    /// Runs a script and gives its trimmed output; it must succeed.
    pub(crate) fn output(&mut self, script: &str) -> String {
        let order = self.sh(script);
        let done = self.run(&order);
        assert_eq!(done.code, 0, "{}", done.output);
        done.output.trim().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let ours = format!("seacow-test-{}", std::process::id());
            let _ = std::fs::remove_dir(hierarchy.path().join(&ours));
            if hierarchy.file_name() == *ours {
                let _ = std::fs::remove_dir(hierarchy.path());
            }
        }
    }
}
