//! Docker clients of other ages than the one that all other tests use. `SEACOW_OTHER_DOCKERS` names
//! them, separated by colons; the oldest that is served is 20.10.

use std::path::PathBuf;

use seacow_tests::{Done, Engine};

/// Runs `work` with every other client; says so when there is none.
fn with_each(work: impl Fn(&Engine, &dyn Fn(&[&str]) -> Done)) {
    with_each_set("DOCKER_BUILDKIT=0", work);
}

/// The same with a variable of the client's environment.
fn with_each_set(variable: &str, work: impl Fn(&Engine, &dyn Fn(&[&str]) -> Done)) {
    let (name, value) = variable.split_once('=').unwrap();
    let others = std::env::var_os("SEACOW_OTHER_DOCKERS").unwrap_or_default();
    let others: Vec<PathBuf> =
        std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()).collect();
    if others.is_empty() {
        println!("SKIPPED: SEACOW_OTHER_DOCKERS names no other docker client");
    }
    for docker in others {
        let engine = Engine::start();
        let client = |args: &[&str]| Done::run(engine.client(&docker, args).env(name, value));
        println!("{}", client(&["--version"]).ok());
        work(&engine, &client);
    }
}

#[test]
fn the_founding_example() {
    with_each(|engine, docker| {
        let context = engine.exec_root().join("context");
        std::fs::create_dir_all(&context).unwrap();
        let dockerfile = "FROM bb\nRUN echo \"original text\" > /base_file.txt\n";
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let built = docker(&["build", "-t", "base-image", &context.to_string_lossy()]).ok();
        assert!(built.contains("Successfully tagged base-image:latest"), "{built}");
        docker(&["run", "-d", "--name", "container1", "base-image", "tail", "-f", "/dev/null"]).ok();
        docker(&["run", "-d", "--name", "container2", "base-image", "tail", "-f", "/dev/null"]).ok();
        docker(&["exec", "container1", "sh", "-c", "echo 'changed in container1' > /base_file.txt"]).ok();
        assert_eq!(docker(&["exec", "container1", "cat", "/base_file.txt"]).ok(), "changed in container1");
        assert_eq!(docker(&["exec", "container2", "cat", "/base_file.txt"]).ok(), "original text");
        assert_eq!(docker(&["diff", "container1"]).ok(), "C /base_file.txt");
    });
}

#[test]
fn every_verb() {
    with_each(|engine, docker| {
        let file = engine.exec_root().join("file");
        let file = file.to_string_lossy();
        docker(&["create", "--name", "box", "-e", "A=b", "bb", "sleep", "1000"]).ok();
        docker(&["start", "box"]).ok();
        assert_eq!(
            docker(&["inspect", "-f", "{{.State.Status}} {{.Config.Env}}", "box"]).ok().split(' ').next(),
            Some("running")
        );
        docker(&["exec", "box", "sh", "-c", "echo added > /added"]).ok();
        docker(&["cp", "box:/added", &file]).ok();
        assert_eq!(std::fs::read_to_string(&*file).unwrap(), "added\n");
        docker(&["cp", &file, "box:/again"]).ok();
        assert!(docker(&["top", "box"]).ok().contains("sleep 1000"));
        docker(&["pause", "box"]).ok();
        docker(&["unpause", "box"]).ok();
        docker(&["rename", "box", "chest"]).ok();
        // A client of 20.10 sends `null` here.
        docker(&["commit", "-m", "why", "-c", "CMD [\"cat\", \"/added\"]", "chest", "made:1"]).ok();
        assert_eq!(docker(&["run", "--rm", "made:1"]).ok(), "added");
        docker(&["tag", "made:1", "made:2"]).ok();
        assert!(docker(&["history", "made:2"]).ok().contains("why"));
        docker(&["save", "-o", &file, "made:2"]).ok();
        docker(&["rmi", "made:1", "made:2"]).ok();
        assert_eq!(docker(&["load", "-i", &file]).ok(), "Loaded image: made:2");
        docker(&["export", "-o", &file, "chest"]).ok();
        docker(&["import", &file, "flat"]).ok();
        assert_eq!(docker(&["run", "--rm", "flat", "cat", "/again"]).ok(), "added");
        docker(&["run", "-d", "--name", "says", "bb", "sh", "-c", "echo out; echo err >&2; exit 3"]).ok();
        assert_eq!(docker(&["wait", "says"]).ok(), "3");
        let said = docker(&["logs", "says"]);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
        docker(&["run", "--rm", "bb", "nosuch"]).code(127);
        docker(&["run", "--rm", "bb", "/etc/passwd"]).code(126);
        docker(&["run", "--rm", "bb", "/etc"]).code(126);
        docker(&["run", "--rm", "bb", "sh", "-c", "exit 42"]).code(42);
        assert_eq!(docker(&["stop", "-t", "0", "chest"]).ok(), "chest");
        assert!(docker(&["ps", "-a"]).ok().contains("Exited (137)"));
        docker(&["rm", "chest", "says"]).ok();
        docker(&["volume", "create", "data"]).ok();
        docker(&["volume", "rm", "data"]).ok();
        assert!(docker(&["network", "ls"]).ok().contains("bridge"));
        for listing in
            [&["images"][..], &["info"], &["version"], &["system", "df"], &["image", "prune", "-f"]]
        {
            docker(listing).ok();
        }
        let events = docker(&["events", "--since", "1", "--until", "0s"]).ok();
        assert!(events.contains("container die"), "{events}");
    });
}

#[test]
fn buildkit_is_refused_with_what_to_do() {
    with_each_set("DOCKER_BUILDKIT=1", |engine, docker| {
        if engine.skip_on_docker() {
            return;
        }
        let context = engine.exec_root().join("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("Dockerfile"), "FROM bb\n").unwrap();
        let refused = docker(&["build", "-t", "image", &context.to_string_lossy()]);
        // Since 23 BuildKit is a plug-in, which this client does not have.
        if !refused.err.contains("buildx component is missing") {
            refused.fails(1, "set DOCKER_BUILDKIT=0");
        }
    });
}
