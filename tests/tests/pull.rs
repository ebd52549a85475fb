//! Pulls by the stock client from a real registry, Debian's docker-registry. `SEACOW_REGISTRY` names a
//! directory where it is unpacked; `cargo xtask test` gives one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seacow_tests::Engine;

/// A registry on the loopback, gone with this value.
struct Registry {
    child: Child,
    host: String,
    dir: PathBuf,
}

impl Registry {
    fn start(engine: &Engine) -> Option<Self> {
        let Some(unpacked) = std::env::var_os("SEACOW_REGISTRY").map(PathBuf::from) else {
            println!("SKIPPED: SEACOW_REGISTRY names no directory with docker-registry");
            return None;
        };
        let dir = engine.exec_root().join("registry");
        std::fs::create_dir_all(&dir).unwrap();
        // Free a moment ago; nobody else here takes ports at random.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n",
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
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&this.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(this)
    }

    /// Uploads an image of the engine as `NAME:1`; returns the manifest's digest.
    fn seed(&self, engine: &Engine, image: &str, name: &str) -> String {
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

fn sh(dir: &Path, script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// An image of four layers, the last of which takes a file away.
fn built(engine: &Engine) -> String {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    let file = "FROM bb\nRUN echo layer > /layer\nRUN head -c 3000000 /dev/urandom > /data\nRUN rm /layer; echo again > /again\nCMD [\"cat\", \"/again\"]\n";
    std::fs::write(dir.join("Dockerfile"), file).unwrap();
    engine.docker(&["build", "-q", "-t", "made", &dir.display().to_string()]).ok()
}

#[test]
fn what_is_pulled_is_what_was_there() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let id = built(&engine);
    let digest = registry.seed(&engine, "made", "some/made");
    engine.docker(&["rmi", "-f", "made", "bb"]).ok();
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
    let name = format!("{}/some/made:1", registry.host);
    let said = engine.docker(&["pull", &name]).ok();
    assert!(said.starts_with("1: Pulling from some/made"), "{said}");
    assert!(said.contains(&format!("Digest: {digest}\nStatus: Downloaded newer image for {name}")), "{said}");
    assert_eq!(said.matches(": Pull complete").count(), 4, "{said}");
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
    assert_eq!(
        engine.inspect(&name, "{{index .RepoDigests 0}}"),
        format!("{}/some/made@{digest}", registry.host)
    );
    assert_eq!(engine.docker(&["run", "--rm", &name]).ok(), "again");
    engine.docker(&["run", "--rm", &name, "cat", "/layer"]).fails(1, "No such file");
    // Again: nothing to do. By its digest: the same image.
    let again = engine.docker(&["pull", &name]).ok();
    assert!(again.contains("Status: Image is up to date") && !again.contains("Pull complete"), "{again}");
    let by_digest = format!("{}/some/made@{digest}", registry.host);
    engine.docker(&["pull", "-q", &by_digest]).ok();
    assert_eq!(engine.inspect(&by_digest, "{{.Id}}"), id);
}

#[test]
fn whoever_needs_an_image_gets_it() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    registry.seed(&engine, "bb", "bb");
    let name = format!("{}/bb:1", registry.host);
    engine.docker(&["rmi", "-f", "bb"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "echo", "ran"]).ok().lines().last(), Some("ran"));
    engine.docker(&["rmi", "-f", &name]).ok();
    let context = engine.exec_root().join("from");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(
        context.join("Dockerfile"),
        format!("FROM {name}\nRUN echo built > /x\nCMD [\"cat\", \"/x\"]\n"),
    )
    .unwrap();
    engine.docker(&["build", "-q", "-t", "on-it", &context.display().to_string()]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "on-it"]).ok(), "built");
    let nobody = engine.seacow(&["pull", &format!("{}/nobody:1", registry.host)]);
    nobody.fails(1, "not found: manifest unknown");
    engine.docker(&["pull", &format!("{}/bb:2", registry.host)]).fails(1, "bb:2 not found: manifest unknown");
    engine.docker(&["pull", "127.0.0.1:1/x"]).fails(1, "dial tcp 127.0.0.1:1: connect: connection refused");
    engine.docker(&["pull", "-a", &format!("{}/bb", registry.host)]).fails(1, "pulling all tags");
}

#[test]
fn a_damaged_layer_leaves_nothing() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    built(&engine);
    registry.seed(&engine, "made", "made");
    engine.docker(&["rmi", "-f", "made", "bb"]).ok();
    let name = format!("{}/made:1", registry.host);
    engine.docker(&["pull", "-q", &name]).ok();
    engine.docker(&["rmi", "-f", &name]).ok();
    let largest = "find data -name data -path '*blobs*' -size +2000k | head -1";
    let file = sh(&registry.dir, largest);
    sh(&registry.dir, &format!("printf XX | dd of={file} bs=1 seek=1000000 conv=notrunc 2>/dev/null"));
    engine.docker(&["pull", &name]).fails(1, "digest does not match");
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
    engine.docker(&["inspect", &name]).fails(1, "No such object");
}
