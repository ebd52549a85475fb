//! `docker build`, the classic builder.

use seacow_tests::{Context, Engine};

#[test]
fn every_instruction_of_the_classic_builder() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    context
        .file("a.txt", "a\n")
        .file("sub/b.txt", "b\n")
        .file("skip.log", "no\n")
        .file(".dockerignore", "*.log\n");
    context.file(
        "Dockerfile",
        r#"# comment
ARG BASE=bb
FROM ${BASE} AS first
ARG WHO=nobody
ENV GREETING="hello there" TWO=2
LABEL maker=sea "kind of"=cow
WORKDIR /made/dir
COPY a.txt sub/ ./
ADD sub /added
RUN echo "$GREETING $WHO" > greeting && \
    cat a.txt b.txt > both
RUN ["sh", "-c", "echo exec-form > exec"]
FROM bb
COPY --from=first /made/dir/ /from/
COPY --chown=user:extra a.txt /owned
COPY . /all/
USER user
EXPOSE 80 53/udp
VOLUME /vol
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/sh", "-ec"]
ONBUILD RUN echo triggered
ENTRYPOINT ["cat"]
CMD ["/from/greeting"]
"#,
    );
    let built = context.build(&["-t", "full:1", "--build-arg", "WHO=world"]).ok();
    assert!(
        built.contains("Step 1/")
            && built.contains("Successfully built")
            && built.ends_with("Successfully tagged full:1"),
        "{built}"
    );
    assert_eq!(engine.docker(&["run", "--rm", "full:1"]).ok(), "hello there world");
    let sh =
        |script: &str| engine.docker(&["run", "--rm", "--entrypoint", "sh", "full:1", "-c", script]).ok();
    assert_eq!(
        sh("cat /from/both /from/exec; ls /all; stat -c %U:%G /owned; id -un"),
        "a\nb\nexec-form\nDockerfile\na.txt\nsub\nuser:extra\nuser"
    );
    assert_eq!(engine.inspect("full:1", "{{json .Config.ExposedPorts}}"), r#"{"53/udp":{},"80/tcp":{}}"#);
    assert_eq!(engine.inspect("full:1", "{{json .Config.Volumes}}"), r#"{"/vol":{}}"#);
    assert_eq!(
        engine.inspect("full:1", "{{.Config.StopSignal}} {{.Config.User}} {{json .Config.Shell}}"),
        r#"SIGUSR1 user ["/bin/sh","-ec"]"#
    );
    assert_eq!(
        engine.inspect("full:1", "{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}"),
        r#"["CMD-SHELL","true"] 2"#
    );
    assert_eq!(engine.inspect("full:1", "{{json .Config.OnBuild}}"), r#"["RUN echo triggered"]"#);
    context.file("Dockerfile", "FROM full:1\n");
    let built = context.build(&[]).ok();
    assert!(built.contains("triggered"), "{built}");
}

#[test]
fn steps_are_taken_from_the_cache_until_something_changes() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    context.file("f", "1").file("Dockerfile", "FROM bb\nRUN echo once\nCOPY f /f\nRUN echo after\n");
    let first = context.build(&["-t", "x"]).ok();
    assert!(!first.contains("Using cache"), "{first}");
    let second = context.build(&["-t", "x"]).ok();
    assert_eq!(second.matches("Using cache").count(), 3, "{second}");
    context.file("f", "2");
    let third = context.build(&["-t", "x"]).ok();
    assert_eq!(third.matches("Using cache").count(), 1, "{third}");
    let fourth = context.build(&["--no-cache"]).ok();
    assert!(!fourth.contains("Using cache"), "{fourth}");
    let id = context.build(&["-q"]).ok();
    assert!(id.starts_with("sha256:") && !id.contains('\n'), "{id}");
}

#[test]
fn failures_say_where() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    context.file("Dockerfile", "FROM bb\nRUN true\nRUN exit 3\n");
    context.build(&[]).fails(3, "The command '/bin/sh -c exit 3' returned a non-zero code: 3");
    context.file("Dockerfile", "FROM bb\n\nFROMM x\n");
    context.build(&[]).fails(1, "unknown instruction: FROMM");
    context.file("Dockerfile", "FROM bb\nCOPY nofile /\n");
    let done = context.build(&[]);
    done.code(1);
    assert!(done.err.contains("nofile"), "{done:?}");
    context.file("Dockerfile", "RUN true\n");
    context.build(&[]).code(1);
    context.file("Dockerfile", "");
    context.build(&[]).code(1);
    context.file("Dockerfile", "FROM bb AS one\nFROM one\nCOPY --from=nosuchstage /x /x\n");
    context.build(&[]).code(1);
    context.build(&["-f", "NoSuchFile"]).code(1);
    // Nothing half-made is left: no container, no image but the cached steps.
    assert_eq!(engine.docker(&["ps", "-q"]).ok(), "");
}

#[test]
fn stages_and_targets() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    context.file("Dockerfile", "FROM bb AS one\nRUN echo 1 > /n\nFROM bb AS two\nRUN echo 2 > /n\nFROM scratch\nCOPY --from=1 /n /n\nCOPY --from=0 /n /m\n");
    context.build(&["-t", "target", "--target", "one"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "target", "cat", "/n"]).ok(), "1");
    context.build(&["-t", "last"]).ok();
    engine.docker(&["create", "--name", "box", "last", "none"]).ok();
    let tar = engine.docker(&["export", "box"]).out;
    assert!(tar.contains("2\n") && tar.contains("1\n"));
}

#[test]
fn archives_and_a_context_from_standard_input() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    context.file("in/x", "packed\n");
    let tar = context.dir.join("x.tar.gz");
    let made = std::process::Command::new("tar")
        .arg("-czf")
        .arg(&tar)
        .arg("-C")
        .arg(context.dir.join("in"))
        .arg("x")
        .status();
    assert!(made.unwrap().success());
    context.file(
        "Dockerfile",
        "FROM bb\nADD x.tar.gz /unpacked/\nCOPY x.tar.gz /kept/\nCMD cat /unpacked/x && ls /kept\n",
    );
    context.build(&["-t", "x"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "x"]).ok(), "packed\nx.tar.gz");
    let built = engine
        .docker_with_input(&["build", "-t", "y", "-"], b"FROM bb\nRUN echo from stdin > /f\nCMD cat /f\n");
    built.ok();
    assert_eq!(engine.docker(&["run", "--rm", "y"]).ok(), "from stdin");
}

#[test]
fn a_link_in_the_context_or_the_image_never_leads_out() {
    let engine = Engine::start();
    let context = Context::new(&engine);
    let secret = engine.exec_root().join("secret");
    std::fs::write(&secret, "host's own\n").unwrap();
    std::os::unix::fs::symlink(&secret, context.dir.join("link")).unwrap();
    context.file("Dockerfile", "FROM bb\nCOPY link /copied\n");
    let done = context.build(&["-t", "x"]);
    if done.code == 0 {
        let out = engine.docker(&["run", "--rm", "x", "cat", "/copied"]);
        assert!(!out.out.contains("host's own"));
    }
    let outside = engine.exec_root().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    context
        .file("f", "evil")
        .file("Dockerfile", &format!("FROM bb\nRUN ln -s {} /out\nCOPY f /out/f\n", outside.display()));
    context.build(&[]);
    assert!(!outside.join("f").exists());
}
