//! `seacow build`: only what changed is sent, secrets and agents leave nothing behind, outputs, progress.

use std::io::{Read as _, Write as _};

use seacow_tests::{Context, Engine};

/// Files that the engine keeps, by their hashes.
fn blobs(engine: &Engine) -> usize {
    std::fs::read_dir(engine.data_root().join("build-cache/blobs")).map_or(0, Iterator::count)
}

#[test]
fn only_what_changed_is_sent() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context
        .file("a", "aaa")
        .file("d/b", "bbb")
        .file("d/same", "aaa")
        .file("skip.log", "no")
        .file(".dockerignore", "*.log\n");
    context.file("Dockerfile", "FROM bb\nCOPY . /c/\nRUN echo done > /c/made\n");
    let first = context.own_build(&["-t", "x"], &[]);
    assert!(first.ok().ends_with("Successfully tagged x:latest"), "{first:?}");
    assert!(first.err.contains("[0 2/3] COPY . /c/") && first.err.contains("DONE"), "{first:?}");
    assert_eq!(
        context.run("cd /c && find . -type f | sort && cat d/b"),
        "./.dockerignore\n./Dockerfile\n./a\n./d/b\n./d/same\n./made\nbbb"
    );
    let kept = blobs(&engine);
    assert_eq!(kept, 4, "two files are the same");
    let second = context.own_build(&["-t", "x"], &[]);
    assert_eq!(second.err.matches("CACHED").count(), 2, "{second:?}");
    context.file("d/b", "new");
    let third = context.own_build(&["-t", "x"], &[]);
    assert!(!third.err.contains("CACHED"), "{third:?}");
    assert_eq!(blobs(&engine), kept + 1);
    assert_eq!(context.run("cat /c/d/b"), "new");
    let df = engine.seacow(&["system", "df", "-v"]).ok();
    assert!(df.contains("source.local"), "{df}");
    engine.seacow(&["builder", "prune", "-f"]).ok();
    assert_eq!(blobs(&engine), 0);
    assert_eq!(context.own_build(&["-t", "x"], &[]).ok(), third.ok(), "what is gone is sent again");
}

#[test]
fn secrets_are_nowhere_afterwards() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    let secret = "geheimnis-4711";
    context.file(
        "Dockerfile",
        "FROM bb\nRUN --mount=type=secret,id=file,mode=0440 stat -c %a /run/secrets/file > /mode && wc -c < /run/secrets/file > /size\n\
         RUN --mount=type=secret,id=var,env=TOKEN echo ${#TOKEN} > /length\n",
    );
    let file = engine.exec_root().join("secret");
    std::fs::write(&file, secret).unwrap();
    let given = format!("id=file,src={}", file.display());
    let done = context.own_build(
        &["-t", "x", "--secret", &given, "--secret", "id=var,env=MY_TOKEN"],
        &[("MY_TOKEN", secret)],
    );
    done.ok();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(context.run("cat /mode /size /length; ls -d /run/secrets 2>/dev/null || true"), "440\n14\n14");
    let seen = [
        done.out,
        done.err,
        engine.log(),
        engine.seacow(&["history", "--no-trunc", "x"]).ok(),
        engine.seacow(&["inspect", "x"]).ok(),
    ];
    assert!(seen.iter().all(|text| !text.contains(secret)));
    for root in [engine.data_root(), engine.exec_root()] {
        let found =
            std::process::Command::new("grep").args(["-r", "-l", "-a", secret]).arg(&root).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "in {}", root.display());
    }
    context.file("Dockerfile", "FROM bb\nRUN --mount=type=secret,id=no,required true\n");
    context.own_build(&[], &[]).fails(1, "secret no: not found");
}

#[test]
fn an_agent_is_reached_from_a_step() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    let socket = engine.exec_root().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 5];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"answer").unwrap();
        asked
    });
    // busybox has no client for such sockets that speaks the protocol; any bytes will do.
    context.file(
        "Dockerfile",
        "FROM bb\nRUN --mount=type=ssh echo hello | nc local:$SSH_AUTH_SOCK > /said; cat /said\n",
    );
    let ssh = format!("default={}", socket.display());
    let done = context.own_build(&["-t", "x", "--ssh", &ssh], &[]);
    done.ok();
    if context.run("cat /said") == "answer" {
        assert_eq!(&agent.join().unwrap(), b"hello");
    } else {
        eprintln!("SKIP: this busybox's nc does not speak to local sockets");
        drop(std::os::unix::net::UnixStream::connect(&socket));
    }
}

#[test]
fn outputs_and_named_contexts() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    let more = engine.exec_root().join("more");
    std::fs::create_dir_all(&more).unwrap();
    std::fs::write(more.join("m"), "more").unwrap();
    context.file("f", "f").file(
        "Dockerfile",
        "FROM base AS b\nFROM scratch\nCOPY f /d/f\nCOPY --from=extra m /m\nCOPY --from=b /bin/busybox /bb\n",
    );
    let out = engine.exec_root().join("out");
    let (local, tar) = (out.display().to_string(), engine.exec_root().join("o.tar").display().to_string());
    let extra = format!("extra={}", more.display());
    let names = ["--build-context", &extra, "--build-context", "base=docker-image://bb"];
    let mut args = vec!["-o", &local];
    args.extend(names);
    context.own_build(&args, &[]).ok();
    assert_eq!(std::fs::read_to_string(out.join("d/f")).unwrap(), "f");
    assert_eq!(std::fs::read_to_string(out.join("m")).unwrap(), "more");
    let to_tar = format!("type=tar,dest={tar}");
    let mut args = vec!["-o", &to_tar];
    args.extend(names);
    context.own_build(&args, &[]).ok();
    let listed = std::process::Command::new("tar").args(["-tf", &tar]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("d/f"), "{listed:?}");
    let archive = format!("type=oci,dest={tar}");
    let mut args = vec!["-o", &archive];
    args.extend(names);
    context.own_build(&args, &[]).ok();
    engine.seacow(&["load", "-i", &tar]).ok();
    context.own_build(&["-o", "type=registry,dest=x"], &[]).fails(1, "NotImplemented");
}

#[test]
fn failures_and_warnings_show_the_lines() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file("Dockerfile", "FROM bb\nRUN true\nRUN echo why; exit 3\n");
    let done = context.own_build(&[], &[]);
    done.fails(3, "returned a non-zero code: 3");
    for part in [
        "#3 [0 3/3] RUN echo why; exit 3",
        " > [0 3/3] RUN echo why; exit 3:\nwhy\n",
        "   3 | >>> RUN echo why; exit 3\n",
        "ERROR",
    ] {
        assert!(done.err.contains(part), "{part}: {done:?}");
    }
    let quiet = context.own_build(&["-q"], &[]);
    quiet.fails(3, "   3 | >>> RUN echo why; exit 3");
    context.file("Dockerfile", "FROM bb\nCMD x y\n");
    let done = context.own_build(&["-t", "x"], &[]);
    done.ok();
    assert!(
        done.err.contains("WARNING: JSONArgsRecommended: ") && done.err.contains("   2 | >>> CMD x y"),
        "{done:?}"
    );
    let quiet = context.own_build(&["-q"], &[]);
    assert!(quiet.ok().starts_with("sha256:") && quiet.err.is_empty(), "{quiet:?}");
    let named = engine.exec_root().join("Named");
    std::fs::write(&named, "FROM bb\nRUNN\n").unwrap();
    context.own_build(&["-f", &named.display().to_string()], &[]).fails(1, "   2 | >>> RUNN");
    context.file("f", "1").file("Dockerfile", "FROM bb\nCOPY . /c/\n");
    context.file("Dockerfile.dockerignore", "f\n").file(".dockerignore", "nothing\n");
    context.own_build(&["-t", "x"], &[]).ok();
    assert!(!context.run("ls /c").contains("f\n"));
}
