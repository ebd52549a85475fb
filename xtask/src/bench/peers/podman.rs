//! Debian's podman. It has no daemon, so every command runs in a mount namespace in which its
//! packages lie over the machine's own files.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;

use super::{Client, remove_cgroups, remove_dirs};
use crate::bench::image::{self, Image};
use crate::bench::sampler::Sampler;
use crate::packages;

/// podman and what it needs that Debian does not install anyway.
const PACKAGES: [&str; 11] = [
    "podman",
    "conmon",
    "crun",
    "netavark",
    "golang-github-containers-common",
    "golang-github-containers-image",
    "libgpgme11",
    "libassuan0",
    "libsubid4",
    "libyajl2",
    "libdevmapper1.02.1",
];

/// podman's client, and how it runs `true`.
pub(crate) struct Podman {
    /// In its namespaces.
    pub(crate) client: Client,
    cgroup: String,
    dirs: Vec<PathBuf>,
}

impl Podman {
    /// Imports the image.
    pub(crate) fn start(image: &Image, name: &str) -> Result<Self> {
        let peers = packages::unpack("podman", &PACKAGES)?;
        let name = format!("{name}-podman");
        let (run, data) = (PathBuf::from(format!("/run/{name}")), PathBuf::from(format!("/var/lib/{name}")));
        let setup = format!("{}\nip link set lo up", overlaid(&peers.display().to_string()));
        let sampler = Rc::new(Sampler::start(&setup, true)?);
        let at = |option: &str, dir: &str| format!("--{option}={}/{dir}", run.display());
        let global = [
            format!("--root={}", data.display()),
            at("runroot", "run"),
            at("tmpdir", "tmp"),
            at("network-config-dir", "networks"),
            "--cgroup-manager=cgroupfs".into(),
            "--events-backend=file".into(),
        ];
        let global: Vec<&str> = global.iter().map(String::as_str).collect();
        let client = Client::new("podman".as_ref(), &global).within(&sampler);
        let podman = Self { client, cgroup: name, dirs: vec![run, data] };
        podman.client.time(&["import", &image.tar.to_string_lossy(), image::NAME])?;
        Ok(podman)
    }

    /// `run --rm IMAGE true` on a network. Its default limits cannot be set by everybody.
    pub(crate) fn run_true<'a>(&self, network: &'a [&'a str], parent: &'a str) -> Vec<&'a str> {
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", parent];
        [&["run", "--rm"], &limits[..], network, &[image::NAME, "true"]].concat()
    }

    /// Option that keeps its cgroups below one of ours.
    pub(crate) fn parent(&self) -> String {
        format!("--cgroup-parent=/{}", self.cgroup)
    }
}

/// A script that lays unpacked packages over the machine's files, for one mount namespace. On cgroup
/// v1 there is also a cgroup directory without the second tree of the hybrid layout, which crun
/// refuses; and what podman makes beside the mounted hierarchies goes with the namespace.
pub(crate) fn overlaid(peers: &str) -> String {
    format!(
        "set -e
         over() {{ [ ! -d \"{peers}/$1\" ] || mount -t overlay overlay -o ro,lowerdir=\"{peers}/$1\":\"$2\" \"$2\"; }}
         over usr /usr
         over lib /usr/lib
         over etc /etc
         cgroups() {{
           mount -t tmpfs -o mode=755 tmpfs /mnt
           for hierarchy in /sys/fs/cgroup/*; do
             name=${{hierarchy##*/}}
             if [ -L \"$hierarchy\" ]; then cp -P \"$hierarchy\" /mnt/
             elif [ \"$name\" != unified ]; then mkdir \"/mnt/$name\"; mount --bind \"$hierarchy\" \"/mnt/$name\"
             fi
           done
           umount --recursive --lazy /sys/fs/cgroup
           mount --move /mnt /sys/fs/cgroup
         }}
         [ -e /sys/fs/cgroup/cgroup.controllers ] || cgroups"
    )
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.client.time(&["rm", "--all", "--force"]) {
            eprintln!("xtask: remove podman's containers: {error:#}");
        }
        remove_cgroups(&self.cgroup);
        remove_dirs(&self.dirs);
    }
}
