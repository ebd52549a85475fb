//! Bare OCI runtimes on one bundle, all in the same kind of mount namespace.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::podman::overlaid;
use super::{Client, remove_cgroups, remove_dirs};
use crate::bench::image::Image;
use crate::bench::sampler::Sampler;
use crate::packages;

/// The other runtimes.
const PACKAGES: [&str; 3] = ["crun", "runc", "libyajl2"];

/// A bundle whose program is `true`, and who runs it.
pub(crate) struct Runtimes {
    sampler: Rc<Sampler>,
    dir: PathBuf,
    name: String,
}

impl Runtimes {
    /// Makes the bundle.
    pub(crate) fn new(image: &Image, dist: &Path, name: &str) -> Result<Self> {
        let peers = packages::unpack("oci", &PACKAGES)?;
        let name = format!("{name}-oci");
        let dir = PathBuf::from(format!("/var/lib/{name}"));
        let sampler = Rc::new(Sampler::start(&overlaid(&peers.display().to_string()), false)?);
        let runtimes = Self { sampler, dir, name };
        image.copy_to(&runtimes.dir.join("rootfs"))?;
        runtimes.write_config(dist)?;
        Ok(runtimes)
    }

    /// What our own `spec` writes, with the program, and without a terminal.
    fn write_config(&self, dist: &Path) -> Result<()> {
        let path = self.dir.join("config.json");
        // Left by a run that was killed.
        drop(std::fs::remove_file(&path));
        let bundle = self.dir.display().to_string();
        Client::new(&dist.join("seacow-runtime"), &["spec", "--bundle", &bundle]).time(&[])?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut config: Value = serde_json::from_str(&text)?;
        // crun 1.8 knows no newer one.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["true"]);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/c", self.name));
        std::fs::write(&path, config.to_string())?;
        Ok(())
    }

    /// `PROGRAM --root … run --bundle … ID`, with the words that go before the id.
    pub(crate) fn client(&self, program: &Path) -> Client {
        let state = self.dir.join("state").display().to_string();
        let bundle = self.dir.display().to_string();
        Client::new(program, &["--root", &state, "run", "--bundle", &bundle]).within(&self.sampler)
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        remove_cgroups(&self.name);
        remove_dirs(std::slice::from_ref(&self.dir));
    }
}
