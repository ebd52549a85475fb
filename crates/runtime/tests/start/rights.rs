//! Capabilities, filters, users, and programs that cannot be executed.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::common::process;
use seacow_spec::ErrorClass;
use seacow_spec::shim::{Rootfs, SeccompChoice};
use seacow_sys::process::wait;

pub(crate) fn rights(bench: &mut Bench) {
    let order = bench.order(process(&["cat", "/proc/self/status"]));
    let status = bench.run(&order).output;
    for line in [
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t0",
        "SigIgn:\t0000000000000000",
        "SigBlk:\t0000000000000000",
        "Umask:\t0022",
    ] {
        assert!(status.contains(line), "{line} not in {status}");
    }
    // The filter: unshare of a user namespace answers EPERM.
    let order = bench.sh("unshare -U true");
    assert_ne!(bench.run(&order).code, 0);
    let mut order = bench.sh("unshare -U true && grep Seccomp: /proc/self/status");
    order.create.seccomp = SeccompChoice::Unconfined;
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.trim()), (0, "Seccomp:\t0"));
    let mut order = bench.sh("mkdir /tmp/x");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    order.create.seccomp = SeccompChoice::Profile(serde_json::from_str(profile).unwrap());
    let done = bench.run(&order);
    assert!(done.output.contains("No space left"), "{}", done.output);
}

pub(crate) fn filters_ahead(bench: &mut Bench) {
    let order = bench.sh("grep -c . /etc/passwd >/dev/null; echo started");
    let (created, mut read) = bench.create(&order).unwrap();
    let status = format!("/proc/{}/status", created.pid());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&status).unwrap().contains("Seccomp:\t2") {
        assert!(Instant::now() < deadline, "the usual filter waits for the start");
        std::thread::yield_now();
    }
    let running = created.start().unwrap();
    let mut output = String::new();
    read.read_to_string(&mut output).unwrap();
    assert_eq!(output, "started\n");
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
    // What init needs itself and the program shall not have.
    let mut order = bench.sh("echo started");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_KILL_PROCESS",
        "names":["recvmsg","sendmsg","openat2","setgroups","setresuid","setresgid","close_range"]}]}"#;
    order.create.seccomp = SeccompChoice::Profile(serde_json::from_str(profile).unwrap());
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.as_str()), (0, "started\n"));
}

pub(crate) fn users(bench: &mut Bench) {
    let mut order =
        bench.sh("id; echo $HOME; grep -E 'CapEff|CapPrm|NoNewPrivs|Seccomp:' /proc/self/status; touch /x");
    order.create.user = "web".into();
    order.create.extra_groups = vec!["video".into(), "1234".into()];
    order.create.spec.process.as_mut().unwrap().no_new_privileges = true;
    let done = bench.run(&order);
    assert!(
        done.output.contains("uid=33(web) gid=33(web) groups=29(audio),44(video),1234"),
        "{}",
        done.output
    );
    assert!(done.output.contains("/srv\n") && done.output.contains("NoNewPrivs:\t1"), "{}", done.output);
    assert!(done.output.contains("CapEff:\t0000000000000000"), "{}", done.output);
    assert!(done.output.contains("Seccomp:\t2") && done.code != 0);
    // Ambient capabilities reach a user's program.
    let mut order = bench.sh("grep CapEff /proc/self/status; echo again > /dev/stdout");
    order.create.user = "1000:1000".into();
    let caps = order.create.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    (caps.inheritable, caps.ambient) = (vec!["CAP_NET_RAW".into()], vec!["CAP_NET_RAW".into()]);
    assert_eq!(bench.run(&order).output, "CapEff:\t0000000000002000\nagain\n");
}

pub(crate) fn refusals(bench: &mut Bench) {
    std::fs::write(bench.fixture.rootfs().join("bin/garbage"), "\x7fELFnot really").unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.fixture.rootfs().join("bin/garbage"), mode).unwrap();
    let expected = [
        ("nosuchcmd", "exec: \"nosuchcmd\": executable file not found in $PATH", Some(127)),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", Some(126)),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory", Some(127)),
        ("/etc", "exec: \"/etc\": is a directory: permission denied", Some(126)),
        ("garbage", "exec /bin/garbage: exec format error", Some(126)),
    ];
    for (command, text, code) in expected {
        let order = bench.order(process(&[command]));
        let report = bench.try_run(&order).err().unwrap().report();
        assert_eq!((report.to_string().as_str(), report.exit_code), (text, code));
        assert_eq!(report.class, ErrorClass::InvalidArgument);
    }
    let mut order = bench.sh("true");
    order.create.user = "foo".into();
    let report = bench.try_run(&order).err().unwrap().report();
    assert_eq!(report.to_string(), "unable to find user foo: no matching entries in passwd file");
    let mut order = bench.sh("true");
    order.create.rootfs = Rootfs::Directory("/nosuch/root".into());
    let report = bench.try_run(&order).err().unwrap().report();
    assert!(report.to_string().contains("/nosuch/root: No such file"), "{report}");
}
