//! Cgroups.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::has_controllers;
use seacow_runtime::cgroup::OomNews;
use seacow_spec::ErrorClass;
use seacow_spec::oci::runtime::{Cpu, LinuxResources, Memory, Pids};
use seacow_sys::process::{Ended, wait};

fn frozen_and_killed(bench: &mut Bench) {
    let order = bench.sh("sleep 61 & exec sleep 60");
    let (running, _read, _) = bench.begin(&order).unwrap();
    running.cgroups.freeze().unwrap();
    assert!(running.cgroups.is_frozen().unwrap());
    running.cgroups.thaw().unwrap();
    assert!(!running.cgroups.is_frozen().unwrap());
    running.cgroups.freeze().unwrap();
    running.cgroups.kill_all().unwrap();
    assert_eq!(wait(running.pidfd.as_fd()).unwrap(), Ended::Killed(9));
    running.cgroups.remove().unwrap();
}

pub(crate) fn limits(bench: &mut Bench) {
    frozen_and_killed(bench);
    if !has_controllers(&["memory", "cpu", "pids"]) {
        return;
    }
    let mut order = bench.sh("sleep 60");
    let resources = LinuxResources {
        memory: Some(Memory { limit: Some(64 << 20), swap: Some(-1), ..Memory::default() }),
        cpu: Some(Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        pids: Some(Pids { limit: 17 }),
        ..LinuxResources::default()
    };
    order.create.spec.linux.as_mut().unwrap().resources = Some(resources);
    let (running, _read, _) = bench.begin(&order).unwrap();
    let value = |controller: &str, v1: &str, v2: &str| {
        let dir = running.cgroups.dir_of(controller).unwrap();
        let file = if dir.join(v1).exists() { dir.join(v1) } else { dir.join(v2) };
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    };
    assert_eq!(value("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(value("pids", "pids.max", "pids.max"), "17");
    assert!(["512", "20"].contains(&value("cpu", "cpu.shares", "cpu.weight").as_str()));
    assert!(["50000", "50000 100000"].contains(&value("cpu", "cpu.cfs_quota_us", "cpu.max").as_str()));
    // Everything runs in them, and nothing else.
    assert_eq!(running.cgroups.pids().unwrap(), [running.pid]);
    let pids = |limit| LinuxResources { pids: Some(Pids { limit }), ..LinuxResources::default() };
    running.cgroups.update(&pids(99)).unwrap();
    assert_eq!(value("pids", "pids.max", "pids.max"), "99");
    running.cgroups.kill_all().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();

    let mut order = bench.sh("true");
    let mut resources = LinuxResources::default();
    resources.unified.insert("nosuch.file".into(), "1".into());
    order.create.spec.linux.as_mut().unwrap().resources = Some(resources);
    let report = bench.try_run(&order).err().unwrap().report();
    assert_eq!(report.class, ErrorClass::NotImplemented, "{report}");
}

pub(crate) fn out_of_memory(bench: &mut Bench) {
    if !has_controllers(&["memory"]) {
        return;
    }
    let mut order = bench.sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=60");
    let memory = Memory { limit: Some(16 << 20), ..Memory::default() };
    order.create.spec.linux.as_mut().unwrap().resources =
        Some(LinuxResources { memory: Some(memory), ..LinuxResources::default() });
    let (running, _read, _) = bench.begin(&order).unwrap();
    let mut watch = running.cgroups.watch_oom().unwrap().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut struck = watch.check().unwrap() == OomNews::Killed;
    while !struck && Instant::now() < deadline {
        let mut fds = [rustix::event::PollFd::new(&watch, watch.interest())];
        let step = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        rustix::event::poll(&mut fds, Some(&step)).unwrap();
        struck = watch.check().unwrap() == OomNews::Killed;
    }
    assert!(struck && running.cgroups.oom_kills().unwrap() > 0);
    drop(watch);
    running.cgroups.kill_all().unwrap();
    running.cgroups.remove().unwrap();
}
