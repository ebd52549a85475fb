//! The guest: Debian trixie as a file system, its kernel, and an initramfs that finds the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::tools::{self, Tools};
use crate::shell;

/// What the guest has beside the minimal system: an init, what the tests use, peers to compare with.
const PACKAGES: [&str; 34] = [
    "apparmor",
    "busybox-static",
    "bzip2",
    "ca-certificates",
    "containerd",
    "crun",
    "curl",
    "dbus",
    "dbus-user-session",
    "docker-cli",
    "docker.io",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "nftables",
    "passt",
    "policycoreutils",
    "procps",
    "runc",
    "selinux-policy-default",
    "strace",
    "systemd",
    "systemd-sysv",
    "tmux",
    "udev",
    "uidmap",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zstd",
    "git",
];

/// Needed before the root file system is there. Everything else of virtio is built in.
const EARLY_MODULE: &str = "kernel/drivers/block/virtio_blk.ko";

/// Room for what runs write; the file is sparse.
const SIZE: &str = "6G";

/// Files that QEMU is given.
pub(crate) struct Guest {
    pub(super) image: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
}

/// Makes it once; again when what it shall contain has changed.
pub(crate) fn make(tools: &Tools) -> Result<Guest> {
    let dir = tools::dir();
    let guest = Guest {
        image: dir.join("guest.img"),
        kernel: dir.join("vmlinux"),
        initramfs: dir.join("initramfs.cpio"),
    };
    let stamp = dir.join("guest.complete");
    let wanted = format!("{}\n{INITRAMFS_INIT}\n{SIZE}\n{}\n", PACKAGES.join(" "), PERMISSIVE.join(" "));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(guest);
    }
    println!("xtask: making a Debian trixie guest (a few minutes, once)");
    let root = dir.join("guest");
    for old in [&stamp, &guest.image] {
        drop(fs::remove_file(old));
    }
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    debootstrap(tools, &root)?;
    relax_policy(&root)?;
    let modules = unpack_kernel(&root)?;
    extract_kernel(&root, &guest.kernel)?;
    make_initramfs(&root, &modules, &guest.initramfs)?;
    make_image(&root, &guest.image)?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    fs::write(&stamp, wanted)?;
    Ok(guest)
}

fn debootstrap(tools: &Tools, root: &Path) -> Result<()> {
    // The kernel's package wants an initramfs generator and a boot loader's hooks: only fetched.
    let kernel = r#"--customize-hook=chroot "$1" sh -c 'cd /var/tmp && apt-get -qq download $(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: \(linux-image.*\)/\1/p")'"#;
    let mut mmdebstrap = tools.mmdebstrap();
    mmdebstrap.args(["--quiet", "--variant=minbase", "--mode=root"]);
    for part in ["man", "doc", "locale", "info"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
    }
    mmdebstrap.arg(r#"--aptopt=APT::Install-Recommends "false""#);
    mmdebstrap.arg(format!("--include={}", PACKAGES.join(","))).arg(kernel);
    mmdebstrap.arg("trixie").arg(root).arg("http://deb.debian.org/debian");
    shell::output(&mut mmdebstrap).map(drop)
}

/// What the tests and the daemon do there is not what is judged: their domains, and those of the
/// programs that they call, are never refused anything. Those of containers are.
const PERMISSIVE: [&str; 6] = ["kernel_t", "dockerd_t", "kmod_t", "ifconfig_t", "iptables_t", "mount_t"];

/// Emulated, this would take more than a minute.
fn relax_policy(root: &Path) -> Result<()> {
    let policy: String = PERMISSIVE.iter().map(|domain| format!("(typepermissive {domain})\n")).collect();
    fs::write(root.join("var/tmp/seacow-vm.cil"), policy)?;
    let mut semodule = Command::new("chroot");
    semodule.arg(root).args(["semodule", "--noreload", "--install", "/var/tmp/seacow-vm.cil"]);
    shell::output(&mut semodule)?;
    Ok(fs::remove_file(root.join("var/tmp/seacow-vm.cil"))?)
}

/// Returns the directory of its modules.
fn unpack_kernel(root: &Path) -> Result<PathBuf> {
    let package = only(&root.join("var/tmp"), |name| name.starts_with("linux-image-"))?;
    shell::run(Command::new("dpkg").arg("-x").arg(&package).arg(root))?;
    fs::remove_file(package)?;
    let modules = only(&root.join("usr/lib/modules"), |_| true)?;
    let version = modules.file_name().unwrap_or_default().to_owned();
    shell::run(Command::new("chroot").arg(root).arg("depmod").arg(version))?;
    Ok(modules)
}

/// The kernel without the wrapper that unpacks it: emulated, that alone takes a second.
fn extract_kernel(root: &Path, to: &Path) -> Result<()> {
    let image = fs::read(only(&root.join("boot"), |name| name.starts_with("vmlinuz-"))?)?;
    // Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    let word = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("the kernel image is too short")?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let sectors = usize::from(*image.get(0x1f1).context("the kernel image is too short")?);
    let start = (sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the unpacked size, which is no part of the compressed stream.
    let end = start + word(0x24c)?.saturating_sub(4);
    let packed = image.get(start..end).context("the kernel image has no such payload")?;
    if !packed.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        bail!("the kernel is not compressed with zstd");
    }
    let file = to.with_extension("zst");
    fs::write(&file, packed)?;
    shell::run(Command::new("zstd").args(["-q", "-d", "-f", "--rm"]).arg(&file).arg("-o").arg(to))
}

/// Finds the disks and hands over to the run's own script.
const INITRAMFS_INIT: &str = "\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mkdir -p /root/payload
/bin/busybox mount -t ext4 /dev/vdb /root/payload
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /payload/init.sh
";

fn make_initramfs(root: &Path, modules: &Path, to: &Path) -> Result<()> {
    let tree = to.with_extension("tree");
    for dir in ["bin", "proc", "dev", "root"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(root.join("usr/bin/busybox"), tree.join("bin/busybox"))?;
    let init = tree.join("init");
    fs::write(&init, INITRAMFS_INIT)?;
    fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let packed = modules.join(format!("{EARLY_MODULE}.xz"));
    tools::output_to(Command::new("xz").arg("-dc").arg(&packed), &tree.join("virtio_blk.ko"))?;
    let mut cpio = Command::new("sh");
    cpio.current_dir(&tree).args(["-c", "find . | cpio --quiet -o -H newc"]);
    tools::output_to(&mut cpio, to)?;
    fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
}

fn make_image(root: &Path, to: &Path) -> Result<()> {
    fs::write(root.join("etc/hostname"), "seacow-vm\n")?;
    let link = root.join("etc/resolv.conf");
    drop(fs::remove_file(&link));
    fs::write(link, "nameserver 127.0.0.1\n")?;
    // Docker's daemon is started by who compares with it; nothing here waits for a network.
    for unit in
        ["docker.service", "docker.socket", "containerd.service", "apt-daily.timer", "e2scrub_reap.service"]
    {
        std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(unit)).or_else(
            |error| if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) },
        )?;
    }
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-d"]).arg(root).arg(to).arg(SIZE);
    shell::run(&mut mkfs)
}

/// The one entry of a directory that fits.
fn only(dir: &Path, fits: fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        many => bail!("{}: expected one entry, found {}", dir.display(), many.len()),
    }
}
