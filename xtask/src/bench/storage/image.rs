//! The image: busybox and one large file that no file system packs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::image::Image;
use crate::shell;

/// Its name in the image's root.
pub(super) const FILE: &str = "large";

/// A tar of the image with the file, to be removed after use.
pub(super) fn with_file(base: &Image, bytes: u64) -> Result<PathBuf> {
    let dir = shell::target().join("bench-storage");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let large = dir.join(FILE);
    write_noise(&large, bytes)?;
    let tar = shell::target().join("bench-storage.tar");
    std::fs::copy(&base.tar, &tar).with_context(|| format!("copy {}", base.tar.display()))?;
    shell::run(Command::new("tar").arg("-rf").arg(&tar).arg("-C").arg(&dir).arg(FILE))?;
    std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    Ok(tar)
}

fn write_noise(path: &std::path::Path, bytes: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..bytes / 8 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    Ok(out.flush()?)
}
