//! Whole builds against a made-up engine: texts, history, cache, stages, arguments, failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod fake;

use fake::{Engine, is_root};
use seacow_build::BuildOptions;
use seacow_build::executor::Pull;
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::{Classified, ErrorClass};

fn strings(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|item| (*item).to_owned()).collect())
}

fn with_base() -> Engine {
    let engine = Engine::new();
    let config = ContainerConfig {
        cmd: strings(&["sh"]),
        env: strings(&["PATH=/bin"]),
        open_stdin: true,
        ..ContainerConfig::default()
    };
    engine.base(
        "bb",
        config,
        &[("/bin/sh", "x"), ("/etc/passwd", "root:x:0:0::/:\nu:x:7:8::/:\n"), ("/etc/group", "g:x:9:\n")],
    );
    engine
}

/// The trace `build_classic` of reference/docker-protocol.md, with our commands in place of its own.
#[test]
fn the_stream_is_dockers() {
    if !is_root() {
        return;
    }
    let engine = with_base();
    std::fs::write(engine.context().join("f.txt"), "data").unwrap();
    let file = "FROM bb AS base\nARG V=1\nENV A=$V\nCOPY f.txt /f.txt\nRUN say building && warn errline\n\
                FROM base\nCMD [\"a\", \"b\"]\n";
    let options = BuildOptions {
        build_args: [("V".to_owned(), Some("2".to_owned())), ("W".to_owned(), None)].into(),
        labels: [("l".to_owned(), "1".to_owned())].into(),
        tags: vec!["cb:1".parse().unwrap()],
        ..BuildOptions::default()
    };
    let first = engine.build_with(file, &options);
    first.id();
    assert_eq!(
        first.text(),
        "Step 1/8 : FROM bb AS base\n ---> ID\n\
         Step 2/8 : ARG V=1\n ---> Running in ID\n ---> Removed intermediate container ID\n ---> ID\n\
         Step 3/8 : ENV A=$V\n ---> Running in ID\n ---> Removed intermediate container ID\n ---> ID\n\
         Step 4/8 : COPY f.txt /f.txt\n ---> ID\n\
         Step 5/8 : RUN say building && warn errline\n ---> Running in ID\n\
         building\n\u{1b}[91merrline\n\u{1b}[0m ---> Removed intermediate container ID\n ---> ID\n\
         Step 6/8 : FROM base\n ---> ID\n\
         Step 7/8 : CMD [\"a\", \"b\"]\n ---> Running in ID\n ---> Removed intermediate container ID\n ---> ID\n\
         Step 8/8 : LABEL l=1\n ---> Running in ID\n ---> Removed intermediate container ID\n ---> ID\n\
         [Warning] One or more build-args [W] were not consumed\n\
         Successfully built ID\nSuccessfully tagged cb:1\n"
    );
    let aux: Vec<_> = first.messages.iter().filter_map(|message| message.aux.as_ref()).collect();
    assert_eq!(aux.len(), 2);
    assert_eq!(aux[1]["ID"], first.id().as_str());
    assert_eq!(first.messages[1].stream.as_deref(), Some("\n"));
    assert_eq!(engine.tags(), ["docker.io/library/cb:1"]);
    assert_eq!(engine.left_containers(), 0);

    let second = engine.build_with(file, &options);
    assert_eq!(second.id(), first.id());
    assert_eq!(second.text().matches(" ---> Using cache\n ---> ID\n").count(), 6);
    assert_eq!(engine.steps().len(), 1);

    let quiet = engine.build_with(file, &BuildOptions { quiet: true, ..options });
    assert_eq!(quiet.text(), format!("{}\n", quiet.id()));
}

#[test]
fn history_and_config_are_dockers() {
    if !is_root() {
        return;
    }
    let engine = with_base();
    std::fs::write(engine.context().join("f"), "data").unwrap();
    let built = engine.build(
        "FROM bb\nMAINTAINER me\nENV A=\"b c\" D=e\nARG X=1\nRUN touch /made\nRUN [\"touch /exec\"]\nWORKDIR /w\nWORKDIR x\n\
         COPY --chown=u:g f ./\nLABEL l=\"1 2\"\nEXPOSE 81/udp 80\nVOLUME /v /w\nUSER u\nSTOPSIGNAL SIGTERM\n\
         HEALTHCHECK --interval=30s CMD true\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT run it\nCMD []\n\
         ONBUILD RUN touch /b",
    );
    let history = engine.history(&built.id());
    let texts: Vec<&str> = history.iter().map(|(text, _)| text.as_str()).collect();
    let sh = "/bin/sh -c #(nop) ";
    assert_eq!(texts[0], format!("{sh} MAINTAINER me"));
    assert_eq!(texts[1], format!("{sh} ENV A=b c D=e"));
    assert_eq!(texts[2], format!("{sh} ARG X=1"));
    assert_eq!(texts[3], "|1 X=1 /bin/sh -c touch /made");
    assert_eq!(texts[4], "|1 X=1 touch /exec");
    assert_eq!(texts[5], format!("{sh}WORKDIR /w"));
    assert_eq!(texts[6], format!("{sh}WORKDIR /w/x"));
    assert!(texts[7].starts_with(&format!("{sh}COPY --chown=u:gfile:")), "{}", texts[7]);
    assert!(texts[7].ends_with(" in ./ "), "{}", texts[7]);
    assert_eq!(texts[8], format!("{sh} LABEL l=1 2"));
    assert_eq!(texts[9], format!("{sh} EXPOSE 80 81/udp"));
    assert_eq!(texts[10], format!("{sh} VOLUME [/v /w]"));
    assert_eq!(texts[11], format!("{sh} USER u"));
    assert_eq!(texts[12], format!("{sh} STOPSIGNAL SIGTERM"));
    assert_eq!(
        texts[13],
        format!("{sh} HEALTHCHECK &{{[\"CMD-SHELL\" \"true\"] \"30s\" \"0s\" \"0s\" \"0s\" '\\x00'}}")
    );
    assert_eq!(texts[14], "/bin/bash -c #(nop)  SHELL [/bin/bash -c]");
    assert_eq!(texts[15], "/bin/bash -c #(nop)  ENTRYPOINT [\"/bin/bash\" \"-c\" \"run it\"]");
    assert_eq!(texts[16], "/bin/bash -c #(nop)  CMD []");
    assert_eq!(texts[17], "/bin/bash -c #(nop)  ONBUILD RUN touch /b");
    let layers: Vec<usize> =
        history.iter().enumerate().filter(|(_, (_, empty))| !empty).map(|(at, _)| at).collect();
    assert_eq!(layers, [3, 4, 5, 6, 7]);

    let image = engine.image(&built.id());
    assert_eq!(image.author, "me");
    assert_eq!(image.rootfs.diff_ids.len(), 6);
    let config = image.config.unwrap();
    assert_eq!(config.env, strings(&["PATH=/bin", "A=b c", "D=e"]));
    assert_eq!(config.working_dir, "/w/x");
    assert_eq!(config.entrypoint, strings(&["/bin/bash", "-c", "run it"]));
    assert_eq!(config.cmd, Some(vec![]));
    assert_eq!(config.on_build, strings(&["RUN touch /b"]));
    assert!(!config.open_stdin);
    assert_eq!(config.stop_signal.as_deref(), Some("SIGTERM"));
    assert_eq!(config.exposed_ports.unwrap().into_keys().collect::<Vec<_>>(), ["80/tcp", "81/udp"]);
    let step = &engine.steps()[0];
    assert_eq!(step.config.entrypoint, strings(&[""]));
    assert_eq!(step.config.env, strings(&["PATH=/bin", "A=b c", "D=e", "X=1"]));
    assert_eq!(step.config.cmd, strings(&["/bin/sh", "-c", "touch /made"]));
}

#[test]
fn the_cache_knows_files_and_texts() {
    if !is_root() {
        return;
    }
    let engine = with_base();
    let f = engine.context().join("f");
    std::fs::write(&f, "1").unwrap();
    let file = "FROM bb\nCOPY f /f\nRUN touch /a";
    let hits = |engine: &Engine, file: &str| engine.build(file).text().matches("Using cache").count();
    assert_eq!(hits(&engine, file), 0);
    assert_eq!(hits(&engine, file), 2);
    // The time does not matter.
    std::fs::write(&f, "1").unwrap();
    assert_eq!(hits(&engine, file), 2);
    std::fs::write(&f, "2").unwrap();
    assert_eq!(hits(&engine, file), 0);
    // What comes after a miss is not looked up, even where it would hit.
    assert_eq!(hits(&engine, "FROM bb\nCOPY f /g\nRUN touch /a"), 0);
    assert_eq!(hits(&engine, "FROM bb\nCOPY f /f\nRUN touch /b"), 1);
    std::fs::set_permissions(&f, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(hits(&engine, file), 0);
    assert_eq!(hits(&engine, file), 2);
    let options = BuildOptions { no_cache: true, ..BuildOptions::default() };
    assert!(!engine.build_with(file, &options).text().contains("Using cache"));
    // Arguments belong to the key, proxies do not.
    let with = |name: &str, value: &str| {
        let build_args = [(name.to_owned(), Some(value.to_owned()))].into();
        let options = BuildOptions { build_args, ..BuildOptions::default() };
        engine.build_with("FROM bb\nARG A\nRUN touch /c", &options).text().matches("Using cache").count()
    };
    assert_eq!((with("A", "1"), with("A", "1"), with("A", "2")), (0, 2, 1));
    assert_eq!((with("http_proxy", "x"), with("http_proxy", "y")), (1, 2));
}

#[test]
fn stages_scratch_and_arguments() {
    if !is_root() {
        return;
    }
    let engine = with_base();
    std::fs::write(engine.context().join("f"), "1").unwrap();
    let built = engine.build(
        "ARG BASE=bb\nFROM ${BASE} AS one\nRUN touch /x\nFROM scratch\nCOPY f /f\nCOPY --from=ONE /x /bin/sh /from/\n\
         COPY --from=bb /bin/sh /sh\nCOPY --from=0 [\"/x\", \"/y\"]",
    );
    let text = built.text();
    assert!(text.starts_with("Step 1/8 : ARG BASE=bb\nStep 2/8 : FROM ${BASE} AS one\n ---> ID\n"), "{text}");
    assert!(text.contains("FROM scratch\n ---> \n"), "{text}");
    let files = engine.files(&built.id());
    for path in ["f", "from/x", "from/sh", "sh", "y"] {
        assert!(files.join(path).exists(), "{path}");
    }
    assert!(!files.join("bin").exists());
    let config = engine.image(&built.id()).config.unwrap();
    assert!(config.env.unwrap()[0].starts_with("PATH=/usr/local/sbin:"));
    assert_eq!(engine.pulls()[0], Pull::Missing);

    let options = BuildOptions { target: Some("one".into()), pull: true, ..BuildOptions::default() };
    let one = engine.build_with("FROM bb AS one\nFROM nowhere", &options);
    assert_eq!(engine.pulls().last(), Some(&Pull::Always));
    assert!(!one.text().contains("nowhere"));
}

#[test]
fn triggers_of_the_base_image() {
    if !is_root() {
        return;
    }
    let engine = with_base();
    std::fs::write(engine.context().join("f"), "1").unwrap();
    let options = BuildOptions { tags: vec!["base".parse().unwrap()], ..BuildOptions::default() };
    let base = engine.build_with("FROM bb\nONBUILD COPY f /f\nONBUILD RUN touch /t", &options).id();
    let config = engine.image(&base).config.unwrap();
    engine.base("parent", config, &[]);
    let built = engine.build("FROM parent\nRUN touch /own");
    assert!(
        built.text().starts_with(
            "Step 1/2 : FROM parent\n# Executing 2 build triggers\n ---> Running in ID\n \
             ---> Removed intermediate container ID\n ---> ID\nStep 2/2"
        ),
        "{}",
        built.text()
    );
    let files = engine.files(&built.id());
    assert!(["f", "t", "own"].iter().all(|path| files.join(path).exists()));
    assert_eq!(engine.image(&built.id()).config.unwrap().on_build, None);
}

#[test]
fn a_command_that_fails() {
    let engine = with_base();
    let failed = engine.build("FROM bb\nRUN exit 3");
    assert_eq!(failed.error(), "The command '/bin/sh -c exit 3' returned a non-zero code: 3");
    let text = failed.text();
    let (before, excerpt) = text.split_once("Dockerfile:2\n").unwrap();
    assert!(before.ends_with("Step 2/2 : RUN exit 3\n ---> Running in ID\n"), "{before}");
    assert!(excerpt.contains("   2 | >>> RUN exit 3\n"), "{excerpt}");
    let message = failed.result.unwrap_err().message();
    assert_eq!(
        serde_json::to_string(&message).unwrap(),
        r#"{"errorDetail":{"code":3,"message":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"},"error":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"}"#
    );
    // As Docker, the container stays for inspection, unless told otherwise.
    assert_eq!(engine.left_containers(), 1);
    let options = BuildOptions { force_remove: true, quiet: true, ..BuildOptions::default() };
    let failed = engine.build_with("FROM bb\nRUN say why && exit 4", &options);
    assert!(failed.text().contains("why\n"), "a quiet build that fails says why");
    assert_eq!(engine.left_containers(), 1);
    let options = BuildOptions { remove: false, ..BuildOptions::default() };
    engine.build_with("FROM bb\nRUN say x", &options).id();
    assert_eq!(engine.left_containers(), 2);
}

#[test]
fn cancelled_in_the_middle() {
    let engine = with_base();
    let cancel = engine.cancel.clone();
    let helper = std::thread::spawn(move || {
        std::thread::yield_now();
        cancel.cancel();
    });
    let stopped = engine.build("FROM bb\nRUN hang\nRUN touch /never");
    helper.join().unwrap();
    assert_eq!(stopped.error(), "Build cancelled");
    assert_eq!(engine.left_containers(), 0);
    assert!(!stopped.text().contains("never"));
}

/// A client that goes away after some messages.
struct Leaving(usize);

impl seacow_build::Sink for Leaving {
    fn send(&mut self, _: seacow_spec::docker::build::JsonMessage) -> Result<(), seacow_build::Disconnected> {
        self.0 = self.0.checked_sub(1).ok_or(seacow_build::Disconnected)?;
        Ok(())
    }
}

#[test]
fn a_client_that_leaves_stops_the_build() {
    let engine = with_base();
    std::fs::write(engine.context().join("Dockerfile"), "FROM bb\nRUN say a && say b\nRUN touch /c").unwrap();
    let context = seacow_build::Context::open(&engine.context(), "Dockerfile").unwrap();
    for messages in 0..16 {
        let options = BuildOptions { no_cache: true, ..BuildOptions::default() };
        let built =
            seacow_build::build(&options, &context, &engine, Box::new(Leaving(messages)), &engine.cancel);
        assert_eq!(built.unwrap_err().to_string(), "Build cancelled", "{messages}");
        assert_eq!(engine.left_containers(), 0, "{messages}");
    }
}

#[test]
fn errors_say_what_and_of_which_class() {
    let engine = with_base();
    std::fs::write(engine.context().join("f"), "1").unwrap();
    for (file, class, text) in [
        (
            "FROM bb\nRUN x\nFOO",
            ErrorClass::InvalidArgument,
            "dockerfile parse error on line 3: unknown instruction: FOO",
        ),
        ("", ErrorClass::InvalidArgument, "the Dockerfile (Dockerfile) cannot be empty"),
        ("FROM scratch", ErrorClass::Internal, "No image was generated. Is your Dockerfile empty?"),
        ("FROM nope", ErrorClass::NotFound, "No such image: nope"),
        ("FROM $X", ErrorClass::InvalidArgument, "base name ($X) should not be blank"),
        (
            "FROM --platform=linux/s390x bb",
            ErrorClass::NotImplemented,
            "platform linux/s390x is not implemented",
        ),
        (
            "FROM bb\nRUN --mount=type=cache x",
            ErrorClass::InvalidArgument,
            "dockerfile parse error on line 2: invalid mount config for type \"cache\"",
        ),
        ("FROM bb\nCOPY --chmod=9 f /", ErrorClass::InvalidArgument, "invalid chmod parameter: \"9\""),
        ("FROM bb\nRUN --network=host x", ErrorClass::InvalidArgument, "RUN --network=host is only allowed"),
        (
            "FROM bb\nRUN --mount=type=secret,id=s,required x",
            ErrorClass::InvalidArgument,
            "secret s: not found",
        ),
        (
            "FROM bb\nRUN --mount=type=ssh,id=other,required x",
            ErrorClass::InvalidArgument,
            "unset ssh forward key other",
        ),
        ("FROM bb\nADD --checksum=x f /", ErrorClass::InvalidArgument, "ADD --checksum: checksum can't be"),
        ("FROM bb\nCOPY --exclude=[ f /", ErrorClass::InvalidArgument, "line 2: error checking context: ["),
        (
            "FROM bb\nCOPY nofile /x",
            ErrorClass::InvalidArgument,
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nofile: file does not exist",
        ),
        (
            "FROM bb\nCOPY --from=bb nofile /x",
            ErrorClass::InvalidArgument,
            "COPY failed: stat nofile: file does not exist",
        ),
        ("FROM bb\nCOPY no* /x/", ErrorClass::InvalidArgument, "COPY failed: no source files were specified"),
        (
            "FROM bb\nCOPY ../f /x",
            ErrorClass::InvalidArgument,
            "COPY failed: forbidden path outside the build context: ../f ()",
        ),
        (
            "FROM bb\nCOPY f f /x",
            ErrorClass::InvalidArgument,
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "FROM bb\nCOPY https://x/y /x",
            ErrorClass::InvalidArgument,
            "COPY failed: source can't be a URL for COPY",
        ),
        ("FROM bb\nADD https://x/y /x", ErrorClass::NotFound, "https://x/y: 404"),
        (
            "FROM bb\nADD git@x:y /x",
            ErrorClass::NotImplemented,
            "ADD failed: NotImplemented: ADD of a git repository over ssh",
        ),
        (
            "FROM bb\nCOPY --from=0 f /x",
            ErrorClass::InvalidArgument,
            "invalid from flag value 0: refers to current build stage",
        ),
        (
            "FROM bb\nCOPY --from=7 f /x",
            ErrorClass::InvalidArgument,
            "invalid from flag value 7: index out of bounds",
        ),
        (
            "FROM bb\nCOPY --from=nope f /x",
            ErrorClass::NotFound,
            "invalid from flag value nope: No such image: nope",
        ),
        (
            "FROM bb\nCOPY --chown=nobody f /x",
            ErrorClass::InvalidArgument,
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nobody: no such user: nobody",
        ),
        (
            "FROM bb\nENV A=${x",
            ErrorClass::InvalidArgument,
            "line 2: failed to process \"${x\": syntax error: missing '}'",
        ),
        ("FROM bb\nSTOPSIGNAL x", ErrorClass::InvalidArgument, "invalid signal: x"),
        ("FROM bb\nEXPOSE x", ErrorClass::InvalidArgument, "invalid containerPort: x"),
    ] {
        let outcome = engine.build(file);
        assert!(outcome.error().starts_with(text), "{file}: {}", outcome.error());
        assert_eq!(outcome.result.unwrap_err().class(), class, "{file}");
    }
}
