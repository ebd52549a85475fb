//! The bare API: versions, statuses, exact refusals.

use seacow_tests::Engine;

#[test]
fn ping_and_versions() {
    let engine = Engine::empty();
    let ping = engine.api("GET", "/_ping", "");
    assert_eq!((ping.status, ping.body.as_str()), (200, "OK"));
    for header in ["Api-Version: 1.", "Ostype: linux", "Docker-Experimental: "] {
        assert!(
            ping.head.to_ascii_lowercase().contains(&header.to_ascii_lowercase()),
            "{header} not in {}",
            ping.head
        );
    }
    assert_eq!(engine.api("HEAD", "/_ping", "").status, 200);
    engine
        .api("GET", "/v1.99/version", "")
        .refuses(400, "client version 1.99 is too new. Maximum supported API version is");
    assert_eq!(engine.api("GET", "/nosuch", "").json()["message"], "page not found");
    assert_eq!(engine.api("PUT", "/version", "").status, 404);
    let version = engine.api("GET", "/v1.30/version", "").json();
    assert_eq!(version["Os"], "linux");
    assert!(engine.docker(&["version", "--format", "{{.Server.Os}}"]).ok() == "linux");
}

#[test]
fn seacow_says_that_it_is_seacow() {
    let engine = Engine::empty();
    if engine.skip_on_docker() {
        return;
    }
    let ping = engine.api("GET", "/_ping", "");
    assert!(ping.head.to_ascii_lowercase().contains("seacow-api: 1"), "{}", ping.head);
    engine.api("GET", "/v1.12/version", "").refuses(
        400,
        "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
    );
    assert!(engine.docker(&["version"]).ok().to_lowercase().contains("seacow"));
    assert!(engine.docker(&["info"]).ok().to_lowercase().contains("seacow"));
}

#[test]
fn bad_bodies() {
    let engine = Engine::start();
    let create = |body: &str| engine.api("POST", "/containers/create", body);
    // dockerd 20.10 answers some of these with 500, newer ones with 400.
    let oldest = if engine.kind() == seacow_tests::Kind::Docker { 500 } else { 400 };
    for bad in ["{}", "{bad", "[1]", "null"] {
        let status = create(bad).status;
        assert!(status == 400 || status == oldest, "{bad}: {status}");
    }
    create(r#"{"Image":"nosuch"}"#).refuses(404, "No such image: nosuch:latest");
    create(r#"{"Image":"bb"}"#).refuses(400, "o command specified");
    let plain = engine.api_raw("POST", "/containers/create", &["Content-Type: text/plain"], b"{}");
    assert_eq!(plain.status / 100, 4);
    assert_eq!(create(r#"{"Image":"bb","Cmd":"sh","NoSuchField":1}"#).status, 201);
    let huge = format!(r#"{{"Image":"bb","Cmd":["{}"]}}"#, "x".repeat(64 << 20));
    let answer = engine.api("POST", "/containers/create", &huge);
    assert!(answer.status == 201 || answer.status / 100 == 4, "{}", answer.status);
    assert_eq!(engine.api("GET", "/_ping", "").status, 200);
}

#[test]
fn queries() {
    let engine = Engine::start();
    let oldest = if engine.kind() == seacow_tests::Kind::Docker { 500 } else { 400 };
    let status = engine.api("GET", "/containers/json?filters=%7Bbad", "").status;
    assert!(status == 400 || status == oldest, "{status}");
    let nope = engine.api("GET", "/containers/json?filters=%7B%22nope%22%3A%7B%22x%22%3Atrue%7D%7D", "");
    assert_eq!(nope.status, 400);
    let python =
        engine.api("GET", "/containers/json?all=True&filters=%7B%22status%22%3A%5B%22exited%22%5D%7D", "");
    assert_eq!((python.status, python.body.trim()), (200, "[]"));
    assert_eq!(engine.api("GET", "/containers/json?filters=", "").status, 200);
    assert_eq!(engine.api("POST", "/containers/nosuch/start", "").status, 404);
    assert_eq!(engine.api("DELETE", "/containers/nosuch", "").status, 404);
    assert_eq!(engine.api("GET", "/images/nosuch/json", "").status, 404);
    assert_eq!(engine.api("GET", "/networks/nosuch", "").status, 404);
    assert_eq!(engine.api("GET", "/volumes/nosuch", "").status, 404);
    assert_eq!(engine.api("GET", "/exec/nosuch/json", "").status, 404);
}

#[test]
fn statuses_of_a_life() {
    let engine = Engine::start();
    let created =
        engine.api("POST", "/containers/create?name=box", r#"{"Image":"bb","Cmd":["sleep","1000"]}"#);
    assert_eq!(created.status, 201);
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    let post = |path: &str| engine.api("POST", &format!("/containers/box/{path}"), "").status;
    let running = format!("{id} is not running");
    engine.api("POST", "/containers/box/kill", "").refuses(409, &running);
    engine.api("GET", "/containers/box/top", "").refuses(409, &running);
    engine.api("POST", "/containers/box/exec", r#"{"Cmd":["true"]}"#).refuses(409, &running);
    assert_eq!(engine.api("POST", "/containers/box/wait", "").json()["StatusCode"], 0);
    assert_eq!(post("start"), 204);
    assert_eq!(post("start"), 304);
    engine.api("POST", "/containers/box/exec", r#"{"Cmd":[]}"#).refuses(400, "No exec command specified");
    engine.api("POST", "/containers/box/kill?signal=FOO", "").refuses(400, "nvalid signal: FOO");
    assert_eq!(engine.api("DELETE", "/containers/box", "").status, 409);
    assert_eq!(post("pause"), 204);
    assert_eq!(post("pause"), 409);
    assert_eq!(post("unpause"), 204);
    assert_eq!(post("stop?t=0"), 204);
    assert_eq!(post("stop?t=0"), 304);
    assert_eq!(engine.api("DELETE", "/containers/box", "").status, 204);
}

#[test]
fn what_is_not_built_yet_says_so() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let refused = |host_config: &str, words: &str| {
        let body = format!(r#"{{"Image":"bb","Cmd":["true"],"HostConfig":{{{host_config}}}}}"#);
        engine.api("POST", "/containers/create", &body).refuses(501, words);
    };
    refused(r#""PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8080"}]}"#, "IPv6");
    refused(r#""RestartPolicy":{"Name":"always"}"#, "restart");
    engine
        .api(
            "POST",
            "/containers/create",
            r#"{"Image":"bb","Cmd":["true"],"HostConfig":{"Runtime":"runsc"}}"#,
        )
        .refuses(400, "unknown or invalid runtime name: runsc");
    refused(r#""LogConfig":{"Type":"syslog"}"#, "syslog");
    refused(r#""NetworkMode":"nosuch""#, "network nosuch not found");
    engine.docker(&["network", "create", "net"]).fails(1, "not");
    engine.docker(&["push", "host"]).fails(1, "root file system of this machine");
    engine.docker(&["run", "--rm", "127.0.0.1:1/nosuch", "true"]).fails(125, "connection refused");
    engine.docker(&["swarm", "init"]).code(1);
}

#[test]
fn what_was_not_begun_is_answered_with_a_status() {
    let engine = Engine::start();
    // dockerd 20.10 calls some of them its own fault.
    let refused = |response: seacow_tests::Response, words: &str| {
        let may_be = [400, 500];
        assert!(may_be.contains(&response.status), "{} {}", response.status, response.body);
        assert!(response.json()["message"].as_str().unwrap().contains(words), "{}", response.body);
    };
    let build = |dockerfile: &str| {
        let context = tar(&[("Dockerfile", dockerfile)]);
        engine.api_raw("POST", "/build?t=x", &["Content-Type: application/x-tar"], &context)
    };
    for (dockerfile, words) in [
        ("FROM bb\nBOGUS x\n", "line 2: unknown instruction: BOGUS"),
        ("FROM bb\nCOPY x\n", "line 2: COPY requires at least two arguments"),
        ("RUN true\n", "no build stage in current context"),
        ("", "cannot be empty"),
    ] {
        let response = build(dockerfile);
        assert_eq!(response.status, 400, "{}", response.body);
        refused(response, words);
    }
    let begun = build("FROM bb\nRUN exit 5\n");
    assert!(begun.status == 200 && begun.body.contains("returned a non-zero code: 5"), "{}", begun.body);
    let rubbish = [b'x'; 2000];
    let tar_type = ["Content-Type: application/x-tar"];
    refused(engine.api_raw("POST", "/build?t=x", &tar_type, &rubbish), "tar header");
    refused(engine.api_raw("POST", "/images/create?fromSrc=-&repo=x", &tar_type, &rubbish), "tar header");
    let loaded = engine.api_raw("POST", "/images/load", &tar_type, &rubbish);
    assert!(loaded.status == 200 && loaded.body.contains("tar header"), "{}", loaded.body);
}

#[test]
fn creates_that_are_refused() {
    let engine = Engine::start();
    let refused = |fields: &str, words: &str| {
        let body = format!(r#"{{"Image":"bb","Cmd":["true"],{fields}}}"#);
        engine.api("POST", "/containers/create", &body).refuses(400, words);
    };
    engine
        .api("POST", "/containers/create", r#"{"Image":"BAD","Cmd":["true"]}"#)
        .refuses(400, "invalid reference format");
    refused(r#""HostConfig":{"Memory":-5}"#, "Minimum memory limit allowed is 6MB");
    refused(
        r#""HostConfig":{"CpusetCpus":"4095"}"#,
        "Requested CPUs are not available - requested 4095, available: 0",
    );
    refused(r#""HostConfig":{"CpusetCpus":"abc"}"#, "Invalid value abc for cpuset cpus");
    refused(
        r#""HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}"#,
        "can't create 'AutoRemove' container with restart policy",
    );
    refused(
        r#""HostConfig":{"Mounts":[{"Type":"bogus","Target":"/x"}]}"#,
        r#"invalid mount config for type "bogus": mount type unknown"#,
    );
    let created =
        engine.api("POST", "/containers/create", r#"{"Image":"bb","Cmd":["true"],"User":"nosuch"}"#);
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    engine
        .api("POST", &format!("/containers/{id}/start"), "")
        .refuses(500, "unable to find user nosuch: no matching entries in passwd file");
}

/// A tar of small files.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, text) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(text.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}
