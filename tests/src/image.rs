//! Images without a registry.

use std::path::PathBuf;
use std::process::Command;

/// A root file system of busybox alone, as a tar; made once and kept.
pub fn busybox_tar() -> PathBuf {
    let dir = crate::dist().with_file_name("test-images");
    std::fs::create_dir_all(&dir).unwrap();
    let tar = dir.join("busybox.tar");
    let lock = std::fs::File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    if tar.exists() {
        return tar;
    }
    let root = dir.join("busybox");
    for sub in ["bin", "etc", "tmp", "root", "home/user"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n").unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        let link = root.join("bin").join(applet);
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", link).unwrap();
        }
    }
    let new = dir.join("busybox.tar.new");
    let made = Command::new("tar").arg("-cf").arg(&new).arg("-C").arg(&root).arg(".").status().unwrap();
    assert!(made.success());
    std::fs::rename(new, &tar).unwrap();
    tar
}
