//! Pulls by the stock client from a real registry, Debian's docker-registry.

use seacow_tests::{Engine, Registry, sh};

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
    let name = format!("{}/some/made:1", registry.host());
    let said = engine.docker(&["pull", &name]).ok();
    assert!(said.starts_with("1: Pulling from some/made"), "{said}");
    assert!(said.contains(&format!("Digest: {digest}\nStatus: Downloaded newer image for {name}")), "{said}");
    assert_eq!(said.matches(": Pull complete").count(), 4, "{said}");
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
    assert_eq!(
        engine.inspect(&name, "{{index .RepoDigests 0}}"),
        format!("{}/some/made@{digest}", registry.host())
    );
    assert_eq!(engine.docker(&["run", "--rm", &name]).ok(), "again");
    engine.docker(&["run", "--rm", &name, "cat", "/layer"]).fails(1, "No such file");
    // Again: nothing to do. By its digest: the same image.
    let again = engine.docker(&["pull", &name]).ok();
    assert!(again.contains("Status: Image is up to date") && !again.contains("Pull complete"), "{again}");
    let by_digest = format!("{}/some/made@{digest}", registry.host());
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
    let name = format!("{}/bb:1", registry.host());
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
    let nobody = engine.seacow(&["pull", &format!("{}/nobody:1", registry.host())]);
    nobody.fails(1, "not found: manifest unknown");
    engine
        .docker(&["pull", &format!("{}/bb:2", registry.host())])
        .fails(1, "bb:2 not found: manifest unknown");
    engine.docker(&["pull", "127.0.0.1:1/x"]).fails(1, "dial tcp 127.0.0.1:1: connect: connection refused");
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
    let name = format!("{}/made:1", registry.host());
    engine.docker(&["pull", "-q", &name]).ok();
    engine.docker(&["rmi", "-f", &name]).ok();
    let largest = "find data -name data -path '*blobs*' -size +2000k | head -1";
    let file = sh(registry.dir(), largest);
    sh(registry.dir(), &format!("printf XX | dd of={file} bs=1 seek=1000000 conv=notrunc 2>/dev/null"));
    engine.docker(&["pull", &name]).fails(1, "digest does not match");
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
    engine.docker(&["inspect", &name]).fails(1, "No such object");
}

#[test]
fn all_tags_of_a_repository() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let name = format!("{}/some/bb", registry.host());
    for tag in ["1", "2", "other"] {
        engine.docker(&["tag", "bb", &format!("{name}:{tag}")]).ok();
    }
    engine.docker(&["push", "-q", "-a", &name]).ok();
    engine.docker(&["rmi", "-f", "bb"]).ok();
    for tag in ["1", "2", "other"] {
        engine.docker(&["rmi", "-f", &format!("{name}:{tag}")]).ok();
    }
    let said = engine.docker(&["pull", "-a", &name]).ok();
    for tag in ["1", "2", "other"] {
        assert!(said.contains(&format!("{tag}: Pulling from some/bb")), "{said}");
    }
    assert!(said.contains(&format!("Status: Downloaded newer image for {name}")), "{said}");
    let tags = engine.docker(&["images", "--format", "{{.Tag}}", &name]).ok();
    let mut tags: Vec<_> = tags.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2", "other"]);
    engine.seacow(&["pull", "-a", &format!("{}/nobody", registry.host())]).fails(1, "pull access denied for");
}

#[test]
fn what_came_of_a_pull_is_not_fetched_again() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    built(&engine);
    registry.seed(&engine, "made", "made");
    engine.docker(&["rmi", "-f", "made", "bb"]).ok();
    // The largest blob is here by half, and whole but for its last byte is another: both are gone on with.
    let largest = "find data -name data -path '*blobs*' -size +2000k | head -1";
    let file = sh(registry.dir(), largest);
    let hex = sh(registry.dir(), &format!("basename $(dirname {file})"));
    let part = engine.data_root().join("blobs").join(format!("{hex}.part"));
    sh(registry.dir(), &format!("head -c 1500000 {file} > {}", part.display()));
    // Nobody can read the first half any more.
    sh(registry.dir(), &format!("printf XX | dd of={file} bs=1 seek=1000 conv=notrunc 2>/dev/null"));
    let name = format!("{}/made:1", registry.host());
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name]).ok(), "again");
    // What is here and wrong does not stand in the way for long.
    sh(registry.dir(), &format!("cp {} {file}", engine.data_root().join("blobs").join(&hex).display()));
    engine.docker(&["rmi", "-f", &name]).ok();
    sh(registry.dir(), &format!("head -c 1500000 /dev/zero > {}", part.display()));
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name]).ok(), "again");
}
