//! Terminals, and one more process.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::bench::Bench;
use crate::common::process;
use seacow_runtime::init::Running;
use seacow_runtime::{Error, Streams, exec};
use seacow_spec::shim::{Exec, SeccompChoice, Stdio};
use seacow_sys::process::{Ended, wait};

/// Everything a terminal shows until its program ends.
fn read_terminal(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // The end is EIO.
    let _ = std::fs::File::from(master).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

pub(crate) fn terminal(bench: &mut Bench) {
    let mut order = bench
        .sh("tty; stat -c %t /dev/console /proc/self/fd/0 -L; test -t 2 && echo err; echo ctl > /dev/tty");
    order.create.stdio = Stdio { terminal: true, rows: 31, cols: 97, ..Stdio::default() };
    order.create.user = "web".into();
    let (running, _, master) = bench.begin(&order).unwrap();
    let master = master.unwrap();
    assert_eq!(seacow_sys::pty::size(master.as_fd()).unwrap(), (31, 97));
    assert_eq!(read_terminal(master), "/dev/pts/0\n88\n88\nerr\nctl\n");
    assert_eq!(wait(running.pidfd.as_fd()).unwrap(), Ended::Exited(0));
    running.cgroups.remove().unwrap();
}

pub(crate) fn exec_into(bench: &mut Bench) {
    let order = bench.sh("echo up; exec sleep 60");
    let (running, mut read, _) = bench.begin(&order).unwrap();
    let mut word = [0; 3];
    read.read_exact(&mut word).unwrap();
    it_is_where_init_is(&running);
    who_it_is(&running);
    it_is_refused_in_docker_s_words(&running);
    // Our own pid namespace for children is what it was.
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid").unwrap(),
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap()
    );
    seacow_sys::process::pidfd_signal(running.pidfd.as_fd(), 9).unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
}

fn request(args: &[&str]) -> Exec {
    Exec {
        exec_id: seacow_spec::id::ExecId::random().unwrap(),
        process: process(args),
        user: String::new(),
        extra_groups: Vec::new(),
        seccomp: SeccompChoice::Default,
        stdio: Stdio::default(),
        attach: None,
    }
}

/// Runs it to its end; its exit status and output.
fn run(running: &Running, request: &Exec) -> Result<(i32, String), Error> {
    let container = exec::Container {
        pid: running.pid,
        pidfd: running.pidfd.as_fd(),
        cgroups: &running.cgroups,
        rare_namespaces: running.rare_namespaces,
    };
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdin = std::fs::File::open("/dev/null").unwrap().into();
    let streams = if request.stdio.terminal {
        Streams::Terminal
    } else {
        Streams::Files { stdin, stdout: write.try_clone().unwrap(), stderr: write.try_clone().unwrap() }
    };
    drop(write);
    let started = exec::start(container, request, streams)?;
    let output = match started.terminal {
        Some(master) => read_terminal(master),
        None => {
            let mut text = String::new();
            std::fs::File::from(read).read_to_string(&mut text).unwrap();
            text
        }
    };
    Ok((wait(started.pidfd.as_fd()).unwrap().code(), output))
}

fn it_is_where_init_is(running: &Running) {
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let of_init = std::fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
        let (_, output) = run(running, &request(&["readlink", &link])).unwrap();
        assert_eq!(Path::new(output.trim()), of_init, "{kind}");
    }
    let (_, cgroups) = run(running, &request(&["cat", "/proc/self/cgroup"])).unwrap();
    assert!(cgroups.lines().all(|l| l.ends_with(":/")), "{cgroups}");
}

fn who_it_is(running: &Running) {
    let script = "ls /proc/self/fd | wc -l; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 3";
    let (code, output) = run(running, &request(&["sh", "-c", script])).unwrap();
    assert_eq!((code, output.as_str()), (3, "4\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n"));
    let mut as_web = request(&["sh", "-c", "id -u; echo $HOME; pwd"]);
    (as_web.user, as_web.process.cwd) = ("web".into(), "/srv".into());
    assert_eq!(run(running, &as_web).unwrap().1, "33\n/srv\n/srv\n");
    let mut on_tty = request(&["sh", "-c", "tty"]);
    on_tty.stdio = Stdio { terminal: true, rows: 5, cols: 6, ..Stdio::default() };
    assert_eq!(run(running, &on_tty).unwrap(), (0, "/dev/pts/0\n".into()));
}

fn it_is_refused_in_docker_s_words(running: &Running) {
    for (args, text, code) in [
        (["nosuch"], "exec: \"nosuch\": executable file not found in $PATH", 127),
        (["/etc/passwd"], "exec: \"/etc/passwd\": permission denied", 126),
        (["/etc"], "exec: \"/etc\": is a directory: permission denied", 126),
    ] {
        let report = run(running, &request(&args)).unwrap_err().report();
        assert_eq!((report.to_string().as_str(), report.exit_code), (text, Some(code)));
    }
    let mut unknown = request(&["true"]);
    unknown.user = "foo".into();
    assert!(run(running, &unknown).unwrap_err().report().to_string().starts_with("unable to find user foo"));
}
