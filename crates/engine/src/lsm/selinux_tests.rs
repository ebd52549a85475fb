use super::*;

/// A host with SELinux, as far as files go.
struct Host(tempfile::TempDir);

impl Host {
    fn new(contexts: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("fs/enforce", "1");
        put("etc/config", "# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n");
        put("etc/targeted/contexts/lxc_contexts", contexts);
        Self(dir)
    }

    fn read(&self) -> Result<Option<Selinux>, SelinuxError> {
        Selinux::at(&self.0.path().join("fs"), &self.0.path().join("etc"))
    }
}

const CONTEXTS: &str = "process = \"system_u:system_r:container_t:s0\"\n\
    content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
    file = \"system_u:object_r:container_file_t:s0\"\n";

fn selinux() -> Selinux {
    Host::new(CONTEXTS).read().unwrap().unwrap()
}

fn id(digit: char) -> ContainerId {
    digit.to_string().repeat(64).parse().unwrap()
}

fn options(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn level(label: &str) -> String {
    label.parse::<Context>().unwrap().level.unwrap()
}

#[test]
fn a_host_has_it_or_not() {
    let host = Host::new(CONTEXTS);
    std::fs::remove_file(host.0.path().join("fs/enforce")).unwrap();
    assert!(host.read().unwrap().is_none());
    let error = Host::new("process = \"u:r:t:s0\"\n").read().unwrap_err().to_string();
    assert!(error.contains("lxc_contexts names no file"), "{error}");
    let error = Host::new("process = \"nonsense\"\nfile = \"x\"").read().unwrap_err().to_string();
    assert!(error.contains("is not an SELinux label"), "{error}");
    let host = Host::new(CONTEXTS);
    std::fs::remove_dir_all(host.0.path().join("etc/targeted")).unwrap();
    assert!(matches!(host.read(), Err(SelinuxError::Read { .. })));
}

#[test]
fn every_container_has_two_categories_of_its_own() {
    let selinux = selinux();
    let mut seen = HashSet::new();
    for number in 0..500 {
        let id: ContainerId = format!("{number:064x}").parse().unwrap();
        let labels = selinux.labels(&id, &[]).unwrap();
        assert!(labels.process.starts_with("system_u:system_r:container_t:s0:c"), "{labels:?}");
        assert!(labels.mount.starts_with("system_u:object_r:container_file_t:s0:c"), "{labels:?}");
        let level = level(&labels.process);
        assert_eq!(level, self::level(&labels.mount));
        let (one, other) = level.strip_prefix("s0:c").unwrap().split_once(",c").unwrap();
        let (one, other): (u16, u16) = (one.parse().unwrap(), other.parse().unwrap());
        assert!(one < other && other < CATEGORIES - 2, "{level}");
        assert!(seen.insert(level), "twice");
        // Asked again, it is the same.
        assert_eq!(selinux.labels(&id, &[]).unwrap(), labels);
    }
    let last: ContainerId = format!("{:064x}", 499).parse().unwrap();
    let before = lock(&selinux.levels).taken.len();
    selinux.release(&last);
    assert_eq!(lock(&selinux.levels).taken.len(), before - 1);
}

#[test]
fn options_are_docker_s() {
    let selinux = selinux();
    let with = |all: &[&str]| selinux.labels(&id('a'), &options(all)).unwrap();
    let own = level(&with(&[]).process);
    let labels = with(&["type:spc_t", "role:r", "user:u"]);
    assert_eq!(labels.process, format!("u:r:spc_t:{own}"));
    assert_eq!(labels.mount, format!("u:object_r:container_file_t:{own}"));
    let labels = with(&["level:s0:c7,c9", "filetype:usr_t"]);
    assert_eq!(labels.process, "system_u:system_r:container_t:s0:c7,c9");
    assert_eq!(labels.mount, "system_u:object_r:usr_t:s0:c7,c9");
    let labels = with(&["type:x", "disable"]);
    let files = "system_u:object_r:container_file_t:s0:c1022,c1023";
    assert_eq!((labels.process.as_str(), labels.mount.as_str()), ("", files));
    for bad in ["nonsense", "size:1", "enable"] {
        let error = selinux.labels(&id('a'), &options(&[bad])).unwrap_err();
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
        assert!(error.to_string().starts_with(&format!("Bad label option \"{bad}\"")), "{error}");
    }
    assert!(selinux.labels(&id('a'), &options(&["type:a\"b"])).is_err());
}

#[test]
fn labels_are_shared_inherited_and_kept() {
    let selinux = selinux();
    let first = selinux.labels(&id('a'), &options(&["type:own_t"])).unwrap();
    let joined = selinux.labels(&id('b'), &Selinux::as_options(&first.process).unwrap()).unwrap();
    assert_eq!(joined, first);
    assert_eq!(Selinux::as_options("").unwrap(), ["disable"]);
    assert_eq!(
        selinux.shared(&first.mount).unwrap(),
        "system_u:object_r:container_file_t:s0",
        "for all containers"
    );
    // Two have the level: it is free when both are gone.
    let level = level(&first.process);
    selinux.release(&id('a'));
    assert!(lock(&selinux.levels).taken.contains(&level));
    selinux.release(&id('b'));
    assert!(!lock(&selinux.levels).taken.contains(&level));
    // The next engine knows what the last one gave.
    selinux.keep(&id('c'), &first);
    assert_eq!(self::level(&selinux.labels(&id('c'), &[]).unwrap().process), level);
}

#[test]
fn a_policy_without_levels_has_none() {
    let host = Host::new("process=user_u:system_r:c_t\nfile=user_u:object_r:f_t\n");
    let selinux = host.read().unwrap().unwrap();
    let labels = selinux.labels(&id('a'), &[]).unwrap();
    assert_eq!(
        (labels.process.as_str(), labels.mount.as_str()),
        ("user_u:system_r:c_t", "user_u:object_r:f_t")
    );
    assert_eq!(selinux.shared(&labels.mount).unwrap(), labels.mount);
    assert_eq!(selinux.labels(&id('a'), &options(&["disable"])).unwrap().mount, "user_u:object_r:f_t");
}
