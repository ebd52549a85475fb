//! The founding example, word for word.

use std::path::{Path, PathBuf};

use seacow_tests::{Done, Engine};

fn context(engine: &Engine, base: &str) -> PathBuf {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    let dockerfile = format!("FROM {base}\nRUN echo \"original text\" > /base_file.txt\n");
    std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    dir
}

fn example(client: &dyn Fn(&[&str]) -> Done, context: &Path) {
    let built = client(&["build", "-t", "base-image", &context.to_string_lossy()]).ok();
    assert!(built.contains("Successfully tagged base-image:latest"), "{built}");
    client(&["run", "-d", "--name", "container1", "base-image", "tail", "-f", "/dev/null"]).ok();
    client(&["run", "-d", "--name", "container2", "base-image", "tail", "-f", "/dev/null"]).ok();
    client(&["exec", "container1", "sh", "-c", "echo 'changed in container1' > /base_file.txt"]).ok();
    assert_eq!(client(&["exec", "container1", "cat", "/base_file.txt"]).ok(), "changed in container1");
    assert_eq!(client(&["exec", "container2", "cat", "/base_file.txt"]).ok(), "original text");
    // A third container shows that the image itself is unchanged.
    assert_eq!(client(&["run", "--rm", "base-image", "cat", "/base_file.txt"]).ok(), "original text");
    assert_eq!(client(&["diff", "container1"]).ok(), "C /base_file.txt");
    assert_eq!(client(&["diff", "container2"]).ok(), "");
}

#[test]
fn with_the_stock_docker_client() {
    let engine = Engine::start();
    example(&|args| engine.docker(args), &context(&engine, "bb"));
}

#[test]
fn with_our_own_client() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    example(&|args| engine.seacow(args), &context(&engine, "bb"));
}

/// Allocated bytes of everything below a directory.
fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(dir).unwrap();
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            bytes += disk(&entry.unwrap().path());
        }
    }
    bytes
}

/// Every file below a directory with its content, to compare byte for byte.
fn contents(dir: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            contents(&path, into);
        } else if meta.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            into.push((path, bytes));
        }
    }
}

#[test]
fn nothing_but_the_changed_file_is_copied() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["build", "-t", "base-image", &context(&engine, "bb").to_string_lossy()]).ok();
    let layers = engine.data_root().join("layers");
    let mut before = Vec::new();
    contents(&layers, &mut before);
    assert!(!before.is_empty());

    let run = |name: &str| {
        engine.docker(&["run", "-d", "--name", name, "base-image", "tail", "-f", "/dev/null"]).ok()
    };
    let id1 = run("container1");
    let used = disk(&engine.data_root());
    run("container2");
    let grown = disk(&engine.data_root()).saturating_sub(used);
    assert!(grown <= 64 << 10, "starting a second container cost {grown} bytes of disk");

    engine.docker(&["exec", "container1", "sh", "-c", "echo changed > /base_file.txt"]).ok();
    let mut after = Vec::new();
    contents(&layers, &mut after);
    assert!(before == after, "the image's layers changed");

    let mut upper = Vec::new();
    contents(&engine.data_root().join("snapshots").join(&id1).join("upper"), &mut upper);
    let names: Vec<_> = upper.iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(names, ["base_file.txt"]);
    assert_eq!(upper[0].1, b"changed\n");

    let ledger = engine.api("GET", "/system/cow", "").json();
    let of = |name: &str| {
        let all = ledger["Containers"].as_array().unwrap();
        all.iter().find(|c| c["Name"] == name).unwrap_or_else(|| panic!("{name} not in {ledger}")).clone()
    };
    let (one, two) = (of("container1"), of("container2"));
    assert_eq!(one["CopiedUp"][0]["Path"], "/base_file.txt", "{one}");
    assert_eq!(one["CopiedUp"].as_array().unwrap().len(), 1, "{one}");
    assert_eq!(two["CopiedUp"].as_array().unwrap().len(), 0, "{two}");
    assert!(one["SharedWith"].as_array().unwrap().iter().any(|name| name == "container2"), "{one}");
    assert!(one["SharedBytes"].as_u64().unwrap() > 1 << 20, "busybox alone has more than a megabyte: {one}");
    assert!(one["OwnBytes"].as_u64().unwrap() > two["OwnBytes"].as_u64().unwrap(), "{ledger}");
    let table = engine.seacow(&["cow"]).ok();
    assert!(table.contains("container1") && table.contains("/base_file.txt"), "{table}");
}

#[test]
fn changes_survive_stop_and_start_and_vanish_with_rm() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "bb", "tail", "-f", "/dev/null"]).ok();
    engine.docker(&["exec", "box", "sh", "-c", "echo kept > /kept"]).ok();
    engine.docker(&["stop", "-t", "0", "box"]).ok();
    engine.docker(&["start", "box"]).ok();
    assert_eq!(engine.docker(&["exec", "box", "cat", "/kept"]).ok(), "kept");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.docker(&["run", "--rm", "--name", "box", "bb", "cat", "/kept"]).code(1);
}
