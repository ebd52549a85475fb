//! Pushes by the stock client to a real registry, Debian's docker-registry, and back.

use seacow_tests::{Engine, Registry, sh};

/// An image of three layers, of which one is large enough to take a moment.
fn built(engine: &Engine, name: &str) -> String {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    let file = "FROM bb\nRUN head -c 3000000 /dev/urandom > /data; echo text > /text\nRUN rm /text\nCMD [\"ls\", \"/data\"]\n";
    std::fs::write(dir.join("Dockerfile"), file).unwrap();
    engine.docker(&["build", "-q", "-t", name, &dir.display().to_string()]).ok()
}

fn digest_said(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("digest: sha256:")).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned()
}

fn remove_all(engine: &Engine) {
    let all = engine.docker(&["images", "-aq"]).ok();
    let ids: Vec<&str> = all.lines().collect();
    engine.docker(&[&["rmi", "-f"], &ids[..]].concat()).ok();
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
}

#[test]
fn what_is_pushed_is_what_comes_back() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let name = format!("{}/some/made:1", registry.host());
    let id = built(&engine, &name);
    let said = engine.docker(&["push", &name]).ok();
    assert!(
        said.starts_with(&format!("The push refers to repository [{}/some/made]", registry.host())),
        "{said}"
    );
    assert_eq!(said.matches(": Pushed").count(), 3, "{said}");
    let digest = digest_said(&said);
    assert_eq!(registry.digest("some/made", "1"), digest);
    assert_eq!(
        engine.inspect(&name, "{{index .RepoDigests 0}}"),
        format!("{}/some/made@{digest}", registry.host())
    );
    // Again: nothing to do. Elsewhere in the same registry: nothing to send.
    let again = engine.docker(&["push", &name]).ok();
    assert_eq!(again.matches(": Layer already exists").count(), 3, "{again}");
    assert_eq!(digest_said(&again), digest);
    let beside = format!("{}/beside:2", registry.host());
    engine.docker(&["tag", &name, &beside]).ok();
    let mounted = engine.docker(&["push", &beside]).ok();
    assert_eq!(mounted.matches(": Mounted from some/made").count(), 3, "{mounted}");
    assert_eq!(digest_said(&mounted), digest);
    // And back.
    remove_all(&engine);
    let pulled = engine.docker(&["pull", &beside]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(engine.inspect(&beside, "{{.Id}}"), id);
    assert_eq!(engine.docker(&["run", "--rm", &beside]).ok(), "/data");
    engine.docker(&["run", "--rm", &beside, "cat", "/text"]).fails(1, "No such file");
}

#[test]
fn a_pulled_image_goes_on_as_it_came() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let Some(other) = Registry::start_as(&engine, "other", "") else { return };
    built(&engine, "made");
    // Packed by gzip itself, in a manifest of the test's own writing.
    let digest = registry.seed(&engine, "made", "made");
    remove_all(&engine);
    let (from, to) = (format!("{}/made:1", registry.host()), format!("{}/copy:1", other.host()));
    engine.docker(&["pull", "-q", &from]).ok();
    engine.docker(&["tag", &from, &to]).ok();
    let said = engine.docker(&["push", &to]).ok();
    assert_eq!(digest_said(&said), digest, "{said}");
    assert_eq!(other.digest("copy", "1"), digest);
    // It is saved so, and comes back from there as the same.
    let tar = engine.exec_root().join("saved.tar");
    engine.docker(&["save", "-o", &tar.display().to_string(), &from]).ok();
    let list =
        sh(other.dir(), &format!("tar -tf {} | grep -c {}", tar.display(), &digest["sha256:".len()..]));
    assert_eq!(list, "1");
    sh(other.dir(), &format!("tar -xOf {} index.json | grep -q {digest}", tar.display()));
    // Also by a daemon that has started since.
    let mut engine = engine;
    engine.stop_daemon();
    engine.restart_daemon();
    let third = format!("{}/third:1", other.host());
    engine.docker(&["tag", &from, &third]).ok();
    assert_eq!(digest_said(&engine.docker(&["push", &third]).ok()), digest);
    // Without the blobs the image is the same, though packed anew.
    let id = engine.inspect(&from, "{{.Id}}");
    sh(other.dir(), &format!("rm {}/*", engine.data_root().join("blobs").display()));
    let Some(last) = Registry::start_as(&engine, "last", "") else { return };
    let anew = format!("{}/anew:1", last.host());
    engine.docker(&["tag", &from, &anew]).ok();
    assert_ne!(digest_said(&engine.docker(&["push", &anew]).ok()), digest);
    remove_all(&engine);
    engine.docker(&["pull", "-q", &anew]).ok();
    assert_eq!(engine.inspect(&anew, "{{.Id}}"), id);
    remove_all(&engine);
    engine.docker(&["load", "-i", &tar.display().to_string()]).ok();
    assert_eq!(engine.inspect(&from, "{{.Id}}"), id);
    // And goes on from there as it came in the first place.
    let loaded = format!("{}/loaded:1", last.host());
    engine.docker(&["tag", &from, &loaded]).ok();
    assert_eq!(digest_said(&engine.docker(&["push", &loaded]).ok()), digest);
    // With the image its blobs are gone.
    remove_all(&engine);
    assert_eq!(sh(other.dir(), &format!("ls {}", engine.data_root().join("blobs").display())), "");
}

#[test]
fn several_tags_and_another_packing() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let name = format!("{}/made", registry.host());
    let id = built(&engine, &format!("{name}:small"));
    let said = engine.seacow(&["push", "--compression", "zstd", &format!("{name}:small")]).ok();
    assert_eq!(registry.digest("made", "small"), digest_said(&said));
    let kinds = sh(
        registry.dir(),
        &format!(
            "curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' http://{}/v2/made/manifests/small | grep -c 'tar+zstd\"'",
            registry.host()
        ),
    );
    assert_eq!(kinds, "3");
    engine.docker(&["tag", &format!("{name}:small"), &format!("{name}:too")]).ok();
    let all = engine.seacow(&["push", "--all-tags", &name]).ok();
    assert!(all.contains("small: digest: ") && all.contains("too: digest: "), "{all}");
    remove_all(&engine);
    engine.docker(&["pull", "-q", &format!("{name}:small")]).ok();
    assert_eq!(engine.inspect(&format!("{name}:small"), "{{.Id}}"), id);
    engine
        .seacow(&["push", "--compression", "lzma", &format!("{name}:small")])
        .fails(1, "invalid compression");
}

#[test]
fn refusals_are_docker_s() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let name = format!("{}/bb", registry.host());
    engine
        .docker(&["push", &format!("{name}:1")])
        .fails(1, &format!("An image does not exist locally with the tag: {name}"));
    engine.docker(&["tag", "bb", &format!("{name}:1")]).ok();
    engine.docker(&["push", &format!("{name}:2")]).fails(1, &format!("tag does not exist: {name}:2"));
    engine.docker(&["tag", "bb", "127.0.0.1:1/bb"]).ok();
    engine.docker(&["push", "127.0.0.1:1/bb"]).fails(1, "dial tcp 127.0.0.1:1: connect: connection refused");
    engine.docker(&["push", "host"]).fails(1, "root file system of this machine");
    // Who must log in is told so, and is let in then.
    let hash = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
    std::fs::write(engine.exec_root().join("htpasswd"), format!("ann:{hash}\n")).unwrap();
    let auth = format!(
        "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
        engine.exec_root().join("htpasswd").display()
    );
    let Some(closed) = Registry::start_as(&engine, "closed", &auth) else { return };
    let name = format!("{}/bb:1", closed.host());
    engine.docker(&["tag", "bb", &name]).ok();
    engine.docker(&["push", &name]).fails(1, "no basic auth credentials");
    engine
        .docker_with_input(&["login", "-u", "ann", "--password-stdin", closed.host()], b"wrong")
        .fails(1, "unauthorized");
    let said =
        engine.docker_with_input(&["login", "-u", "ann", "--password-stdin", closed.host()], b"myPassword");
    assert!(said.ok().contains("Login Succeeded"));
    engine.docker(&["push", "-q", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    // What the client asks a registry by itself goes on as before.
    let inspected = engine.docker(&["manifest", "inspect", "--insecure", &name]).ok();
    assert!(inspected.contains("vnd.docker.image.rootfs.diff.tar.gzip"), "{inspected}");
    let path = format!("/distribution/{}/nobody:1/json", registry.host());
    engine.api("GET", &path, "").refuses(404, "not found: manifest unknown");
    engine.docker(&["tag", "bb", &format!("{}/bb:1", registry.host())]).ok();
    engine.docker(&["push", "-q", &format!("{}/bb:1", registry.host())]).ok();
    let path = format!("/distribution/{}/bb:1/json", registry.host());
    let described = engine.api("GET", &path, "").json();
    assert_eq!(described["Descriptor"]["digest"], registry.digest("bb", "1"), "{described}");
    assert_eq!(described["Platforms"][0]["os"], "linux", "{described}");
    engine.docker(&["search", &format!("{}/x", registry.host())]).fails(1, "Unexpected status code 404");
}
