//! Debian's docker-registry on the loopback. `SEACOW_REGISTRY` names a directory where it is unpacked;
//! `cargo xtask test` gives one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::{Engine, patience};

/// A registry on the loopback, gone with this value.
pub struct Registry {
    child: Child,
    host: String,
    dir: PathBuf,
}

impl Registry {
    /// Starts one; says so when it is not there.
    pub fn start(engine: &Engine) -> Option<Self> {
        Self::start_as(engine, "registry", "")
    }

    /// One more, with a name of its own and further lines of configuration.
    pub fn start_as(engine: &Engine, name: &str, more: &str) -> Option<Self> {
        let Some(unpacked) = std::env::var_os("SEACOW_REGISTRY").map(PathBuf::from) else {
            println!("SKIPPED: SEACOW_REGISTRY names no directory with docker-registry");
            return None;
        };
        let dir = engine.exec_root().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        // Free a moment ago; nobody else here takes ports at random.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n{more}",
            dir.join("data").display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let child = Command::new(unpacked.join("usr/bin/docker-registry"))
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, host, dir };
        let deadline = Instant::now() + patience(20);
        while std::net::TcpStream::connect(&this.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(this)
    }

    /// Where it listens.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where its files are, and those of tests.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The digest that it has under a tag, by the kinds of manifest that there are.
    pub fn digest(&self, name: &str, tag: &str) -> String {
        let kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
        let ask = format!(
            "curl -sfI -H 'Accept: {kinds}' http://{}/v2/{name}/manifests/{tag} | tr -d '\\r' | sed -n 's/^Docker-Content-Digest: //Ip'",
            self.host
        );
        sh(&self.dir, &ask)
    }

    /// Uploads an image of the engine as `NAME:1`; returns the manifest's digest.
    pub fn seed(&self, engine: &Engine, image: &str, name: &str) -> String {
        let dir = self.dir.join(name.replace('/', "-"));
        std::fs::create_dir_all(&dir).unwrap();
        let tar = dir.join("image.tar").display().to_string();
        engine.docker(&["save", "-o", &tar, image]).ok();
        sh(&dir, "tar -xf image.tar");
        let items: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        let blob = |path: &str, kind: &str| {
            let digest = format!("sha256:{}", sh(&dir, &format!("sha256sum < {path} | cut -d' ' -f1")));
            let uploads = format!("http://{}/v2/{name}/blobs/uploads/", self.host);
            let upload = format!(
                "place=$(curl -sfi -X POST {uploads} | tr -d '\\r' | sed -n 's/^Location: //Ip') && \
                 curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @{path} \"$place&digest={digest}\""
            );
            sh(&dir, &upload);
            let size = std::fs::metadata(dir.join(path)).unwrap().len();
            serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
        };
        let config =
            blob(items[0]["Config"].as_str().unwrap(), "application/vnd.docker.container.image.v1+json");
        let layers = items[0]["Layers"].as_array().unwrap().iter().enumerate().map(|(number, layer)| {
            sh(&dir, &format!("gzip -1c {} > {number}.gz", layer.as_str().unwrap()));
            blob(&format!("{number}.gz"), "application/vnd.docker.image.rootfs.diff.tar.gzip")
        });
        let layers: Vec<_> = layers.collect();
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        std::fs::write(dir.join("m.json"), manifest.to_string()).unwrap();
        let to = format!("http://{}/v2/{name}/manifests/1", self.host);
        sh(&dir, &format!("curl -sf -X PUT -H 'Content-Type: {kind}' --data-binary @m.json {to}"));
        format!("sha256:{}", sh(&dir, "sha256sum < m.json | cut -d' ' -f1"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a shell script prints; it must succeed.
pub fn sh(dir: &Path, script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}
