//! What newer Dockerfiles can say, against a made-up engine: stages that are built at the same time,
//! mounts, here-documents, flags of copies, what is fetched, named contexts, epochs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod fake;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fake::{Engine, is_root};
use seacow_build::BuildOptions;
use seacow_build::executor::{FilesFrom, Remote, RunMountKind};
use seacow_build::options::NamedContext;
use seacow_spec::Timestamp;
use seacow_spec::docker::build::{BUILD_EVENT, BuildEvent};
use seacow_spec::docker::container::ContainerConfig;

fn engine() -> Option<Engine> {
    if !is_root() {
        return None;
    }
    let engine = Engine::new();
    let config = ContainerConfig { working_dir: "/w".into(), ..ContainerConfig::default() };
    let files = [("/etc/passwd", "u:x:1007:8::/:\n"), ("/etc/group", "g:x:1009:\n"), ("/bin/sh", "")];
    engine.base("bb", config, &files);
    Some(engine)
}

fn put(engine: &Engine, path: &str, text: &str) {
    let path = engine.context().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn built(engine: &Engine, steps: &str) -> PathBuf {
    engine.files(&engine.build(&format!("FROM bb\n{steps}")).id())
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn mode(root: &Path, path: &str) -> u32 {
    fs::symlink_metadata(root.join(path)).unwrap().mode() & 0o7777
}

#[test]
fn independent_stages_are_built_at_the_same_time_and_told_in_order() {
    let Some(engine) = engine() else { return };
    let file = "FROM bb AS unused\nRUN exit 1\nFROM bb AS one\nRUN say one && meet && touch /one\n\
                FROM bb AS two\nRUN say two && meet && touch /two\nFROM bb\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
    let outcome = engine.build(file);
    let files = engine.files(&outcome.id());
    assert!(files.join("one").exists() && files.join("two").exists());
    let text = outcome.text();
    assert!(text.starts_with("Step 1/7 : FROM bb AS one\n"), "{text}");
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    assert!(at("Step 2/7") < at("one\n ---> Removed"), "{text}");
    assert!(at("one\n ---> Removed") < at("Step 3/7 : FROM bb AS two"), "{text}");
    assert!(at("two\n ---> Removed") < at("Step 5/7 : FROM bb\n"), "{text}");
}

#[test]
fn a_stage_that_fails_stops_the_others_and_is_the_one_that_is_told() {
    let Some(engine) = engine() else { return };
    let file = "FROM bb AS slow\nRUN hang\nFROM bb AS bad\nRUN say why && exit 3\nFROM bb\n\
                COPY --from=slow / /s/\nCOPY --from=bad / /b/\n";
    let outcome = engine.build(file);
    assert_eq!(outcome.error(), "The command '/bin/sh -c say why && exit 3' returned a non-zero code: 3");
    let text = outcome.text();
    assert!(text.contains("why\n"), "{text}");
    assert!(text.contains("Dockerfile:4\n--------------------\n"), "{text}");
    assert!(text.contains("   4 | >>> RUN say why && exit 3\n"), "{text}");
}

#[test]
fn events_for_our_own_client() {
    let Some(engine) = engine() else { return };
    let options = BuildOptions { events: true, ..BuildOptions::default() };
    let file = "ARG V=1\nFROM bb AS one\nRUN say hello && warn oh\nCMD a b\n";
    let outcome = engine.build_with(file, &options);
    outcome.id();
    assert_eq!(outcome.text(), "");
    let events: Vec<BuildEvent> = outcome
        .messages
        .iter()
        .filter_map(|message| {
            serde_json::from_value(message.aux.as_ref()?.get(BUILD_EVENT)?.clone()).unwrap()
        })
        .collect();
    let begun: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            BuildEvent::Begin { stage, position, of, text, .. } => {
                Some(format!("{stage} {position}/{of} {text}"))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        begun,
        [" 1/1 ARG V=1", "one 1/3 FROM bb AS one", "one 2/3 RUN say hello && warn oh", "one 3/3 CMD a b"]
    );
    let output = |text: &str, wanted: bool| {
        events.iter().any(|event| matches!(event, BuildEvent::Output { stderr, text: own, .. } if own == text && *stderr == wanted))
    };
    assert!(output("hello\n", false) && output("oh\n", true));
    let warned = events.iter().any(|event| {
        matches!(event, BuildEvent::Warning { rule, line: 4, excerpt, .. }
            if rule == "JSONArgsRecommended" && excerpt.contains("   4 | >>> CMD a b"))
    });
    assert!(warned);
    assert!(matches!(events.last(), Some(BuildEvent::Built { .. })));
    let again = engine.build_with(file, &options);
    let cached = again
        .messages
        .iter()
        .filter(|message| message.aux.as_ref().is_some_and(|aux| aux[BUILD_EVENT]["cached"] == true));
    assert_eq!(cached.count(), 2);
    let failed = engine.build_with("FROM bb\nRUN say last words && exit 2", &options);
    let told = failed.messages.iter().any(|message| {
        message.aux.as_ref().is_some_and(|aux| {
            aux[BUILD_EVENT]["kind"] == "failed" && aux[BUILD_EVENT]["output"] == "last words\n"
        })
    });
    assert!(told);
}

#[test]
fn warnings_are_told_and_may_be_errors() {
    let Some(engine) = engine() else { return };
    let text = engine.build("FROM bb\nENV A=$NOPE\nCMD x").text();
    assert!(
        text.contains("[WARNING]: UndefinedVar: Usage of undefined variable '$NOPE' (line 2)\n"),
        "{text}"
    );
    assert!(text.contains("[WARNING]: JSONArgsRecommended: "), "{text}");
    let error = engine.build("# check=error=true\nFROM bb\nCMD x").error();
    assert!(error.contains("1 build checks failed"), "{error}");
    put(&engine, ".dockerignore", "hidden\n");
    put(&engine, "hidden", "");
    let options = BuildOptions::default();
    let outcome = engine.build_with("FROM bb\nCOPY hidden /", &options);
    assert!(outcome.error().contains("excluded by .dockerignore"));
}

#[test]
fn mounts_reach_the_engine_and_the_cache() {
    let Some(mut engine) = engine() else { return };
    engine.secrets.insert("token".into(), "geheim".into());
    put(&engine, "src/a", "1");
    let file = "FROM bb AS tools\nRUN touch /tool\nFROM bb\nARG D=/cache\nRUN --mount=type=bind,source=src,target=in \\\n\
         --mount=type=bind,from=tools,source=/bin,target=/tools,rw --mount=type=cache,target=$D,sharing=locked \\\n\
         --mount=type=tmpfs,target=/tmp,size=1m --mount=type=secret,id=token --mount=type=secret,id=absent \\\n\
         --mount=type=secret,id=token,env=TOKEN --mount=type=ssh touch /done\n";
    let first = engine.build(file);
    first.id();
    let step = engine.steps().pop().unwrap();
    let targets: Vec<&str> = step.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/w/in", "/tools", "/cache", "/tmp", "/run/secrets/token", "/run/buildkit/ssh_agent.0"]
    );
    assert!(
        matches!(&step.mounts[0].kind, RunMountKind::Files { from: FilesFrom::Directory(dir), path, writable: false }
        if *dir == engine.context() && path == Path::new("src"))
    );
    assert!(matches!(
        &step.mounts[1].kind,
        RunMountKind::Files { from: FilesFrom::Image(Some(_)), writable: true, .. }
    ));
    assert!(matches!(&step.mounts[2].kind, RunMountKind::Cache { id, .. } if id == "/cache"));
    assert!(matches!(step.mounts[3].kind, RunMountKind::Tmpfs(size) if size == 1 << 20));
    assert!(
        matches!(&step.mounts[4].kind, RunMountKind::File { data, owner: (0o400, 0, 0) } if data.0 == b"geheim")
    );
    assert_eq!(step.secret_env, ["TOKEN=geheim"]);
    assert!(step.config.env.unwrap().contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned()));
    // Neither history nor config nor messages have the secret.
    let image = serde_json::to_string(&engine.image(&first.id())).unwrap();
    assert!(!image.contains("geheim") && !first.text().contains("geheim"));
    let steps = engine.steps().len();
    engine.secrets.insert("token".into(), "another".into());
    assert_eq!(engine.build(file).id(), first.id(), "a secret is no part of the cache's key");
    assert_eq!(engine.steps().len(), steps);
    put(&engine, "src/a", "2");
    assert_ne!(engine.build(file).id(), first.id(), "what is bound is part of the key");
}

#[test]
fn here_documents_of_run() {
    let Some(engine) = engine() else { return };
    engine.build("FROM bb\nRUN <<EOF\nsay a\nEOF").id();
    assert_eq!(engine.steps()[0].config.cmd.as_deref().unwrap()[2], "say a\n");
    engine.build("FROM bb\nRUN say <<A && touch /x\ntext\nA").id();
    assert_eq!(engine.steps()[1].config.cmd.as_deref().unwrap()[2], "say <<A && touch /x\ntext\nA");
    let _ = engine.build("FROM bb\nRUN <<-PY\n\t#!/usr/bin/env python3\n\tprint()\n\tPY");
    let _ = engine.build("FROM bb\nRUN <<PY\n#!/usr/bin/env python3\nprint()\nPY");
    let step = engine.steps().pop().unwrap();
    assert_eq!(step.config.cmd.unwrap()[2], "/dev/pipes/PY");
    assert!(matches!(&step.mounts[0].kind, RunMountKind::File { data, owner: (0o755, 0, 0) }
        if data.0 == b"#!/usr/bin/env python3\nprint()\n"));
}

#[test]
fn here_documents_of_copy() {
    let Some(engine) = engine() else { return };
    let root = built(
        &engine,
        "ARG WHO=world\nCOPY --chmod=600 --chown=u:g <<greeting <<'raw' /etc/x/\nhello \"$WHO\" '${WHO:-y}' \\$WHO\ngreeting\n$WHO\nraw\n\
         COPY <<one /two\n1\none\n",
    );
    assert_eq!(read(&root, "etc/x/greeting"), "hello \"world\" 'world' \\$WHO\n");
    assert_eq!(read(&root, "etc/x/raw"), "$WHO\n");
    assert_eq!(read(&root, "two"), "1\n");
    let meta = fs::metadata(root.join("etc/x/raw")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o600, 1007, 1009));
}

#[test]
fn chmod_exclude_and_parents() {
    let Some(engine) = engine() else { return };
    for path in ["a/b/one.txt", "a/b/two.md", "a/c/three.txt", "x/y/z/four.txt"] {
        put(&engine, path, path);
    }
    let root = built(
        &engine,
        "COPY --chmod=750 a /num/\nCOPY --chmod=u=rwX,go=rX a /sym/\nCOPY --exclude=**/*.md --exclude=c a /ex/\n\
         COPY --exclude=*.txt a/b/* /ex2/\nCOPY --parents a/b/*.txt x/y /par/\nCOPY --parents x/./y/z/*.txt /piv\n",
    );
    assert_eq!((mode(&root, "num/b"), mode(&root, "num/b/one.txt")), (0o750, 0o750));
    assert_eq!((mode(&root, "sym/b"), mode(&root, "sym/b/one.txt")), (0o755, 0o644));
    assert!(
        root.join("ex/b/one.txt").exists()
            && !root.join("ex/b/two.md").exists()
            && !root.join("ex/c").exists()
    );
    assert!(root.join("ex2/two.md").exists() && !root.join("ex2/one.txt").exists());
    assert_eq!(read(&root, "par/a/b/one.txt"), "a/b/one.txt");
    assert_eq!(read(&root, "par/x/y/z/four.txt"), "x/y/z/four.txt");
    assert_eq!(read(&root, "piv/y/z/four.txt"), "x/y/z/four.txt");
    assert!(!root.join("piv/x").exists());
}

#[test]
fn what_is_fetched() {
    let Some(mut engine) = engine() else { return };
    let url = "http://h/d/file.txt";
    engine.remote_files.insert(url.into(), "fetched".into());
    let sum = "16fffc4b4b33c7c60f1a22ca1b23b5c8c5c5a1db9a1dee2cdd6cd52fdc2fbd94";
    let root = built(
        &engine,
        &format!("ADD --chmod=644 {url} /dir/\nADD {url} /other\nADD https://h/r.git#main /src"),
    );
    assert_eq!((read(&root, "dir/file.txt").as_str(), mode(&root, "dir/file.txt")), ("fetched", 0o644));
    assert_eq!(read(&root, "other"), "fetched");
    assert_eq!(read(&root, "src/README"), "read me");
    assert!(matches!(&engine.fetched()[2], Remote::Git { reference, .. } if reference == "main"));
    let error = engine.build(&format!("FROM bb\nADD --checksum=sha256:{sum} {url} /x")).error();
    assert!(error.starts_with(&format!("digest mismatch for {url}: sha256:")), "{error}");
    let right = error.split("sha256:").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let file = format!("FROM bb\nADD --checksum=sha256:{right} {url} /x");
    let id = engine.build(&file).id();
    let before = engine.fetched().len();
    assert_eq!(engine.build(&file).id(), id);
    assert_eq!(engine.fetched().len(), before, "with a checksum nothing is fetched again");
    let error = engine.build(&format!("FROM bb\nADD --keep-git-dir {url} /x")).error();
    assert!(error.contains("keep-git-dir only works with git"), "{error}");
}

#[test]
fn unpack_is_a_choice() {
    let Some(engine) = engine() else { return };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "in", &b"hi"[..]).unwrap();
    fs::write(engine.context().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    let root = built(&engine, "ADD a.tar /yes/\nADD --unpack=false a.tar /no/");
    assert_eq!(read(&root, "yes/in"), "hi");
    assert!(root.join("no/a.tar").exists());
}

#[test]
fn named_contexts() {
    let Some(engine) = engine() else { return };
    let other = engine.base("other", ContainerConfig::default(), &[("/o", "other")]);
    engine.name(&other, "registry/other:1");
    let dir = engine.context().join("more");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "named").unwrap();
    let context = seacow_build::Context::open(&dir, "Dockerfile").unwrap();
    let options = BuildOptions {
        contexts: [
            ("base".to_owned(), NamedContext::Image("registry/other:1".into())),
            ("files".to_owned(), NamedContext::Files(context.into())),
        ]
        .into(),
        ..BuildOptions::default()
    };
    let outcome = engine.build_with("FROM base\nCOPY --from=files f /f\nCOPY --from=base o /p", &options);
    let root = engine.files(&outcome.id());
    assert_eq!(
        (read(&root, "f"), read(&root, "p"), read(&root, "o")),
        ("named".into(), "other".into(), "other".into())
    );
    let error = engine.build_with("FROM files", &options).error();
    assert!(error.starts_with("NotImplemented: FROM files"), "{error}");
}

#[test]
fn an_epoch_is_the_time_of_everything() {
    let Some(engine) = engine() else { return };
    let options = |epoch: &str| BuildOptions {
        build_args: [("SOURCE_DATE_EPOCH".to_owned(), Some(epoch.to_owned()))].into(),
        ..BuildOptions::default()
    };
    let file = "FROM bb\nRUN touch /x\nCOPY <<f /f\nf\n";
    let plain = engine.build(file).id();
    let id = engine.build_with(file, &options("1700000000")).id();
    assert_ne!(plain, id, "what was made at another time is not taken");
    let image = engine.image(&id);
    let epoch = Some(Timestamp::from_unix(1_700_000_000, 0));
    assert_eq!(image.created, epoch);
    assert!(image.history.iter().all(|line| line.created == epoch));
    assert_eq!(engine.commits()[2..], [epoch, epoch]);
    assert_eq!(engine.build_with(file, &options("1700000000")).id(), id);
    assert!(!engine.build_with(file, &options("1700000000")).text().contains("not consumed"));
    let error = engine.build_with(file, &options("yesterday")).error();
    assert!(error.contains("SOURCE_DATE_EPOCH: invalid number"), "{error}");
}

#[test]
fn steps_of_another_machine() {
    let Some(engine) = engine() else { return };
    put(&engine, "f", "1");
    let file = "FROM bb\nRUN touch /x\nENV A=1\nCOPY f /f\n";
    let id = engine.build(file).id();
    engine.forget_builds();
    engine.name(&id, "cache");
    let steps = engine.steps().len();
    let options = |from: &[&str]| BuildOptions {
        cache_from: from.iter().map(|name| (*name).to_owned()).collect(),
        ..BuildOptions::default()
    };
    let again = engine.build_with(file, &options(&["absent", "cache"]));
    assert_eq!(again.text().matches("Using cache").count(), 3, "{}", again.text());
    assert_eq!(engine.steps().len(), steps);
    let image = engine.image(&again.id());
    assert_eq!(image.rootfs, engine.image(&id).rootfs);
    assert_eq!(image.history, engine.image(&id).history);
    put(&engine, "f", "2");
    engine.forget_builds();
    let third = engine.build_with(file, &options(&["cache"]));
    assert_eq!(third.text().matches("Using cache").count(), 2, "{}", third.text());
}
