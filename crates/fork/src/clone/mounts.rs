//! The mounts of a clone, made by itself.

use std::os::fd::AsRawFd;

use super::{Mount, Spec, fetch};
use crate::batch::Batch;
use crate::capture::State;
use crate::error::Result;
use crate::template::Template;

const HERE: u64 = libc::AT_FDCWD as u64;

/// Puts everything in its place. The clone begins in a mount namespace with nothing in it but `/root`.
pub(super) fn attach(batch: &mut Batch, template: &Template, spec: &Spec<'_>) -> Result<()> {
    for mount in &spec.mounts {
        match mount {
            Mount::Root(tree) => {
                let (place, dot) = (batch.text("/root"), batch.text("."));
                attach_tree(batch, template, tree.as_raw_fd(), place);
                batch.call("enter the root", libc::SYS_chdir, &[place]);
                batch.call("pivot", libc::SYS_pivot_root, &[dot, dot]);
                batch.call("let go of the old root", libc::SYS_umount2, &[dot, libc::MNT_DETACH as u64]);
            }
            Mount::Attach { tree, target } => {
                let place = batch.text(target.to_bytes());
                attach_tree(batch, template, tree.as_raw_fd(), place);
            }
            Mount::New { kind, target, flags, options } => {
                let (kind, options) = (batch.text(kind.to_bytes()), batch.text(options.to_bytes()));
                open_place(batch, target.to_bytes());
                // By the open place: nothing can be put in between.
                let place = batch.text("/proc/self/fd/0");
                let direct = batch.text(target.to_bytes());
                // The first of all is proc itself, without which there is no such path.
                let is_proc = target.to_bytes() == b"/proc";
                let place = if is_proc { direct } else { place };
                batch.call("mount", libc::SYS_mount, &[kind, place, kind, *flags, options]);
                batch.call("close a mount point", libc::SYS_close, &[0]);
                if is_proc {
                    set(batch, spec);
                }
            }
            Mount::Bind { source, target, flags, optional } => {
                let (source, target) = (batch.text(source.to_bytes()), batch.text(target.to_bytes()));
                let recursive = *flags & libc::MS_REC;
                let rest = *flags & !libc::MS_REC;
                let mut call = |step, flags: u64| {
                    let arguments = [source, target, 0, flags, 0];
                    if *optional {
                        batch.attempt(step, libc::SYS_mount, &arguments);
                    } else {
                        batch.call(step, libc::SYS_mount, &arguments);
                    }
                };
                call("bind", libc::MS_BIND | recursive);
                if rest != 0 {
                    call("options of a bind", libc::MS_BIND | libc::MS_REMOUNT | rest);
                }
            }
        }
    }
    Ok(())
}

/// Settings of its namespaces, before anything covers them.
fn set(batch: &mut Batch, spec: &Spec<'_>) {
    for (file, text) in &spec.settings {
        let (path, bytes) = (batch.text(file.to_bytes()), batch.data(text.as_bytes()));
        let flags = (libc::O_WRONLY | libc::O_TRUNC | libc::O_CLOEXEC) as u64;
        batch.call("open a kernel setting", libc::SYS_openat, &[HERE, path, flags, 0]);
        batch.call("write a kernel setting", libc::SYS_write, &[0, bytes, text.len() as u64]);
        batch.call("close a kernel setting", libc::SYS_close, &[0]);
    }
}

/// Opens a mount point as descriptor 0, not following links.
fn open_place(batch: &mut Batch, target: &[u8]) {
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    let path = batch.text(target);
    // struct open_how: flags, mode, resolve.
    let how = batch.words(&[(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, RESOLVE_NO_SYMLINKS]);
    batch.call("open a mount point", libc::SYS_openat2, &[HERE, path, how, 24]);
}

fn attach_tree(batch: &mut Batch, template: &Template, tree: i32, place: u64) {
    const FROM_DESCRIPTOR: u64 = 0x04;
    let empty = batch.text("");
    fetch(batch, template, tree);
    batch.call("attach a mount", libc::SYS_move_mount, &[0, empty, HERE, place, FROM_DESCRIPTOR]);
    batch.call("close a mount", libc::SYS_close, &[0]);
}

/// Maps shared files, each from the clone's own root.
pub(super) fn map_shared_files(batch: &mut Batch, state: &State) {
    for mapping in state.mappings.iter().filter(|mapping| mapping.shared && !mapping.is_kernels()) {
        let path = batch.text(mapping.name.as_bytes());
        let writes = mapping.protection & libc::PROT_WRITE as u64 != 0;
        let flags = libc::O_CLOEXEC | if writes { libc::O_RDWR } else { libc::O_RDONLY };
        batch.call("open a shared file", libc::SYS_openat, &[HERE, path, flags as u64, 0]);
        let how = (libc::MAP_FIXED | libc::MAP_SHARED) as u64;
        let arguments = [mapping.start, mapping.length(), mapping.protection, how, 0, mapping.offset];
        batch.call("map a shared file", libc::SYS_mmap, &arguments);
        batch.call("close a shared file", libc::SYS_close, &[0]);
    }
}
