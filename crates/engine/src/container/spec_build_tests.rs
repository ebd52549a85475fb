use std::path::PathBuf;

use seacow_spec::Timestamp;
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::lifecycle::State;
use seacow_spec::shim::SeccompChoice;

use super::*;

fn record(change: impl FnOnce(&mut ContainerConfig, &mut HostConfig)) -> Record {
    let mut config =
        ContainerConfig { cmd: Some(vec!["true".into()]), hostname: "h".into(), ..Default::default() };
    let mut host = HostConfig::default();
    change(&mut config, &mut host);
    normalize::host(&mut host).unwrap();
    let mounts = mounts::collect(&config, &host, Vec::new()).unwrap();
    let network = match host.network_mode.as_str() {
        "host" => Mode::Host,
        "none" => Mode::None,
        _ => Mode::Bridge,
    };
    Record {
        version: 1,
        id: "a".repeat(64).parse().unwrap(),
        name: "n1".into(),
        created: Timestamp::UNIX_EPOCH,
        image_id: seacow_spec::Digest::from_sha256(&[0; 32]),
        config,
        host_config: host,
        mounts,
        network,
        mac_address: None,
        endpoint: None,
        state: State::Created { failure: None },
        finished_at: None,
        error: String::new(),
        labels: None,
        restart_count: 0,
        secret_env: Vec::new(),
    }
}

fn engine_config() -> Config {
    Config::new("/d", "/e", "/shim")
}

fn template(record: &Record) -> Template {
    Template::of(record, &engine_config(), |_| Ok(7)).unwrap()
}

fn build(record: &Record) -> Create {
    let parts = Parts {
        config: &engine_config(),
        template: &template(record),
        rootfs: Rootfs::Directory(PathBuf::from("/r")),
        files: Path::new("/e/c/x"),
        shm: None,
    };
    create(record, parts).unwrap()
}

#[test]
fn an_ordinary_container_fits_a_slot() {
    let config = engine_config();
    assert_eq!(template(&record(|_, _| {})), Template::common(&config, true));
    assert_eq!(
        template(&record(|_, host| host.network_mode = "none".into())),
        Template::common(&config, false)
    );
    // What Create can still change does not cost the slot.
    let rich = record(|config, host| {
        config.user = "1".into();
        config.tty = true;
        host.resources.memory = 64 << 20;
        host.binds = Some(vec!["/tmp:/x".into()]);
        host.cap_add = Some(vec!["ALL".into()]);
        host.readonly_rootfs = true;
    });
    assert_eq!(template(&rich), Template::common(&config, true));
}

#[test]
fn what_is_prepared_differently_does_not() {
    let config = engine_config();
    let changes: [fn(&mut HostConfig); 8] = [
        |host| host.privileged = true,
        |host| host.network_mode = "host".into(),
        |host| host.pid_mode = "host".into(),
        |host| host.ipc_mode = "none".into(),
        |host| host.shm_size = 1 << 20,
        |host| host.masked_paths = Some(Vec::new()),
        |host| host.resources.cgroup_parent = "/other".into(),
        |host| host.tmpfs = Some([("/dev/shm".to_owned(), String::new())].into()),
    ];
    for change in changes {
        let record = record(|_, host| change(host));
        assert_ne!(template(&record), Template::common(&config, true), "{:?}", record.host_config);
    }
}

#[test]
fn systemd_takes_slices() {
    let mut config = engine_config();
    config.cgroup_driver = CgroupDriver::Systemd;
    config.cgroup_parent = CgroupDriver::Systemd.default_parent().into();
    let plain = record(|_, _| {});
    let path =
        |record| Template::of(record, &config, |_| Ok(7)).unwrap().prepare(&plain.id).unwrap().cgroups_path;
    assert_eq!(path(&plain), format!("system.slice:seacow:{}", plain.id));
    let own = record(|_, host| host.resources.cgroup_parent = "a-b.slice".into());
    assert_eq!(path(&own), format!("a-b.slice:seacow:{}", plain.id));
    assert!(CgroupDriver::Systemd.takes("a-b.slice") && CgroupDriver::Cgroupfs.takes("/a/b"));
    for wrong in ["/a", "a", ".slice", "-a.slice", "a--b.slice", "a/b.slice", "a:b.slice"] {
        assert!(!CgroupDriver::Systemd.takes(wrong), "{wrong}");
    }
    assert!(!CgroupDriver::Cgroupfs.takes("a.slice:b:c"));
}

#[test]
fn environment_is_docker_s() {
    let record = record(|config, _| {
        config.tty = true;
        config.env = Some(vec!["A=1".into(), "PATH=/own".into(), "HOSTNAME".into()]);
    });
    assert_eq!(build(&record).spec.process.unwrap().env, ["PATH=/own", "TERM=xterm", "A=1"]);
}

#[test]
fn mounts_of_the_user_and_of_the_engine() {
    let record = record(|_, host| {
        host.binds = Some(vec!["/tmp:/data/deep:ro".into(), "/tmp/h:/etc/hosts".into()]);
        host.tmpfs = Some([("/run".to_owned(), "exec".to_owned())].into());
        host.readonly_rootfs = true;
    });
    let spec = build(&record).spec;
    let seen: Vec<_> = spec.mounts.iter().map(|m| (m.destination.as_str(), m.source.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("/run", "tmpfs"),
            ("/etc/resolv.conf", "/e/c/x/resolv.conf"),
            ("/etc/hostname", "/e/c/x/hostname"),
            ("/data/deep", "/tmp"),
            ("/etc/hosts", "/tmp/h"),
        ]
    );
    assert_eq!(spec.mounts[3].options, ["rbind", "rprivate", "ro"]);
    assert_eq!(spec.mounts[0].options, ["nosuid", "nodev", "exec"]);
    assert!(spec.root.unwrap().readonly && spec.mounts[1].options.contains(&"ro".to_owned()));
}

#[test]
fn privileged_is_unconfined() {
    let create = build(&record(|_, host| host.privileged = true));
    assert_eq!(create.seccomp, SeccompChoice::Unconfined);
    assert!(create.spec.process.unwrap().capabilities.unwrap().bounding.len() > 30);
    let linux = create.spec.linux.unwrap();
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
}

#[test]
fn joined_namespaces_are_paths() {
    let record = record(|_, host| host.pid_mode = "container:web".into());
    let pid = template(&record).namespaces.into_iter().find(|ns| ns.kind == NamespaceKind::Pid).unwrap();
    assert_eq!(pid.path, "/proc/7/ns/pid");
}

#[test]
fn low_ports_are_free_in_the_container_s_own_network_only() {
    assert_eq!(build(&record(|_, _| {})).spec.linux.unwrap().sysctl.len(), 2);
    assert!(
        build(&record(|_, host| host.network_mode = "host".into())).spec.linux.unwrap().sysctl.is_empty()
    );
}
