//! Fetching and building the suites, once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Runtime, bats};
use crate::{packages, shell};

/// The Debian release whose source packages are used: later than the machine's own, for the newest
/// suites. Nothing of it is installed.
const RELEASE: &str = "trixie";
/// Its Go, which builds both suites.
const GO: &str = "1.24";
/// What the machine itself needs.
const TOOLS: [&str; 14] = [
    "bats",
    "busybox-static",
    "dpkg-dev",
    "gawk",
    "gcc",
    "jq",
    "libc6-dev",
    "libseccomp-dev",
    "patchelf",
    "pkg-config",
    "procps",
    "psmisc",
    "util-linux",
    "xz-utils",
];
/// Go libraries that runc and runtime-tools import; theirs follow.
const LIBRARIES: [&str; 20] = [
    "golang-dbus-dev",
    "golang-github-checkpoint-restore-go-criu-dev",
    "golang-github-cilium-ebpf-dev",
    "golang-github-containerd-console-dev",
    "golang-github-coreos-go-systemd-dev",
    "golang-github-cyphar-filepath-securejoin-dev",
    "golang-github-docker-go-units-dev",
    "golang-github-google-uuid-dev",
    "golang-github-moby-sys-dev",
    "golang-github-mrunalp-fileutils-dev",
    "golang-github-opencontainers-runtime-tools-dev",
    "golang-github-opencontainers-selinux-dev",
    "golang-github-opencontainers-specs-dev",
    "golang-github-seccomp-libseccomp-golang-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-urfave-cli-dev",
    "golang-github-vishvananda-netlink-dev",
    "golang-gocapability-dev",
    "golang-golang-x-net-dev",
    "golang-google-protobuf-dev",
];

/// crun and what it is linked with.
const CRUN: [&str; 9] = [
    "crun",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "libseccomp2",
    "libsystemd0",
    "libyajl2",
];

/// Where everything is.
pub(super) struct Place {
    pub(super) dir: PathBuf,
}

impl Place {
    /// runc's sources, with `runc` and its tests' helpers built.
    pub(super) fn runc_tree(&self) -> PathBuf {
        self.dir.join("go/src/github.com/opencontainers/runc")
    }

    /// runtime-tools' sources, built.
    pub(super) fn tools_tree(&self) -> PathBuf {
        self.dir.join("go/src/github.com/opencontainers/runtime-tools")
    }

    /// A new directory for a run's output.
    pub(super) fn results(&self, suite: &str, runtime: Runtime) -> Result<PathBuf> {
        let dir = self.dir.join("results").join(format!("{suite}-{}", runtime.name()));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// crun of the same release, with that release's libraries.
    pub(super) fn crun(&self) -> Result<PathBuf> {
        let dir = self.dir.join("crun");
        self.once("crun", || {
            let debs = dir.join("debs");
            std::fs::create_dir_all(&debs)?;
            let apt = Apt { dir: self.dir.join("apt") };
            shell::run(apt.command("apt-get").current_dir(&debs).arg("download").args(CRUN))?;
            for deb in std::fs::read_dir(&debs)? {
                shell::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&dir))?;
            }
            let libraries = dir.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
            let is_loader = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
            };
            let loader = std::fs::read_dir(&libraries)?.flatten().map(|e| e.path()).find(is_loader);
            let loader = loader.context("no dynamic loader in libc6")?;
            let mut patch = Command::new("patchelf");
            patch
                .arg("--set-interpreter")
                .arg(loader)
                .arg("--force-rpath")
                .arg("--set-rpath")
                .arg(&libraries);
            shell::run(patch.arg(dir.join("usr/bin/crun")))
        })?;
        Ok(dir.join("usr/bin/crun"))
    }

    /// Names of the validation programs.
    pub(super) fn validations(&self) -> Result<Vec<String>> {
        let dir = self.tools_tree().join("validation");
        let entries = std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        let programs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let mut names: Vec<String> =
            programs.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n != "util").collect();
        names.sort();
        Ok(names)
    }

    /// Go's name of this machine's processor.
    pub(super) fn go_arch(&self) -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    /// The unpacked Go, in the mode that takes libraries from directories.
    pub(super) fn go_env(&self, command: &mut Command) {
        let root = self.dir.join("root");
        let goroot = root.join(format!("usr/lib/go-{GO}"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", goroot.join("bin").display()))
            .env("GOROOT", &goroot)
            .env(
                "GOPATH",
                format!("{}:{}", self.dir.join("go").display(), root.join("usr/share/gocode").display()),
            )
            .env("GOCACHE", self.dir.join("gocache"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "-buildvcs=false");
    }

    fn go_build(&self, tree: &Path, cgo: bool, args: &[&str]) -> Result<()> {
        let mut go = Command::new(self.dir.join(format!("root/usr/lib/go-{GO}/bin/go")));
        self.go_env(&mut go);
        go.env("CGO_ENABLED", if cgo { "1" } else { "0" });
        shell::run(go.current_dir(tree).arg("build").args(args))
    }

    /// Does a step once.
    fn once(&self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let stamp = self.dir.join(format!(".{name}.complete"));
        if stamp.exists() {
            return Ok(());
        }
        println!("conformance: {name}");
        step().with_context(|| name.to_owned())?;
        std::fs::write(&stamp, "").with_context(|| format!("write {}", stamp.display()))
    }
}

/// Fetches and builds what is not there yet.
pub(super) fn prepare() -> Result<Place> {
    packages::ensure(&TOOLS, "the conformance suites")?;
    let place = Place { dir: shell::target().join("conformance") };
    std::fs::create_dir_all(&place.dir).with_context(|| format!("create {}", place.dir.display()))?;
    let apt = Apt { dir: place.dir.join("apt") };
    place.once("package-lists", || apt.update())?;
    place.once("libraries", || apt.unpack_libraries(&place.dir.join("root")))?;
    place.once("runc-source", || apt.source("runc", &place.runc_tree()))?;
    place.once("runtime-tools-source", || {
        apt.source("golang-github-opencontainers-runtime-tools", &place.tools_tree())
    })?;
    place.once("tap-library", || tap_library(&place))?;
    place.once("build-runc", || build_runc(&place))?;
    place.once("build-runtime-tools", || build_tools(&place))?;
    place.once("images", || bats::images(&place))?;
    Ok(place)
}

/// An apt of its own, which knows one release and touches nothing of the machine's.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let set = |name: &str, path: &str| format!("{name}={}", self.dir.join(path).display());
        for option in [
            set("Dir::Etc::sourcelist", "sources.list"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            set("Dir::State::lists", "lists"),
            set("Dir::Cache", "cache"),
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(["-qq"]);
        command
    }

    fn update(&self) -> Result<()> {
        for dir in ["lists/partial", "cache/archives/partial", "debs", "sources"] {
            std::fs::create_dir_all(self.dir.join(dir))?;
        }
        let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        let line = |kind: &str| format!("{kind} {signed} http://deb.debian.org/debian {RELEASE} main\n");
        std::fs::write(self.dir.join("sources.list"), line("deb") + &line("deb-src"))?;
        shell::run(self.command("apt-get").arg("update"))
    }

    fn unpack_libraries(&self, root: &Path) -> Result<()> {
        let mut depends = self.command("apt-cache");
        depends.args([
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
        ]);
        depends.args(["--no-replaces", "--no-enhances"]).args(LIBRARIES);
        let all = shell::output(&mut depends)?;
        let mut names: Vec<&str> = all.lines().filter(|l| l.starts_with("golang-")).collect();
        names.sort_unstable();
        names.dedup();
        let go = [format!("golang-{GO}-go"), format!("golang-{GO}-src")];
        let debs = self.dir.join("debs");
        shell::run(self.command("apt-get").current_dir(&debs).arg("download").args(names).args(go))?;
        for deb in std::fs::read_dir(&debs)? {
            shell::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(root))?;
        }
        Ok(())
    }

    /// Unpacks a source package. apt checks each file against the signed list of sources.
    fn source(&self, package: &str, tree: &Path) -> Result<()> {
        // What an earlier attempt left.
        let _ = std::fs::remove_dir_all(tree);
        if let Some(parent) = tree.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let sources = self.dir.join("sources");
        let mut get = self.command("apt-get");
        get.current_dir(&sources).args(["source", "--download-only", package]);
        let got = shell::output(&mut get);
        let file = |fits: &dyn Fn(&str) -> bool| -> Result<Option<PathBuf>> {
            let entries = std::fs::read_dir(&sources)?.flatten().map(|e| e.path());
            let named = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("{package}_")) && fits(&name)
            };
            Ok(entries.into_iter().find(named))
        };
        if got.is_ok()
            && let Some(description) = file(&|name| name.ends_with(".dsc"))?
        {
            // With Debian's patches, which adapt it to Debian's libraries.
            let mut unpack = Command::new("dpkg-source");
            unpack.args(["--no-check", "-x"]).arg(description).arg(tree);
            return shell::output(&mut unpack).map(drop);
        }
        // Not every mirror has every description; the upstream archive alone may do.
        let Some(archive) = file(&|name| name.contains(".orig.tar."))? else {
            got?;
            bail!("apt-get source {package} brought no archive");
        };
        std::fs::create_dir_all(tree)?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(tree).arg("--strip-components=1").arg("-xf").arg(&archive);
        shell::run(&mut tar)
    }
}

/// runtime-tools reports through a library that Debian does not have; ours has the same calls.
fn tap_library(place: &Place) -> Result<()> {
    let dir = place.dir.join("go/src/github.com/mndrix/tap-go");
    std::fs::create_dir_all(&dir)?;
    let ours = shell::root().join("tests/conformance/tap/tap.go");
    std::fs::copy(&ours, dir.join("tap.go")).map(drop).with_context(|| format!("copy {}", ours.display()))
}

fn build_runc(place: &Place) -> Result<()> {
    let tree = place.runc_tree();
    let version = std::fs::read_to_string(tree.join("VERSION")).unwrap_or_default();
    let flags = format!("-X main.gitCommit=debian -X main.version={}", version.trim());
    place.go_build(
        &tree,
        true,
        &["-trimpath", "-buildmode=pie", "-tags", "seccomp", "-ldflags", &flags, "-o", "runc", "."],
    )?;
    for helper in ["recvtty", "sd-helper", "seccompagent"] {
        let (path, out) = (format!("./contrib/cmd/{helper}"), format!("contrib/cmd/{helper}/{helper}"));
        place.go_build(&tree, true, &["-tags", "seccomp", "-o", &out, &path])?;
    }
    Ok(())
}

fn build_tools(place: &Place) -> Result<()> {
    let tree = place.tools_tree();
    place.go_build(&tree, false, &["-tags", "netgo osusergo", "-o", "runtimetest", "./cmd/runtimetest"])?;
    for name in place.validations()? {
        let (path, out) = (format!("./validation/{name}"), format!("validation/{name}/{name}.t"));
        place.go_build(&tree, false, &["-o", &out, &path])?;
    }
    Ok(())
}
