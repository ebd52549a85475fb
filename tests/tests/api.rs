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
    refused(r#""PortBindings":{"80/tcp":[{"HostPort":"8080"}]}"#, "publish");
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
    engine.docker(&["pull", "debian"]).fails(1, "registry");
    engine.docker(&["run", "--rm", "nosuchimage", "true"]).fails(125, "registry");
    engine.docker(&["swarm", "init"]).code(1);
}
