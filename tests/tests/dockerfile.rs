//! What Dockerfiles can say beyond the classic builder, by the stock client's `POST /build`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use seacow_tests::{Context, Engine};

#[test]
fn here_documents_and_flags_of_copies() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file("a/b/one.txt", "1").file("a/b/two.md", "2").file(
        "Dockerfile",
        r#"# syntax=docker/dockerfile:1
FROM bb
ARG WHO=cow
RUN <<EOF
set -e
echo one > /one
echo "two $WHO" > /two
EOF
RUN cat <<-A > /three && cat <<'B' > /four
	three
	A
$WHO
B
RUN <<SCRIPT
#!/bin/sh
echo "script $0" > /five
SCRIPT
COPY --chmod=640 <<"raw" <<exp /texts/
$WHO
raw
$WHO
exp
COPY --exclude=*.md a/b /ex/
COPY --parents --chmod=u=rwX,go=rX a/./b/*.txt /par/
"#,
    );
    context.build(&["-t", "x"]).ok();
    assert_eq!(
        context.run(
            "cat /one /two /three /four /five /texts/raw /texts/exp; stat -c %a /texts/raw; ls /ex /par/b"
        ),
        "one\ntwo cow\nthree\n$WHO\nscript /dev/pipes/SCRIPT\n$WHO\ncow\n640\n/ex:\none.txt\n\n/par/b:\none.txt"
    );
    assert_eq!(context.run("ls /dev/pipes 2>&1 || true"), "ls: /dev/pipes: No such file or directory");
}

#[test]
fn mounts_of_run_leave_nothing_behind() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file("src/f", "from the context").file(
        "Dockerfile",
        "FROM bb AS tools\nRUN mkdir -p /opt/t && echo tool > /opt/t/tool\nRUN echo second > /opt/t/second\nFROM bb\n\
         RUN --mount=target=/src --mount=from=tools,source=/opt/t,target=/opt/tools \\\n\
             --mount=from=tools,target=/all --mount=type=tmpfs,target=/fast,size=4m \\\n\
             cat /src/src/f /opt/tools/tool /opt/tools/second /all/opt/t/tool > /result && \\\n\
             df /fast | grep -q tmpfs && ! touch /src/x 2>/dev/null\n\
         RUN --mount=target=/src,rw touch /src/x && ls /src >> /result\n\
         RUN --mount=type=cache,target=/cache,id=mine echo once >> /cache/log && cp /cache/log /log\n\
         RUN --network=none [ $(ls /sys/class/net | grep -v -c lo) = 0 ]\n",
    );
    context.build(&["-t", "x"]).ok();
    assert_eq!(
        context.run("cat /result; ls -d /src /opt /all /fast /cache 2>/dev/null; cat /log"),
        "from the contexttool\nsecond\ntool\nDockerfile\nsrc\nx\nonce"
    );
    context.build(&["-t", "x", "--no-cache"]).ok();
    assert_eq!(context.run("cat /log"), "once\nonce", "a cache is kept from build to build");
    let df = engine.docker(&["system", "df", "-v"]).ok();
    assert!(df.contains("exec.cachemount"), "{df}");
    let pruned = engine.docker(&["builder", "prune", "-f", "-a"]).ok();
    assert!(pruned.contains("Deleted build cache objects:"), "{pruned}");
    context.build(&["-t", "x", "--no-cache"]).ok();
    assert_eq!(context.run("cat /log"), "once");
    let left = std::fs::read_dir(engine.data_root().join("build")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "temporary files of steps are gone");
}

/// Answers `GET`s: `/file` has a text, `/move` leads there.
fn serve(requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let n = stream.read(&mut head).unwrap();
            let path = String::from_utf8_lossy(&head[..n]).split(' ').nth(1).unwrap().to_owned();
            let answer = match path.as_str() {
                "/file" => "HTTP/1.1 200 OK\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 7\r\nConnection: close\r\n\r\nfetched".to_owned(),
                "/move" => "HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn add_fetches_files() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    let address = serve(5);
    let sum = "sha256:39d1caf3dba80def1ebee6a3aed9ac6f5a9e5cfa6d0c0b6a3d1fca1b60b0f6ce";
    context.file(
        "Dockerfile",
        &format!("FROM bb\nADD http://{address}/file /d/\nADD --chmod=644 http://{address}/move /moved\n"),
    );
    context.build(&["-t", "x"]).ok();
    assert_eq!(
        context.run("cat /d/file /moved; stat -c '%a %Y' /d/file; stat -c %a /moved"),
        "fetchedfetched600 1445412480\n644"
    );
    context.file("Dockerfile", &format!("FROM bb\nADD --checksum={sum} http://{address}/file /x\n"));
    context.build(&[]).fails(1, "digest mismatch");
    context.file("Dockerfile", &format!("FROM bb\nADD http://{address}/nope /x\n"));
    context.build(&[]).fails(1, "response status 404 Not Found");
}

#[test]
fn the_same_inputs_give_the_same_digest() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file("f", "1").file(
        "Dockerfile",
        "FROM bb\nRUN mkdir -p /made/dir && date > /dev/null && echo x > /made/dir/f\nCOPY f /f\nWORKDIR /w/x\nCMD [\"sh\"]\n",
    );
    let build = || {
        context.build(&["-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "x"]).ok()
    };
    let first = build();
    // What is a second later is another time.
    std::fs::write(context.dir.join("f"), "1").unwrap();
    let second = build();
    assert_eq!(first, second);
    assert_eq!(context.run("stat -c %Y /made/dir/f /made /f /w/x"), ["1700000000"; 4].join("\n"));
}

#[test]
fn failures_show_the_lines() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file("Dockerfile", "FROM bb\nRUN true\nRUN echo why && \\\n    exit 3\n");
    let done = context.build(&[]);
    done.fails(3, "returned a non-zero code: 3");
    assert!(done.out.contains("Dockerfile:3\n--------------------\n"), "{done:?}");
    assert!(done.out.contains("   4 | >>>     exit 3\n"), "{done:?}");
    context.file("Dockerfile", "FROM bb\nRUNN x\n");
    let done = context.build(&[]);
    done.fails(1, "unknown instruction: RUNN (did you mean RUN?)");
    assert!(done.err.contains("   2 | >>> RUNN x"), "{done:?}");
    context.file("Dockerfile", "FROM bb\nRUN --mount=type=secret,id=s,required true\n");
    context.build(&[]).fails(1, "secret s: not found");
}

#[test]
fn stages_side_by_side_and_steps_of_another_image() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = Context::new(&engine);
    context.file(
        "Dockerfile",
        "FROM bb AS unused\nRUN exit 1\nFROM bb AS one\nRUN echo 1 > /n\nFROM bb AS two\nRUN echo 2 > /n\n\
         FROM bb\nCOPY --from=one /n /one\nCOPY --from=two /n /two\n",
    );
    context.build(&["-t", "x"]).ok();
    assert_eq!(context.run("cat /one /two"), "1\n2");
    context.file("Dockerfile", "FROM bb\nRUN echo cached > /c\nENV A=1\n");
    context.build(&["-t", "x"]).ok();
    let tar = engine.exec_root().join("image.tar").display().to_string();
    engine.docker(&["save", "-o", &tar, "x"]).ok();
    engine.docker(&["rmi", "x"]).ok();
    engine.docker(&["image", "prune", "-f"]).ok();
    engine.docker(&["load", "-i", &tar]).ok();
    let plain = context.build(&[]).ok();
    assert!(!plain.contains("Using cache"), "an image that was loaded is not believed: {plain}");
    engine.docker(&["image", "prune", "-f"]).ok();
    let named = context.build(&["--cache-from", "x"]).ok();
    assert_eq!(named.matches("Using cache").count(), 2, "{named}");
}
